//! One run of one job.
//!
//! ```text
//! recover ─► take ─► run ─► (wait for publish n-1) ─► seal n ─► publish n ──┐
//!    ▲         ▲                                                   in the   │
//!    │         └──────────────────────────────────────────── background ◄──┘
//!    └── any failure before the seal: memory is dropped, the same path as a restart
//! ```

mod around;
mod house;
mod rewrite;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_core::{
    Error, FieldSpec, Kind, Offsets, Phase, Result, Secrets, Step, format_count, reach,
};
use sluice_lake::manifest::{Action, EpochKind, Manifest, Sealed};
use tokio::task::JoinHandle;

use super::delivery::Deliveries;
use super::keeper::{Keeper, Moment};
use super::report::{EpochReport, Summary};
use super::request::Requests;
use super::tell::{Gauges, Spent};
use super::tender::Tender;
use super::upkeep::House;
use crate::epoch::{
    Cleaner, Closed, Compaction, Environment, PublishOutcome, Publisher, SourceRun, Worker, fenced,
    take,
};
use crate::plan::Graph;
use crate::recover::Running;
use crate::status::At;

pub(super) use around::{Around, Told};
pub use rewrite::compact_job;

/// How a run behaves.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Go on until stopped.
    pub follow: bool,
    /// Take the lease from a live holder.
    pub take_over: bool,
    /// Read and write everything again.
    pub rebuild: bool,
    /// Keep the tables as they are and take what comes from now on.
    pub adopt: bool,
    /// Go on behind what sources lost.
    pub accept_loss: bool,
    /// Let an epoch run while the one before is published.
    pub overlap: bool,
    /// End after this many epochs.
    pub epochs_max: Option<u64>,
    /// When small files are joined between epochs; none: never.
    pub compaction: Option<Compaction>,
    /// Whether the run looks after its tables beside its epochs.
    pub upkeep: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            follow: false,
            take_over: false,
            rebuild: false,
            adopt: false,
            accept_loss: false,
            overlap: true,
            epochs_max: None,
            compaction: Some(Compaction::default()),
            upkeep: true,
        }
    }
}

/// How an opened job stopped, short of a failure.
pub(super) enum Ended {
    /// There is nothing left to do.
    Over,
    /// Sources have columns that the job has to be planned with.
    Wider(BTreeMap<String, Vec<FieldSpec>>),
}

/// A job at work, from its recovery to its end or a failure.
pub(super) struct Run<'a> {
    env: &'a Environment,
    graph: &'a Arc<Graph>,
    options: &'a RunOptions,
    around: Around<'a>,
    worker: Worker,
    /// Here between publications, else with the task that publishes.
    publisher: Option<Publisher>,
    sources: Vec<SourceRun>,
    tender: Option<Tender>,
    publishing: Option<Publishing>,
    cleaner: Cleaner,
    keeper: Keeper,
    deliveries: Deliveries,
    /// What sinks outside of the lake are reached with; without, nothing is delivered.
    pub(super) secrets: Option<&'a Secrets>,
    gauges: Gauges,
    /// Where the time of the epoch at work went so far.
    spent: Spent,
    /// Whether a sealed epoch could not be published.
    pub(super) unpublished: bool,
    /// Whether it still takes note of what its sources have.
    pub(super) adopting: bool,
    first_epoch: u64,
    /// Epochs run, in earlier attempts too.
    pub(super) done: u64,
}

struct Publishing {
    task: JoinHandle<(Publisher, Result<PublishOutcome>)>,
    manifest: Arc<Manifest>,
}

impl<'a> Run<'a> {
    /// A run of what recovery opened.
    pub(super) fn new(
        env: &'a Environment,
        graph: &'a Arc<Graph>,
        options: &'a RunOptions,
        around: Around<'a>,
        running: Running,
    ) -> Self {
        let first_epoch = running.worker.state.epoch;
        let chain = &running.worker.identity.chain;
        let requests = Requests::new(&running.worker.lake.root, chain);
        let last = running.worker.state.opened_at_ms.zip(first_epoch.checked_sub(1));
        let last = last.map(|(opened_at_ms, epoch)| Moment { epoch, opened_at_ms });
        let gauges = Gauges::start(&running.worker, graph);
        around.teller.tables(&running.worker.state.relations);
        let (clock, bulletin) = (env.clock.clone(), around.teller.bulletin.clone());
        Self {
            env,
            graph,
            options,
            around,
            worker: running.worker,
            publisher: Some(running.publisher),
            sources: running.sources,
            tender: Some(Tender::start(clock, running.lease, requests, bulletin)),
            publishing: None,
            cleaner: Cleaner::default(),
            keeper: Keeper::new(last),
            deliveries: Deliveries::default(),
            secrets: None,
            gauges,
            spent: Spent::default(),
            unpublished: false,
            adopting: running.adopting,
            first_epoch,
            done: 0,
        }
    }

