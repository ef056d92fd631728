//! Attempts: a job is opened and run again after a failure that may pass, and after its sources
//! learned columns.
//!
//! In: a graph and how to run it. Out: a summary of what was sealed, whatever the end. What happens
//! between opening and failing is [`super::run`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_core::{FieldSpec, Kind, Result, Secrets};
use tokio_util::sync::CancellationToken;

use super::report::{Progress, Summary};
use super::run::{Ended, Run, RunOptions};
use super::shards::Shards;
use crate::epoch::{Environment, Strand};
use crate::function::{SessionOptions, session};
use crate::plan::Graph;
use crate::recover::{RecoverOptions, lake_with, open, shard_chain};

/// Attempts in a row that may fail before a run gives up: with the waits between them about half a
/// minute, longer than a store's usual hiccup and shorter than a person's patience.
const FAILURES_MAX: u32 = 5;

/// The first wait after a failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);

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
        let Attempts { env, secrets, options, progress, stop, strand, .. } = self;
        let mut graph = self.graph.clone();
        let mut how = RecoverOptions {
            take_over: options.take_over,
            rebuild: options.rebuild,
            adopt: options.adopt,
            marks: true,
            careful: false,
            bounded: !options.follow,
            accept_loss: options.accept_loss,
            strand: *strand,
            idle: false,
        };
        let mut failures = 0;
        let mut done = 0;
        loop {
            let lake = lake_with(env, &graph, secrets, &self.chain())?;
            let sealed_before = summary.epochs;
            let ended = match open(env, &graph, lake, secrets, how).await {
                Ok(running) => {
                    *opened = true;
                    let mut run = Run::new(env, &graph, options, *progress, running, stop);
                    run.done = done;
                    let ended = run.until_done(summary).await;
                    done = run.done;
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
                failures = 0;
            }
            let error = match ended {
                Ok(Ended::Over) => return Ok(()),
                Ok(Ended::Wider(columns)) => {
                    for (source, columns) in &columns {
                        let columns = columns.iter().map(FieldSpec::origin).collect::<Vec<_>>();
                        let columns = columns.join(", ");
                        tracing::info!(source, columns, "a source has new columns");
                    }
                    graph = self.learn(&graph, &columns).await?;
                    continue;
                }
                Err(error) => error,
            };
            failures += 1;
            how.careful = error.kind() == Kind::Unreadable;
            let again = error.retry() || how.careful;
            if !again || failures > FAILURES_MAX || stop.is_cancelled() {
                return Err(error);
            }
            let wait =
                if how.careful { Duration::ZERO } else { FIRST_WAIT * 2u32.pow(failures - 1) };
            progress.note(&format!("{}; trying again in {} s", error.chain(), wait.as_secs()));
            env.clock.sleep(wait).await;
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
