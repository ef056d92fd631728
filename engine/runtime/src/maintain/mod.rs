//! Maintenance by hand: fold small files, vacuum, write Delta checkpoints, fold old manifests.
//!
//! In: a job. Out: lines that say what was done. It takes the job's lease like any runner, so a job
//! that runs is left alone: its runner folds small files itself, between epochs. Nothing is written
//! where the job has sealed nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::ObjectMeta;
use sluice_core::{Error, Kind, Result, Secrets, format_bytes, format_count};
use sluice_lake::maintain::{self as lake_maintain, Keep};
use sluice_lake::manifest::{Action, KEEP_MS, KEEP_NEWEST, job_folder};
use sluice_lake::snapshot::{self, Published, PublishedTable, Snapshots};
use sluice_lake::store::Store;

use crate::epoch::{Compaction, Environment, Lake, Publisher};
use crate::plan::Graph;
use crate::recover::{RecoverOptions, Running, lake_of, open, past};
use crate::schedule::compact_job;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaintainOptions {
    /// Fold small files.
    pub compact: bool,
    /// Delete files that no snapshot younger than an hour needs.
    pub vacuum: bool,
    /// Write Delta checkpoints, so that readers need not read long logs.
    pub checkpoint: bool,
    /// Fold old manifests.
    pub fold: bool,
    /// Take the lease from a live holder.
    pub take_over: bool,
}

impl Default for MaintainOptions {
    fn default() -> Self {
        Self { compact: true, vacuum: true, checkpoint: true, fold: true, take_over: false }
    }
}

/// Maintains one job's tables. A job that another runner holds is left alone, which is no error.
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
        Err(held) if held.kind() == Kind::Fenced => return Ok(left_alone(&held)),
        opened => opened?,
    };
    let mut lines = Vec::new();
    if options.compact {
        let compaction = Compaction { files_min: 2, ..Compaction::default() };
        let done = compact_job(env, graph, running, compaction).await?;
        lines.push(format_count(done, "compaction"));
        running = open(env, graph, lake.clone(), secrets, how).await?;
    }
    let Running { publisher, lease, .. } = running;
    lines.extend(keep_house(env, graph, &lake, publisher, options).await?);
    lease.release().await?;
    Ok(lines)
}

/// What is said of a job that another runner holds.
fn left_alone(held: &Error) -> Vec<String> {
    let files = Compaction::default().files_min;
    vec![
        format!("left alone: {}", held.message()),
        format!("its runner folds small files itself, between epochs, once there are {files}"),
        "checkpoints, old manifests and vacuum wait until nobody runs the job".to_string(),
    ]
}

/// Everything but compaction.
async fn keep_house(
    env: &Environment,
    graph: &Graph,
    lake: &Lake,
    publisher: Publisher,
    options: MaintainOptions,
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let now_ms = env.clock.wall_ms();
    for (name, table) in &publisher.tables {
        let Some(head) = &table.head else { continue };
        if options.checkpoint {
            sluice_lake::delta::checkpoint(&table.location).await?;
            lines.push(format!("{name}: checkpoint of version {}", head.version));
        }
    }
    let snapshots = Snapshots::new(&lake.root, &graph.job.name);
    if options.vacuum {
        let store_now = lake_maintain::store_now_ms(&lake.root.child("_sluice")).await?;
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
        let job = &graph.job.name;
        let named = named(lake).await?;
        for folder in ["state", "staged"] {
            let folder = job_folder(&lake.root, job).child(folder);
            let old = lake_maintain::ORPHAN_MS;
            let gone = lake_maintain::orphans(&folder, &named, old, store_now).await?;
            lines.extend(delete(&lake.root.store, "leftovers", &gone).await?);
        }
    }
    if options.fold {
        let folded = lake.chain.fold(now_ms, KEEP_NEWEST, KEEP_MS).await?;
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
