//! The chains of a job: its own, which makes the tables and looks after them, and those beside it,
//! `<job>@<name>`, which append to the same tables.
//!
//! ```text
//! <job>            makes tables, compaction, views           sluice/<job>/<life>/<table>
//! <job>@<k>of<n>   a slice of the sources' partitions        sluice/<job>@<k>of<n>/<life>/<table>
//! <job>@replay-…   rows that are taken again                 sluice/<job>@replay-…/<life>/<table>
//! ```
//!
//! In: a lake and a job. Out: names of chains, and what readers see of all of them together. Each
//! chain has manifests, state, records and a lease of its own; the life (incarnation) is the job's.

use std::collections::BTreeMap;

use sluice_core::{Error, Result, Shard};
use sluice_lake::manifest::{Chain, Entry, jobs};
use sluice_lake::snapshot::{Published, PublishedTable, Snapshots};
use sluice_lake::store::Location;

use crate::epoch::{Again, Environment, Lake};

#[cfg(test)]
mod tests;

/// What the names of replays begin with behind the job's.
const REPLAY: &str = "@replay-";

/// The chain of a slice of a job's partitions.
pub fn shard_chain(job: &str, shard: Shard) -> String {
    format!("{job}@{}of{}", shard.index, shard.count)
}

/// The chain that takes rows of a source or table again.
pub fn replay_chain(job: &str, again: Again, name: &str) -> String {
    let from = match again {
        Again::Rejected => "rejected",
        Again::Quarantined => "quarantine",
    };
    format!("{job}{REPLAY}{from}-{name}")
}

/// Whether a chain of a job takes rows again.
pub fn is_replay(job: &str, chain: &str) -> bool {
    chain.strip_prefix(job).is_some_and(|name| name.starts_with(REPLAY))
}

/// The chains beside a job's own that have something in the lake, by name.
pub async fn beside(lake: &Location, job: &str) -> Result<Vec<String>> {
    let prefix = format!("{job}@");
    let mut names = jobs(lake).await?;
    names.retain(|name| name.starts_with(&prefix));
    Ok(names)
}

/// How many epochs each replay of a job published, by chain.
pub async fn replays(lake: &Location, job: &str) -> Result<BTreeMap<String, u64>> {
    let prefix = format!("{job}{REPLAY}");
    let mut epochs = BTreeMap::new();
    for chain in beside(lake, job).await?.into_iter().filter(|name| name.starts_with(&prefix)) {
        if let Some(last) = Snapshots::new(lake, &chain).latest().await? {
            epochs.insert(chain, last.epoch + 1);
        }
    }
    Ok(epochs)
}

/// The last epoch of a job's own chain, without which there is none beside it.
pub(super) async fn founder(env: &Environment, lake: &Lake, job: &str) -> Result<Entry> {
    let own = Chain::new(&lake.root, job, env.clock.clone());
    own.last().await?.ok_or_else(|| {
        Error::config(format!(
            "no epoch was ever sealed here job={job} lake={}",
            lake.root.describe()
        ))
        .hint("run the job first, or correct its lake")
    })
}

/// What readers see of a job: of each table the newest version that a record of one of its chains
/// names. A version holds whole epochs of every chain, since an epoch is one commit to each table.
/// Its epoch is how many the chains published together, less one.
pub async fn published(lake: &Location, job: &str) -> Result<Option<Published>> {
    let Some(own) = Snapshots::new(lake, job).latest().await? else { return Ok(None) };
    let mut others = Vec::new();
    for chain in beside(lake, job).await? {
        others.extend(Snapshots::new(lake, &chain).latest().await?);
    }
    Ok(Some(united(own, others)))
}

/// The records of several chains of a job as one. Those of an earlier life say nothing of the tables
/// that are there now; they count, so that the number of epochs never falls.
pub(crate) fn united(mut own: Published, others: Vec<Published>) -> Published {
    for other in others {
        own.epoch += other.epoch + 1;
        if other.incarnation != own.incarnation {
            continue;
        }
        own.published_at_ms = own.published_at_ms.max(other.published_at_ms);
        for (name, table) in other.tables {
            match (own.tables.get_mut(&name), table) {
                (
                    Some(PublishedTable::Delta { location, version }),
                    PublishedTable::Delta { location: place, version: newer },
                ) if *location == place => *version = newer.max(*version),
                (None, table @ PublishedTable::Delta { .. }) => {
                    own.tables.insert(name, table);
                }
                _ => {}
            }
        }
    }
    own
}
