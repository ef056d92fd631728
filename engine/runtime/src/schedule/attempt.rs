//! Attempts: a job is opened and run again after a failure that may pass, and after its sources
//! learned columns.
//!
//! In: a graph and how to run it. Out: a summary of what was sealed, whatever the end. What happens
//! between opening and failing is [`super::run`]'s, how long to wait [`super::circuit`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_core::{Error, FieldSpec, Kind, Result, Secrets, backed_off};
use tokio_util::sync::CancellationToken;

use super::circuit::{Circuits, is_outage};
use super::report::{Progress, Summary};
use super::run::{Around, Ended, Run, RunOptions};
use super::shards::Shards;
use super::tell::Teller;
use crate::epoch::{Environment, Strand};
use crate::function::{SessionOptions, session};
use crate::plan::Graph;
use crate::recover::{RecoverOptions, Running, lake_with, open, shard_chain};
use crate::status::At;

/// Attempts in a row that may fail before a run gives up: with the waits between them about half a
/// minute, longer than a store's usual hiccup and shorter than a person's patience. One that follows
/// goes on for as long as the outage lasts, once it has been at work.
const FAILURES_MAX: u32 = 5;

/// Waits of a run that gives up are longer by up to this part, so that runs which failed together do
/// not come back together.
const JITTER: f64 = 0.25;

/// Runs a job until its sources are empty, or until stopped. The summary tells what was sealed,
/// whatever the end.
pub async fn run_job(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
    options: &RunOptions,
    progress: &dyn Progress,
    stop: CancellationToken,
) -> (Summary, Result<()>) {
    let started = env.clock.monotonic();
    let mut summary = Summary::new(graph);
    let strand = Strand::Main;
    let run = Attempts { env, graph, secrets, options, progress, stop, strand };
    let ended = match graph.job.shards {
        1 => run.until_done(&mut summary, &mut false).await,
        _ => Shards::new(run).until_done(&mut summary).await,
    };
    summary.seconds = env.clock.monotonic().saturating_sub(started).as_secs_f64();
    (summary, ended)
}

/// What every attempt of a run has.
#[derive(Clone)]
pub(super) struct Attempts<'a> {
    pub env: &'a Environment,
    pub graph: &'a Arc<Graph>,
    pub secrets: &'a Secrets,
    pub options: &'a RunOptions,
    pub progress: &'a dyn Progress,
    pub stop: CancellationToken,
    /// Which of the job's chains is run.
    pub strand: Strand,
}

/// What a run remembers from one attempt to the next.
struct State {
    /// Attempts in a row that failed without sealing an epoch.
    failures: u32,
    /// Whether the job was open once.
    opened: bool,
    /// Whether a sealed epoch waits to be published.
    unpublished: bool,
    teller: Teller,
    circuits: Circuits,
}

impl State {
    /// Says how the run ended, if its note is known, or is worth it, or an earlier run left one: what
    /// that one says of a failure is over. Who lost the job to another has nothing to say of it any
    /// more.
    async fn ended(&self, ended: &Result<()>, follow: bool) {
        let fenced = |error: &Error| error.kind() == Kind::Fenced;
        if !self.opened || ended.as_ref().is_err_and(fenced) {
            return;
        }
        let bulletin = &self.teller.bulletin;
        if !follow && ended.is_ok() {
            // It did all there was to do, whatever came in between.
            bulletin.say(|note| note.trouble = None);
        }
        let worth = follow || ended.is_err() || bulletin.is_known() || bulletin.has_past().await;
        if worth {
            self.teller.at(At::Ended, None);
            bulletin.try_post().await;
        }
    }
}

