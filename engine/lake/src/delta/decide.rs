//! What to do with a prepared change of a table, as pure functions of what is known.
//!
//! Nothing here reads or writes; the committer gathers the facts and acts.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use sluice_core::Result;

use super::action::Metadata;
use super::schema::parse_schema;

/// What is known before an entry is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whether the table is there.
    pub exists: bool,
    /// The last version recorded for our application id.
    pub known: Option<i64>,
    /// The version we are about to record.
    pub wanted: i64,
    /// Whether the change may create the table.
    pub creates: bool,
    /// Whether the change replaces everything in the table.
    pub replaces: bool,
    /// Whether the table is at an older version than the change was prepared against.
    pub behind: bool,
    /// What others did to the table's definition since then.
    pub change: Change,
    /// Whether a file that the change removes is no longer active.
    pub removes_gone: bool,
}

/// What others did to a table's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing, or only what an append need not care about: nullable columns, properties.
    Harmless,
    /// The protocol line was rewritten.
    Protocol,
    /// Something else, in words.
    Metadata(String),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The change is in the table already.
    Already,
    /// Write version 0.
    Create,
    /// Write the next version.
    Write,
    /// Do not write: the removes must be prepared again from the change file.
    RemovesGone,
    /// Do not write, and say why.
    Stop(Stop),
}

/// Why a change cannot be written at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The table was there and is not now.
    Gone,
    /// A table that is not ours stands where ours was to be created.
    Foreign,
    /// The table went back in time.
    Behind,
    /// Somebody changed the protocol.
    Protocol,
    /// Somebody changed the definition, in words.
    Metadata(String),
}

/// Decides on one attempt to commit.
pub fn decide_commit(facts: &Facts) -> Decision {
    if facts.known.is_some_and(|known| known >= facts.wanted) {
        return Decision::Already;
    }
    match (facts.exists, facts.creates, facts.replaces) {
        (false, true, _) => return Decision::Create,
        (false, false, _) => return Decision::Stop(Stop::Gone),
        (true, _, true) => return Decision::Write,
        (true, true, false) => return Decision::Stop(Stop::Foreign),
        (true, false, false) => {}
    }
    if facts.behind {
        return Decision::Stop(Stop::Behind);
    }
    match &facts.change {
        Change::Harmless if facts.removes_gone => Decision::RemovesGone,
        Change::Harmless => Decision::Write,
        Change::Protocol => Decision::Stop(Stop::Protocol),
        Change::Metadata(what) => Decision::Stop(Stop::Metadata(what.clone())),
    }
}

/// What changed from one definition to another, as far as a writer of the old one cares.
pub(super) fn compare(old: &Metadata, new: &Metadata) -> Result<Change> {
    let stop = |what: String| Ok(Change::Metadata(what));
    if old.id != new.id {
        return stop(format!("the table was replaced id={}", new.id));
    }
    if old.partition_columns != new.partition_columns {
        return stop(format!("it is partitioned by {:?} now", new.partition_columns));
    }
    if old.schema_string == new.schema_string {
        return Ok(Change::Harmless);
    }
    let (old, new) = (parse_schema(&old.schema_string)?, parse_schema(&new.schema_string)?);
    for field in old.fields() {
        let Some((_, now)) = new.column_with_name(field.name()) else {
            return stop(format!("a column is gone column={:?}", field.name()));
        };
        if now.data_type() != field.data_type() {
            return stop(format!(
                "a column has another type column={:?} from={} to={}",
                field.name(),
                field.data_type(),
                now.data_type()
            ));
        }
        if field.is_nullable() && !now.is_nullable() {
            return stop(format!("a column must not be null any more column={:?}", field.name()));
        }
    }
    let added = |f: &&Arc<Field>| old.index_of(f.name()).is_err() && !f.is_nullable();
    match new.fields().iter().find(added) {
        Some(field) => {
            stop(format!("a column was added that must not be null column={:?}", field.name()))
        }
        None => Ok(Change::Harmless),
    }
}

/// Whether a column of a table may go on as another type: integers get wider. Files keep the type
/// they were written with, and readers of Parquet read narrower integers as wider ones. Delta's own
/// type widening would be a table feature, which older readers refuse.
pub fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Int8, Int16, Int32, Int64};
    matches!((from, to), (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64))
}

/// The columns of `head` followed by those of `wanted` that it does not have; in words why not,
/// when a column they share differs or a new one may not be null.
pub(super) fn widen(head: &Schema, wanted: &Schema) -> Result<Vec<Arc<Field>>, String> {
    let mut new = Vec::new();
    for field in wanted.fields() {
        match head.field_with_name(field.name()) {
            Ok(now) if now.data_type() == field.data_type() => {}
            Ok(now) if widens(now.data_type(), field.data_type()) => {}
            Ok(now) => {
                return Err(format!(
                    "a column has another type column={:?} table={} job={}",
                    field.name(),
                    now.data_type(),
                    field.data_type()
                ));
            }
            Err(_) if field.is_nullable() => new.push(field.clone()),
            Err(_) => {
                return Err(format!("a new column must be nullable column={:?}", field.name()));
            }
        }
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            exists: true,
            known: Some(4),
            wanted: 5,
            creates: false,
            replaces: false,
            behind: false,
            change: Change::Harmless,
            removes_gone: false,
        }
    }

    #[test]
    fn only_integers_get_wider() {
        let types = [DataType::Int8, DataType::Int16, DataType::Int32, DataType::Int64];
        for (i, from) in types.iter().enumerate() {
            for (k, to) in types.iter().enumerate() {
                assert_eq!(widens(from, to), i < k, "{from} {to}");
            }
            assert!(!widens(from, &DataType::Float64) && !widens(&DataType::Float32, from));
        }
        assert!(!widens(&DataType::Float32, &DataType::Float64));
    }

    #[test]
    fn every_case_has_its_answer() {
        let stop = Decision::Stop;
        let words = || "a column is gone".to_string();
        let cases = [
            (facts(), Decision::Write),
            (Facts { known: Some(5), ..facts() }, Decision::Already),
            (Facts { known: Some(9), removes_gone: true, ..facts() }, Decision::Already),
            (Facts { known: None, ..facts() }, Decision::Write),
            (Facts { exists: false, known: None, ..facts() }, stop(Stop::Gone)),
            (Facts { exists: false, known: None, creates: true, ..facts() }, Decision::Create),
            (Facts { known: None, creates: true, ..facts() }, stop(Stop::Foreign)),
            (Facts { known: None, creates: true, replaces: true, ..facts() }, Decision::Write),
            (
                Facts { creates: true, replaces: true, change: Change::Protocol, ..facts() },
                Decision::Write,
            ),
            (Facts { behind: true, ..facts() }, stop(Stop::Behind)),
            (Facts { change: Change::Protocol, ..facts() }, stop(Stop::Protocol)),
            (Facts { change: Change::Metadata(words()), ..facts() }, stop(Stop::Metadata(words()))),
            (Facts { removes_gone: true, ..facts() }, Decision::RemovesGone),
            (
                Facts { removes_gone: true, change: Change::Protocol, ..facts() },
                stop(Stop::Protocol),
            ),
        ];
        for (facts, want) in cases {
            assert_eq!(decide_commit(&facts), want, "{facts:?}");
        }
    }
}
