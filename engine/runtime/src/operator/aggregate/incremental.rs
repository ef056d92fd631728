//! The retained aggregate itself: what it keeps, how an epoch is merged in, what is sealed.
//!
//! In: partial rows of an epoch. Out: final rows of the touched groups, and state rows to seal. It
//! plans nothing and touches no file.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use sluice_core::{Error, Result};

use super::accumulate::{Accumulators, Input};
use crate::operator::keyed::{KeyedRows, batch_of};

/// The aggregate's memory between epochs.
#[derive(Debug)]
pub struct Incremental {
    accumulators: Accumulators,
    groups: usize,
    output: SchemaRef,
    kept: KeyedRows,
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
        Ok(Self {
            accumulators,
            groups: types.len(),
            output,
            kept: KeyedRows::new(Arc::new(Schema::new(fields)), types.len())?,
            rows_read: 0,
        })
    }

    /// What is kept, to restore and to seal.
    ///
    /// The columns of a state file are the groups `g0`, `g1` …, then `s<aggregate>_<column>`; all
    /// nullable. Positions and types are those of a partial aggregate's output, dictionaries of
    /// the groups unpacked.
    pub fn kept(&mut self) -> &mut KeyedRows {
        &mut self.kept
    }

    /// Merges one epoch's partial aggregate.
    ///
    /// `partial` has the columns of [`Incremental::kept`] by position; a group may be in it
    /// several times. Without `GROUP BY` there is one group from the first call on, also when
    /// `partial` has no rows: SQL's `count(*)` of nothing is 0. Groups that were there before come
    /// first in the result.
    pub fn merge(&mut self, partial: &[RecordBatch]) -> Result<Merged> {
        let known = self.kept.keys.len();
        let mut parts = vec![];
        for batch in partial.iter().filter(|b| b.num_rows() > 0) {
            let (groups, columns) = self.kept.split(batch)?;
            let slots = self.kept.keys.assign(&groups, batch.num_rows())?;
            self.rows_read += batch.num_rows() as u64;
            parts.push((columns, slots));
        }
        if self.groups == 0 && self.kept.keys.len() == 0 {
            parts.push((self.accumulators.empty()?, self.kept.keys.assign(&[], 1)?));
        }
        let touched = Touched::new(known, parts.iter().flat_map(|(_, slots)| slots));
        let old = &touched.slots[..touched.old];
        let mut inputs = vec![];
        if !old.is_empty() {
            let indices = (0..old.len()).collect();
            inputs.push(Input { columns: self.kept.store.fetch(old)?, indices });
            self.rows_read += old.len() as u64;
        }
        for (columns, slots) in parts {
            inputs.push(Input { columns, indices: touched.indices(&slots) });
        }

        let slots = touched.slots;
        let created: Vec<bool> = (0..slots.len()).map(|row| row >= touched.old).collect();
        let state = self.accumulators.merge(&inputs, slots.len())?;
        let state = self.kept.typed(state, self.groups)?;
        let values = self.accumulators.evaluate(&state, slots.len())?;
        self.kept.put_values(state, slots.clone())?;

        let mut columns = self.kept.keys.columns(&slots)?;
        columns.extend(values);
        let rows = batch_of(&self.output, columns, slots.len())?;
        Ok(Merged { rows, touched: slots.len(), created: created.into() })
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.kept.keys.len()
    }

    /// Rows looked at so far: partial rows merged and state rows fetched for them. Restoring does
    /// not count.
    pub fn rows_read(&self) -> u64 {
        self.rows_read
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

/// Dictionaries differ from batch to batch: groups are kept as plain values.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}
