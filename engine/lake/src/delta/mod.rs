//! Delta tables: their head as we know it, our own committer, and the schema's two forms.
//!
//! In: a location and prepared files. Out: versions of the log. A commit costs what its own files
//! cost, however many the table has: the head is kept in memory and moved by reading new entries
//! only. Checkpoints are written by the delta-rs library, off the hot path, and old entries go behind
//! them. Rows are not touched.
//!
//! ```text
//! load ──► Head ──► commit ─┬─ created ──────────────► Done
//!            ▲              ├─ name taken ─► refresh ─┬─ our transaction ──► Already
//!            └──────────────┴──── try the next ◄──────┼─ harmless
//!                                                     ├─ removes gone ─────► RemovesGone
//!                                                     └─ anything else ────► conflict
//! ```

mod action;
mod checkpoint;
mod commit;
mod decide;
mod expire;
pub mod feed;
mod head;
mod library;
mod log;
mod protocol;
mod schema;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use sluice_core::Result;

use crate::store::Location;

pub use action::{Format, Metadata, Protocol};
pub use checkpoint::checkpoint;
pub use commit::{Committed, Txn, commit};
pub use decide::{Change, Decision, Facts, Stop, decide_commit, widens};
pub use expire::{KeepLog, LogFile, Retention, decide_expired, expire_log, log_files};
pub use head::{EntryFacts, Head};
pub use library::library_table;
pub use schema::{parse_schema, schema_string};

/// The newest version of the table; `None` when there is no table. Errors: `Conflict` for a table
/// that we cannot read (naming the feature) or whose log has a gap.
pub async fn load(location: &Location) -> Result<Option<Head>> {
    let Some(state) = log::replay(location, None).await? else { return Ok(None) };
    let mut head = Head::of(state, location)?;
    refresh(location, &mut head).await?;
    Ok(Some(head))
}

/// The table as it was at `version`; `None` when there is no table at all. A version that was
/// cleaned up or not written yet is an error of kind `Conflict`.
pub async fn load_at(location: &Location, version: i64) -> Result<Option<Head>> {
    let Some(state) = log::replay(location, Some(version)).await? else { return Ok(None) };
    if state.version != version {
        return Err(log::gap(location, version));
    }
    Head::of(state, location).map(Some)
}

/// Moves `head` to the newest version by reading only entries it has not seen; what they did, in
/// order. An error leaves `head` at the last entry that could be applied.
pub async fn refresh(location: &Location, head: &mut Head) -> Result<Vec<EntryFacts>> {
    refresh_to(location, head, i64::MAX).await
}

/// As [`refresh`], but no further than `version`.
pub async fn refresh_to(
    location: &Location,
    head: &mut Head,
    version: i64,
) -> Result<Vec<EntryFacts>> {
    let mut seen = Vec::new();
    while head.version < version {
        let next = head.version + 1;
        let Some(lines) = log::entry(location, next).await? else { break };
        seen.push(head.apply(next, lines)?);
    }
    Ok(seen)
}

/// Files that a table's log still remembers.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// The version this was read at; −1 when there is no table.
    pub version: i64,
    /// Active files.
    pub active: BTreeSet<String>,
    /// Removed files, with the time of their removal in milliseconds since 1970.
    pub removed: BTreeMap<String, i64>,
}

/// Reads the log for the files it remembers.
pub async fn remembered(location: &Location) -> Result<Remembered> {
    let state = log::replay(location, None).await?;
    Ok(state.map_or_else(
        || Remembered { version: -1, ..Remembered::default() },
        |s| Remembered {
            version: s.version,
            active: s.files.into_keys().collect(),
            removed: s.tombstones,
        },
    ))
}

/// Files that the entries from after `version` up to `until` removed: what a reader at `version`
/// still needs.
pub async fn removed_after(location: &Location, version: i64, until: i64) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for version in version + 1..=until {
        let lines = log::entry(location, version).await?;
        let lines = lines.ok_or_else(|| log::gap(location, version))?;
        removed.extend(EntryFacts::of(version, &lines)?.removes);
    }
    Ok(removed)
}
