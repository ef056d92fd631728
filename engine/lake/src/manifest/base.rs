//! `epochs/base.json`: what `audit` still has to know of manifests that were cleaned up.
//!
//! In: manifests in order. Out: their sums, and one covered range per source partition. What does
//! not join is refused, so that folding can never hide a gap or an overlap.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use sluice_core::{Advance, Error, Offset, Result};

use super::{Counts, Entry, FORMAT, Manifest, TableCounts};

/// The sum of the epochs `[from, to)`. The first manifest of a chain is never in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// The manifest format.
    pub format: u32,
    /// The job.
    pub job: String,
    /// The incarnation of the last folded epoch, which the sums are of.
    pub incarnation: String,
    /// The first folded epoch.
    pub from: u64,
    /// The first epoch that is not folded.
    pub to: u64,
    /// The first folded epoch of this incarnation: where the sums begin.
    pub since: u64,
    /// SHA-256 of the last folded manifest: `previous` of epoch `to`.
    pub sha256: String,
    /// What was taken of each source.
    pub sources: BTreeMap<String, BasePart>,
    /// The rows of each table.
    pub tables: BTreeMap<String, TableCounts>,
}

/// What was taken of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasePart {
    /// Per partition.
    pub covered: BTreeMap<String, Covered>,
    /// What became of the rows.
    pub rows: Counts,
}

/// A range without gaps: `from` inclusive, `to` exclusive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The first position.
    pub from: Offset,
    /// The first position not taken.
    pub to: Offset,
}

impl Base {
    /// A base that holds nothing yet and begins with `first`.
    pub(super) fn starting(first: &Manifest) -> Self {
        Self {
            format: FORMAT,
            job: first.job.clone(),
            incarnation: first.incarnation.clone(),
            from: first.epoch,
            to: first.epoch,
            since: first.epoch,
            sha256: first.previous.clone().unwrap_or_default(),
            sources: BTreeMap::new(),
            tables: BTreeMap::new(),
        }
    }

    /// Takes the next epoch in. Errors: `Conflict` when it does not follow, or its offsets do not
    /// join; the base is then not to be used.
    pub(super) fn absorb(&mut self, entry: &Entry) -> Result<()> {
        let manifest = &entry.manifest;
        let follows = manifest.previous.as_deref() == Some(&self.sha256);
        if manifest.epoch != self.to || !follows {
            return Err(broken(format!("epoch={} does not follow", manifest.epoch)));
        }
        if manifest.incarnation != self.incarnation {
            self.incarnation.clone_from(&manifest.incarnation);
            self.since = manifest.epoch;
            self.sources.clear();
            self.tables.clear();
        }
        for (source, part) in &manifest.sources {
            let sum = self.sources.entry(source.clone()).or_default();
            sum.rows.add(&part.rows);
            for advance in &part.advances {
                sum.advance(advance).map_err(|at| {
                    let partition = &advance.partition;
                    let epoch = manifest.epoch;
                    broken(format!("{at} epoch={epoch} source={source} partition={partition}"))
                })?;
            }
        }
        for (table, part) in &manifest.tables {
            self.tables.entry(table.clone()).or_default().add(&part.counts);
        }
        self.to = manifest.epoch + 1;
        self.sha256.clone_from(&entry.sha256);
        Ok(())
    }
}

impl BasePart {
    fn advance(&mut self, advance: &Advance) -> Result<(), String> {
        let Some(covered) = self.covered.get_mut(&advance.partition) else {
            let covered = Covered { from: advance.from.clone(), to: advance.to.clone() };
            self.covered.insert(advance.partition.clone(), covered);
            return Ok(());
        };
        if covered.to != advance.from {
            return Err(format!("covered_to={:?} taken_from={:?}", covered.to, advance.from));
        }
        covered.to = advance.to.clone();
        Ok(())
    }
}

fn broken(what: String) -> Error {
    Error::conflict(format!("the manifests do not join: {what}"))
        .hint("run `sluice audit` to see what is missing or double")
}
