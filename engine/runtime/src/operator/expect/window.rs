//! How large a share of a table's last rows broke an expectation.
//!
//! Outcomes are kept as counts of pieces of a hundred rows: what is sealed with an epoch stays
//! small. Nothing is known here about predicates or batches.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::BooleanArray;
use serde::{Deserialize, Serialize};

use super::{Expectations, Routed};

/// Over how many rows `fail_above` is measured. Enough that a few bad rows in a quiet hour stop
/// nothing, few enough that a source gone wrong is noticed within seconds.
pub const WINDOW_ROWS: u32 = 10_000;

/// Rows per count: 1 % of the window, so that at most that much of it is older than it should be.
const PIECE_ROWS: u32 = 100;

/// The windows of one table's expectations, to be sealed with each epoch.
///
/// ```text
/// batch ─► route ─► observe … observe ─► breach?  yes: stop before the seal
///                                        no: seal these windows with the epoch
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Windows {
    by_name: BTreeMap<String, Window>,
}

/// The outcomes of the last [`WINDOW_ROWS`] rows for one expectation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Broken rows per full piece of a hundred rows, oldest first.
    pieces: VecDeque<u32>,
    /// Rows of the piece that is being filled.
    rows: u32,
    /// Broken ones of those.
    broken: u32,
    /// The largest number of broken rows in a full window since the last seal.
    #[serde(skip)]
    peak: Option<u32>,
}

/// An expectation that was broken by too large a share of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// The expectation.
    pub name: String,
    /// The share of rows that broke it, 0 to 1.
    pub share: f64,
    /// The share allowed.
    pub limit: f64,
}

impl Windows {
    /// Counts the outcomes of one routed batch.
    pub fn observe(&mut self, expectations: &Expectations, routed: &Routed) {
        for (expectation, broken) in expectations.list().iter().zip(&routed.broken) {
            if expectation.fail_above.is_none() {
                continue;
            }
            self.by_name.entry(expectation.name.clone()).or_default().observe(broken);
        }
    }

    /// The first expectation that was broken too often; asked at the end of an epoch, before the
    /// seal.
    ///
    /// It was, when in any [`WINDOW_ROWS`] rows that followed each other the share is above
    /// `fail_above`, or, while the table has not had that many, in all of its rows.
    pub fn breach(&self, expectations: &Expectations) -> Option<Breach> {
        expectations.list().iter().find_map(|expectation| {
            let limit = expectation.fail_above?;
            let share = self.by_name.get(&expectation.name)?.share();
            (share > limit).then(|| Breach { name: expectation.name.clone(), share, limit })
        })
    }

    /// Forgets the largest shares so far, and expectations that are gone: called after the seal.
    pub fn sealed(&mut self, expectations: &Expectations) {
        self.by_name.retain(|name, _| expectations.list().iter().any(|e| &e.name == name));
        self.by_name.values_mut().for_each(|window| window.peak = None);
    }
}

impl Window {
    /// Counts outcomes, true for broken, in the order of the rows.
    pub fn observe(&mut self, broken: &BooleanArray) {
        let mut start = 0;
        while start < broken.len() {
            let room = (PIECE_ROWS - self.rows) as usize;
            let length = room.min(broken.len() - start);
            self.rows += length as u32;
            self.broken += broken.slice(start, length).true_count() as u32;
            start += length;
            if self.rows == PIECE_ROWS {
                self.close_piece();
            }
        }
    }

    /// The share of broken rows, 0 to 1: the largest of the last rows and of any full window since
    /// the last seal. 0 without rows.
    pub fn share(&self) -> f64 {
        let rows = self.pieces.len() as u32 * PIECE_ROWS + self.rows;
        let broken = self.pieces.iter().sum::<u32>() + self.broken;
        let now = if rows == 0 { 0.0 } else { f64::from(broken) / f64::from(rows) };
        let peak = f64::from(self.peak.unwrap_or(0)) / f64::from(WINDOW_ROWS);
        now.max(peak)
    }

    fn close_piece(&mut self) {
        self.pieces.push_back(self.broken);
        (self.rows, self.broken) = (0, 0);
        let full = (WINDOW_ROWS / PIECE_ROWS) as usize;
        if self.pieces.len() > full {
            self.pieces.pop_front();
        }
        if self.pieces.len() == full {
            let broken = self.pieces.iter().sum();
            self.peak = Some(self.peak.map_or(broken, |peak| peak.max(broken)));
        }
    }
}
