//! A job with shards: who runs which of them in this process, and when.
//!
//! ```text
//! found the tables ─► group ─► { 0, 2 } ─► shard 0 ─┐ each opens its chain, runs epochs, and
//!                       ▲                  shard 2 ─┤ ends when it is told, fenced or stopped
//!                       │                  house   ─┘ (with shard 0)
//!                       └── members were counted anew: { 2 } ─► shard 0 finishes its epoch
//! ```
//!
//! In: a job, and a connector's group of processes. Out: a summary over all shards. Whoever is told
//! a shard waits a little for the one who had it, and then goes on at its next epoch: of two who run
//! one shard at a time, the seal stops one. That one is not a failure here; it waits until the group
//! gives it the shard again, or its lease is free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use sluice_core::{Error, Kind, Membership, Result, Shard};
use sluice_lake::manifest::{Holder, Lease};
use sluice_lake::snapshot::Snapshots;
use tokio_util::sync::CancellationToken;

use super::attempt::Attempts;
use super::report::{Silent, Summary};
use super::run::{Run, RunOptions, Told};
use crate::epoch::Strand;
use crate::recover::{RecoverOptions, lake_of, open, shard_chain};

/// How long a new owner of a shard waits for the former one to finish its epoch. Who does not by
/// then hangs, or has epochs of minutes, and loses one.
const HANDOVER: Duration = Duration::from_secs(5);

/// How often a lease that somebody holds is tried.
const TRY: Duration = Duration::from_millis(500);

/// How long another process may take to make the tables: it only writes empty logs.
const FOUNDING: Duration = Duration::from_secs(60);

/// The shards of a job in one process.
pub(super) struct Shards<'a> {
    /// How each chain is run.
    base: Attempts<'a>,
    /// The options of a shard.
    options: RunOptions,
}

/// What runs side by side: a shard, or the house that goes with the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Shard(u32),
    House,
}

/// A part at work.
struct Working {
    stop: CancellationToken,
    /// Whether the group said that it is ours since it was last lost: then it may be taken from who
    /// has it.
    told: Arc<AtomicBool>,
}

/// How a part ended.
type Ended = (Part, Summary, Result<()>);

impl<'a> Shards<'a> {
    pub fn new(base: Attempts<'a>) -> Self {
        let options =
            RunOptions { rebuild: false, adopt: false, compaction: None, ..base.options.clone() };
        Self { base, options }
    }

    /// Runs what there is of all shards one after another, or goes on with those that the group
    /// gives to this process.
    pub async fn until_done(&self, summary: &mut Summary) -> Result<()> {
        if self.base.options.adopt {
            return Err(Error::config("a job with shards cannot adopt tables")
                .hint("run with --rebuild, or take `shards` away and give the job a new name"));
        }
        self.found(summary).await?;
        if self.base.options.follow {
            return self.follow(summary).await;
        }
        for shard in Shard::all(self.base.graph.job.shards) {
            if self.base.stop.is_cancelled() {
                break;
            }
            let take_over = self.base.options.take_over;
            let stop = self.base.stop.clone();
            self.shard(shard, take_over, stop, summary, &mut false).await?;
        }
        match self.house(false, &self.base.stop, summary, House::Once, &mut false).await {
            Err(error) if error.kind() == Kind::Fenced => Ok(()),
            tidied => tidied,
        }
    }

    /// Makes the tables, unless another process did and looks after them.
    async fn found(&self, summary: &mut Summary) -> Result<()> {
        let options = self.base.options;
        if options.rebuild && !options.take_over {
            self.refuse_running().await?;
        }
        let clock = &self.base.env.clock;
        let began = clock.monotonic();
        loop {
            let (take_over, stop) = (options.take_over, &self.base.stop);
            let found = self.house(take_over, stop, summary, House::Found, &mut false).await;
            let held = match found {
                Err(error) if error.kind() == Kind::Fenced && !options.rebuild => error,
                found => return found,
            };
            if self.is_founded().await? {
                return Ok(());
            }
            if stop.is_cancelled() || clock.monotonic().saturating_sub(began) > FOUNDING {
                return Err(held);
            }
            clock.sleep(TRY).await;
        }
    }

