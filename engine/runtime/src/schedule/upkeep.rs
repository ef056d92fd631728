//! Looking after a job's tables: Delta checkpoints, old log entries, vacuum, leftovers, folding of
//! old manifests and records.
//!
//! In: what a job's tables are, and what to do. Out: lines that say what was done. Joining small
//! files is an epoch, and the run's; when a run does the rest by itself is `keeper`'s.

use std::collections::BTreeSet;

use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use sluice_core::{Result, Step, format_bytes, format_count, reach};
use sluice_lake::delta::{self, KeepLog, Retention};
use sluice_lake::maintain::{self as lake_maintain, Keep};
use sluice_lake::manifest::{Action, KEEP_MS, KEEP_NEWEST, job_folder};
use sluice_lake::snapshot::{self, Published, PublishedTable, Snapshots};
use sluice_lake::store::Location;

use crate::epoch::{Lake, Publisher};
use crate::outbox;
use crate::recover;

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// Join small files, and sort those of tables with `zorder_by`.
    pub compact: bool,
    /// Delete files that left their tables long ago or that nobody ever named.
    pub vacuum: bool,
    /// Write Delta checkpoints, and delete old entries of the logs behind them.
    pub checkpoint: bool,
    /// Fold old manifests.
    pub fold: bool,
    /// How long files that left a table stay, milliseconds; none: as the table has it.
    #[serde(default)]
    pub retention_ms: Option<i64>,
    /// Say what vacuum would delete, and delete nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl Upkeep {
    /// Everything.
    pub const ALL: Self = Self {
        compact: true,
        vacuum: true,
        checkpoint: true,
        fold: true,
        retention_ms: None,
        dry_run: false,
    };
}

/// What looking after a job's tables needs to know of them; small, so that it goes along with a
/// run.
#[derive(Debug, Clone)]
pub struct House {
    lake: Lake,
    chain: String,
    /// The last sealed epoch.
    epoch: u64,
    /// Delta tables that exist.
    pub(super) tables: Vec<Kept>,
}

/// One Delta table.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub name: String,
    pub location: Location,
    pub version: i64,
    /// The checkpoint it was loaded from.
    pub checkpoint: Option<i64>,
    pub retention: Retention,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chores {
    /// Tables that get a checkpoint.
    pub checkpoint: BTreeSet<String>,
    /// Whether old log entries go.
    pub expire: bool,
    /// Whether files that nobody needs go, or are told.
    pub vacuum: Option<Vacuum>,
    /// Whether old manifests and records go.
    pub fold: bool,
}

/// How to vacuum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Vacuum {
    pub retention_ms: Option<i64>,
    pub dry_run: bool,
}

impl Chores {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl House {
    /// The tables of `publisher` after `epoch`, the last sealed one.
    pub fn of(publisher: &Publisher, epoch: u64) -> Self {
        let tables = publisher.tables.iter().filter_map(|(name, table)| {
            let head = table.head.as_ref()?;
            Some(Kept {
                name: name.clone(),
                location: table.location.clone(),
                version: head.version,
                checkpoint: head.checkpoint,
                retention: head.retention(),
            })
        });
        // A chain beside the job's own leaves the tables to that one.
        let own = !publisher.identity.strand.is_beside();
        let tables = tables.filter(|_| own).collect();
        let (lake, chain) = (publisher.lake.clone(), publisher.identity.chain.clone());
        Self { lake, chain, epoch, tables }
    }

    /// What a chain beside a job's own has for itself, after `epoch`, its last sealed one.
    pub fn beside(lake: Lake, epoch: u64) -> Self {
        let chain = lake.chain.job().to_string();
        Self { lake, chain, epoch, tables: Vec::new() }
    }

    /// Does what somebody asked for, but for compaction. Gives lines that say what was done.
    pub async fn keep(&self, asked: Upkeep) -> Result<Vec<String>> {
        let names = self.tables.iter().map(|t| t.name.clone());
        let Upkeep { retention_ms, dry_run, .. } = asked;
        let chores = Chores {
            checkpoint: if asked.checkpoint { names.collect() } else { BTreeSet::new() },
            expire: asked.checkpoint,
            vacuum: asked.vacuum.then_some(Vacuum { retention_ms, dry_run }),
            fold: asked.fold,
        };
        let mut lines = self.work(&chores).await?;
        if dry_run && lines.is_empty() {
            lines.push("nothing would be deleted".to_string());
        }
        Ok(lines)
    }

