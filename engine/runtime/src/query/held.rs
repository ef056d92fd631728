//! What the tables of a job hold: files, rows, bytes and times at the last published epoch.
//!
//! In: a job and its last published record. Out: facts per table, for `status` and the system
//! tables. Rows are not read; the footers of a dataset's files are, since nothing else counts them.

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use sluice_core::Result;
use sluice_lake::parquet::{Layout, footer_rows};
use sluice_lake::snapshot::Published;

use super::{Readable, snapshot_table};
use crate::catalog::SnapshotTable;
use crate::epoch::Kind;
use crate::plan::{Graph, SourceNode, rejected_name};

/// Footers read at once: enough to hide a store's latency.
const FOOTERS_AT_ONCE: usize = 8;

/// A table, view, `__rejected` or `__quarantine` that exists.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// What it is to its job.
    pub kind: Kind,
    /// Its columns and files.
    pub table: SnapshotTable,
}

/// A table as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableFacts {
    /// Its name.
    pub name: String,
    /// `table`, `view`, `rejected` or `quarantine`.
    pub kind: &'static str,
    /// `delta` or `parquet`.
    pub format: &'static str,
    /// The version of a Delta table.
    pub version: Option<i64>,
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// When the oldest file was written, milliseconds since 1970; none without files.
    pub oldest_file_ms: Option<i64>,
    /// When the newest file was written, milliseconds since 1970; none without files.
    pub newest_file_ms: Option<i64>,
    /// Where it lies.
    pub location: String,
}

/// What exists of a job at `published`, in the order of its job file.
pub async fn held(job: &Readable, published: Option<&Published>) -> Result<Vec<Held>> {
    let mut found = Vec::new();
    for (name, schema) in job.graph.relations() {
        let table = snapshot_table(job, published, &name, &schema).await?;
        let kind = kind_of(&job.graph, &name);
        found.extend(table.map(|table| Held { name, kind, table }));
    }
    Ok(found)
}

impl Held {
    /// The figures of all its files together.
    pub async fn facts(&self) -> Result<TableFacts> {
        let files = &self.table.files;
        let times = || files.iter().map(|f| f.modified_ms);
        Ok(TableFacts {
            name: self.name.clone(),
            kind: self.kind.name(),
            format: self.format(),
            version: self.table.version,
            rows: self.file_rows().await?.into_iter().sum(),
            files: files.len() as u64,
            bytes: files.iter().map(|f| f.bytes).sum(),
            oldest_file_ms: times().min(),
            newest_file_ms: times().max(),
            location: self.table.location.describe(),
        })
    }

    /// The rows of each file; those without statistics tell theirs in their footers only.
    pub async fn file_rows(&self) -> Result<Vec<u64>> {
        let table = &self.table;
        let layout = Layout {
            location: table.location.clone(),
            schema: table.schema.clone(),
            partition_by: table.partition_by.clone(),
        };
        let rows = table.files.clone().into_iter().map(move |file| {
            let layout = layout.clone();
            async move {
                match file.stats {
                    Some(_) => Ok(file.rows),
                    None => footer_rows(&layout, &file).await,
                }
            }
        });
        stream::iter(rows).buffered(FOOTERS_AT_ONCE).try_collect().await
    }

    fn format(&self) -> &'static str {
        if self.table.version.is_some() { "delta" } else { "parquet" }
    }
}

/// What a relation is to its job.
pub(super) fn kind_of(graph: &Graph, name: &str) -> Kind {
    if graph.tables.iter().any(|t| t.spec.name == name) {
        return Kind::Table;
    }
    if graph.views.iter().any(|v| v.spec.name == name) {
        return Kind::View;
    }
    let rejected = |s: &SourceNode| rejected_name(&s.spec.name) == name;
    if graph.sources.iter().any(rejected) { Kind::Rejected } else { Kind::Quarantine }
}
