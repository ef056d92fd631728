//! Upsert: keyed rows of one epoch against the rows a table already has for those keys.
//!
//! In: the epoch's rows, the table's rows with the same keys ([`key_batch`] says which to look up)
//! and what is remembered of those keys. Out: which keys lose their row, which rows go in, what to
//! quarantine, what to remember, and counts. Finding and writing rows is the caller's.
//!
//! The rules:
//! * Rows of a key are put in order by the sequence column, ties and absence by position; a NULL
//!   sequence is older than any other. The table's row is older than an incoming row with the same
//!   sequence, and without a sequence older than all. The last row of that order wins.
//! * A winner whose delete column is true removes the key; false and NULL do not.
//! * With `coalesce`, a NULL field of the winner takes the newest non-NULL value before it, back to
//!   the last delete. So an older row may still fill what the table's newer row left open.
//! * The result does not depend on where epochs are cut. With a sequence that takes more than the
//!   table holds, and [`Remembered`] keeps it: the sequence of a delete, so that a row that comes
//!   late and is older stays out, and with `coalesce` the sequence of every field.
//! * A row with a NULL in its key has no place in the table: it goes to quarantine.

mod history;
mod remembered;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::array::{UInt64Array, new_null_array};
use arrow::compute::{filter_record_batch, interleave, not, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use sluice_core::{Error, Result};

use history::{Entry, Histories};
pub use remembered::Remembered;

/// Where the columns are that decide. Incoming rows have the table's columns first, in the table's
/// order; behind them the delete and position columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpsertSpec {
    /// The key columns, among the table's columns; at least one.
    pub keys: Vec<usize>,
    /// The column that says which row is newer, among the table's columns.
    pub sequence: Option<usize>,
    /// Whether NULL fields keep the older value.
    pub coalesce: bool,
    /// A boolean column of the incoming rows that is not part of the table.
    pub delete: Option<usize>,
    /// The source position among the incoming rows' columns; without it rows count as they come.
    pub position: Option<usize>,
}

/// What the rows of one epoch do to a table.
///
/// `rows.num_rows() == inserted + updated`, and every incoming row is counted once: incoming =
/// `inserted + updated + deleted + deduplicated` + the rows in `null_keys`.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Keys of the table's rows that go away or are replaced: the key columns, in the order of
    /// [`UpsertSpec::keys`], each key once.
    pub removed_keys: RecordBatch,
    /// The same as rows of `old`. Where a stranger put a key in twice, all its rows.
    pub removed_rows: Vec<usize>,
    /// Rows to insert, with the table's schema.
    pub rows: RecordBatch,
    /// What to remember from now on, for [`Remembered::put`].
    pub remember: Option<RecordBatch>,
    /// Rows with a NULL key, with the table's schema, for quarantine.
    pub null_keys: Vec<RecordBatch>,
    /// Incoming rows that lost to a later row or to a newer row of the table.
    pub deduplicated: u64,
    /// Incoming rows that won and asked for deletion, whether or not the table had the key.
    pub deleted: u64,
    /// Keys that the table did not have.
    pub inserted: u64,
    /// Keys whose row is replaced.
    pub updated: u64,
}

/// The distinct keys of `incoming` without NULLs, in the order of their first row: what to look up
/// in the table. Columns are those of [`UpsertSpec::keys`]; without batches there are none.
pub fn key_batch(spec: &UpsertSpec, incoming: &[RecordBatch]) -> Result<RecordBatch> {
    let Some(first) = incoming.first() else {
        return Ok(RecordBatch::new_empty(Schema::empty().into()));
    };
    let schema = first.schema().project(&spec.keys)?.into();
    let mut keys = Numbers::default();
    let converter = converter(first.schema_ref(), &spec.keys)?;
    let mut parts = vec![];
    for batch in incoming {
        let columns = batch.project(&spec.keys)?;
        let rows = converter.convert_columns(columns.columns())?;
        let whole = complete(batch, &spec.keys);
        let is_new: Vec<bool> = (0..batch.num_rows())
            .map(|row| whole.value(row) && keys.number(rows.row(row).as_ref()).1)
            .collect();
        parts.push(filter_record_batch(&columns, &BooleanArray::from(is_new))?);
    }
    Ok(arrow::compute::concat_batches(&schema, &parts)?)
}

/// Decides what `incoming` does to a table that has the rows `old` for those keys, and of which
/// `remembered` is what [`Remembered::of`] gives for them.
///
/// `old` has the table's schema; rows of other keys in it are ignored. The result does not depend
/// on how incoming rows are cut into batches, and with a position column not on their order.
///
/// # Errors
/// `Bug` when columns are not where `spec` says; `Data` when a row does not fit the table.
pub fn resolve(
    spec: &UpsertSpec,
    incoming: &[RecordBatch],
    old: &RecordBatch,
    remembered: Option<&RecordBatch>,
) -> Result<Resolved> {
    check(spec, incoming, old)?;
    let table = old.schema();
    let width = table.fields().len();
    let mut null_keys = vec![];
    for batch in incoming {
        let broken = not(&complete(batch, &spec.keys))?;
        if broken.true_count() > 0 {
            let rows = filter_record_batch(batch, &broken)?;
            null_keys.push(with_schema(&table, rows.columns()[..width].to_vec(), rows.num_rows())?);
        }
    }
    let histories = Histories::new(spec, incoming, old, remembered)?;
    let mut verdicts = Verdicts::new(spec, &histories);
    for history in &histories.of_key {
        verdicts.judge(history);
    }
    let rows = verdicts.rows(&table)?;
    let removed = UInt64Array::from_iter_values(verdicts.removed.iter().map(|&row| row as u64));
    let removed_keys = take_record_batch(&old.project(&spec.keys)?, &removed)?;
    Ok(Resolved {
        removed_keys,
        removed_rows: verdicts.gone,
        rows,
        remember: remembered.map(|r| histories.remember(spec, &r.schema())).transpose()?,
        null_keys,
        deduplicated: verdicts.deduplicated,
        deleted: verdicts.deleted,
        inserted: verdicts.inserted,
        updated: verdicts.updated,
    })
}

