//! Group keys: from the values of the group columns to a dense slot number and back.
//!
//! Keys are Arrow's comparable rows in one buffer, found through their hash, so that a million
//! groups cost their bytes and some 30 more each. NULL is a value like any other here, as SQL's
//! `GROUP BY` wants it. Slots are never given back.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};
use sluice_core::{Error, Result};

/// Ends a chain of keys with the same hash.
const END: u32 = u32::MAX;

/// All keys met so far.
pub(in crate::operator) struct Keys {
    converter: RowConverter,
    rows: Rows,
    /// The newest slot per hash.
    heads: HashMap<u64, u32>,
    /// Per slot, the next older slot with the same hash.
    next: Vec<u32>,
    /// Without group columns there is one key.
    single: bool,
}

impl Keys {
    /// Keys over columns of these types; without any there is one group.
    pub(in crate::operator) fn new(types: Vec<DataType>) -> Result<Self> {
        let single = types.is_empty();
        let fields: Vec<SortField> = types.iter().cloned().map(SortField::new).collect();
        let converter = RowConverter::new(fields).map_err(|e| {
            let types = types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Error::config(format!("cannot group by columns of these types types={types:?}"))
                .hint("group by numbers, strings, dates, times, or lists and structs of them")
                .because(e)
        })?;
        let rows = converter.empty_rows(0, 0);
        Ok(Self { converter, rows, heads: HashMap::new(), next: Vec::new(), single })
    }

    /// How many keys there are; slots are `0..len`.
    pub(in crate::operator) fn len(&self) -> usize {
        self.next.len()
    }

    /// The slot of every row, new ones for new keys in row order.
    pub(in crate::operator) fn assign(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<u32>> {
        if self.single {
            if rows > 0 && self.next.is_empty() {
                self.next.push(END);
            }
            return Ok(vec![0; rows]);
        }
        let incoming = self.converter.convert_columns(columns)?;
        let mut slots = Vec::with_capacity(rows);
        for row in incoming.iter() {
            let hash = self.heads.hasher().hash_one(row.as_ref());
            let head = self.heads.get(&hash).copied().unwrap_or(END);
            slots.push(match self.find(head, row.as_ref()) {
                Some(slot) => slot,
                None => {
                    let slot = self.new_slot()?;
                    self.rows.push(row);
                    self.next.push(head);
                    self.heads.insert(hash, slot);
                    slot
                }
            });
        }
        Ok(slots)
    }

    /// The slots of those rows whose key is there, each once, in row order.
    pub(in crate::operator) fn known(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        if self.single {
            return Ok((0..rows.min(self.next.len()) as u32).collect());
        }
        let wanted = self.converter.convert_columns(columns)?;
        let mut met = HashSet::new();
        let slot = |key: &[u8]| {
            let head = self.heads.get(&self.heads.hasher().hash_one(key)).copied();
            self.find(head.unwrap_or(END), key)
        };
        let slots = wanted.iter().filter_map(|row| slot(row.as_ref()));
        Ok(slots.filter(|slot| met.insert(*slot)).collect())
    }

    /// The group columns of `slots`, in that order.
    pub(in crate::operator) fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        if self.single {
            return Ok(vec![]);
        }
        let rows = slots.iter().map(|&slot| self.rows.row(slot as usize));
        Ok(self.converter.convert_rows(rows)?)
    }

    pub(in crate::operator) fn memory_bytes(&self) -> usize {
        // A hash table keeps an eighth free and one control byte per entry.
        let entry = std::mem::size_of::<(u64, u32)>() + 1;
        let index = self.heads.capacity() * entry * 8 / 7;
        self.rows.size() + self.converter.size() + index + self.next.capacity() * 4
    }

    fn find(&self, head: u32, key: &[u8]) -> Option<u32> {
        let mut slot = head;
        while slot != END {
            if self.rows.row(slot as usize).as_ref() == key {
                return Some(slot);
            }
            slot = self.next[slot as usize];
        }
        None
    }

    fn new_slot(&self) -> Result<u32> {
        u32::try_from(self.next.len()).ok().filter(|&slot| slot != END).ok_or_else(|| {
            Error::config(format!("too many groups for an incremental view groups={}", self.len()))
                .hint("let the view be recomputed, or group by fewer columns")
        })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;

    use super::*;

    fn column(values: &[Option<&str>]) -> Vec<ArrayRef> {
        vec![Arc::new(StringArray::from(values.to_vec()))]
    }

    #[test]
    fn null_and_empty_are_two_keys_and_come_back() {
        let mut keys = Keys::new(vec![DataType::Utf8]).unwrap();
        let values = column(&[Some("b"), None, Some(""), Some("b"), None]);
        assert_eq!(keys.assign(&values, 5).unwrap(), [0, 1, 2, 0, 1]);
        let asked = column(&[Some("c"), Some(""), None, Some("")]);
        assert_eq!(keys.known(&asked, 4).unwrap(), [2, 1]);
        let back = keys.columns(&[2, 1, 0]).unwrap();
        assert_eq!(back[0].as_ref(), &StringArray::from(vec![Some(""), None, Some("b")]));
    }

    #[test]
    fn keys_with_the_same_hash_stay_apart() {
        let mut keys = Keys::new(vec![DataType::Utf8]).unwrap();
        keys.assign(&column(&[Some("a")]), 1).unwrap();
        for (text, slot) in [("b", 1), ("c", 2)] {
            // As if the new key's hash were that of the last one.
            let row = keys.converter.convert_columns(&column(&[Some(text)])).unwrap();
            let hash = keys.heads.hasher().hash_one(row.row(0).as_ref());
            keys.heads.insert(hash, slot - 1);
            assert_eq!(keys.assign(&column(&[Some(text)]), 1).unwrap(), [slot]);
            assert_eq!(keys.assign(&column(&[Some(text)]), 1).unwrap(), [slot]);
        }
        assert_eq!(keys.next, [END, 0, 1]);
        assert_eq!(keys.assign(&column(&[Some("a")]), 1).unwrap(), [0]);
    }

    #[test]
    fn without_columns_there_is_one_key() {
        let mut keys = Keys::new(vec![]).unwrap();
        assert_eq!(keys.assign(&[], 0).unwrap().len() + keys.len(), 0);
        assert_eq!(keys.assign(&[], 3).unwrap(), [0, 0, 0]);
        assert_eq!((keys.len(), keys.columns(&[0]).unwrap().len()), (1, 0));
    }
}
