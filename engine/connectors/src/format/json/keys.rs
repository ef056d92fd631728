//! Keys that the schema does not have, as they were met while rows were read.
//!
//! In: top-level keys of good rows, and where they stood; from many threads, and again when a split
//! is read again. Out: the first of them, in the order in which they stand in the files. How many
//! are noted has a limit: where keys are data there is no end to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Columns that a source may learn altogether: wider tables than this are hardly written by hand,
/// and a key for each customer or day is soon beyond it.
pub const LEARNED_MAX: usize = 200;

/// Where a key stands: the position of the row, its number within it.
type Place = (i64, usize);

/// New keys of all files of a source.
#[derive(Debug)]
pub struct Keys {
    max: usize,
    first: Mutex<BTreeMap<String, Place>>,
}

impl Keys {
    /// None yet, and never more than `max`.
    pub(super) fn new(max: usize) -> Self {
        Self { max, first: Mutex::default() }
    }

    /// The keys met so far, the first first.
    pub fn met(&self) -> Vec<String> {
        let first = self.first();
        let mut keys: Vec<(&Place, &String)> = first.iter().map(|(key, at)| (at, key)).collect();
        keys.sort();
        keys.into_iter().map(|(_, key)| key.clone()).collect()
    }

    fn first(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        // What is behind it is right between any two steps.
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a key. Of more than `max` the first stay, whoever is told first.
    fn meet(&self, key: &str, at: Place) {
        let mut first = self.first();
        if let Some(known) = first.get_mut(key) {
            *known = at.min(*known);
            return;
        }
        first.insert(key.to_string(), at);
        if first.len() > self.max {
            let last = first.iter().max_by_key(|(_, at)| **at).map(|(key, _)| key.clone());
            last.and_then(|last| first.remove(&last));
        }
    }
}

/// What one split has told [`Keys`], which is asked only for keys that are new to the split.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeSet<String>);

impl Told {
    /// Takes note of a key. Positions must not go back: later keys than the first `max` of a split
    /// are later than the first `max` of all.
    pub(super) fn meet(&mut self, keys: &Keys, key: &str, at: Place) {
        if self.0.len() < keys.max && !self.0.contains(key) {
            self.0.insert(key.to_string());
            keys.meet(key, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_keys_stay_whatever_the_order_in_which_splits_are_read() {
        let splits: [&[(&str, Place)]; 3] = [
            &[("c", (1, 1)), ("a", (1, 0)), ("c", (2, 0)), ("x", (3, 0))],
            &[("b", (4, 0)), ("x", (5, 0)), ("y", (6, 0)), ("z", (7, 0))],
            &[("d", (8, 0)), ("b", (9, 0)), ("a", (9, 1))],
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 0, 2]] {
            let keys = Keys::new(4);
            for split in order.into_iter().chain([0, 1]) {
                let mut told = Told::default();
                splits[split].iter().for_each(|(key, at)| told.meet(&keys, key, *at));
            }
            assert_eq!(keys.met(), ["a", "c", "x", "b"], "{order:?}");
        }
    }
}
