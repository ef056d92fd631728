//! What a job looks like from outside: last epoch, offsets, tables, who runs it.
//!
//! In: the last published record and the chain. Out: facts, for people and programs; on demand the
//! figures of every column, for which all rows are read. Nothing is changed and no lease is taken.

mod bar;
mod stats;
mod upkeep;

use std::collections::BTreeMap;

use serde::Serialize;
use sluice_core::{Offsets, Result};
use sluice_lake::manifest::{Holder, Lease};
use sluice_lake::snapshot::Snapshots;

use crate::epoch::Environment;
use crate::query::{Readable, TableFacts, held, published};
use crate::recover::{beside, lake_of, lake_with};

pub use bar::Bar;
pub use stats::{ColumnStats, TableStats, stats};
pub use upkeep::TableUpkeep;

/// A chain beside a job's own: a shard, a replay.
#[derive(Debug, Clone, Serialize)]
pub struct ChainStatus {
    /// Its name.
    pub chain: String,
    /// The last published epoch; none before the first.
    pub epoch: Option<u64>,
    /// The last sealed epoch.
    pub sealed: Option<u64>,
    /// When the last epoch was published, milliseconds since 1970.
    pub published_at_ms: Option<i64>,
    /// The next position per source and partition.
    pub sources: BTreeMap<String, Offsets>,
    /// Who holds its lease, if somebody does.
    pub holder: Option<Holder>,
}

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
    pub tables: Vec<TableFacts>,
    /// What waits in its Delta tables to be looked after.
    pub upkeep: Vec<TableUpkeep>,
    /// Who holds the lease, if somebody does.
    pub holder: Option<Holder>,
    /// The chains beside its own.
    pub chains: Vec<ChainStatus>,
}

/// Looks at a job.
pub async fn status(env: &Environment, job: &Readable) -> Result<Status> {
    let lake = lake_of(env, &job.graph, &job.secrets)?;
    let last = lake.chain.last().await?.map(|e| e.manifest);
    let published = published(job).await?;
    let mut tables = Vec::new();
    for table in held(job, published.as_ref()).await? {
        tables.push(table.facts().await?);
    }
    let name = &job.graph.job.name;
    let own = Snapshots::new(&lake.root, name).latest().await?;
    let mut chains = Vec::new();
    for chain in beside(&lake.root, name).await? {
        chains.push(chain_status(env, job, chain).await?);
    }
    Ok(Status {
        job: name.clone(),
        epoch: own.as_ref().map(|p| p.epoch),
        sealed: last.as_ref().map(|m| m.epoch),
        published_at_ms: published.as_ref().map(|p| p.published_at_ms),
        incarnation: last.as_ref().map(|m| m.incarnation.clone()),
        sources: last.map(|m| m.offsets).unwrap_or_default(),
        tables,
        upkeep: upkeep::upkeep(job, published.as_ref()).await?,
        holder: Lease::holder(&lake.root, name).await?,
        chains,
    })
}

async fn chain_status(env: &Environment, job: &Readable, chain: String) -> Result<ChainStatus> {
    let lake = lake_with(env, &job.graph, &job.secrets, &chain)?;
    let last = lake.chain.last().await?.map(|e| e.manifest);
    let published = Snapshots::new(&lake.root, &chain).latest().await?;
    Ok(ChainStatus {
        epoch: published.as_ref().map(|p| p.epoch),
        sealed: last.as_ref().map(|m| m.epoch),
        published_at_ms: published.map(|p| p.published_at_ms),
        sources: last.map(|m| m.offsets).unwrap_or_default(),
        holder: Lease::holder(&lake.root, &chain).await?,
        chain,
    })
}
