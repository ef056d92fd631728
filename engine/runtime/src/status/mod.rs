//! What a job looks like from outside: last epoch, offsets, tables, who runs it.
//!
//! In: the last published record and the chain. Out: facts, for people and programs. Nothing is
//! changed and no lease is taken.

use std::collections::BTreeMap;

use serde::Serialize;
use sluice_core::{Offsets, Result};
use sluice_lake::manifest::{Holder, Lease};
use sluice_lake::parquet::{Layout, footer_rows};

use crate::catalog::SnapshotTable;
use crate::epoch::Environment;
use crate::query::{Readable, published, snapshot_table};
use crate::recover::lake_of;

/// A job as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its name.
    pub job: String,
    /// The last published epoch; none before the first.
    pub epoch: Option<u64>,
    /// The last sealed epoch; larger while one is being published.
    pub sealed: Option<u64>,
    /// When the last epoch was published, milliseconds since 1970.
    pub published_at_ms: Option<i64>,
    /// The life of the chain.
    pub incarnation: Option<String>,
    /// The next position per source and partition.
    pub sources: BTreeMap<String, Offsets>,
    /// Tables and views that exist.
    pub tables: Vec<TableStatus>,
    /// Who holds the lease, if somebody does.
    pub holder: Option<Holder>,
}

/// A table as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct TableStatus {
    /// Its name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Where it lies.
    pub location: String,
}

/// The rows of a table; listed datasets tell theirs in their files' footers only.
async fn rows_of(table: &SnapshotTable) -> Result<u64> {
    let layout = Layout {
        location: table.location.clone(),
        schema: table.schema.clone(),
        partition_by: table.partition_by.clone(),
    };
    let mut rows = 0;
    for file in &table.files {
        rows += if file.stats.is_some() { file.rows } else { footer_rows(&layout, file).await? };
    }
    Ok(rows)
}

/// Looks at a job.
pub async fn status(env: &Environment, job: &Readable) -> Result<Status> {
    let lake = lake_of(env, &job.graph, &job.secrets)?;
    let last = lake.chain.last().await?.map(|e| e.manifest);
    let published = published(job).await?;
    let mut tables = Vec::new();
    for (name, schema) in job.graph.relations() {
        let table = snapshot_table(job, published.as_ref(), &name, &schema).await?;
        let Some(table) = table else { continue };
        tables.push(TableStatus {
            name,
            rows: rows_of(&table).await?,
            files: table.files.len() as u64,
            bytes: table.files.iter().map(|f| f.bytes).sum(),
            location: table.location.describe(),
        });
    }
    Ok(Status {
        job: job.graph.job.name.clone(),
        epoch: published.as_ref().map(|p| p.epoch),
        sealed: last.as_ref().map(|m| m.epoch),
        published_at_ms: published.as_ref().map(|p| p.published_at_ms),
        incarnation: last.as_ref().map(|m| m.incarnation.clone()),
        sources: last.map(|m| m.offsets).unwrap_or_default(),
        tables,
        holder: Lease::holder(&lake.root, &job.graph.job.name).await?,
    })
}
