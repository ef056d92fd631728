//! Clean-up of manifests: oldest first, folded into `base.json`, then deleted.
//!
//! A crash between the two leaves manifests that are folded already; the next call deletes them
//! without counting them again.

use bytes::Bytes;
use object_store::path::Path;

use sluice_core::{Error, Result, Step, reach};

use crate::store::{Create, Updated, Versioned};

use super::{Base, Chain};

/// Manifests kept whatever their age: what a person looks back at.
pub const KEEP_NEWEST: u64 = 1_000;

/// Manifests younger than this are kept whatever their number: seven days, so that a runner that
/// was frozen over a weekend still finds that it was fenced.
pub const KEEP_MS: i64 = 7 * 24 * 3_600_000;

/// Manifests folded by one call, so that it stays short between two epochs.
const FOLD_MAX: usize = 1_000;

/// What a fold did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// Manifests newly folded into `base.json`.
    pub folded: u64,
    /// Objects deleted: manifests, their side files and repairs.
    pub deleted: u64,
}

/// Which manifests may go, oldest first: a run without gaps after the first manifest, not among
/// the `keep_newest`, and up to the first that is younger than `keep_ms`.
///
/// `manifests` are numbers and times by the store's clock, sorted by number. A clock that jumped
/// back makes them young, never old.
fn decide_foldable(
    manifests: &[(u64, i64)],
    now_ms: i64,
    keep_newest: u64,
    keep_ms: i64,
) -> Vec<u64> {
    let keep = usize::try_from(keep_newest).unwrap_or(usize::MAX);
    let old_enough = |written_ms: i64| now_ms.saturating_sub(written_ms) >= keep_ms;
    let may_go = manifests.len().saturating_sub(keep);
    let run = manifests[..may_go].iter().skip(1).take_while(|(_, ms)| old_enough(*ms));
    run.map(|(n, _)| *n).take(FOLD_MAX).collect()
}

impl Chain {
    /// What was folded so far; none when nothing was. Errors: `Conflict` when it is unreadable.
    pub async fn base(&self) -> Result<Option<Base>> {
        Ok(self.read_base().await?.map(|(base, _)| base))
    }

    /// Folds and deletes old manifests; [`KEEP_NEWEST`] and [`KEEP_MS`] are the usual limits.
    /// Only the holder of the lease calls it. Reaches [`Step::ManifestsFolded`] with the number
    /// of the newest manifest.
    ///
    /// Errors: `Conflict` when the manifests do not join: nothing is deleted then.
    pub async fn fold(&self, now_ms: i64, keep_newest: u64, keep_ms: i64) -> Result<Folded> {
        let listed = self.series().listed().await?;
        let manifests: Vec<(u64, i64)> = listed
            .iter()
            .filter(|(_, rest, _)| rest == ".json")
            .map(|(n, _, meta)| (*n, meta.last_modified.timestamp_millis()))
            .collect();
        let Some(((first, _), (newest, _))) = manifests.first().zip(manifests.last()) else {
            return Ok(Folded::default());
        };
        let foldable = decide_foldable(&manifests, now_ms, keep_newest, keep_ms);
        let (base, folded) = self.fold_into_base(*first, &foldable).await?;
        let Some(base) = base else { return Ok(Folded::default()) };
        reach(Step::ManifestsFolded, *newest);
        // What belongs to a manifest goes before it, so that a crash leaves nothing unnamed.
        let mut old: Vec<_> =
            listed.into_iter().filter(|(n, _, _)| first < n && *n < base.to).collect();
        old.sort_by_key(|(n, rest, _)| (*n, rest == ".json"));
        for (_, _, meta) in &old {
            self.store().delete(&meta.location).await?;
        }
        Ok(Folded { folded, deleted: old.len() as u64 })
    }

    /// Writes a base that holds `foldable` too; none when there is none, or somebody else wrote
    /// one at the same time.
    async fn fold_into_base(&self, first: u64, foldable: &[u64]) -> Result<(Option<Base>, u64)> {
        let old = self.read_base().await?;
        let done = old.as_ref().map_or(first + 1, |(base, _)| base.to);
        let mut base = old.as_ref().map(|(base, _)| base.clone());
        let mut folded = 0;
        for n in foldable.iter().copied().filter(|n| *n >= done) {
            if n != done + folded {
                return Err(self.missing(done + folded));
            }
            let entry = self.get(n).await?.ok_or_else(|| self.missing(n))?;
            base.get_or_insert_with(|| Base::starting(&entry.manifest)).absorb(&entry)?;
            folded += 1;
        }
        match (base, folded) {
            (base, 0) => Ok((base, 0)),
            (Some(base), _) if self.write_base(&base, old).await? => Ok((Some(base), folded)),
            _ => Ok((None, 0)),
        }
    }

    async fn read_base(&self) -> Result<Option<(Base, Versioned)>> {
        let path = self.base_path();
        let Some(found) = self.store().get_versioned(&path).await? else { return Ok(None) };
        match serde_json::from_slice(&found.bytes) {
            Ok(base) => Ok(Some((base, found))),
            Err(e) => {
                let place = self.store().describe(&path);
                Err(Error::conflict(format!("the folded manifests are unreadable path={place}"))
                    .hint("restore the file from a backup")
                    .because(e))
            }
        }
    }

    async fn write_base(&self, base: &Base, old: Option<(Base, Versioned)>) -> Result<bool> {
        let json = |e| Error::bug("cannot write the folded manifests as json").because(e);
        let bytes = Bytes::from(serde_json::to_vec(base).map_err(json)?);
        let path = self.base_path();
        match old {
            None => match self.store().create(&path, bytes).await? {
                Create::Done => Ok(true),
                Create::Exists => Ok(false),
                Create::Unknown(error) => Err(error),
            },
            Some((_, found)) => match self.store().update_if(&path, bytes, found.version).await? {
                Updated::Done => Ok(true),
                Updated::Changed => Ok(false),
                Updated::Unknown(error) => Err(error),
            },
        }
    }

    fn base_path(&self) -> Path {
        self.series().folder().path.clone().join("base.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_manifests_after_the_first_go() {
        let at = |ms: &[i64]| -> Vec<(u64, i64)> {
            ms.iter().enumerate().map(|(n, ms)| (n as u64, *ms)).collect()
        };
        let cases = [
            (at(&[]), 100, 2, vec![]),
            (at(&[0]), 100, 0, vec![]),
            (at(&[0, 0, 0, 0, 0]), 100, 2, vec![1, 2]),
            (at(&[0, 0, 0, 0, 0]), 100, 9, vec![]),
            (at(&[0, 0, 95, 0, 0]), 100, 1, vec![1]),
            (at(&[0, 0, 0, 0]), 5, 0, vec![]),
            (at(&[500, 500, 500]), 100, 0, vec![]),
        ];
        for (manifests, now, keep, expected) in cases {
            assert_eq!(decide_foldable(&manifests, now, keep, 10), expected, "{manifests:?}");
        }
    }
}
