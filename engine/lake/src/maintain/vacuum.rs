//! Deleting what nobody needs: files that left a table long ago, and orphans nobody ever named.
//!
//! A file goes only when every reason to keep it is gone: it is not active, no reader's version
//! has it, its removal is old enough, no sealed epoch names it, and it is not fresh by the store's
//! own clock. Everything under a name that starts with `_` or `.` is left alone.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use sluice_core::{Error, Result};

use crate::delta::{remembered, removed_after};
use crate::store::{Location, Store};

/// How old a file must be that nobody names: longer than any epoch takes from its first file to
/// its seal.
pub const ORPHAN_MS: i64 = 24 * 60 * 60 * 1000;

/// Deletes at once: each is one request.
const DELETES_AT_ONCE: usize = 8;

/// What must stay whatever the log says.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// The oldest version that a reader may still be reading; files removed after it stay.
    pub since_version: Option<i64>,
    /// Files removed less than this ago stay, milliseconds.
    pub removed_ms: i64,
    /// Paths relative to the table that sealed epochs name and have not published yet.
    pub named: BTreeSet<String>,
    /// Now by the store's clock, see [`store_now_ms`].
    pub now_ms: i64,
}

/// What is known of one file in a table's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// It is active, or a version in use has it, or a sealed epoch names it.
    pub needed: bool,
    /// Milliseconds since the log removed it; `None` when the log does not know it.
    pub removed_ago_ms: Option<i64>,
    /// Milliseconds since it was written, by the store's clock.
    pub written_ago_ms: i64,
}

/// What to do with one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It left the table long ago.
    Removed,
    /// Nobody ever named it.
    Orphan,
}

/// Decides on one file; `removed_ms` is how long removed files stay.
pub fn decide_file(facts: FileFacts, removed_ms: i64) -> Verdict {
    match facts.removed_ago_ms {
        _ if facts.needed => Verdict::Keep,
        Some(ago) if ago >= removed_ms => Verdict::Removed,
        Some(_) => Verdict::Keep,
        None if facts.written_ago_ms >= ORPHAN_MS => Verdict::Orphan,
        None => Verdict::Keep,
    }
}

/// The objects of a Delta table's folder that may be deleted. Reads the log, deletes nothing.
/// A log without the entries since `keep.since_version` is an error of kind `Conflict`.
pub async fn vacuum(location: &Location, keep: &Keep) -> Result<Vec<ObjectMeta>> {
    // The listing comes first: what is committed after it is not in it.
    let listed = location.store.list(&location.path).await?;
    let known = remembered(location).await?;
    let in_use: BTreeSet<String> = match keep.since_version {
        Some(version) => {
            removed_after(location, version, known.version).await?.into_iter().collect()
        }
        None => BTreeSet::new(),
    };
    let mut found = Vec::new();
    for meta in listed {
        let Some(path) = visible(location, &meta) else { continue };
        let facts = FileFacts {
            needed: known.active.contains(&path)
                || in_use.contains(&path)
                || keep.named.contains(&path),
            removed_ago_ms: known.removed.get(&path).map(|at| keep.now_ms.saturating_sub(*at)),
            written_ago_ms: age_ms(&meta, keep.now_ms),
        };
        if decide_file(facts, keep.removed_ms) != Verdict::Keep {
            found.push(meta);
        }
    }
    Ok(found)
}

/// The objects below `folder` that are older than `older_than_ms` and whose path from the store's
/// root is not in `named`.
pub async fn orphans(
    folder: &Location,
    named: &BTreeSet<String>,
    older_than_ms: i64,
    now_ms: i64,
) -> Result<Vec<ObjectMeta>> {
    let found = folder.store.list(&folder.path).await?;
    let old = |meta: &ObjectMeta| age_ms(meta, now_ms) >= older_than_ms;
    Ok(found.into_iter().filter(|m| !named.contains(m.location.as_ref()) && old(m)).collect())
}

/// Deletes objects and gives the bytes freed. Idempotent.
pub async fn delete(store: &Store, objects: &[ObjectMeta]) -> Result<u64> {
    stream::iter(objects.to_vec())
        .map(|meta| async move { store.delete(&meta.location).await.map(|()| meta.size) })
        .buffer_unordered(DELETES_AT_ONCE)
        .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
        .await
}

/// Now by the store's own clock, milliseconds since 1970: writes an object into `scratch`, looks
/// at its time and deletes it.
pub async fn store_now_ms(scratch: &Location) -> Result<i64> {
    let probe = scratch.child("_now").path;
    scratch.store.put(&probe, Bytes::from_static(b"now")).await?;
    let meta = scratch.store.head(&probe).await?;
    scratch.store.delete(&probe).await?;
    let meta = meta.ok_or_else(|| {
        Error::unavailable(format!("a fresh object is not there path={}", scratch.describe()))
    })?;
    Ok(meta.last_modified.timestamp_millis())
}

fn age_ms(meta: &ObjectMeta, now_ms: i64) -> i64 {
    now_ms.saturating_sub(meta.last_modified.timestamp_millis())
}

/// The path relative to the table, unless a part of it is hidden.
fn visible(location: &Location, meta: &ObjectMeta) -> Option<String> {
    let root = location.path.as_ref();
    let path = meta.location.as_ref().strip_prefix(root)?.trim_start_matches('/');
    let hidden = |part: &str| part.starts_with('_') || part.starts_with('.');
    // A hive folder of a column whose name starts with `_` is data, not hidden.
    let hidden = path.split('/').any(|part| hidden(part) && !part.contains('='));
    (!hidden).then(|| path.to_string())
}
