//! `_sluice.files`: a row per Parquet file of a table at its job's last published epoch.

use std::collections::BTreeMap;

use sluice_core::Result;

use super::column::{Column, instant, number, text};
use crate::query::{Readable, held, published};

/// One row.
pub(super) struct Row {
    job: String,
    table: String,
    path: String,
    partition: String,
    rows: u64,
    bytes: u64,
    modified_ms: i64,
}

pub(super) const COLUMNS: &[Column<Row>] = &[
    text("job", |r| Some(r.job.clone())),
    text("table_name", |r| Some(r.table.clone())),
    text("path", |r| Some(r.path.clone())),
    text("partition_values", |r| Some(r.partition.clone())),
    number("rows", |r| Some(r.rows)),
    number("bytes", |r| Some(r.bytes)),
    instant("modified_at", |r| Some(r.modified_ms)),
];

pub(super) async fn rows(jobs: &[Readable]) -> Result<Vec<Row>> {
    let mut all = Vec::new();
    for job in jobs {
        let Some(published) = published(job).await? else { continue };
        for held in held(job, Some(&published)).await? {
            let counts = held.file_rows().await?;
            for (file, rows) in held.table.files.iter().zip(counts) {
                all.push(Row {
                    job: job.graph.job.name.clone(),
                    table: held.name.clone(),
                    path: file.path.clone(),
                    partition: partition(&held.table.partition_by, &file.partition_values),
                    rows,
                    bytes: file.bytes,
                    modified_ms: file.modified_ms,
                });
            }
        }
    }
    Ok(all)
}

/// `month=2026-01/country=NULL`; empty without partition columns.
fn partition(columns: &[String], values: &BTreeMap<String, Option<String>>) -> String {
    let value = |name: &String| values.get(name).and_then(Option::as_deref).unwrap_or("NULL");
    let parts = columns.iter().map(|name| format!("{name}={}", value(name)));
    parts.collect::<Vec<_>>().join("/")
}