/// What was decided, key by key.
struct Verdicts<'a> {
    spec: &'a UpsertSpec,
    histories: &'a Histories,
    /// Rows of the table that go; one per key.
    removed: Vec<usize>,
    /// All of them.
    gone: Vec<usize>,
    /// Per row to write, what is left of its history: after the last delete, oldest first.
    written: Vec<&'a [Entry]>,
    deduplicated: u64,
    deleted: u64,
    inserted: u64,
    updated: u64,
}

impl<'a> Verdicts<'a> {
    fn new(spec: &'a UpsertSpec, histories: &'a Histories) -> Self {
        Self {
            spec,
            histories,
            removed: vec![],
            gone: vec![],
            written: vec![],
            deduplicated: 0,
            deleted: 0,
            inserted: 0,
            updated: 0,
        }
    }

    fn judge(&mut self, history: &'a [Entry]) {
        let Some(winner) = history.last() else { return };
        let incoming = history.iter().filter(|e| !e.old).count() as u64;
        let old = history.iter().find(|e| e.is_table_row());
        let alive = history::alive(history);
        let same = match alive {
            [] => winner.old,
            alive => !self.histories.changes(self.spec, alive),
        };
        if same {
            self.deduplicated += incoming;
            return;
        }
        self.deduplicated += incoming - 1;
        self.removed.extend(old.map(|e| e.row));
        self.gone.extend(history.iter().filter(|e| e.is_table_row()).map(|e| e.row));
        if alive.is_empty() {
            self.deleted += 1;
            return;
        }
        self.written.push(alive);
        match old {
            Some(_) => self.updated += 1,
            None => self.inserted += 1,
        }
    }

    /// The rows to write, column by column.
    fn rows(&self, table: &SchemaRef) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(table.fields().len());
        for (column, field) in table.fields().iter().enumerate() {
            let nothing = new_null_array(field.data_type(), 1);
            let mut parts = self.histories.parts(column);
            parts.push(nothing.as_ref());
            let absent = (parts.len() - 1, 0);
            let pick = |alive: &&[Entry]| {
                let entry = self.histories.pick(self.spec, alive, column);
                entry.map_or(absent, |e| (e.source, e.row))
            };
            let picks: Vec<(usize, usize)> = self.written.iter().map(pick).collect();
            columns.push(interleave(&parts, &picks)?);
        }
        with_schema(table, columns, self.written.len())
    }
}

/// Numbers for keys, in the order they are met.
#[derive(Default)]
struct Numbers {
    numbers: HashMap<Box<[u8]>, usize>,
}

impl Numbers {
    /// The key's number, and whether it is new.
    fn number(&mut self, key: &[u8]) -> (usize, bool) {
        if let Some(&number) = self.numbers.get(key) {
            return (number, false);
        }
        let number = self.numbers.len();
        self.numbers.insert(key.into(), number);
        (number, true)
    }

    /// The key's number, if it was met.
    fn of(&self, key: &[u8]) -> Option<usize> {
        self.numbers.get(key).copied()
    }
}

fn check(spec: &UpsertSpec, incoming: &[RecordBatch], old: &RecordBatch) -> Result<()> {
    let width = old.num_columns();
    let in_table = |column: &usize| *column < width;
    let mut fits = !spec.keys.is_empty() && spec.keys.iter().all(in_table);
    fits &= spec.sequence.iter().all(in_table);
    for batch in incoming {
        let extra = |column: &usize| (width..batch.num_columns()).contains(column);
        let types = batch.columns().iter().zip(old.columns());
        let boolean = |column: &usize| batch.column(*column).as_boolean_opt().is_some();
        fits &= batch.num_columns() >= width
            && spec.delete.iter().all(|column| extra(column) && boolean(column))
            && spec.position.iter().all(extra)
            && types.into_iter().all(|(new, old)| new.data_type() == old.data_type());
    }
    match fits {
        true => Ok(()),
        false => Err(Error::bug(format!(
            "rows to upsert do not fit the table spec={spec:?} table_columns={width}"
        ))),
    }
}

/// Rows whose key has no NULL.
fn complete(batch: &RecordBatch, keys: &[usize]) -> BooleanArray {
    let nulls: Vec<_> = keys.iter().filter_map(|&k| batch.column(k).logical_nulls()).collect();
    (0..batch.num_rows()).map(|row| Some(nulls.iter().all(|n| n.is_valid(row)))).collect()
}

fn converter(schema: &Schema, columns: &[usize]) -> Result<RowConverter> {
    let types = columns.iter().map(|&c| schema.field(c).data_type().clone());
    RowConverter::new(types.map(SortField::new).collect()).map_err(|e| {
        Error::config("a key, sequence or position column has a type that has no order")
            .hint("use numbers, strings, dates or timestamps")
            .because(e)
    })
}

fn with_schema(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options);
    batch.map_err(|e| {
        Error::data("rows do not fit the table's columns")
            .hint("a column that must have a value has none: set a default or drop `required`")
            .because(e)
    })
}