    /// Does some chores.
    pub(super) async fn work(&self, chores: &Chores) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for table in self.tables.iter().filter(|t| chores.checkpoint.contains(&t.name)) {
            let version = delta::checkpoint(&table.location).await?;
            reach(Step::CheckpointWritten, self.epoch);
            lines.push(format!("{}: checkpoint of version {version}", table.name));
        }
        if !chores.expire && chores.vacuum.is_none() && !chores.fold {
            return Ok(lines);
        }
        // Ages of objects are told by the store's own clock.
        let scratch = job_folder(&self.lake.root, &self.chain);
        let now_ms = lake_maintain::store_now_ms(&scratch).await?;
        let snapshots = Snapshots::new(&self.lake.root, &self.chain);
        // All records of an hour are read for it, which folding does without.
        if chores.expire || chores.vacuum.is_some() {
            let mut needed = snapshots.needed(now_ms, snapshot::KEEP_MS).await?;
            if !self.tables.is_empty() {
                // What readers see now may be of another chain of the job.
                needed.extend(recover::published(&self.lake.root, &self.chain).await?);
            }
            if chores.expire {
                lines.extend(self.expire(&needed, now_ms).await?);
            }
            if let Some(how) = chores.vacuum {
                lines.extend(self.vacuum(&needed, how, now_ms).await?);
            }
        }
        if chores.fold {
            let folded = self.lake.chain.fold(now_ms, self.keep_newest().await?, KEEP_MS).await?;
            snapshots.clean(now_ms, snapshot::KEEP_MS).await?;
            lines.push(format!("{} folded", format_count(folded.folded, "manifest")));
        }
        Ok(lines)
    }

    /// Manifests that stay whatever their age: they name what waits in outboxes.
    async fn keep_newest(&self) -> Result<u64> {
        let since = outbox::needed_since(&self.lake.root, &self.chain).await?;
        let needed = since.map_or(0, |since| self.epoch.saturating_sub(since) + 1);
        Ok(needed.max(KEEP_NEWEST))
    }

    /// Deletes entries of logs that are older than their tables keep them.
    async fn expire(&self, needed: &[Published], now_ms: i64) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for table in &self.tables {
            let Some(retention_ms) = table.retention.log_ms else { continue };
            let since_version = oldest(needed, &table.name);
            let keep = KeepLog { now_ms, retention_ms, since_version };
            let gone = delta::expire_log(&table.location, keep, self.epoch).await?;
            if gone > 0 {
                let gone = format_count(gone, "old log file");
                lines.push(format!("{}: {gone} deleted", table.name));
            }
        }
        Ok(lines)
    }

    /// Deletes files that nobody needs, or says which those are.
    async fn vacuum(&self, needed: &[Published], how: Vacuum, now_ms: i64) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for table in &self.tables {
            let removed_ms = how.retention_ms.unwrap_or(table.retention.files_ms);
            let keep = Keep {
                since_version: oldest(needed, &table.name),
                removed_ms: removed_ms.max(snapshot::KEEP_MS),
                named: BTreeSet::new(),
                now_ms,
            };
            let gone = lake_maintain::vacuum(&table.location, &keep).await?;
            lines.extend(self.delete(&table.name, &gone, how.dry_run).await?);
        }
        let named = named(&self.lake).await?;
        for folder in ["state", "staged"] {
            let folder = job_folder(&self.lake.root, &self.chain).child(folder);
            let old = lake_maintain::ORPHAN_MS;
            let gone = lake_maintain::orphans(&folder, &named, old, now_ms).await?;
            lines.extend(self.delete("leftovers", &gone, how.dry_run).await?);
        }
        let ages = (lake_maintain::ORPHAN_MS, now_ms);
        let gone = outbox::orphans(&self.lake.root, &self.chain, &self.lake.chain, ages).await?;
        lines.extend(self.delete("leftovers", &gone, how.dry_run).await?);
        Ok(lines)
    }

    /// Deletes files and says so, or says only which.
    async fn delete(&self, name: &str, gone: &[ObjectMeta], dry_run: bool) -> Result<Vec<String>> {
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let (store, files) = (&self.lake.root.store, format_count(gone.len() as u64, "file"));
        if dry_run {
            let bytes = format_bytes(gone.iter().map(|m| m.size).sum());
            let head = format!("{name}: {files} would be deleted, {bytes}");
            let paths = gone.iter().map(|m| format!("  {}", store.describe(&m.location)));
            return Ok([head].into_iter().chain(paths).collect());
        }
        let bytes = format_bytes(lake_maintain::delete(store, gone).await?);
        Ok(vec![format!("{name}: {files} deleted, {bytes}")])
    }
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
            Action::None | Action::Outbox(_) => {}
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
