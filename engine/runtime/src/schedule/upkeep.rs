//! Looking after a job's tables: Delta checkpoints, vacuum, leftovers, folding of old manifests.
//!
//! In: the heads of a job that is open. Out: lines that say what was done. Folding small files is
//! an epoch, and the run's.

use std::collections::BTreeSet;

use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use sluice_core::{Result, format_bytes, format_count};
use sluice_lake::maintain::{self as lake_maintain, Keep};
use sluice_lake::manifest::{Action, KEEP_MS, KEEP_NEWEST, job_folder};
use sluice_lake::snapshot::{self, Published, PublishedTable, Snapshots};
use sluice_lake::store::Store;

use crate::epoch::{Lake, Publisher};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// Fold small files.
    pub compact: bool,
    /// Delete files that no snapshot younger than an hour needs.
    pub vacuum: bool,
    /// Write Delta checkpoints, so that readers need not read long logs.
    pub checkpoint: bool,
    /// Fold old manifests.
    pub fold: bool,
}

impl Upkeep {
    /// Everything.
    pub const ALL: Self = Self { compact: true, vacuum: true, checkpoint: true, fold: true };
}

/// Everything but compaction; `now_ms` is the wall clock's time. Gives lines that say what was done.
pub async fn keep_house(
    publisher: &Publisher,
    options: Upkeep,
    now_ms: i64,
) -> Result<Vec<String>> {
    let (lake, job) = (&publisher.lake, &publisher.identity.job);
    let mut lines = Vec::new();
    for (name, table) in &publisher.tables {
        let Some(head) = &table.head else { continue };
        if options.checkpoint {
            sluice_lake::delta::checkpoint(&table.location).await?;
            lines.push(format!("{name}: checkpoint of version {}", head.version));
        }
    }
    let snapshots = Snapshots::new(&lake.root, job);
    // Ages of objects are told by the store's own clock.
    let store_now = match options.vacuum || options.fold {
        true => lake_maintain::store_now_ms(&lake.root.child("_sluice")).await?,
        false => now_ms,
    };
    if options.vacuum {
        let needed = snapshots.needed(now_ms, snapshot::KEEP_MS).await?;
        for (name, table) in &publisher.tables {
            let Some(head) = &table.head else { continue };
            let keep = Keep {
                since_version: oldest(&needed, name),
                removed_ms: snapshot::KEEP_MS,
                named: BTreeSet::new(),
                now_ms: store_now,
            };
            let gone = lake_maintain::vacuum(&table.location, head, &keep).await?;
            lines.extend(delete(&lake.root.store, name, &gone).await?);
        }
        let named = named(lake).await?;
        for folder in ["state", "staged"] {
            let folder = job_folder(&lake.root, job).child(folder);
            let old = lake_maintain::ORPHAN_MS;
            let gone = lake_maintain::orphans(&folder, &named, old, store_now).await?;
            lines.extend(delete(&lake.root.store, "leftovers", &gone).await?);
        }
    }
    if options.fold {
        let folded = lake.chain.fold(store_now, KEEP_NEWEST, KEEP_MS).await?;
        snapshots.clean(now_ms, snapshot::KEEP_MS).await?;
        lines.push(format!("{} folded", format_count(folded.folded, "manifest")));
    }
    Ok(lines)
}

/// Deletes files and says so.
async fn delete(store: &Store, name: &str, gone: &[ObjectMeta]) -> Result<Option<String>> {
    if gone.is_empty() {
        return Ok(None);
    }
    let bytes = format_bytes(lake_maintain::delete(store, gone).await?);
    Ok(Some(format!("{name}: {} deleted, {bytes}", format_count(gone.len() as u64, "file"))))
}

/// Whole paths of what the last manifest names besides table files.
async fn named(lake: &Lake) -> Result<BTreeSet<String>> {
    let Some(entry) = lake.chain.last().await? else { return Ok(BTreeSet::new()) };
    let state = entry.manifest.state.values().flatten().map(|f| f.path.clone());
    let mut named: BTreeSet<String> = state.collect();
    for part in entry.manifest.tables.values() {
        match &part.action {
            Action::Delta(action) => {
                named.extend(action.change_file.iter().map(|f| f.path.clone()))
            }
            Action::Files(action) => named.extend(action.copies.iter().map(|c| c.from.clone())),
            Action::None => {}
        }
    }
    Ok(named)
}

/// The oldest version of a table that a reader may still be reading.
fn oldest(needed: &[Published], name: &str) -> Option<i64> {
    let versions = needed.iter().filter_map(|p| match p.tables.get(name) {
        Some(PublishedTable::Delta { version, .. }) => Some(*version),
        _ => None,
    });
    versions.min()
}