    /// Whether the tables were made by this definition. Errors: `Config` when by another one.
    async fn is_founded(&self) -> Result<bool> {
        let (env, graph) = (self.base.env, self.base.graph);
        let lake = lake_of(env, graph, self.base.secrets)?;
        let published = Snapshots::new(&lake.root, &graph.job.name).latest().await?;
        let (Some(last), Some(_)) = (lake.chain.last().await?, published) else {
            return Ok(false);
        };
        if last.manifest.definition != graph.job.definition_hash() {
            let host = last.manifest.host;
            return Err(Error::config(format!(
                "another process runs this job by another definition host={host}"
            ))
            .hint("stop all its runners, then start them with the new job file"));
        }
        Ok(true)
    }

    /// Refuses to make everything again while somebody runs a shard.
    async fn refuse_running(&self) -> Result<()> {
        let env = self.base.env;
        let lake = lake_of(env, self.base.graph, self.base.secrets)?;
        for shard in Shard::all(self.base.graph.job.shards) {
            let holder = Holder { run: env.ids.fresh(), host: env.host.clone(), pid: env.pid };
            let chain = shard_chain(&self.base.graph.job.name, shard);
            let clock = env.clock.clone();
            Lease::acquire(&lake.root, &chain, holder, false, clock).await?.release().await?;
        }
        Ok(())
    }

    async fn shard(
        &self,
        shard: Shard,
        take_over: bool,
        stop: CancellationToken,
        summary: &mut Summary,
        opened: &mut bool,
    ) -> Result<()> {
        let options = RunOptions { take_over, ..self.options.clone() };
        let strand = Strand::Shard(shard);
        let attempts = Attempts { options: &options, stop, strand, ..self.base.clone() };
        attempts.until_done(summary, opened).await
    }

    /// Opens the job's own chain and does something for the tables.
    async fn house(
        &self,
        take_over: bool,
        stop: &CancellationToken,
        summary: &mut Summary,
        what: House,
        opened: &mut bool,
    ) -> Result<()> {
        let Attempts { env, graph, secrets, options, .. } = &self.base;
        let rebuild = options.rebuild && what == House::Found;
        let marks = what == House::Found;
        let how = RecoverOptions { take_over, rebuild, marks, ..RecoverOptions::default() };
        let lake = lake_of(env, graph, secrets)?;
        let told = Told::of(env, &graph.job.name);
        let running = told.opened(open(env, graph, lake, secrets, how).await)?;
        *opened = true;
        let mut run = Run::new(env, graph, options, told.around(&Silent, stop), running);
        match what {
            House::Found => run.found(summary).await,
            House::Once => run.tidy(summary).await,
            House::Always => run.keep_house(summary).await,
        }
    }

    async fn follow(&self, summary: &mut Summary) -> Result<()> {
        let Attempts { env, graph, .. } = &self.base;
        let joined = self.group().await;
        let sources = graph.sources.iter().map(|source| source.spec.name.as_str());
        let mut group = Told::of(env, &graph.job.name).joined(joined, sources)?;
        let stop = &self.base.stop;
        let mut at_work: BTreeMap<Part, Working> = BTreeMap::new();
        let mut wanted: BTreeSet<Part> = BTreeSet::new();
        let mut parts: FuturesUnordered<BoxFuture<'_, Ended>> = FuturesUnordered::new();
        let mut over: BTreeSet<Part> = BTreeSet::new();
        let mut failed = Ok(());
        loop {
            tokio::select! {
                told = group.next(), if failed.is_ok() && !stop.is_cancelled() => match told {
                    Ok(shards) => {
                        tracing::info!(job = self.base.graph.job.name, ?shards, "shards to run");
                        wanted = with_house(&shards);
                        at_work.iter().for_each(|(part, working)| match wanted.contains(part) {
                            true => working.told.store(group.decides(), Ordering::Relaxed),
                            false => working.stop.cancel(),
                        });
                    }
                    Err(error) => failed = Err(error),
                },
                Some((part, done, ended)) = parts.next(), if !parts.is_empty() => {
                    let told_to = at_work.remove(&part).is_none_or(|w| w.stop.is_cancelled());
                    summary.absorb(done);
                    match ended {
                        Err(error) if failed.is_ok() => failed = Err(error),
                        // It has run as many epochs as it was to.
                        Ok(()) if !told_to => drop(over.insert(part)),
                        _ => {}
                    }
                }
                () = stop.cancelled(), if parts.is_empty() => return failed,
            }
            if failed.is_err() || stop.is_cancelled() {
                wanted.clear();
                at_work.values().for_each(|working| working.stop.cancel());
                if parts.is_empty() {
                    return failed;
                }
            }
            wanted.retain(|part| !over.contains(part));
            if wanted.iter().all(|part| *part == Part::House) && !over.is_empty() {
                at_work.values().for_each(|working| working.stop.cancel());
                if parts.is_empty() {
                    return Ok(());
                }
                continue;
            }
            let idle: Vec<Part> =
                wanted.iter().filter(|part| !at_work.contains_key(part)).copied().collect();
            for part in idle {
                let told = Arc::new(AtomicBool::new(group.decides() || self.options.take_over));
                let working = Working { stop: stop.child_token(), told };
                parts.push(Box::pin(self.part(part, working.stop.clone(), working.told.clone())));
                at_work.insert(part, working);
            }
        }
    }

