//! A job's chain as the system tables need it: its manifests, and the sum of the folded ones.

use futures::TryStreamExt;
use sluice_core::Result;
use sluice_lake::manifest::{Base, Manifest};
use sluice_lake::snapshot::Snapshots;

use crate::epoch::Environment;
use crate::query::Readable;
use crate::recover::lake_of;

/// What a job's lake remembers of its epochs.
pub(super) struct Remembered {
    pub job: String,
    pub base: Option<Base>,
    /// Those that are not folded, in order.
    pub manifests: Vec<Manifest>,
    pub snapshots: Snapshots,
}

pub(super) async fn remembered(env: &Environment, job: &Readable) -> Result<Remembered> {
    let name = job.graph.job.name.clone();
    let lake = lake_of(env, &job.graph, &job.secrets)?;
    let base = lake.chain.base().await?;
    let all = lake.chain.all().await?;
    let manifests = all.map_ok(|entry| entry.manifest).try_collect().await?;
    let snapshots = Snapshots::new(&lake.root, &name);
    Ok(Remembered { job: name, base, manifests, snapshots })
}