    /// Whether an epoch was sealed since.
    pub(super) fn began_anew(&self) -> bool {
        self.worker.state.epoch > self.first_epoch
    }

    /// Runs epochs until there is nothing left to do, publishes what was sealed, and delivers what
    /// waits.
    pub(super) async fn until_done(&mut self, summary: &mut Summary) -> Result<Ended> {
        let ended = match self.begin_deliveries().await {
            Ok(()) => self.epochs(summary).await,
            Err(error) => Err(error),
        };
        self.close(ended, summary).await
    }

    /// Publishes what was sealed, delivers what waits, and gives the lease back.
    async fn close(&mut self, ended: Result<Ended>, summary: &mut Summary) -> Result<Ended> {
        // Whatever was sealed is published before the run ends, even when it ends by an error.
        let published = self.finish_publishing(None).await;
        let published = published.and(self.cleaner.finish().await);
        self.keeper.finish().await;
        self.gauges.finish().await;
        // A run that is to end ends when everything is delivered.
        let drain = matches!(ended, Ok(Ended::Over)) && published.is_ok();
        let drain = drain && !self.around.stop.is_cancelled();
        let deliveries = std::mem::take(&mut self.deliveries);
        let delivered = deliveries.end(drain, self.around.stop, summary).await;
        summary.hold(&self.worker.state.relations);
        summary.spent(&self.worker.phases.take());
        if let Some(tender) = self.tender.take() {
            tender.end().await?.release().await?;
        }
        let ended = ended?;
        published.and(delivered).map(|()| ended)
    }

    async fn begin_deliveries(&mut self) -> Result<()> {
        if let Some(secrets) = self.secrets {
            self.deliveries =
                Deliveries::start(self.env, self.graph, secrets, &self.worker).await?;
        }
        Ok(())
    }

    async fn epochs(&mut self, summary: &mut Summary) -> Result<Ended> {
        if self.adopting
            && let Some(columns) = self.adopt(summary).await?
        {
            return Ok(Ended::Wider(columns));
        }
        while self.options.epochs_max.is_none_or(|max| self.done < max) {
            self.upkeep(summary).await?;
            self.deliveries.room(self.around.stop).await?;
            if self.around.stop.is_cancelled() || self.deliveries.failed() {
                return Ok(Ended::Over);
            }
            let taken = match self.next().await? {
                Closed::Epoch(taken) => taken,
                Closed::Wider(columns) => return Ok(Ended::Wider(columns)),
                Closed::End if self.tender.as_ref().is_some_and(Tender::is_asked) => continue,
                // Nothing comes: what was published meanwhile does not wait for the next epoch to be
                // acknowledged and delivered.
                Closed::End if self.publishing.as_ref().is_some_and(|p| p.task.is_finished()) => {
                    self.finish_publishing(None).await?;
                    continue;
                }
                Closed::End => return Ok(Ended::Over),
            };
            self.done += 1;
            let rows = taken.iter().flat_map(|t| &t.splits).map(|s| s.rows).sum();
            let bytes = taken.iter().flat_map(|t| &t.splits).map(|s| s.bytes).sum();
            let epoch = self.worker.state.epoch;
            tracing::info!(job = self.graph.job.name, epoch, "epoch opened");
            self.around.progress.intake(&self.graph.job.name, rows, bytes);
            self.around.teller.at(At::Working, Some(epoch));
            reach(Step::Polled, epoch);
            let kind = if taken.is_empty() { EpochKind::Rebuild } else { EpochKind::Data };
            let opened = self.env.clock.monotonic();
            let manifest = self.worker.run(&taken, kind).await?;
            self.seal(manifest, opened, summary).await?;
            self.around.teller.took(&taken);
            summary.set_aside(&taken);
            self.compact(summary).await?;
        }
        Ok(Ended::Over)
    }

