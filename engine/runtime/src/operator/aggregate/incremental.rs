//! The retained aggregate itself: what it keeps, how an epoch is merged in, what is sealed.
//!
//! In: partial rows of an epoch. Out: final rows of the touched groups, and state rows to seal. It
//! plans nothing and touches no file.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use sluice_core::{Error, Result};

use super::accumulate::{Accumulators, Input};
use super::keys::Keys;
use super::store::Store;

/// Rows per batch of [`Incremental::base`]: one batch of a plan. Larger ones bring the 32-bit
/// offsets of list states (distinct counts) nearer to their end.
const BASE_ROWS: usize = 8192;

/// The aggregate's memory between epochs.
#[derive(Debug)]
pub struct Incremental {
    accumulators: Accumulators,
    groups: usize,
    state: SchemaRef,
    output: SchemaRef,
    keys: Keys,
    store: Store,
    /// Slots changed since the last [`Incremental::delta`].
    changed: BTreeSet<u32>,
    rows_read: u64,
}

/// What one epoch did to the aggregate's result.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The final values of every touched group, one row each, with the output schema.
    pub rows: RecordBatch,
    /// How many groups were touched: the rows of `rows`.
    pub touched: usize,
    /// Per row of `rows`, whether the group was not there before. Rows with `false` replace one.
    pub created: BooleanArray,
}

impl Incremental {
    /// An aggregate without groups.
    ///
    /// `output` has the group columns first, then one column per aggregate.
    ///
    /// # Errors
    /// `Config` with the reason when an aggregate cannot be kept incrementally: its result depends
    /// on the order of rows, or its state has no column type.
    pub fn new(
        group_fields: Vec<FieldRef>,
        aggregates: Vec<Arc<AggregateFunctionExpr>>,
        output: SchemaRef,
    ) -> Result<Self> {
        let expected = group_fields.len() + aggregates.len();
        if output.fields().len() != expected {
            let found = output.fields().len();
            return Err(Error::bug(format!(
                "the aggregate's output does not fit its parts expected={expected} found={found}"
            )));
        }
        let types: Vec<DataType> = group_fields.iter().map(|f| plain(f.data_type())).collect();
        let accumulators = Accumulators::new(aggregates, types.is_empty())?;
        let mut fields: Vec<Field> = Vec::new();
        for (index, data_type) in types.iter().enumerate() {
            fields.push(Field::new(format!("g{index}"), data_type.clone(), true));
        }
        fields.extend(accumulators.state_fields()?);
        let state_types = fields[types.len()..].iter().map(|f| f.data_type().clone()).collect();
        Ok(Self {
            accumulators,
            groups: types.len(),
            state: Arc::new(Schema::new(fields)),
            output,
            keys: Keys::new(types)?,
            store: Store::new(state_types),
            changed: BTreeSet::new(),
            rows_read: 0,
        })
    }

    /// The columns of a state file: the groups `g0`, `g1` …, then `s<aggregate>_<column>`; all
    /// nullable. Positions and types are those of a partial aggregate's output, dictionaries of
    /// the groups unpacked.
    pub fn state_schema(&self) -> SchemaRef {
        self.state.clone()
    }

    /// Takes back sealed state: the base first, then deltas in the order they were sealed. A later
    /// row of a group replaces an earlier one.
    pub fn restore(&mut self, files: Vec<RecordBatch>) -> Result<()> {
        for batch in &files {
            let (groups, state) = self.split(batch)?;
            let slots = self.keys.assign(&groups, batch.num_rows())?;
            self.store.put(state, slots)?;
        }
        Ok(())
    }

    /// Merges one epoch's partial aggregate.
    ///
    /// `partial` has the columns of [`Incremental::state_schema`] by position; a group may be in it
    /// several times. Without `GROUP BY` there is one group from the first call on, also when
    /// `partial` has no rows: SQL's `count(*)` of nothing is 0. Groups that were there before come
    /// first in the result.
    pub fn merge(&mut self, partial: &[RecordBatch]) -> Result<Merged> {
        let known = self.keys.len();
        let mut parts = vec![];
        for batch in partial.iter().filter(|b| b.num_rows() > 0) {
            let (groups, columns) = self.split(batch)?;
            let slots = self.keys.assign(&groups, batch.num_rows())?;
            self.rows_read += batch.num_rows() as u64;
            parts.push((columns, slots));
        }
        if self.groups == 0 && self.keys.len() == 0 {
            parts.push((self.accumulators.empty()?, self.keys.assign(&[], 1)?));
        }
        let touched = Touched::new(known, parts.iter().flat_map(|(_, slots)| slots));
        let old = &touched.slots[..touched.old];
        let mut inputs = vec![];
        if !old.is_empty() {
            let indices = (0..old.len()).collect();
            inputs.push(Input { columns: self.store.fetch(old)?, indices });
            self.rows_read += old.len() as u64;
        }
        for (columns, slots) in parts {
            inputs.push(Input { columns, indices: touched.indices(&slots) });
        }

        let slots = touched.slots;
        let created: Vec<bool> = (0..slots.len()).map(|row| row >= touched.old).collect();
        let state = self.accumulators.merge(&inputs, slots.len())?;
        let state = self.typed(state, self.groups)?;
        let values = self.accumulators.evaluate(&state, slots.len())?;
        self.store.put(state, slots.clone())?;
        self.changed.extend(&slots);

        let mut columns = self.keys.columns(&slots)?;
        columns.extend(values);
        let rows = batch_of(&self.output, columns, slots.len())?;
        Ok(Merged { rows, touched: slots.len(), created: created.into() })
    }

