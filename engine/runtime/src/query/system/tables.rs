//! `_sluice.tables`: a row per table, view, `__rejected` and `__quarantine` that exists.

use sluice_core::Result;

use super::column::{Column, instant, number, text};
use crate::query::{Readable, TableFacts, held, published};

/// One row.
pub(super) struct Row {
    job: String,
    epoch: u64,
    facts: TableFacts,
}

pub(super) const COLUMNS: &[Column<Row>] = &[
    text("job", |r| Some(r.job.clone())),
    text("table_name", |r| Some(r.facts.name.clone())),
    text("kind", |r| Some(r.facts.kind.to_string())),
    text("format", |r| Some(r.facts.format.to_string())),
    text("folder", |r| Some(r.facts.location.clone())),
    number("epoch", |r| Some(r.epoch)),
    number("version", |r| r.facts.version.and_then(|v| u64::try_from(v).ok())),
    number("files", |r| Some(r.facts.files)),
    number("rows", |r| Some(r.facts.rows)),
    number("bytes", |r| Some(r.facts.bytes)),
    instant("oldest_file_at", |r| r.facts.oldest_file_ms),
    instant("newest_file_at", |r| r.facts.newest_file_ms),
];

pub(super) async fn rows(jobs: &[Readable]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for job in jobs {
        let Some(published) = published(job).await? else { continue };
        for table in held(job, Some(&published)).await? {
            let (job, epoch) = (job.graph.job.name.clone(), published.epoch);
            rows.push(Row { job, epoch, facts: table.facts().await? });
        }
    }
    Ok(rows)
}
