//! What can be said of a source's partitions from outside: how far behind it is, what is there, and
//! how many rows a range holds when it is counted again.
//!
//! These structs are facts for people and for `audit`; no epoch rests on them.

use crate::Offset;

/// How far a running source is behind one of its partitions.
#[derive(Debug, Clone, PartialEq)]
pub struct Lag {
    /// The partition.
    pub partition: String,
    /// Rows that are there and were not taken.
    pub rows: u64,
    /// When the last row that was taken came into being, milliseconds since 1970, where rows say.
    pub taken_ms: Option<i64>,
}

/// What a partition has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The partition.
    pub partition: String,
    /// The first position that can still be read.
    pub first: Offset,
    /// The position behind the last row that may be read.
    pub end: Offset,
}

/// A range of positions, counted again at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recount {
    /// The partition.
    pub partition: String,
    /// The first position counted.
    pub from: u64,
    /// Behind the last.
    pub to: u64,
    /// Rows that a reader gets.
    pub rows: u64,
    /// Rows of transactions that were aborted.
    pub aborted: u64,
    /// Markers of transactions, rows compacted away, and those that the source is told to pass over.
    pub markers: u64,
    /// Positions that are gone: deleted by retention before they could be counted.
    pub gone: u64,
    /// Whether the source may remove rows between others (compaction), so that fewer rows than were
    /// taken are no contradiction.
    pub compacts: bool,
}
