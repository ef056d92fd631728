//! The chains of jobs as the system tables need it: their manifests, and the sum of the folded ones.

use futures::TryStreamExt;
use sluice_core::Result;
use sluice_lake::manifest::{Base, Manifest};
use sluice_lake::snapshot::Snapshots;

use crate::epoch::Environment;
use crate::query::Readable;
use crate::recover::{beside, lake_with};

/// What a lake remembers of the epochs of a job's chain.
pub(super) struct Remembered {
    pub job: String,
    pub base: Option<Base>,
    /// Those that are not folded, in order.
    pub manifests: Vec<Manifest>,
    pub snapshots: Snapshots,
}

/// What is remembered of all chains of some jobs, each job's own first.
pub(super) async fn all_remembered(
    env: &Environment,
    jobs: &[Readable],
) -> Result<Vec<(Readable, Remembered)>> {
    let mut all = Vec::new();
    for job in jobs {
        let name = job.graph.job.name.clone();
        let lake = lake_with(env, &job.graph, &job.secrets, &name)?;
        let chains = [vec![name.clone()], beside(&lake.root, &name).await?].concat();
        for chain in chains {
            all.push((job.clone(), remembered(env, job, chain).await?));
        }
    }
    Ok(all)
}

async fn remembered(env: &Environment, job: &Readable, name: String) -> Result<Remembered> {
    let lake = lake_with(env, &job.graph, &job.secrets, &name)?;
    let base = lake.chain.base().await?;
    let all = lake.chain.all().await?;
    let manifests = all.map_ok(|entry| entry.manifest).try_collect().await?;
    let snapshots = Snapshots::new(&lake.root, &name);
    Ok(Remembered { job: name, base, manifests, snapshots })
}
