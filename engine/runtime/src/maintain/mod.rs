//! Maintenance by hand: join and sort files, vacuum, write Delta checkpoints, fold old manifests;
//! and taking a job or a table back to nothing.
//!
//! In: a job. Out: lines that say what was done. It takes the job's lease like any runner; where a
//! runner has it, that one is asked to do the work between two of its epochs. Nothing is written
//! where the job has sealed nothing.

mod reset;

use std::sync::Arc;
use std::time::Duration;

use sluice_core::{Error, Kind, Result, Secrets, format_count};
use sluice_lake::manifest::{Holder, Lease};

use crate::epoch::Environment;
use crate::plan::Graph;
use crate::recover::{RecoverOptions, Running, beside, lake_of, lake_with, open, past};
use crate::schedule::{House, Request, Requests, Upkeep, compact_job};

pub use reset::{Target, going, reset};

/// How often it is looked for a runner's answer.
const LOOK: Duration = Duration::from_millis(250);

/// Every so many looks it is tried whether the runner has gone: that takes several requests.
const LOOKS_PER_TRY: u32 = 20;

/// How to maintain a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaintainOptions {
    /// What to do.
    pub upkeep: Upkeep,
    /// Take the lease from a live holder.
    pub take_over: bool,
    /// How long to wait for the runner of a job that is being run.
    pub wait: Duration,
}

/// Maintains one job's tables, or has it done by the runner who works the job.
pub async fn maintain(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
    options: MaintainOptions,
) -> Result<Vec<String>> {
    if let Some(finding) = past(env, graph, secrets).await?.finding() {
        return Err(Error::config(finding).hint("there is nothing to maintain before that"));
    }
    let lake = lake_of(env, graph, secrets)?;
    let how = RecoverOptions { take_over: options.take_over, ..RecoverOptions::default() };
    let mut running = match open(env, graph, lake.clone(), secrets, how).await {
        Err(held) if held.kind() == Kind::Fenced => {
            match ask(env, graph, secrets, options, &held).await? {
                Asked::Told(lines) => return Ok(lines),
                Asked::Free(running) => *running,
            }
        }
        opened => opened?,
    };
    let mut lines = Vec::new();
    if options.upkeep.compact {
        let done = compact_job(env, graph, running).await?;
        lines.push(format_count(done, "compaction"));
        running = open(env, graph, lake.clone(), secrets, how).await?;
    }
    let Running { worker, publisher, lease, .. } = running;
    let house = House::of(&publisher, worker.state.epoch.saturating_sub(1));
    lines.extend(house.keep(options.upkeep).await?);
    lease.release().await?;
    if options.upkeep.fold || options.upkeep.vacuum {
        for chain in beside(&lake.root, &graph.job.name).await? {
            lines.extend(keep_beside(env, graph, secrets, options, &chain).await?);
        }
    }
    Ok(lines)
}

/// Tidies up what a chain beside the job's own has for itself: manifests, records, leftovers.
async fn keep_beside(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
    options: MaintainOptions,
    chain: &str,
) -> Result<Vec<String>> {
    let lake = lake_with(env, graph, secrets, chain)?;
    let holder = Holder { run: env.ids.fresh(), host: env.host.clone(), pid: env.pid };
    let clock = env.clock.clone();
    let lease = Lease::acquire(&lake.root, chain, holder, options.take_over, clock).await;
    let lease = match lease {
        // Its runner folds by itself.
        Err(held) if held.kind() == Kind::Fenced => return Ok(Vec::new()),
        lease => lease?,
    };
    let epoch = lake.chain.last().await?.map_or(0, |last| last.manifest.epoch);
    let upkeep = Upkeep { compact: false, checkpoint: false, ..options.upkeep };
    let lines = House::beside(lake, epoch).keep(upkeep).await;
    lease.release().await?;
    Ok(lines?.into_iter().map(|line| format!("{chain}: {line}")).collect())
}

/// What came of asking a runner.
enum Asked {
    /// What there is to say.
    Told(Vec<String>),
    /// The runner has gone, the job is ours.
    Free(Box<Running>),
}

/// Asks the runner that holds the job, and waits for its answer.
async fn ask(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
    options: MaintainOptions,
    held: &Error,
) -> Result<Asked> {
    let lake = lake_of(env, graph, secrets)?;
    let requests = Requests::new(&lake.root, &graph.job.name);
    let request = Request { id: env.ids.fresh(), upkeep: options.upkeep };
    requests.ask(&request).await?;
    let began = env.clock.monotonic();
    for look in 1_u32.. {
        env.clock.sleep(LOOK).await;
        if let Some(done) = requests.answer_to(&request.id).await? {
            let who = format!("done by its runner: {}", held.message());
            return Ok(Asked::Told([vec![who], done].concat()));
        }
        if env.clock.monotonic().saturating_sub(began) >= options.wait {
            break;
        }
        if look % LOOKS_PER_TRY == 0 {
            if requests.pending().await?.is_none() {
                // Somebody else asked meanwhile, and was answered.
                requests.ask(&request).await?;
            }
            match open(env, graph, lake.clone(), secrets, RecoverOptions::default()).await {
                Err(still) if still.kind() == Kind::Fenced => {}
                Err(error) => return Err(error),
                Ok(running) => {
                    requests.withdraw().await?;
                    return Ok(Asked::Free(Box::new(running)));
                }
            }
        }
    }
    Ok(Asked::Told(vec![
        format!("asked its runner, who has not come to it yet: {}", held.message()),
        "it is done between two epochs, or by whoever runs the job next".to_string(),
    ]))
}