    /// What the next epoch works on.
    async fn next(&mut self) -> Result<Closed> {
        let Around { stop, teller, circuits, .. } = self.around;
        let tender = self.tender.as_ref();
        let deliveries = &self.deliveries;
        let publishing = self.publishing.as_ref();
        let over = |sources: &[SourceRun], nothing: bool| {
            circuits.sources_answered(sources.iter().map(|run| run.name.as_str()));
            teller.lag(sources);
            let published = nothing && publishing.is_some_and(|p| p.task.is_finished());
            published || tender.is_some_and(Tender::is_asked) || deliveries.failed()
        };
        if self.worker.stale_views() {
            return Ok(Closed::Epoch(Vec::new()));
        }
        let limits = &self.graph.job.epoch;
        let follow = self.options.follow;
        teller.at(At::Taking, Some(self.worker.state.epoch));
        let began = self.env.clock.monotonic();
        let closed = take(&mut self.sources, limits, follow, self.env, stop, &over).await?;
        self.spent.take = self.seconds_since(began);
        match closed {
            // What sources learned of rows that are sealed is sealed as well, whatever comes.
            Closed::End if self.worker.state.learned => Ok(Closed::Epoch(Vec::new())),
            closed => Ok(closed),
        }
    }

    /// Seals an epoch once the one before is published, and starts publishing it.
    async fn seal(
        &mut self,
        mut manifest: Manifest,
        opened: Duration,
        summary: &mut Summary,
    ) -> Result<()> {
        self.spent.work = self.seconds_since(opened);
        let epoch = manifest.epoch;
        self.around.teller.at(At::Sealing, Some(epoch));
        self.finish_publishing(Some(&manifest)).await?;
        self.name_versions(&mut manifest);
        let (chain, began) = (self.worker.lake.chain.clone(), self.env.clock.monotonic());
        let sha256 = match chain.seal(&manifest).await? {
            Sealed::Won { sha256 } => sha256,
            Sealed::Lost { run, host, epoch } => return Err(fenced(epoch, &run, &host)),
        };
        self.worker.phases.since(Phase::Commit, began);
        self.worker.sealed(&manifest, sha256);
        let seconds = std::mem::take(&mut self.worker.seconds);
        summary.add(self.graph, &manifest, &self.worker.state.relations, &seconds);
        let rows = manifest.sources.values().map(|s| s.rows.decoded).sum();
        let report = EpochReport { epoch, rows, seconds: self.seconds_since(opened) };
        let spent = Spent { seal: report.seconds - self.spent.work, ..self.spent };
        self.spent = Spent::default();
        let phases = self.worker.phases.take();
        summary.spent(&phases);
        self.around.circuits.proved();
        self.around.teller.sealed(&manifest, rows, spent, &phases);
        self.around.teller.tables(&self.worker.state.relations);
        self.around.progress.epoch(&self.graph.job.name, &report);
        self.start_publishing(manifest)?;
        if !self.options.overlap {
            self.finish_publishing(None).await?;
        }
        Ok(())
    }

    fn seconds_since(&self, began: Duration) -> f64 {
        self.env.clock.monotonic().saturating_sub(began).as_secs_f64()
    }

    /// Entries with removes name the version they are prepared against: the one that holds the
    /// epoch before.
    fn name_versions(&self, manifest: &mut Manifest) {
        let Some(publisher) = &self.publisher else { return };
        for (name, part) in &mut manifest.tables {
            if let Action::Delta(action) = &mut part.action
                && !action.removes.is_empty()
            {
                let head = publisher.tables.get(name).and_then(|t| t.head.as_ref());
                action.base_version = head.map(|h| h.version);
            }
        }
    }

    fn start_publishing(&mut self, manifest: Manifest) -> Result<()> {
        let mut publisher =
            self.publisher.take().ok_or_else(|| Error::bug("two publications at once"))?;
        let manifest = Arc::new(manifest);
        let work = manifest.clone();
        let (phases, began) = (self.worker.phases.clone(), self.env.clock.monotonic());
        let (teller, listener) = (self.around.teller.clone(), self.gauges.listener());
        let checkpointed = self.keeper.checkpointed().clone();
        let task = tokio::spawn(async move {
            let outcome = publish_won(&mut publisher, &work).await;
            phases.since(Phase::Commit, began);
            if outcome.is_ok() {
                let seconds = teller.clock.monotonic().saturating_sub(began).as_secs_f64();
                teller.published(&publisher, work.epoch, seconds, &checkpointed);
                listener.published(&work, &publisher);
            }
            (publisher, outcome)
        });
        self.publishing = Some(Publishing { task, manifest });
        Ok(())
    }

