//! The files that were taken, and whether one has changed since.
//!
//! In: what a listing says, and state rows of sealed epochs. Out: a verdict per file, and state
//! rows to seal. It reads no file: where only the content can tell, it says so.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use sluice_core::{Error, Result};

use super::object::Found;

/// A file as it was when it was taken, or when its change was last spoken of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) size: u64,
    pub(super) etag: Option<String>,
    pub(super) modified_ms: i64,
    /// Its number among all files taken.
    pub(super) ordinal: u64,
    /// Half the SHA-256 of its content; only of small local files.
    pub(super) hash: Option<String>,
    /// By which settings it was tried, when it could not be read at all.
    pub(super) unreadable: Option<String>,
}

impl Taken {
    /// The file `found`, taken as number `ordinal`.
    pub(super) fn new(found: &Found, ordinal: u64, hash: Option<String>) -> Self {
        let Found { size, etag, modified_ms, .. } = found.clone();
        Self { size, etag, modified_ms, ordinal, hash, unreadable: None }
    }

    /// The same, for a file that could not be read by `settings`.
    pub(super) fn unreadable(self, settings: &str) -> Self {
        Self { unreadable: Some(settings.to_string()), ..self }
    }
}

/// What a listing says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was never taken, or could not be read and is tried again.
    New,
    /// It is as it was.
    Same,
    /// It was written again with the same size: its hash tells.
    Unclear,
    /// Its content is another.
    Changed,
}

/// Compares. A file that could not be read is tried again when it was written again, be it with the
/// same content, and when `settings` are others than those it was tried by.
///
/// A local etag holds the inode and says nothing about the content, so there size, time
/// and hash count; elsewhere the etag does.
pub(super) fn judge(found: &Found, taken: Option<&Taken>, local: bool, settings: &str) -> Verdict {
    let Some(taken) = taken else { return Verdict::New };
    if let Some(tried) = &taken.unreadable {
        let now = (found.size, &found.etag, found.modified_ms);
        let same = now == (taken.size, &taken.etag, taken.modified_ms) && tried == settings;
        return if same { Verdict::Same } else { Verdict::New };
    }
    if found.size != taken.size {
        return Verdict::Changed;
    }
    match (&found.etag, &taken.etag) {
        (Some(now), Some(then)) if !local => match now == then {
            true => Verdict::Same,
            false => Verdict::Changed,
        },
        _ if found.modified_ms == taken.modified_ms => Verdict::Same,
        _ if local && taken.hash.is_some() => Verdict::Unclear,
        _ => Verdict::Changed,
    }
}

/// All files that were taken, by path.
pub(super) type Seen = HashMap<String, Taken>;

/// Rows to seal for `files`.
pub(super) fn to_rows(files: &[(String, Taken)]) -> Result<RecordBatch> {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let taken = || files.iter().map(|(_, taken)| taken);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(files.iter().map(|(path, _)| path))),
        Arc::new(Int64Array::from_iter_values(taken().map(|t| number(t.size)))),
        Arc::new(StringArray::from_iter(taken().map(|t| t.etag.as_deref()))),
        Arc::new(Int64Array::from_iter_values(taken().map(|t| t.modified_ms))),
        Arc::new(Int64Array::from_iter_values(taken().map(|t| number(t.ordinal)))),
        Arc::new(StringArray::from_iter(taken().map(|t| t.hash.as_deref()))),
        Arc::new(StringArray::from_iter(taken().map(|t| t.unreadable.as_deref()))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// Adds sealed rows; of several for one path the last one holds.
pub(super) fn from_rows(seen: &mut Seen, rows: &RecordBatch) -> Result<()> {
    let broken = |name: &str| Error::bug(format!("state of another source column={name}"));
    let text = |name: &str| -> Result<&StringArray> {
        let column = rows.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        column.ok_or_else(|| broken(name))
    };
    let number = |name: &str| -> Result<&Int64Array> {
        let column = rows.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
        column.ok_or_else(|| broken(name))
    };
    let (path, etag, hash) = (text("path")?, text("etag")?, text("hash")?);
    // State that is older than this column knows of no such file.
    let unreadable = text("unreadable").ok();
    let (size, modified_ms, ordinal) =
        (number("size")?, number("modified_ms")?, number("ordinal")?);
    let optional =
        |column: &StringArray, row| column.is_valid(row).then(|| column.value(row).to_string());
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    for row in 0..rows.num_rows() {
        let taken = Taken {
            size: count(size.value(row)),
            etag: optional(etag, row),
            modified_ms: modified_ms.value(row),
            ordinal: count(ordinal.value(row)),
            hash: optional(hash, row),
            unreadable: unreadable.and_then(|column| optional(column, row)),
        };
        seen.insert(path.value(row).to_string(), taken);
    }
    Ok(())
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("size", DataType::Int64, false),
        Field::new("etag", DataType::Utf8, true),
        Field::new("modified_ms", DataType::Int64, false),
        Field::new("ordinal", DataType::Int64, false),
        Field::new("hash", DataType::Utf8, true),
        Field::new("unreadable", DataType::Utf8, true),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(size: u64, etag: Option<&str>, modified_ms: i64) -> Found {
        let (path, location) = ("/x".to_string(), "x".to_string());
        Found { root: 0, path, location, size, etag: etag.map(Into::into), modified_ms }
    }

    #[test]
    fn a_change_is_told_by_size_then_etag_or_time_and_hash() {
        let hashed = Taken::new(&found(10, Some("a"), 1), 0, Some("h".into()));
        let plain = Taken { hash: None, ..hashed.clone() };
        let broken = plain.clone().unreadable("csv");
        let otherwise = plain.clone().unreadable("parquet");
        let bare = Taken { etag: None, ..plain.clone() };
        let cases = [
            (found(10, Some("a"), 1), None, true, Verdict::New),
            (found(10, Some("a"), 2), Some(&plain), false, Verdict::Same),
            (found(10, Some("b"), 1), Some(&plain), false, Verdict::Changed),
            (found(11, Some("a"), 1), Some(&plain), false, Verdict::Changed),
            (found(10, Some("b"), 1), Some(&hashed), true, Verdict::Same),
            (found(10, Some("b"), 2), Some(&hashed), true, Verdict::Unclear),
            (found(10, Some("b"), 2), Some(&plain), true, Verdict::Changed),
            (found(11, Some("a"), 1), Some(&hashed), true, Verdict::Changed),
            (found(10, None, 1), Some(&bare), false, Verdict::Same),
            (found(10, None, 2), Some(&bare), false, Verdict::Changed),
            (found(10, Some("a"), 1), Some(&broken), true, Verdict::Same),
            (found(10, Some("b"), 2), Some(&broken), true, Verdict::New),
            (found(11, Some("b"), 1), Some(&broken), false, Verdict::New),
            (found(10, Some("a"), 1), Some(&otherwise), true, Verdict::New),
        ];
        for (now, then, local, verdict) in cases {
            assert_eq!(judge(&now, then, local, "csv"), verdict, "{now:?} {then:?}");
        }
    }

    #[test]
    fn state_rows_read_back_and_the_last_one_holds() {
        let first = Taken::new(&found(10, Some("a"), 1), 0, Some("h".into()));
        let second = Taken::new(&found(12, None, 5), 3, None).unreadable("csv");
        let rows = to_rows(&[("/x".into(), first), ("/x".into(), second.clone())]).unwrap();
        let mut seen = Seen::new();
        from_rows(&mut seen, &rows).unwrap();
        assert_eq!(seen, Seen::from([("/x".to_string(), second)]));
    }
}
