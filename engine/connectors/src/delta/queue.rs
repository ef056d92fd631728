//! Versions that were read from the log and wait to be taken, the first of them perhaps in part.
//!
//! In: work in the order of the log. Out: how much of it fits into a poll, and the position behind what
//! was taken. It reads nothing.

use std::collections::VecDeque;

use sluice_core::Limit;

use super::position::Position;
use super::versions::{Part, Work};

/// Versions that one poll takes at most, most of them without rows: what it keeps stays small.
const VERSIONS_MAX: usize = 1_000;

/// Work that waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    works: VecDeque<Work>,
    /// Files of the first that were taken.
    begun: usize,
}

impl Queue {
    /// `works`, of the first of which so many files were taken.
    pub(super) fn new(works: Vec<Work>, begun: u64) -> Self {
        Self { works: works.into(), begun: usize::try_from(begun).unwrap_or(usize::MAX) }
    }

    pub(super) fn extend(&mut self, works: impl IntoIterator<Item = Work>) {
        self.works.extend(works);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.works.is_empty()
    }

    /// All that waits, each part with its version.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&Work, &Part)> {
        let parts =
            self.works.iter().flat_map(|work| work.parts.iter().map(move |part| (work, part)));
        parts.skip(self.begun)
    }

    /// How many parts fit into `limit`, and whether that is as much as may be taken.
    pub(super) fn pick(&self, limit: Limit) -> (usize, bool) {
        let (mut rows, mut bytes, mut files) = (0_u64, 0_u64, 0);
        for (_, part) in self.parts() {
            rows = rows.saturating_add(part.estimate());
            bytes = bytes.saturating_add(part.file.bytes);
            files += 1;
            if rows >= limit.rows || bytes >= limit.bytes || files as u64 >= limit.files {
                return (files, true);
            }
        }
        (files, self.works.len() >= VERSIONS_MAX)
    }

    /// Lets so many parts go. Gives the versions of which nothing is left, and the position behind them
    /// and what was taken of the next; none where nothing was.
    pub(super) fn move_on(&mut self, mut parts: usize) -> (Vec<Work>, Option<Position>) {
        let (mut whole, mut at) = (Vec::new(), None);
        while let Some(work) = self.works.pop_front() {
            let left = work.parts.len().saturating_sub(self.begun);
            if parts < left {
                self.begun += parts;
                if parts > 0 {
                    at = Some(position(&work, Some(self.begun as u64)));
                }
                self.works.push_front(work);
                break;
            }
            parts -= left;
            self.begun = 0;
            at = Some(position(&work, None));
            whole.push(work);
        }
        (whole, at)
    }
}

fn position(work: &Work, files: Option<u64>) -> Position {
    Position {
        version: work.version,
        files,
        snapshot: work.snapshot && files.is_some(),
        table: work.table.clone(),
        entry: work.entry.clone(),
    }
}
