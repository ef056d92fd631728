//! Retained state: the newest row of state columns per slot.
//!
//! Rows are only ever added, in chunks; a slot knows where its newest row lies. Rows that were
//! replaced stay until they outnumber the living, then everything is rewritten once, so that the
//! cost of an update stays proportional to the rows it writes. Keys and their meaning are not here.

use arrow::array::{Array, ArrayRef};
use arrow::compute::interleave;
use arrow::datatypes::DataType;
use sluice_core::{Error, Result};

/// Rows of a rewritten chunk: one batch of a plan. Smaller chunks count as small.
const CHUNK_ROWS: usize = 8192;

/// How many small chunks may lie about before they are joined: epochs of a few rows would otherwise
/// cost the fixed bytes of a chunk, about a kilobyte, for each row.
const SMALL_CHUNKS: usize = 256;

/// A slot that was never written.
const NOWHERE: Place = Place { chunk: u32::MAX, row: 0 };

/// State rows by slot.
#[derive(Debug)]
pub(in crate::operator) struct Store {
    types: Vec<DataType>,
    /// A chunk's number is its name: joined chunks leave holes, which are filled again.
    chunks: Vec<Option<Chunk>>,
    holes: Vec<u32>,
    places: Vec<Place>,
    small: Vec<u32>,
    /// Rows in all chunks, replaced ones included.
    rows: usize,
    chunk_bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    columns: Vec<ArrayRef>,
    /// Whose row it is, per row.
    slots: Vec<u32>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    chunk: u32,
    row: u32,
}

impl Store {
    /// A store for state columns of these types; there may be none.
    pub(in crate::operator) fn new(types: Vec<DataType>) -> Self {
        Self {
            types,
            chunks: vec![],
            holes: vec![],
            places: vec![],
            small: vec![],
            rows: 0,
            chunk_bytes: 0,
        }
    }

    /// Keeps row i of `columns` as the newest row of `slots[i]`.
    pub(in crate::operator) fn put(
        &mut self,
        columns: Vec<ArrayRef>,
        slots: Vec<u32>,
    ) -> Result<()> {
        if slots.is_empty() || self.types.is_empty() {
            return Ok(());
        }
        self.add(columns, slots)?;
        if self.rows > 2 * self.places.len() + CHUNK_ROWS {
            let all: Vec<u32> = (0..self.chunks.len() as u32).collect();
            self.small.clear();
            self.rewrite(all)
        } else if self.small.len() > SMALL_CHUNKS {
            let small = std::mem::take(&mut self.small);
            self.rewrite(small)
        } else {
            Ok(())
        }
    }

    /// The newest rows of `slots`, in that order.
    pub(in crate::operator) fn fetch(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut used: Vec<&Chunk> = vec![];
        let mut numbers = std::collections::HashMap::new();
        let mut indices = Vec::with_capacity(slots.len());
        if !self.types.is_empty() {
            for &slot in slots {
                let place = self.places.get(slot as usize).copied().unwrap_or(NOWHERE);
                let chunk = self.chunk(place.chunk).ok_or_else(|| lost(slot))?;
                let number = *numbers.entry(place.chunk).or_insert_with(|| {
                    used.push(chunk);
                    used.len() - 1
                });
                indices.push((number, place.row as usize));
            }
        }
        let mut columns = Vec::with_capacity(self.types.len());
        for (column, data_type) in self.types.iter().enumerate() {
            if used.is_empty() {
                columns.push(arrow::array::new_empty_array(data_type));
                continue;
            }
            let parts: Vec<&dyn Array> = used.iter().map(|c| c.columns[column].as_ref()).collect();
            columns.push(interleave(&parts, &indices)?);
        }
        Ok(columns)
    }

    pub(in crate::operator) fn memory_bytes(&self) -> usize {
        self.chunk_bytes + self.places.capacity() * std::mem::size_of::<Place>()
    }

    fn chunk(&self, number: u32) -> Option<&Chunk> {
        self.chunks.get(number as usize)?.as_ref()
    }

