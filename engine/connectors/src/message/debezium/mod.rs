//! Changes of a database's rows, as Debezium's connectors send them.
//!
//! In: envelopes `{before, after, op, ts_ms, source}`, as JSON (alone or as the `payload` beside its
//! `schema`) or as Avro. Out: the columns of `after`, or of `before` where a row was deleted, and
//! what was done to it. Rows are not applied to anything here. Envelopes that are no change of a
//! row, and those that a transform has unwrapped, are refused.

mod avro;
mod json;
#[cfg(test)]
mod tests;

pub(super) use avro::Changes as AvroChanges;
pub(super) use json::Changes as JsonChanges;

use super::rows::Change;
use crate::format::json::Wrong;

/// What the connectors say was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Create,
    Read,
    Update,
    Delete,
}

impl Op {
    fn parse(text: &[u8]) -> Result<Self, Wrong> {
        match text {
            b"c" => Ok(Op::Create),
            b"r" => Ok(Op::Read),
            b"u" => Ok(Op::Update),
            b"d" => Ok(Op::Delete),
            b"t" => Err(Wrong::new("a truncate is no change of a row op=t")),
            b"m" => Err(Wrong::new("a message of the database is no change of a row op=m")),
            other => {
                let text = String::from_utf8_lossy(&other[..other.len().min(16)]);
                Err(Wrong::new(format!("an unknown op op={text:?}")))
            }
        }
    }

    fn change(self, at_ms: Option<i64>) -> Result<Change, Wrong> {
        let op = match self {
            Op::Create => "c",
            Op::Read => "r",
            Op::Update => "u",
            Op::Delete => "d",
        };
        let at_us =
            at_ms.map(|ms| ms.checked_mul(1000).ok_or_else(|| Wrong::new("ts_ms: no time")));
        Ok(Change { op, at_us: at_us.transpose()? })
    }

    /// The part of the envelope that has the row.
    fn row(self) -> &'static str {
        match self {
            Op::Delete => "before",
            _ => "after",
        }
    }
}

/// Nothing stands where the row has to be.
fn no_row(op: Op) -> Wrong {
    match op {
        Op::Delete => Wrong::new("a delete without `before`: the table needs a replica identity"),
        _ => Wrong::new("a change without `after`"),
    }
}
