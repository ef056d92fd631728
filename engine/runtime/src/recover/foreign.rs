//! Tables of other jobs: read at the last epoch those jobs published, once per run.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;
use sluice_core::{Result, Secrets};
use sluice_lake::store;

use super::chains;
use crate::catalog::SnapshotTable;
use crate::epoch::ForeignTables;
use crate::plan::Graph;

/// The tables of other jobs that a graph reads.
pub async fn load(
    graph: &Graph,
    context: &SessionContext,
    secrets: &Secrets,
) -> Result<ForeignTables> {
    let mut tables = BTreeMap::new();
    let mut epochs = BTreeMap::new();
    for foreign in &graph.foreign {
        let root = store::open(&foreign.lake, secrets)?;
        let published = chains::published(&root, &foreign.job).await?;
        let (name, schema) = (&foreign.name, &foreign.schema);
        let by = &foreign.partition_by;
        let table = SnapshotTable::load(&root, published.as_ref(), name, schema, by).await?;
        let provider = SnapshotTable::provider_as(table.as_ref(), context, schema)?;
        tables.insert(name.clone(), provider);
        // An epoch that is not there counts as the one before the first.
        let epoch = published.map_or(0, |p| p.epoch + 1);
        epochs.insert(foreign.job.clone(), epoch);
    }
    Ok(ForeignTables { tables, epochs })
}
