//! What is looked after while the process serves: newer published records of the jobs, and columns
//! that their sources learned.
//!
//! In: the parts. Out: queries that see an epoch soon after it is published, whoever published it,
//! and a health that says when the lake does not answer. It runs no job.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use sluice_core::{Clock, Result};
use sluice_runtime::query::Readable;
use sluice_runtime::recover::replan;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::shell::Health;

/// How often published records are looked for: a row is to be seen within a second of its event,
/// and an epoch takes most of it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Looks that may wait for lakes that do not answer, while others go on.
const LOOKS_MAX: usize = 8;

/// How long after one look at learned columns the next one may be: manifests are read for it.
const LEARN_EVERY: Duration = Duration::from_secs(1);

/// What the health calls the table of runs.
const HISTORY: &str = "history of runs";

/// Looks after `parts` until the process is to stop.
pub(super) fn watch(parts: &Arc<Parts>) {
    tokio::spawn(refresh(Arc::downgrade(parts), parts.stop.clone()));
    tokio::spawn(learn(Arc::downgrade(parts), parts.stop.clone()));
    tokio::spawn(follow_history(parts.health.clone(), parts.scheduler.trouble()));
}

/// Says when the history of runs cannot be written. Runs go on, and are written when it can.
async fn follow_history(health: Arc<Health>, mut trouble: watch::Receiver<Option<String>>) {
    health.add_dependency(HISTORY);
    loop {
        let now = trouble.borrow_and_update().clone();
        health.set(HISTORY, now.is_none(), &now.unwrap_or_default());
        if trouble.changed().await.is_err() {
            return;
        }
    }
}

/// Waits, unless the process is to stop.
async fn pause(clock: &Arc<dyn Clock>, stop: &CancellationToken, time: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = clock.sleep(time) => true,
    }
}

/// Looks for published records again and again. A lake that does not answer for long keeps its own
/// look waiting; the next ones leave it out.
async fn refresh(parts: Weak<Parts>, stop: CancellationToken) {
    let mut missing = BTreeSet::new();
    let mut looks = FuturesUnordered::new();
    loop {
        let Some(parts) = parts.upgrade() else { return };
        tell(&parts, &mut missing);
        let clock = parts.environment.clock.clone();
        if looks.len() < LOOKS_MAX {
            // What failed is among the troubles.
            looks.push(async move { drop(parts.queries.refresh().await) });
        }
        let pause = pause(&clock, &stop, LOOK_EVERY);
        tokio::pin!(pause);
        let goes_on = loop {
            tokio::select! {
                goes_on = &mut pause => break goes_on,
                Some(()) = looks.next() => {}
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// Says of which jobs the lake does not answer, and that it answers again of those in `missing`.
fn tell(parts: &Parts, missing: &mut BTreeSet<String>) {
    let troubles: BTreeMap<String, String> = parts.queries.troubles().into_iter().collect();
    for (job, reason) in &troubles {
        if !missing.contains(job) {
            tracing::warn!(job, reason, "published records cannot be looked for");
        }
        parts.health.set(&lake_of(job), false, reason);
    }
    for job in missing.iter().filter(|job| !troubles.contains_key(*job)) {
        parts.health.remove_dependency(&lake_of(job));
    }
    *missing = troubles.into_keys().collect();
}

/// What the health calls the store of a job.
fn lake_of(job: &str) -> String {
    format!("lake of job {job}")
}

/// Plans jobs again whose sources learned columns, so that queries see them.
async fn learn(parts: Weak<Parts>, stop: CancellationToken) {
    let Some(mut moved) = parts.upgrade().map(|parts| parts.queries.moved()) else { return };
    loop {
        let Some(parts) = parts.upgrade() else { return };
        if let Err(error) = learn_once(&parts).await {
            tracing::debug!(error = %error.chain(), "learned columns cannot be looked for");
        }
        let clock = parts.environment.clock.clone();
        drop(parts);
        if !pause(&clock, &stop, LEARN_EVERY).await {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = moved.changed() => if changed.is_err() { return },
        }
    }
}

async fn learn_once(parts: &Parts) -> Result<()> {
    let _switching = parts.switching.lock().await;
    let mut jobs = parts.queries.jobs();
    let mut learned = false;
    for job in jobs.iter_mut().filter(|job| learns(job)) {
        let graph = replan(&parts.environment, &job.graph, &job.secrets).await?;
        learned |= !Arc::ptr_eq(&graph, &job.graph);
        job.graph = graph;
    }
    if learned {
        parts.queries.set_jobs(jobs);
    }
    Ok(())
}

/// Whether a source of the job takes columns that its schema does not name.
fn learns(job: &Readable) -> bool {
    let adds = |value: &serde_json::Value| value.as_str() == Some("add");
    let sources = &job.graph.job.sources;
    sources.iter().any(|s| s.config.value.get("on_new_column").is_some_and(adds))
}
