//! What is waiting in a job's Delta tables to be looked after: small files, and the log.
//!
//! In: the last published record. Out: facts per table. Nothing is changed.

use serde::Serialize;
use sluice_core::Result;
use sluice_lake::maintain::{LogFacts, TableFacts, log_facts, table_facts};
use sluice_lake::snapshot::Published;

use crate::epoch::Compaction;
use crate::job::FilesSpec;
use crate::query::{Readable, snapshot_table};

/// A Delta table as it looks to who looks after it.
#[derive(Debug, Clone, Serialize)]
pub struct TableUpkeep {
    /// Its name.
    pub name: String,
    /// The size its files should have.
    pub target_bytes: u64,
    /// Its files.
    pub files: TableFacts,
    /// Its log.
    pub log: LogFacts,
}

/// Looks at the Delta tables of a job.
pub(super) async fn upkeep(
    job: &Readable,
    published: Option<&Published>,
) -> Result<Vec<TableUpkeep>> {
    let mut found = Vec::new();
    for (name, schema) in job.graph.relations() {
        let table = snapshot_table(job, published, &name, &schema).await?;
        let Some(table) = table else { continue };
        let log = log_facts(&table.location).await?;
        if log.version.is_none() {
            continue;
        }
        let spec = job.graph.job.tables.iter().find(|t| t.name == name);
        let wanted = spec.map_or_else(FilesSpec::default, |t| t.files.clone());
        found.push(TableUpkeep {
            target_bytes: wanted.target_bytes,
            files: table_facts(&table.files, Compaction::ALL.options(&wanted)),
            log,
            name,
        });
    }
    Ok(found)
}
