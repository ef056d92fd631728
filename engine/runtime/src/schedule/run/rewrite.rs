//! Compaction as a part of a run: between its epochs, or all there is for whoever asks.
//!
//! Each round is an epoch of its own, sealed and published like any other, so that what it did
//! stays done. Which files are rewritten is decided in `epoch`.

use std::sync::Arc;

use sluice_core::Result;
use tokio_util::sync::CancellationToken;

use super::{Run, RunOptions, Told};
use crate::epoch::{Compaction, Environment};
use crate::plan::Graph;
use crate::recover::Running;
use crate::schedule::{Silent, Summary};

/// Rounds of compaction that somebody who asks gets at once: 400 GiB. More are for the next time.
const ROUNDS_MAX: u64 = 100;

/// Joins and sorts files of an opened job's tables until nothing is left to do, and gives its lease
/// back. Gives the number of rounds, each an epoch.
pub async fn compact_job(env: &Environment, graph: &Arc<Graph>, running: Running) -> Result<u64> {
    let options = RunOptions {
        epochs_max: Some(0),
        compaction: None,
        upkeep: false,
        ..RunOptions::default()
    };
    let stop = CancellationToken::new();
    let mut summary = Summary::new(graph);
    let told = Told::of(env, &graph.job.name);
    let mut run = Run::new(env, graph, &options, told.around(&Silent, &stop), running);
    let compacted = run.compact_all(&mut summary).await;
    let ended = run.until_done(&mut summary).await;
    compacted.and_then(|rounds| ended.map(|_| rounds))
}

impl Run<'_> {
    /// Joins small files when there are enough of them, as an epoch of its own.
    pub(super) async fn compact(&mut self, summary: &mut Summary) -> Result<()> {
        let timed = self.options.follow && self.graph.job.epoch.every.is_some();
        match self.options.compaction {
            Some(compaction) if timed => {
                let compaction = compaction.between_timed_epochs();
                self.rewrite_files(compaction, summary).await.map(|_| ())
            }
            Some(compaction) => self.rewrite_files(compaction, summary).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Joins and sorts all there is, round by round. Gives their number.
    pub(super) async fn compact_all(&mut self, summary: &mut Summary) -> Result<u64> {
        let mut rounds = 0;
        while rounds < ROUNDS_MAX && self.rewrite_files(Compaction::ALL, summary).await? {
            rounds += 1;
        }
        Ok(rounds)
    }

    /// Whether there was anything to rewrite.
    async fn rewrite_files(&mut self, how: Compaction, summary: &mut Summary) -> Result<bool> {
        if !self.worker.wants_compaction(how) {
            return Ok(false);
        }
        self.finish_publishing(None).await?;
        let opened = self.env.clock.monotonic();
        let Some(publisher) = &self.publisher else { return Ok(false) };
        let Some(manifest) = self.worker.compact(how, publisher).await? else { return Ok(false) };
        self.seal(manifest, opened, summary).await?;
        Ok(true)
    }
}