    fn add(&mut self, columns: Vec<ArrayRef>, slots: Vec<u32>) -> Result<()> {
        let too_many = || Error::bug("an aggregate's state has too many rows in one piece");
        let number = match self.holes.pop() {
            Some(number) => number,
            None => {
                self.chunks.push(None);
                u32::try_from(self.chunks.len() - 1).map_err(|_| too_many())?
            }
        };
        for (row, &slot) in slots.iter().enumerate() {
            let row = u32::try_from(row).map_err(|_| too_many())?;
            if self.places.len() <= slot as usize {
                self.places.resize(slot as usize + 1, NOWHERE);
            }
            self.places[slot as usize] = Place { chunk: number, row };
        }
        if slots.len() < CHUNK_ROWS {
            self.small.push(number);
        }
        let arrays: usize = columns.iter().map(|c| c.get_array_memory_size()).sum();
        let bytes = arrays + slots.capacity() * std::mem::size_of::<u32>();
        self.rows += slots.len();
        self.chunk_bytes += bytes;
        self.chunks[number as usize] = Some(Chunk { columns, slots, bytes });
        Ok(())
    }

    /// Writes the living rows of the chunks `numbers` anew and drops those chunks.
    fn rewrite(&mut self, numbers: Vec<u32>) -> Result<()> {
        let mut living = vec![];
        for &number in &numbers {
            let Some(chunk) = self.chunk(number) else { continue };
            for (row, &slot) in chunk.slots.iter().enumerate() {
                if self.places[slot as usize] == (Place { chunk: number, row: row as u32 }) {
                    living.push(slot);
                }
            }
        }
        let mut parts = vec![];
        for slots in living.chunks(CHUNK_ROWS) {
            parts.push((self.fetch(slots)?, slots.to_vec()));
        }
        for number in numbers {
            if let Some(chunk) = self.chunks[number as usize].take() {
                self.rows -= chunk.slots.len();
                self.chunk_bytes -= chunk.bytes;
                self.holes.push(number);
            }
        }
        for (columns, slots) in parts {
            self.add(columns, slots)?;
        }
        Ok(())
    }
}

fn lost(slot: u32) -> Error {
    Error::bug(format!("an aggregate has no state for a group it knows slot={slot}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn put(store: &mut Store, rows: &[(u32, i64)]) {
        let values = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
        store.put(vec![Arc::new(values)], rows.iter().map(|r| r.0).collect()).unwrap();
    }

    fn all(store: &Store) -> Vec<i64> {
        let slots: Vec<u32> = (0..store.places.len() as u32).collect();
        store.fetch(&slots).unwrap()[0].as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn the_newest_row_is_found_and_replaced_ones_go_away() {
        let mut store = Store::new(vec![DataType::Int64]);
        let mut model = vec![0_i64; 10_000];
        put(&mut store, &(0..10_000).map(|slot| (slot, 0)).collect::<Vec<_>>());
        for round in 1..40_i64 {
            let rows: Vec<(u32, i64)> =
                (0..3000).map(|i| ((i * 7 + round as u32 * 31) % 10_000, round)).collect();
            rows.iter().for_each(|&(slot, value)| model[slot as usize] = value);
            put(&mut store, &rows);
            assert_eq!(all(&store), model);
            assert!(store.rows <= 2 * 10_000 + CHUNK_ROWS);
        }
    }

    #[test]
    fn many_small_chunks_are_joined() {
        let mut store = Store::new(vec![DataType::Int64]);
        for slot in 0..5000 {
            put(&mut store, &[(slot, i64::from(slot))]);
        }
        assert_eq!(all(&store), (0..5000).collect::<Vec<i64>>());
        assert!(store.chunks.len() - store.holes.len() <= SMALL_CHUNKS + 1);
        assert!(store.chunks.len() <= SMALL_CHUNKS + 2, "holes are filled again");
    }

    #[test]
    fn a_slot_never_written_is_an_error() {
        let mut store = Store::new(vec![DataType::Int64]);
        put(&mut store, &[(2, 5)]);
        assert!(store.fetch(&[2]).is_ok());
        assert!(store.fetch(&[1]).is_err());
        assert!(store.fetch(&[3]).is_err());
    }
}
