//! Values of a column as small numbers: equal values have equal numbers.
//!
//! In: arrays. Out: a number per row, counted from 0 as values first appear in the batch. It keeps
//! nothing from one batch to the next, so it needs no bound.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::row::{RowConverter, SortField};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use sluice_core::Result;

use super::texts::{Texts, TooMany};

/// Values as small numbers, counted from 0 as they first appear.
pub(super) struct Codes {
    /// Per row the number of its value.
    pub ids: Vec<u32>,
    /// How many values there are.
    pub count: usize,
}

impl Codes {
    /// The values of a column; null is a value.
    pub(super) fn of(column: &ArrayRef) -> Result<Self> {
        if let Some(texts) = column.as_string_opt::<i32>()
            && texts.null_count() == 0
        {
            let (mut known, mut ids) = (Texts::default(), Vec::with_capacity(texts.len()));
            return Ok(match known.number_all(texts, &mut ids) {
                Ok(()) => Self { ids, count: known.len() },
                Err(TooMany) => Self::numbered(texts.len(), |row| texts.value(row).as_bytes()),
            });
        }
        let fields = vec![SortField::new(column.data_type().clone())];
        let keys = RowConverter::new(fields)?.convert_columns(std::slice::from_ref(column))?;
        Ok(Self::numbered(column.len(), |row| keys.row(row).data()))
    }

    /// Numbers `rows` values by their bytes. Neighbours are often alike, so the last one is
    /// looked at before the table.
    fn numbered<'a>(rows: usize, bytes: impl Fn(usize) -> &'a [u8]) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut known: HashTable<(&'a [u8], u32)> = HashTable::new();
        let mut ids = Vec::with_capacity(rows);
        let mut last: (&[u8], u32) = (&[], u32::MAX);
        for row in 0..rows {
            let value = bytes(row);
            if last.1 == u32::MAX || last.0 != value {
                let next = known.len() as u32;
                let hash = hasher.hash_one(value);
                let rehash = |entry: &(&[u8], u32)| hasher.hash_one(entry.0);
                last = *known.entry(hash, |e| e.0 == value, rehash).or_insert((value, next)).get();
            }
            ids.push(last.1);
        }
        Self { ids, count: known.len() }
    }

    /// Numbers the pairs of two columns' values.
    pub(super) fn with(self, other: &Self) -> Self {
        let width = other.count as u64;
        let mut pairs = Pairs::new(self.count as u64 * width, self.ids.len());
        let pair = |(a, b): (&u32, &u32)| u64::from(*a) * width + u64::from(*b);
        let ids = self.ids.iter().zip(&other.ids).map(pair).map(|p| pairs.number(p)).collect();
        Self { ids, count: pairs.count as usize }
    }
}

/// Numbers for pairs of numbers: looked up in a plain array while that is no larger than the rows
/// it is for, in a table otherwise.
struct Pairs {
    direct: Vec<u32>,
    table: HashMap<u64, u32>,
    count: u32,
}

/// An array of this many numbers is always worth it: it fits into a core's own cache.
const DIRECT_MIN: u64 = 16 * 1024;

impl Pairs {
    fn new(possible: u64, rows: usize) -> Self {
        let small = possible <= DIRECT_MIN.max(rows as u64);
        let direct = if small { vec![u32::MAX; possible as usize] } else { Vec::new() };
        Self { direct, table: HashMap::new(), count: 0 }
    }

    fn number(&mut self, pair: u64) -> u32 {
        let known = match self.direct.get_mut(pair as usize) {
            Some(known) => known,
            None => self.table.entry(pair).or_insert(u32::MAX),
        };
        if *known == u32::MAX {
            *known = self.count;
            self.count += 1;
        }
        *known
    }
}
