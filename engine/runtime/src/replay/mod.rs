//! Rows taken again, after a job was mended: those that a source could not decode, and those that
//! broke expectations.
//!
//! ```text
//! <source>__rejected   ─► decoded by today's schema ─► tables' SQL ─► checks ─► tables
//! <table>__quarantine  ──────────────────────────────────────────────► checks ─► the table
//! ```
//!
//! In: a job, and which rows. Out: one epoch of the chain `<job>@replay-…`, which seals how far the
//! rows were taken together with what became of them: taken twice they add nothing. The rows stay
//! where they stand, those that are still bad too. The job must not be running: the job's own chain
//! is held meanwhile. Its views are kept by its own epochs, and the next of those builds them afresh.

mod graph;
mod reader;
mod source;

use std::sync::Arc;

use serde::Serialize;
use sluice_core::{Error, Kind, Reader, Result, Secrets};
use sluice_lake::snapshot::Snapshots;
use tokio_util::sync::CancellationToken;

use crate::epoch::{Again, Environment, SourceRun, Strand};
use crate::plan::{Graph, quarantine_name, rejected_name};
use crate::query::Readable;
use crate::recover::{
    RecoverOptions, Running, beside, is_replay, lake_of, lake_with, open, past, replay_chain,
};
use crate::schedule::{RunOptions, Silent, TableSummary, hold, work};

use self::reader::{Stored, Where};
use self::source::Places;

/// What is to be taken again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayOptions {
    /// From which place.
    pub from: Again,
    /// Of which source or table.
    pub name: String,
    /// Rows of earlier epochs are passed over, for good.
    pub since: Option<u64>,
}

/// What became of rows that were taken again.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Replayed {
    /// The job.
    pub job: String,
    /// The table they stood in.
    pub from: String,
    /// Rows taken.
    pub taken: u64,
    /// Of these, rows that still cannot be decoded.
    pub rejected: u64,
    /// Of these, rows of which not all bytes were kept.
    pub cut: u64,
    /// What tables got.
    pub tables: Vec<TableSummary>,
    /// Views that the next run builds afresh.
    pub views: Vec<String>,
}

/// The places of a job from which rows can be taken again: sources or tables by name.
pub fn replayable(graph: &Graph, from: Again) -> Vec<String> {
    match from {
        Again::Rejected => graph.sources.iter().map(|s| s.spec.name.clone()).collect(),
        Again::Quarantined => graph.tables.iter().map(|t| t.spec.name.clone()).collect(),
    }
}

/// Takes rows again. Errors: `Config` where the job's tables cannot take rows out of turn, or the
/// job never ran; `Fenced` while a runner holds it. Killed at any moment, the next call goes on.
pub async fn replay(
    env: &Environment,
    job: &Readable,
    options: &ReplayOptions,
    stop: &CancellationToken,
) -> Result<Replayed> {
    let Readable { graph, secrets } = job;
    if let Some(finding) = past(env, graph, secrets).await?.finding() {
        return Err(Error::config(finding).hint("there is nothing to take again before that"));
    }
    graph::check(graph, options.from, &options.name)?;
    let again = again(env, job, options).await?;
    // Rows that are set aside now say that they came in this epoch, as no others do.
    let (held, stamp) = hold(env, graph, secrets).await?;
    let done = replay_held(env, job, options, again, stamp, stop).await;
    let released = held.release().await;
    let replayed = done?;
    released.map(|()| replayed)
}