    /// Runs a part until it is stopped or fails. One that somebody else has is waited for.
    async fn part(&self, part: Part, stop: CancellationToken, told: Arc<AtomicBool>) -> Ended {
        let clock = &self.base.env.clock;
        let mut summary = Summary::new(self.base.graph);
        let mut waiting_since = clock.monotonic();
        loop {
            let waited = clock.monotonic().saturating_sub(waiting_since);
            let patient = waited < HANDOVER && !self.options.take_over;
            let take_over = told.load(Ordering::Relaxed) && !patient;
            let mut opened = false;
            let (own, done) = (stop.clone(), &mut summary);
            let ended = match part {
                Part::Shard(index) => {
                    let shard = Shard { index, count: self.base.graph.job.shards };
                    self.shard(shard, take_over, own, done, &mut opened).await
                }
                Part::House => self.house(take_over, &own, done, House::Always, &mut opened).await,
            };
            match ended {
                Err(error) if error.kind() == Kind::Fenced => {
                    if opened || take_over {
                        // Somebody was told after us, until we are told once more.
                        tracing::warn!(?part, error = error.chain(), "another process has it now");
                        told.store(false, Ordering::Relaxed);
                        waiting_since = clock.monotonic();
                    }
                }
                ended => return (part, summary, ended),
            }
            tokio::select! {
                () = stop.cancelled() => return (part, summary, Ok(())),
                () = clock.sleep(TRY) => {}
            }
        }
    }

    /// The group of the first source that has one.
    async fn group(&self) -> Result<Group> {
        let Attempts { env, graph, secrets, .. } = &self.base;
        let shards = graph.job.shards;
        for source in &graph.sources {
            let Some(factory) = env.registry.source(&source.spec.connector) else { continue };
            let context = env.context(&graph.job.name, secrets);
            let group = factory.membership(&source.spec.config, &context, shards).await;
            let group = group.map_err(|e| e.at_source(&source.spec.name))?;
            if let Some(group) = group {
                return Ok(Group::Of(group));
            }
        }
        Ok(Group::Nobody { shards, answered: false })
    }
}

/// What the job's own chain is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum House {
    /// To make the tables.
    Found,
    /// To look after them once.
    Once,
    /// To look after them until stopped.
    Always,
}

/// Who decides between processes.
enum Group {
    /// The connector.
    Of(Box<dyn Membership>),
    /// Nobody: whoever has a shard's lease runs it, and each process waits for all of them.
    Nobody { shards: u32, answered: bool },
}

impl Group {
    /// Whether a shard that it names may be taken from who has it.
    fn decides(&self) -> bool {
        matches!(self, Group::Of(_))
    }

    async fn next(&mut self) -> Result<BTreeSet<u32>> {
        match self {
            Group::Of(group) => group.next().await,
            Group::Nobody { answered: true, .. } => std::future::pending().await,
            Group::Nobody { shards, answered } => {
                *answered = true;
                Ok((0..*shards).collect())
            }
        }
    }
}

/// The house is kept by whoever has the first shard.
fn with_house(shards: &BTreeSet<u32>) -> BTreeSet<Part> {
    let house = shards.contains(&0).then_some(Part::House);
    shards.iter().map(|index| Part::Shard(*index)).chain(house).collect()
}