    /// Waits until the last sealed epoch is published, acknowledges its offsets, and brings the
    /// heads up to what others did meanwhile. `prepared` is an epoch that is not sealed yet.
    async fn finish_publishing(&mut self, prepared: Option<&Manifest>) -> Result<()> {
        let Some(Publishing { task, manifest }) = self.publishing.take() else { return Ok(()) };
        let (publisher, outcome) =
            task.await.map_err(|e| Error::bug("a publication ended by itself").because(e))?;
        self.publisher = Some(publisher);
        self.unpublished = outcome.is_err();
        let outcome = outcome.map_err(stays_sealed)?;
        for (name, relation) in &mut self.worker.state.relations {
            if let Some(part) = manifest.tables.get(name) {
                relation.settle(&part.action);
            }
            if let Some(files) = outcome.foreign.get(name) {
                relation.files.clone_from(files);
                if let Some(part) = prepared.and_then(|m| m.tables.get(name)) {
                    relation.apply(&part.action);
                }
            }
        }
        self.deliveries.published(&manifest);
        self.acknowledge(&manifest.offsets).await?;
        reach(Step::Acknowledged, manifest.epoch);
        if let Some(publisher) = self.publisher.as_ref().filter(|_| self.options.upkeep) {
            let (epoch, opened_at_ms) = (manifest.epoch, manifest.opened_at_ms);
            self.keeper.look(House::of(publisher, epoch), Moment { epoch, opened_at_ms });
        }
        let gone = self.worker.left_behind(&manifest);
        self.cleaner.delete(&self.worker.lake.root.store, gone).await
    }

    async fn acknowledge(&mut self, offsets: &BTreeMap<String, Offsets>) -> Result<()> {
        for run in &mut self.sources {
            if let Some(offsets) = offsets.get(&run.name) {
                let done = run.source.acknowledge(offsets).await;
                done.map_err(|e| e.at_source(&run.name))?;
            }
        }
        Ok(())
    }

    /// Takes note of everything sources have, without reading it. Gives the columns that the job has
    /// to be planned with before that can be done.
    async fn adopt(
        &mut self,
        summary: &mut Summary,
    ) -> Result<Option<BTreeMap<String, Vec<FieldSpec>>>> {
        let limits = self.graph.job.epoch.clone();
        let clock = self.env.clock.clone();
        loop {
            let (stop, over) = (self.around.stop, |_: &[SourceRun], _| false);
            let taken = match take(&mut self.sources, &limits, false, self.env, stop, &over).await?
            {
                Closed::Epoch(taken) => taken,
                Closed::Wider(columns) => return Ok(Some(columns)),
                Closed::End => Vec::new(),
            };
            let (last, opened) = (taken.is_empty(), clock.monotonic());
            let manifest = self.worker.adopt(&taken).await?;
            self.seal(manifest, opened, summary).await?;
            if last {
                self.adopting = false;
                return Ok(None);
            }
        }
    }

    /// Does what `maintain` asked of this runner.
    async fn upkeep(&mut self, summary: &mut Summary) -> Result<()> {
        let Some(request) = self.tender.as_ref().and_then(Tender::take) else { return Ok(()) };
        self.finish_publishing(None).await?;
        let mut done = Vec::new();
        if request.upkeep.compact {
            done.push(format_count(self.compact_all(summary).await?, "compaction"));
            self.finish_publishing(None).await?;
        }
        self.keeper.finish().await;
        let Some(publisher) = &self.publisher else { return Ok(()) };
        let house = House::of(publisher, self.worker.state.epoch.saturating_sub(1));
        match house.keep(request.upkeep).await {
            Ok(lines) => done.extend(lines),
            // The run does not end because its tables could not be tidied.
            Err(error) => done.push(format!("failed: {}", error.chain())),
        }
        let requests = Requests::new(&publisher.lake.root, &publisher.identity.chain);
        requests.answer(&request, done).await
    }
}

/// Publishes an epoch that was just won, if it continues the chain: a runner that slept for very
/// long may win a number whose manifest was cleaned up.
async fn publish_won(publisher: &mut Publisher, manifest: &Manifest) -> Result<PublishOutcome> {
    let chain = publisher.lake.chain.clone();
    if !chain.continues(manifest.epoch).await? {
        return Err(fenced(manifest.epoch, "unknown", "unknown"));
    }
    publisher.publish(manifest).await
}

/// A publication that failed for good leaves its epoch sealed: the next run finishes it.
fn stays_sealed(error: Error) -> Error {
    if error.retry() || error.kind() == Kind::Fenced || error.hint_text().is_some() {
        return error;
    }
    let (kind, message) = (error.kind(), "a sealed epoch could not be published");
    Error::new(kind, message)
        .because(error)
        .hint("nothing is lost: mend the cause and run again, the epoch will be finished")
}
