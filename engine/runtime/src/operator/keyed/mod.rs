//! Rows by key: what operators keep between epochs.
//!
//! In: rows with a key, of which the newest per key counts. Out: the rows of given keys, and state
//! rows to seal: all of them, or what changed. What the columns mean is the operator's.

mod keys;
mod store;

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use sluice_core::{Error, Reservation, Result};

pub(super) use keys::Keys;
pub(super) use store::Store;

/// Rows per batch of [`KeyedRows::base`]: one batch of a plan. Larger ones bring the 32-bit
/// offsets of list states (distinct counts) nearer to their end.
const BASE_ROWS: usize = 8192;

/// The newest row per key. Keys are never given back.
pub struct KeyedRows {
    schema: SchemaRef,
    width: usize,
    pub(super) keys: Keys,
    pub(super) store: Store,
    /// Slots changed since the last [`KeyedRows::delta`].
    changed: BTreeSet<u32>,
    /// What is held, set aside in the run's pool; rows in no run are not counted.
    memory: Option<Box<dyn Reservation>>,
}

impl std::fmt::Debug for KeyedRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedRows").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl KeyedRows {
    /// No rows yet; the first `width` columns of `schema` are the key.
    pub(super) fn new(schema: SchemaRef, width: usize) -> Result<Self> {
        let types: Vec<DataType> = schema.fields().iter().map(|f| f.data_type().clone()).collect();
        let (keys, values) = types.split_at(width);
        Ok(Self {
            keys: Keys::new(keys.to_vec())?,
            store: Store::new(values.to_vec()),
            schema,
            width,
            changed: BTreeSet::new(),
            memory: None,
        })
    }

    /// Counts what is held, from now on, in `memory`. Errors: the pool has no room for it.
    pub fn hold_in(&mut self, memory: Box<dyn Reservation>) -> Result<()> {
        self.memory = Some(memory);
        self.hold(0)
    }

    /// Sets aside what is held and `more` bytes that are about to come; names who holds it when
    /// the pool has no room.
    pub fn hold(&mut self, more: usize) -> Result<()> {
        let bytes = self.memory_bytes() + more;
        self.memory.as_mut().map_or(Ok(()), |memory| memory.resize(bytes))
    }

    /// The columns of a state file.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Takes back sealed state: the base first, then deltas in the order they were sealed. A later
    /// row of a key replaces an earlier one.
    pub fn restore(&mut self, files: Vec<RecordBatch>) -> Result<()> {
        for batch in &files {
            let (keys, values) = self.split(batch)?;
            let slots = self.keys.assign(&keys, batch.num_rows())?;
            self.store.put(values, slots)?;
            self.hold(0)?;
        }
        Ok(())
    }

    /// Keeps the rows of `batch` as the newest of their keys.
    pub(super) fn put(&mut self, batch: &RecordBatch) -> Result<()> {
        let (keys, values) = self.split(batch)?;
        let slots = self.keys.assign(&keys, batch.num_rows())?;
        self.put_values(values, slots)
    }

    /// Keeps row i of `values` as the newest of `slots[i]`.
    pub(super) fn put_values(&mut self, values: Vec<ArrayRef>, slots: Vec<u32>) -> Result<()> {
        self.changed.extend(&slots);
        self.store.put(values, slots)?;
        self.hold(0)
    }

    /// The rows kept for those of `keys` that have one.
    pub(super) fn find(&self, keys: &RecordBatch) -> Result<RecordBatch> {
        self.rows(&self.keys.known(keys.columns(), keys.num_rows())?)
    }

    /// The rows touched since the last call, one per key; nothing when there are none.
    pub fn delta(&mut self) -> Result<Option<RecordBatch>> {
        if self.changed.is_empty() {
            return Ok(None);
        }
        let slots: Vec<u32> = std::mem::take(&mut self.changed).into_iter().collect();
        self.rows(&slots).map(Some)
    }

    /// All rows, one per key, in the order the keys appeared.
    pub fn base(&self) -> Result<Vec<RecordBatch>> {
        let slots: Vec<u32> = (0..self.keys.len() as u32).collect();
        slots.chunks(BASE_ROWS).map(|part| self.rows(part)).collect()
    }

    /// Bytes held: keys, values, indices.
    pub fn memory_bytes(&self) -> usize {
        let per_changed = std::mem::size_of::<u32>() * 2;
        self.keys.memory_bytes() + self.store.memory_bytes() + self.changed.len() * per_changed
    }

    fn rows(&self, slots: &[u32]) -> Result<RecordBatch> {
        let mut columns = self.keys.columns(slots)?;
        columns.extend(self.store.fetch(slots)?);
        batch_of(&self.schema, columns, slots.len())
    }

    /// Key columns and value columns of a batch, with the types of the state schema.
    pub(super) fn split(&self, batch: &RecordBatch) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        let expected = self.schema.fields().len();
        if batch.num_columns() != expected {
            let found = batch.num_columns();
            return Err(Error::bug(format!(
                "rows of state have the wrong width expected={expected} found={found}"
            )));
        }
        let (keys, values) = batch.columns().split_at(self.width);
        Ok((self.typed(keys.to_vec(), 0)?, self.typed(values.to_vec(), self.width)?))
    }

    /// Casts `columns` to the state schema's types from column `start` on.
    pub(super) fn typed(&self, columns: Vec<ArrayRef>, start: usize) -> Result<Vec<ArrayRef>> {
        let fields = &self.schema.fields()[start..];
        columns.into_iter().zip(fields).map(|(c, f)| to_type(c, f.data_type())).collect()
    }
}

/// A batch with the schema's types. The row count is given because there may be no columns.
pub(super) fn batch_of(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch> {
    let mut typed = Vec::with_capacity(columns.len());
    for (column, field) in columns.into_iter().zip(schema.fields()) {
        typed.push(to_type(column, field.data_type())?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), typed, &options).map_err(|e| {
        Error::bug(format!("columns of state do not fit their schema rows={rows}")).because(e)
    })
}

fn to_type(column: ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if column.data_type() == wanted {
        return Ok(column);
    }
    cast(&column, wanted).map_err(|e| {
        let found = column.data_type();
        Error::bug(format!("cannot cast a column of state from={found} to={wanted}")).because(e)
    })
}
