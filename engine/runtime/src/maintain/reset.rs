//! Taking a job or one of its tables back to nothing.
//!
//! In: a job, and what of it. Out: what would go, and then that it has gone. A whole job is deleted
//! under its lease, behind a mark without which a half-deleted job could be taken for a damaged
//! one. A table or view is not deleted: the next run makes it again and puts it in the place of the
//! old one in a single commit, so that readers never see it half.

use std::sync::Arc;

use object_store::ObjectMeta;
use sluice_core::{Error, Result, Secrets};
use sluice_lake::maintain::delete;
use sluice_lake::manifest::{Holder, Lease};
use sluice_lake::store::{Location, Store};

use crate::epoch::{Environment, Lake};
use crate::plan::Graph;
use crate::recover::{Mark, Owned, Past, beside, lake_of, owned, past};

/// What of a job is to be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All of it.
    Job,
    /// A table: its rows come from sources, which are read again for all tables of the job.
    Table(String),
    /// A view: it is built afresh from its inputs.
    View(String),
}

impl Target {
    /// The table or view `name` of a job; none where there is none.
    pub fn named(graph: &Graph, name: &str) -> Option<Self> {
        if graph.tables.iter().any(|t| t.spec.name == name) {
            return Some(Self::Table(name.to_string()));
        }
        let view = graph.views.iter().any(|v| v.spec.name == name);
        view.then(|| Self::View(name.to_string()))
    }
}

/// What would go of a job, or has gone; nothing where nothing is there.
pub async fn going(env: &Environment, graph: &Arc<Graph>, secrets: &Secrets) -> Result<Vec<Owned>> {
    owned(env, graph, secrets).await
}

/// Takes a job or a table of it back to nothing. Errors: `Fenced` while a runner holds the job,
/// `Config` where a table is to be reset and the job never ran. Repeating it finishes what a crash
/// left.
pub async fn reset(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
    target: &Target,
) -> Result<()> {
    let lake = lake_of(env, graph, secrets)?;
    let holder = Holder { run: env.ids.fresh(), host: env.host.clone(), pid: env.pid };
    let (root, job) = (&lake.root, &graph.job.name);
    let lease = Lease::acquire(root, job, holder.clone(), false, env.clock.clone()).await?;
    let mut others = Vec::new();
    for chain in beside(root, job).await? {
        let clock = env.clock.clone();
        others.push(Lease::acquire(root, &chain, holder.clone(), false, clock).await?);
    }
    let done = match target {
        Target::Job => job_away(env, graph, secrets, &lake).await,
        Target::Table(name) => mark(env, graph, secrets, &lake, (Some(name), None)).await,
        Target::View(name) => mark(env, graph, secrets, &lake, (None, Some(name))).await,
    };
    for lease in others {
        lease.release().await?;
    }
    lease.release().await?;
    done
}

async fn job_away(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
    lake: &Lake,
) -> Result<()> {
    Mark::Job.write(lake).await?;
    for place in owned(env, graph, secrets).await? {
        let (log, others): (Vec<_>, Vec<_>) =
            place.objects.into_iter().partition(|meta| is_log(&place.location, meta));
        delete(&place.location.store, &others).await?;
        one_by_one(&place.location.store, &log).await?;
    }
    Mark::remove(lake).await
}

/// Whether the order of deletes matters: a log without its newest entries is a log, one without
/// its oldest is not.
fn is_log(location: &Location, meta: &ObjectMeta) -> bool {
    ["_delta_log", "epochs"].iter().any(|name| {
        let folder = location.child(name).path;
        meta.location.prefix_matches(&folder)
    })
}

async fn one_by_one(store: &Store, objects: &[ObjectMeta]) -> Result<()> {
    for meta in objects {
        delete(store, std::slice::from_ref(meta)).await?;
    }
    Ok(())
}

/// Leaves the next run to make a table or a view again.
async fn mark(
    env: &Environment,
    graph: &Arc<Graph>,
    secrets: &Secrets,
    lake: &Lake,
    (table, view): (Option<&String>, Option<&String>),
) -> Result<()> {
    let past = past(env, graph, secrets).await?;
    let last = lake.chain.last().await?.map(|entry| entry.manifest);
    let (Past::Epochs, Some(last)) = (&past, last) else {
        let finding = past.finding().unwrap_or_else(|| "no epoch can be read".to_string());
        return Err(Error::config(finding).hint("there is nothing to reset before that"));
    };
    let before = match Mark::read(lake).await? {
        Some(mark) => mark.pending(lake, Some(&last)).await?,
        None => None,
    };
    let (mut tables, mut views) = match before {
        Some(Mark::Tables { tables, views, .. }) => (tables, views),
        _ => (Vec::new(), Vec::new()),
    };
    tables.extend(table.filter(|name| !tables.contains(name)).cloned());
    views.extend(view.filter(|name| !views.contains(name)).cloned());
    let (epoch, incarnation) = (last.epoch, last.incarnation);
    Mark::Tables { epoch, incarnation, tables, views }.write(lake).await
}