/// Replays while the job's own chain is held.
async fn replay_held(
    env: &Environment,
    job: &Readable,
    options: &ReplayOptions,
    again: Option<Arc<dyn Reader>>,
    stamp: u64,
    stop: &CancellationToken,
) -> Result<Replayed> {
    let Readable { graph: whole, secrets } = job;
    finish_others(env, whole, secrets).await?;
    let graph = Arc::new(graph::of_replay(whole, options.from, &options.name)?);
    let name = &whole.job.name;
    let chain = replay_chain(name, options.from, &options.name);
    let lake = lake_with(env, &graph, secrets, &chain)?;
    let strand = Strand::Replay(options.from);
    let how = RecoverOptions { strand, ..RecoverOptions::default() };
    let mut running = open(env, &graph, lake, secrets, how).await?;
    running.worker.state.stamp = Some(stamp);
    let place = match options.from {
        Again::Rejected => rejected_name(&options.name),
        Again::Quarantined => quarantine_name(&options.name),
    };
    let mut replayed = Replayed { job: name.clone(), from: place.clone(), ..Replayed::default() };
    let Some((source, counts)) = source(&running, &graph, &place, options, again, stamp)? else {
        running.lease.release().await?;
        return Ok(replayed);
    };
    running.sources.push(source);
    let run = RunOptions { compaction: None, upkeep: false, ..RunOptions::default() };
    let summary = work(env, &graph, &run, &Silent, running, stop).await?;
    replayed.taken = counts.taken();
    replayed.cut = counts.cut();
    replayed.rejected = counts.rejected();
    replayed.tables = summary.tables;
    if replayed.taken > 0 {
        replayed.views = whole.views.iter().map(|view| view.spec.name.clone()).collect();
    }
    Ok(replayed)
}

/// What decodes rejected rows of a source.
async fn again(
    env: &Environment,
    job: &Readable,
    options: &ReplayOptions,
) -> Result<Option<Arc<dyn Reader>>> {
    if options.from != Again::Rejected {
        return Ok(None);
    }
    let source = job.graph.sources.iter().find(|s| s.spec.name == options.name);
    let source = source.ok_or_else(|| Error::bug("a replay of no source"))?;
    let factory = env.registry.source(&source.spec.connector);
    let factory = factory.ok_or_else(|| Error::bug("a source has no connector"))?;
    let context = env.context(&job.graph.job.name, &job.secrets);
    let again = factory.again(&source.spec.config, &context).await?;
    again.map(Some).ok_or_else(|| {
        let (name, connector) = (&options.name, &source.spec.connector);
        Error::config(format!(
            "rows of this source cannot be decoded one by one source={name} connector={connector}"
        ))
        .hint("mend the schema and run with --rebuild, which reads everything again")
    })
}

/// The source of the rows, and what counts them; none where there are none.
fn source(
    running: &Running,
    graph: &Graph,
    place: &str,
    options: &ReplayOptions,
    again: Option<Arc<dyn Reader>>,
    stamp: u64,
) -> Result<Option<(SourceRun, Arc<Stored>)>> {
    let table = running.publisher.tables.get(place);
    let Some(head) = table.and_then(|table| table.head.as_ref()) else { return Ok(None) };
    let location = &running.worker.relation_at(place)?.location;
    let layout = head.layout(location)?;
    let name = graph::input_name(options.from, &options.name);
    let schema = graph.sources.iter().find(|s| s.spec.name == name).map(|s| s.schema.clone());
    let schema = schema.ok_or_else(|| Error::bug("a replay has no source"))?;
    let rows = match again {
        Some(reader) => Where::Rejected(reader),
        None => Where::Quarantine(schema),
    };
    let offsets = running.worker.state.offsets.get(&name).cloned().unwrap_or_default();
    let files = head.files.values().cloned().collect();
    let places = Places { table: head.metadata.id.clone(), files, since: options.since, stamp };
    let (source, counts) = source::Replay::new(places, layout, rows, &offsets);
    Ok(Some((SourceRun { name, source: Box::new(source), offsets }, counts)))
}

/// Publishes what other replays of the job sealed and did not finish: their rows may be among those
/// that are taken now.
async fn finish_others(env: &Environment, graph: &Arc<Graph>, secrets: &Secrets) -> Result<()> {
    let lake = lake_of(env, graph, secrets)?;
    let job = &graph.job.name;
    let chains = beside(&lake.root, job).await?;
    for chain in chains.into_iter().filter(|chain| is_replay(job, chain)) {
        let lake = lake_with(env, graph, secrets, &chain)?;
        let Some(last) = lake.chain.last().await?.map(|last| last.manifest.epoch) else { continue };
        if Snapshots::new(&lake.root, &chain).get(last).await?.is_some() {
            continue;
        }
        let strand = Strand::Replay(Again::Rejected);
        let how = RecoverOptions { strand, ..RecoverOptions::default() };
        match open(env, graph, lake, secrets, how).await {
            Ok(running) => running.lease.release().await?,
            Err(error) if error.kind() == Kind::Fenced => return Err(error),
            Err(error) => return Err(error.of("chain", &chain)),
        }
    }
    Ok(())
}