    /// The state of the groups touched since the last call, one row each; nothing when there are
    /// none.
    pub fn delta(&mut self) -> Result<Option<RecordBatch>> {
        if self.changed.is_empty() {
            return Ok(None);
        }
        let slots: Vec<u32> = self.changed.iter().copied().collect();
        let delta = self.state_rows(&slots)?;
        self.changed.clear();
        Ok(Some(delta))
    }

    /// The state of all groups, one row each, in the order the groups appeared.
    pub fn base(&self) -> Result<Vec<RecordBatch>> {
        let slots: Vec<u32> = (0..self.keys.len() as u32).collect();
        slots.chunks(BASE_ROWS).map(|part| self.state_rows(part)).collect()
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.keys.len()
    }

    /// Bytes held: keys, state, indices.
    pub fn memory_bytes(&self) -> usize {
        let per_changed = std::mem::size_of::<u32>() * 2;
        self.keys.memory_bytes() + self.store.memory_bytes() + self.changed.len() * per_changed
    }

    /// Rows looked at so far: partial rows merged and state rows fetched for them. Restoring does
    /// not count.
    pub fn rows_read(&self) -> u64 {
        self.rows_read
    }

    fn state_rows(&self, slots: &[u32]) -> Result<RecordBatch> {
        let mut columns = self.keys.columns(slots)?;
        columns.extend(self.store.fetch(slots)?);
        batch_of(&self.state, columns, slots.len())
    }

    /// Group columns and state columns of a batch, with the types of the state schema.
    fn split(&self, batch: &RecordBatch) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>)> {
        if batch.num_columns() != self.state.fields().len() {
            return Err(Error::bug(format!(
                "rows of aggregate state have the wrong width expected={} found={}",
                self.state.fields().len(),
                batch.num_columns()
            )));
        }
        let (groups, state) = batch.columns().split_at(self.groups);
        Ok((self.typed(groups.to_vec(), 0)?, self.typed(state.to_vec(), self.groups)?))
    }

    /// Casts `columns` to the state schema's types from column `start` on.
    fn typed(&self, columns: Vec<ArrayRef>, start: usize) -> Result<Vec<ArrayRef>> {
        let fields = &self.state.fields()[start..];
        columns.into_iter().zip(fields).map(|(c, f)| to_type(c, f.data_type())).collect()
    }
}

/// The groups of one merge, numbered: first those that were there before, then the new ones, each
/// in the order they were met.
struct Touched {
    slots: Vec<u32>,
    /// How many of them were there before.
    old: usize,
    numbers: HashMap<u32, usize>,
}

impl Touched {
    fn new<'a>(known: usize, met: impl Iterator<Item = &'a u32>) -> Self {
        let mut numbers = HashMap::new();
        let (mut slots, mut new) = (vec![], vec![]);
        for &slot in met {
            numbers.entry(slot).or_insert_with(|| {
                let list = if (slot as usize) < known { &mut slots } else { &mut new };
                list.push(slot);
                list.len() - 1
            });
        }
        let old = slots.len();
        for slot in &new {
            numbers.entry(*slot).and_modify(|number| *number += old);
        }
        slots.extend(new);
        Self { slots, old, numbers }
    }

    fn indices(&self, slots: &[u32]) -> Vec<usize> {
        slots.iter().map(|slot| self.numbers[slot]).collect()
    }
}

/// A batch with the schema's types. The row count is given because there may be no columns.
fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let mut typed = Vec::with_capacity(columns.len());
    for (column, field) in columns.into_iter().zip(schema.fields()) {
        typed.push(to_type(column, field.data_type())?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), typed, &options).map_err(|e| {
        Error::bug(format!("an aggregate's columns do not fit their schema rows={rows}")).because(e)
    })
}

fn to_type(column: ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if column.data_type() == wanted {
        return Ok(column);
    }
    cast(&column, wanted).map_err(|e| {
        let found = column.data_type();
        Error::bug(format!("cannot cast an aggregate's column from={found} to={wanted}")).because(e)
    })
}

/// Dictionaries differ from batch to batch: groups are kept as plain values.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}