impl Attempts<'_> {
    /// The name of the chain.
    pub fn chain(&self) -> String {
        let job = &self.graph.job.name;
        match self.strand {
            Strand::Shard(shard) => shard_chain(job, shard),
            Strand::Main | Strand::Replay(_) => job.clone(),
        }
    }

    /// Opens the chain and runs it, again after a failure that may pass. Says in `opened` whether it
    /// was ever opened.
    pub async fn until_done(&self, summary: &mut Summary, opened: &mut bool) -> Result<()> {
        let teller = Teller::new(self.env, &self.chain(), self.options.follow);
        let circuits = Circuits::new(self.env, &teller);
        let mut state = State { failures: 0, opened: false, unpublished: false, teller, circuits };
        state.teller.up(true);
        let ended = self.attempt(&mut state, summary).await;
        state.teller.up(false);
        state.ended(&ended, self.options.follow).await;
        *opened |= state.opened;
        ended
    }

    async fn attempt(&self, state: &mut State, summary: &mut Summary) -> Result<()> {
        let options = self.options;
        let mut graph = self.graph.clone();
        let mut how = RecoverOptions {
            take_over: options.take_over,
            rebuild: options.rebuild,
            adopt: options.adopt,
            marks: true,
            careful: false,
            bounded: !options.follow,
            accept_loss: options.accept_loss,
            strand: self.strand,
            idle: false,
        };
        let mut done = 0;
        loop {
            let sealed_before = summary.epochs;
            state.teller.at(At::Opening, None);
            let ended = match self.open(&graph, how, state).await {
                Ok(None) => return Ok(()),
                Ok(Some(running)) => {
                    let around = Around {
                        progress: self.progress,
                        stop: &self.stop,
                        teller: &state.teller,
                        circuits: &state.circuits,
                    };
                    let mut run = Run::new(self.env, &graph, options, around, running);
                    run.done = done;
                    run.secrets = Some(self.secrets);
                    let ended = run.until_done(summary).await;
                    done = run.done;
                    state.unpublished = run.unpublished;
                    if run.began_anew() && !run.adopting {
                        // The new life has begun: a failure from here on continues it.
                        how = RecoverOptions {
                            take_over: false,
                            rebuild: false,
                            adopt: false,
                            marks: true,
                            ..how
                        };
                    }
                    ended
                }
                Err(e) => Err(e),
            };
            how.careful = false;
            if summary.epochs > sealed_before {
                state.failures = 0;
            }
            match ended {
                Ok(Ended::Over) => return Ok(()),
                Ok(Ended::Wider(columns)) => {
                    for (source, columns) in &columns {
                        let columns = columns.iter().map(FieldSpec::origin).collect::<Vec<_>>();
                        let columns = columns.join(", ");
                        tracing::info!(source, columns, "a source has new columns");
                    }
                    graph = self.learn(&graph, &columns).await?;
                }
                Err(error) => {
                    how.careful = error.kind() == Kind::Unreadable;
                    if self.wait_after(error, state).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Opens the job. None when the run is stopped meanwhile: only after it was at work, since what is
    /// opened first is soon open, and may be what ends with an error that has to be told.
    async fn open(
        &self,
        graph: &Arc<Graph>,
        how: RecoverOptions,
        state: &mut State,
    ) -> Result<Option<Running>> {
        let lake = lake_with(self.env, graph, self.secrets, &self.chain())?;
        let root = lake.root.clone();
        let again = state.opened && !state.unpublished;
        let running = tokio::select! {
            biased;
            running = open(self.env, graph, lake, self.secrets, how) => running?,
            () = self.stop.cancelled(), if again => return Ok(None),
        };
        state.teller.bulletin.placed(&root, &self.chain());
        (state.opened, state.unpublished) = (true, false);
        state.circuits.store_answered();
        Ok(Some(running))
    }

    /// Waits before the next attempt, or gives up. Says whether the run was stopped while it waited:
    /// then nothing is left to be done, since what no epoch sealed is taken again by the next run.
    async fn wait_after(&self, error: Error, state: &mut State) -> Result<bool> {
        state.teller.failed(&error);
        state.circuits.missed(&error);
        state.failures += 1;
        let careful = error.kind() == Kind::Unreadable;
        let again = error.retry() || careful;
        let endures = is_outage(&error) && self.options.follow && state.opened;
        let gives_up = !again || (state.failures > FAILURES_MAX && !endures);
        // A source that failed had given nothing: then there is nothing to finish either.
        let idle = endures && error.source_name().is_some() && !state.unpublished;
        match self.stop.is_cancelled() {
            true if idle => return Ok(true),
            true => return Err(error),
            false if gives_up => return Err(error),
            false => {}
        }
        let wait = match (careful, endures) {
            (true, _) => Duration::ZERO,
            (_, true) => state.circuits.failed(&error),
            _ => {
                let more = 1.0 + JITTER * self.env.ids.chance();
                backed_off(state.failures).mul_f64(more)
            }
        };
        let note = format!("{}; trying again in {:.1} s", error.chain(), wait.as_secs_f64());
        self.progress.note(&note);
        state.teller.at(At::Waiting, None);
        if self.options.follow && !careful {
            state.teller.bulletin.try_post().await;
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => match state.unpublished {
                true => Err(error),
                false => Ok(true),
            },
            () = self.env.clock.sleep(wait) => Ok(false),
        }
    }

    async fn learn(
        &self,
        graph: &Graph,
        columns: &BTreeMap<String, Vec<FieldSpec>>,
    ) -> Result<Arc<Graph>> {
        let env = self.env;
        let context = session(&SessionOptions {
            memory: env.pool.clone(),
            partitions: env.partitions,
            time: graph.time.clone(),
        })?;
        Ok(Arc::new(graph.learn(&context, &env.registry, columns).await?))
    }
}

#[cfg(test)]
mod tests;
