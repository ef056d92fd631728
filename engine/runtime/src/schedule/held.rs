//! A job that is held while something else is done to its tables, and a run over sources that the
//! caller brings.
//!
//! In: an opened chain. Out: the number of an epoch without rows, after which nothing of the job has
//! an earlier one; and the lease, renewed until it is given back.

use std::sync::Arc;

use sluice_core::{Result, Secrets};
use tokio_util::sync::CancellationToken;

use super::report::{Progress, Silent, Summary};
use super::request::Requests;
use super::run::{Run, RunOptions, Told};
use super::tender::Tender;
use crate::epoch::Environment;
use crate::plan::Graph;
use crate::recover::{RecoverOptions, Running, lake_of, open};

/// A job that nobody else runs meanwhile.
pub struct HeldJob {
    tender: Tender,
}

impl HeldJob {
    /// Gives it back.
    pub async fn release(self) -> Result<()> {
        self.tender.end().await?.release().await
    }
}

/// Seals an epoch without rows on a job's own chain, and holds the job. Gives the epoch's number.
pub async fn hold(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
) -> Result<(HeldJob, u64)> {
    let stop = CancellationToken::new();
    let options = RunOptions {
        epochs_max: Some(0),
        compaction: None,
        upkeep: false,
        ..RunOptions::default()
    };
    let how = RecoverOptions { idle: true, ..RecoverOptions::default() };
    let lake = lake_of(env, graph, secrets)?;
    let root = lake.root.clone();
    let running = open(env, graph, lake, secrets, how).await?;
    let mut summary = Summary::new(graph);
    let told = Told::of(env, &graph.job.name);
    let mut run = Run::new(env, graph, &options, told.around(&Silent, &stop), running);
    let (lease, number) = run.pause(&mut summary).await?;
    let requests = Requests::new(&root, &graph.job.name);
    let tender = Tender::start(env.clock.clone(), lease, requests, told.bulletin());
    Ok((HeldJob { tender }, number))
}

/// Runs epochs over the sources of an opened chain until they are empty.
pub async fn work(
    env: &Environment,
    graph: &Arc<Graph>,
    options: &RunOptions,
    progress: &dyn Progress,
    running: Running,
    stop: &CancellationToken,
) -> Result<Summary> {
    let mut summary = Summary::new(graph);
    let told = Told::of(env, &graph.job.name);
    let mut run = Run::new(env, graph, options, told.around(progress, stop), running);
    run.until_done(&mut summary).await?;
    Ok(summary)
}
