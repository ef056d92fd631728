//! Offsets: how far a source was read, per partition, in a form that can be sealed and compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A position in one partition: the next thing to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Offset {
    /// Counted things: rows, files, records.
    At(u64),
    /// A cursor only the source understands.
    Cursor(String),
}

impl Offset {
    /// The start of a counted partition.
    pub const ZERO: Offset = Offset::At(0);

    /// The count, when it is one.
    pub fn at(&self) -> Option<u64> {
        match self {
            Offset::At(n) => Some(*n),
            Offset::Cursor(_) => None,
        }
    }
}

/// The next position per partition of one source.
pub type Offsets = BTreeMap<String, Offset>;

/// What one epoch took of one partition: `from` inclusive, `to` exclusive, counted in the
/// partition's own unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// The partition.
    pub partition: String,
    /// The first position taken; equals the previous epoch's `to`.
    pub from: Offset,
    /// The first position not taken.
    pub to: Offset,
}
