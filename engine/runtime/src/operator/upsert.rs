//! Upsert: keyed rows of one epoch against the rows a table already has for those keys.
//!
//! In: the epoch's rows, and the table's rows with the same keys ([`key_batch`] says which to look
//! up). Out: which keys lose their row, which rows go in, what to quarantine, and counts. Finding
//! and writing rows is the caller's.
//!
//! The rules:
//! * Rows of a key are put in order by the sequence column, ties and absence by position; a NULL
//!   sequence is older than any other. The table's row is older than an incoming row with the same
//!   sequence, and without a sequence older than all. The last row of that order wins.
//! * A winner whose delete column is true removes the key; false and NULL do not. Nothing is
//!   remembered of a removed key: a later epoch inserts it again whatever its sequence.
//! * With `coalesce`, a NULL field of the winner takes the newest non-NULL value before it, back to
//!   the last delete. So an older row may still fill what the table's newer row left open.
//! * A row with a NULL in its key has no place in the table: it goes to quarantine.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashMap;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array,
};
use arrow::compute::{filter_record_batch, interleave, not, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use sluice_core::{Error, Result};

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
    /// Rows to insert, with the table's schema.
    pub rows: RecordBatch,
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
    let mut keys = Keys::default();
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

/// Decides what `incoming` does to a table that has the rows `old` for those keys.
///
/// `old` has the table's schema; rows of other keys in it are ignored. The result does not depend
/// on how incoming rows are cut into batches, and with a position column not on their order.
///
/// # Errors
/// `Bug` when columns are not where `spec` says; `Data` when a row does not fit the table.
pub fn resolve(spec: &UpsertSpec, incoming: &[RecordBatch], old: &RecordBatch) -> Result<Resolved> {
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
    let histories = Histories::new(spec, incoming, old)?;
    let sources: Vec<&RecordBatch> = incoming.iter().chain([old]).collect();
    let mut verdicts = Verdicts::default();
    for history in &histories.of_key {
        verdicts.judge(spec, history, &sources);
    }
    let rows = verdicts.rows(spec, &sources, &table)?;
    let removed = UInt64Array::from_iter_values(verdicts.removed.iter().map(|&row| row as u64));
    let removed_keys = take_record_batch(&old.project(&spec.keys)?, &removed)?;
    Ok(Resolved {
        removed_keys,
        rows,
        null_keys,
        deduplicated: verdicts.deduplicated,
        deleted: verdicts.deleted,
        inserted: verdicts.inserted,
        updated: verdicts.updated,
    })
}

/// One row of a key's history.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Which batch; the table's rows are the last.
    source: usize,
    row: usize,
    old: bool,
    delete: bool,
}

/// All rows per key, oldest first; keys in the order of their first incoming row.
struct Histories {
    of_key: Vec<Vec<Entry>>,
}

impl Histories {
    fn new(spec: &UpsertSpec, incoming: &[RecordBatch], old: &RecordBatch) -> Result<Self> {
        let schema = incoming.first().map_or_else(|| old.schema(), |b| b.schema());
        let key_rows = converter(&old.schema(), &spec.keys)?;
        let mut keys = Keys::default();
        let mut of_key: Vec<Vec<Entry>> = vec![];
        for (source, batch) in incoming.iter().enumerate() {
            let rows = key_rows.convert_columns(batch.project(&spec.keys)?.columns())?;
            let whole = complete(batch, &spec.keys);
            let deletes = spec.delete.map(|column| batch.column(column).as_boolean());
            for row in (0..batch.num_rows()).filter(|&row| whole.value(row)) {
                let (number, is_new) = keys.number(rows.row(row).as_ref());
                if is_new {
                    of_key.push(vec![]);
                }
                let delete = deletes.is_some_and(|d| d.is_valid(row) && d.value(row));
                of_key[number].push(Entry { source, row, old: false, delete });
            }
        }
        let rows = key_rows.convert_columns(old.project(&spec.keys)?.columns())?;
        for row in 0..old.num_rows() {
            if let Some(&number) = keys.numbers.get(rows.row(row).as_ref()) {
                let source = incoming.len();
                of_key[number].push(Entry { source, row, old: true, delete: false });
            }
        }
        let mut histories = Self { of_key };
        histories.sort(spec, incoming, old, &schema)?;
        Ok(histories)
    }

