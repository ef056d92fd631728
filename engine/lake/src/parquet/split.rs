//! Splits a batch by partition: values of each column as small numbers, one `take`, then slices
//! without copies.
//!
//! Rows of one partition keep their order. Which file a slice goes to is not decided here.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{take, take_record_batch};

use sluice_core::{Error, Result};

use super::codes::Codes;
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
        let mut codes: Option<Codes> = None;
        for index in partition {
            let column = Codes::of(rows.column(*index))?;
            codes = Some(match codes {
                None => column,
                Some(before) => before.with(&column),
            });
        }
        let Codes { ids, count } =
            codes.unwrap_or(Codes { ids: vec![0; rows.num_rows()], count: 1 });
        let mut groups = Self { ids: Vec::new(), firsts: vec![0; count], sizes: vec![0; count] };
        for (row, id) in ids.iter().enumerate() {
            let size = &mut groups.sizes[*id as usize];
            if *size == 0 {
                groups.firsts[*id as usize] = row as u32;
            }
            *size += 1;
        }
        groups.ids = ids;
        Ok(groups)
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
