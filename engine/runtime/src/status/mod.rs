//! What a job looks like from outside: last epoch, offsets, tables, who runs it.
//!
//! In: the last published record and the chain, what its runner says of itself, what its sources have.
//! Out: facts, for people and programs, and what holds up what; on demand the figures of every column,
//! for which all rows are read. Nothing is changed and no lease is taken.

mod bar;
mod reason;
mod runner;
mod sink;
mod sources;
mod stats;
mod upkeep;

use std::collections::BTreeMap;

use serde::Serialize;
use sluice_core::{Offsets, Result};
use sluice_lake::manifest::{Action, Found, Holder, Lease, Manifest};
use sluice_lake::snapshot::{Published, Snapshots};
use sluice_lake::store;

use crate::epoch::{Environment, other_epochs};
use crate::query::{Readable, TableFacts, held, published};
use crate::recover::{beside, lake_of, lake_with};

pub use bar::Bar;
pub use reason::{Facts, Reason, Upstream, decide};
pub use runner::{At, Circuit, RunnerNote, Trouble};
pub use sink::SinkFacts;
pub use sources::{PartitionFacts, Silent};
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
    /// Its sinks outside of the lake.
    pub sinks: Vec<SinkFacts>,
    /// Who holds the lease, if somebody does.
    pub holder: Option<Holder>,
    /// The chains beside its own.
    pub chains: Vec<ChainStatus>,
    /// The same lease with its age, and whether the holder may live.
    pub lease: Option<Found>,
    /// What the last runner said of itself.
    pub runner: Option<RunnerNote>,
    /// The last sealed epoch.
    pub last: Option<LastEpoch>,
    /// What the sources have, and how far the job is behind.
    pub partitions: Vec<PartitionFacts>,
    /// Sources that did not say what they have.
    pub silent: Vec<Silent>,
    /// Other jobs whose tables are read.
    pub upstream: Vec<Upstream>,
    /// Why there is no output, or no more of it.
    pub reasons: Vec<Reason>,
}

/// The last sealed epoch.
#[derive(Debug, Clone, Serialize)]
pub struct LastEpoch {
    /// Its number.
    pub epoch: u64,
    /// When it opened, milliseconds since 1970.
    pub opened_at_ms: i64,
    /// Rows of sources it took.
    pub rows_taken: u64,
    /// Rows it wrote to tables and views.
    pub rows_written: u64,
}

/// Looks at a job.
pub async fn status(env: &Environment, job: &Readable) -> Result<Status> {
    let lake = lake_of(env, &job.graph, &job.secrets)?;
    let name = &job.graph.job.name;
    let last = lake.chain.last().await?.map(|e| e.manifest);
    let published = published(job).await?;
    let now_ms = env.clock.wall_ms();
    let lease = Lease::find(&lake.root, name, &env.host, now_ms).await?;
    let note = RunnerNote::read(&lake.root, name).await?;
    let offsets = last.as_ref().map(|m| m.offsets.clone()).unwrap_or_default();
    let (partitions, silent) = sources::sources(env, job, &offsets).await;
    let upstream = upstream(job, &offsets).await?;
    let own = Snapshots::new(&lake.root, name).latest().await?;
    let epoch = own.as_ref().map(|p| p.epoch);
    let unpublished = last.as_ref().map(|m| unpublished(m, epoch)).unwrap_or_default();
    let reasons = decide(&Facts {
        now_ms,
        lease: lease.as_ref(),
        note: note.as_ref(),
        sealed: last.as_ref().map(|m| m.epoch),
        published: epoch,
        unpublished: &unpublished,
        partitions: &partitions,
        silent: &silent,
        upstream: &upstream,
    });
    let mut tables = Vec::new();
    for table in held(job, published.as_ref()).await? {
        tables.push(table.facts().await?);
    }
    let mut chains = Vec::new();
    for chain in beside(&lake.root, name).await? {
        chains.push(chain_status(env, job, chain).await?);
    }
    Ok(Status {
        job: name.clone(),
        epoch,
        sealed: last.as_ref().map(|m| m.epoch),
        published_at_ms: published.as_ref().map(|p| p.published_at_ms),
        incarnation: last.as_ref().map(|m| m.incarnation.clone()),
        last: last.as_ref().map(LastEpoch::of),
        sources: offsets,
        tables,
        upkeep: upkeep::upkeep(job, published.as_ref()).await?,
        holder: lease.as_ref().map(|lease| lease.holder.clone()),
        lease,
        runner: note,
        partitions,
        silent,
        upstream,
        reasons,
        sinks: sink::sinks(job, &lake).await?,
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

impl LastEpoch {
    fn of(manifest: &Manifest) -> Self {
        Self {
            epoch: manifest.epoch,
            opened_at_ms: manifest.opened_at_ms,
            rows_taken: manifest.sources.values().map(|part| part.rows.taken()).sum(),
            rows_written: manifest.tables.values().map(|part| part.counts.written).sum(),
        }
    }
}

/// Tables that the last sealed epoch changes and that are not published at it yet.
fn unpublished(last: &Manifest, published: Option<u64>) -> Vec<String> {
    if published == Some(last.epoch) {
        return Vec::new();
    }
    let changes = last.tables.iter().filter(|(_, part)| part.action != Action::None);
    changes.map(|(name, _)| name.clone()).collect()
}

/// The jobs whose tables are read: what they published, and how much of it was seen.
async fn upstream(job: &Readable, sealed: &BTreeMap<String, Offsets>) -> Result<Vec<Upstream>> {
    let mut found: BTreeMap<String, Upstream> = BTreeMap::new();
    for foreign in &job.graph.foreign {
        if found.contains_key(&foreign.job) {
            continue;
        }
        let root = store::open(&foreign.lake, &job.secrets)?;
        let latest: Option<Published> = Snapshots::new(&root, &foreign.job).latest().await?;
        let has = latest.map_or(0, |published| published.epoch + 1);
        let seen = other_epochs(sealed, &foreign.job);
        found.insert(foreign.job.clone(), Upstream { job: foreign.job.clone(), seen, has });
    }
    Ok(found.into_values().collect())
}