    fn sort(
        &mut self,
        spec: &UpsertSpec,
        incoming: &[RecordBatch],
        old: &RecordBatch,
        schema: &SchemaRef,
    ) -> Result<()> {
        let all: Vec<&RecordBatch> = incoming.iter().chain([old]).collect();
        let sequences = comparable(&all, spec.sequence, schema)?;
        let positions = comparable(&all[..incoming.len()], spec.position, schema)?;
        for entries in &mut self.of_key {
            // The sort is stable, so that rows that compare equal stay as they came.
            entries.sort_by(|a, b| {
                by_rows(&sequences, a, b).then(b.old.cmp(&a.old)).then_with(|| match a.old {
                    true => Ordering::Equal,
                    false => by_rows(&positions, a, b),
                })
            });
        }
        Ok(())
    }
}

/// What was decided, key by key.
#[derive(Default)]
struct Verdicts {
    /// Rows of the table that go; one per key.
    removed: Vec<usize>,
    /// Per row to write, what is left of its history: after the last delete, oldest first.
    written: Vec<Vec<Entry>>,
    deduplicated: u64,
    deleted: u64,
    inserted: u64,
    updated: u64,
}

impl Verdicts {
    fn judge(&mut self, spec: &UpsertSpec, history: &[Entry], sources: &[&RecordBatch]) {
        let Some(winner) = history.last() else { return };
        let incoming = history.iter().filter(|e| !e.old).count() as u64;
        let old = history.iter().find(|e| e.old);
        let alive = match history.iter().rposition(|e| e.delete) {
            Some(last) => &history[last + 1..],
            None => history,
        };
        if winner.old && !fills(spec, alive, sources) {
            self.deduplicated += incoming;
            return;
        }
        self.deduplicated += incoming - 1;
        self.removed.extend(old.map(|e| e.row));
        if winner.delete {
            self.deleted += 1;
            return;
        }
        self.written.push(alive.to_vec());
        match old {
            Some(_) => self.updated += 1,
            None => self.inserted += 1,
        }
    }

    /// The rows to write, column by column.
    fn rows(
        &self,
        spec: &UpsertSpec,
        sources: &[&RecordBatch],
        table: &SchemaRef,
    ) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(table.fields().len());
        for column in 0..table.fields().len() {
            let parts: Vec<&dyn Array> =
                sources.iter().map(|batch| batch.column(column).as_ref()).collect();
            let picks: Vec<(usize, usize)> =
                self.written.iter().filter_map(|h| pick(spec, h, &parts)).collect();
            columns.push(interleave(&parts, &picks)?);
        }
        with_schema(table, columns, self.written.len())
    }
}

/// Which row a field of the result comes from.
fn pick(spec: &UpsertSpec, alive: &[Entry], column: &[&dyn Array]) -> Option<(usize, usize)> {
    let last = alive.last()?;
    let known = |e: &&Entry| column[e.source].is_valid(e.row);
    let entry = match spec.coalesce {
        true => alive.iter().rev().find(known).unwrap_or(last),
        false => last,
    };
    Some((entry.source, entry.row))
}

/// Whether an older row gives a value to a field that the table's winning row left open.
fn fills(spec: &UpsertSpec, alive: &[Entry], sources: &[&RecordBatch]) -> bool {
    let Some((winner, older)) = alive.split_last() else { return false };
    let width = sources.last().map_or(0, |old| old.num_columns());
    let is_valid = |e: &Entry, column: usize| sources[e.source].column(column).is_valid(e.row);
    let open = |column: &usize| !is_valid(winner, *column);
    spec.coalesce && (0..width).filter(open).any(|column| older.iter().any(|e| is_valid(e, column)))
}

/// Numbers for keys, in the order they are met.
#[derive(Default)]
struct Keys {
    numbers: HashMap<Box<[u8]>, usize>,
}

impl Keys {
    /// The key's number, and whether it is new.
    fn number(&mut self, key: &[u8]) -> (usize, bool) {
        if let Some(&number) = self.numbers.get(key) {
            return (number, false);
        }
        let number = self.numbers.len();
        self.numbers.insert(key.into(), number);
        (number, true)
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

/// One column of every batch in a form that compares as bytes, NULL first; nothing without column.
fn comparable(
    batches: &[&RecordBatch],
    column: Option<usize>,
    schema: &SchemaRef,
) -> Result<Option<Vec<Rows>>> {
    let Some(column) = column.filter(|_| !batches.is_empty()) else { return Ok(None) };
    let converter = converter(schema, &[column])?;
    let mut rows = Vec::with_capacity(batches.len());
    for batch in batches {
        rows.push(converter.convert_columns(&[batch.column(column).clone()])?);
    }
    Ok(Some(rows))
}

fn by_rows(rows: &Option<Vec<Rows>>, a: &Entry, b: &Entry) -> Ordering {
    match rows {
        Some(rows) => rows[a.source].row(a.row).cmp(&rows[b.source].row(b.row)),
        None => Ordering::Equal,
    }
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
