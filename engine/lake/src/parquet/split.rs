//! Splits a batch by partition: group ids once per batch, one `take`, then slices without copies.
//!
//! Rows of one partition keep their order. Which file a slice goes to is not decided here.

use std::collections::HashMap;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::row::{Row, RowConverter, SortField};

use sluice_core::{Error, Result};

use super::hive;

/// The partition values of a file, in `partition_by`'s order.
pub(super) type Key = Vec<Option<String>>;

/// Rows of one partition.
pub(super) struct Slice {
    pub key: Key,
    /// The stored columns only.
    pub rows: RecordBatch,
}

/// `rows` by the columns at `partition`, keeping the columns at `stored`.
pub(super) fn split(
    rows: &RecordBatch,
    partition: &[usize],
    stored: &[usize],
) -> Result<Vec<Slice>> {
    if rows.num_rows() == 0 {
        return Ok(Vec::new());
    }
    if partition.is_empty() {
        return Ok(vec![Slice { key: Key::new(), rows: rows.project(stored)? }]);
    }
    let groups = Groups::of(rows, partition)?;
    let keys = groups.keys(rows, partition)?;
    let stored = rows.project(stored)?;
    if keys.len() == 1 {
        return Ok(keys.into_iter().map(|key| Slice { key, rows: stored.clone() }).collect());
    }
    let ordered = take_record_batch(&stored, &groups.order())?;
    let mut slices = Vec::with_capacity(keys.len());
    let mut start = 0;
    for (key, len) in keys.into_iter().zip(&groups.sizes) {
        slices.push(Slice { key, rows: ordered.slice(start, *len as usize) });
        start += *len as usize;
    }
    Ok(slices)
}

/// Which group every row is in; groups are numbered as they first appear.
struct Groups {
    ids: Vec<u32>,
    firsts: Vec<u32>,
    sizes: Vec<u32>,
}

impl Groups {
    fn of(rows: &RecordBatch, partition: &[usize]) -> Result<Self> {
        if u32::try_from(rows.num_rows()).is_err() {
            return Err(Error::bug("a batch has more than 2^32 rows"));
        }
        let columns: Vec<_> = partition.iter().map(|i| rows.column(*i).clone()).collect();
        let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
        let keys = RowConverter::new(fields)?.convert_columns(&columns)?;
        let mut groups =
            Self { ids: Vec::with_capacity(rows.num_rows()), firsts: vec![], sizes: vec![] };
        let mut known: HashMap<Row<'_>, u32> = HashMap::new();
        let mut last: Option<(Row<'_>, u32)> = None;
        for (at, key) in keys.iter().enumerate() {
            let id = match last {
                Some((same, id)) if same == key => id,
                _ => *known.entry(key).or_insert_with(|| groups.open(at as u32)),
            };
            last = Some((key, id));
            groups.ids.push(id);
            groups.sizes[id as usize] += 1;
        }
        Ok(groups)
    }

    fn open(&mut self, first: u32) -> u32 {
        self.firsts.push(first);
        self.sizes.push(0);
        self.firsts.len() as u32 - 1
    }

    /// Row numbers with groups side by side: a counting sort, stable.
    fn order(&self) -> UInt32Array {
        let mut next = Vec::with_capacity(self.sizes.len());
        let mut start = 0;
        for size in &self.sizes {
            next.push(start);
            start += size;
        }
        let mut order = vec![0; self.ids.len()];
        for (row, id) in self.ids.iter().enumerate() {
            let slot = &mut next[*id as usize];
            order[*slot as usize] = row as u32;
            *slot += 1;
        }
        UInt32Array::from(order)
    }

    fn keys(&self, rows: &RecordBatch, partition: &[usize]) -> Result<Vec<Key>> {
        let firsts = UInt32Array::from(self.firsts.clone());
        let mut keys = vec![Key::with_capacity(partition.len()); self.firsts.len()];
        for index in partition {
            let values = take(rows.column(*index), &firsts, None)?;
            let texts = hive::texts(&values, rows.schema_ref().field(*index).name())?;
            for (key, text) in keys.iter_mut().zip(texts) {
                key.push(text);
            }
        }
        Ok(keys)
    }
}
