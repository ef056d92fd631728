//! The distinct values of a column, numbered as they first appear.
//!
//! In: the values of a batch. Out: a number for each, and in the end all of them as Parquet writes a
//! dictionary, with their bounds.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use hashbrown::HashTable;
use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};

use crate::parquet::texts::{Texts, TooMany, VALUES_MAX, fold};

/// The values of one column.
#[derive(Debug)]
pub(super) enum Values {
    Texts(Texts),
    Numbers(Numbers),
}

impl Values {
    /// For a column of this type; none for types that go without.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Utf8 => Self::Texts(Texts::default()),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Date32 => {
                Self::Numbers(Numbers::new(false))
            }
            DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Numbers(Numbers::new(true))
            }
            // As Parquet keeps decimals.
            DataType::Decimal128(1..=9, _) => Self::Numbers(Numbers::new(false)),
            DataType::Decimal128(10..=18, _) => Self::Numbers(Numbers::new(true)),
            _ => return None,
        })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Numbers(numbers) => numbers.values.len(),
        }
    }

    /// Appends a number for each value of `column` that is not null.
    pub(super) fn number(&mut self, column: &ArrayRef, out: &mut Vec<u32>) -> Result<(), TooMany> {
        match self {
            Self::Texts(texts) => texts.number_all(column.as_string::<i32>(), out),
            Self::Numbers(numbers) => numbers.number_all(column, out),
        }
    }

    /// Forgets all values from the `len`th on; nothing can be numbered afterwards.
    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Self::Texts(texts) => texts.truncate(len),
            Self::Numbers(numbers) => numbers.values.truncate(len),
        }
    }

    /// The values as a dictionary page has them.
    pub(super) fn page(&self) -> Vec<u8> {
        match self {
            Self::Texts(texts) => {
                let mut page = Vec::with_capacity(texts.bytes() + 4 * texts.len());
                for code in 0..texts.len() {
                    let text = texts.get(code);
                    page.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    page.extend_from_slice(text);
                }
                page
            }
            Self::Numbers(Numbers { values, wide: true, .. }) => {
                values.iter().flat_map(|v| v.to_le_bytes()).collect()
            }
            Self::Numbers(Numbers { values, .. }) => {
                values.iter().flat_map(|v| (*v as i32).to_le_bytes()).collect()
            }
        }
    }

    /// Bytes the values take in memory, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.memory_bytes(),
            Self::Numbers(numbers) => {
                numbers.values.capacity() * size_of::<i64>() + numbers.known.allocation_size()
            }
        }
    }

    /// Smallest and largest of the values with these numbers, as Parquet's statistics have them;
    /// none without numbers.
    pub(super) fn bounds(&self, codes: impl Iterator<Item = usize>) -> Option<Bounds> {
        match self {
            Self::Texts(texts) => {
                let (min, max) = extremes(codes.map(|code| texts.get(code)))?;
                Some(Bounds::Text(min.to_vec(), max.to_vec()))
            }
            Self::Numbers(Numbers { values, wide, .. }) => {
                let (min, max) = extremes(codes.map(|code| values[code]))?;
                Some(if *wide {
                    Bounds::Wide(min, max)
                } else {
                    Bounds::Narrow(min as i32, max as i32)
                })
            }
        }
    }

    /// Statistics of a column without any value.
    pub(super) fn no_bounds(&self, nulls: u64) -> Statistics {
        match self {
            Self::Texts(_) => Statistics::new::<ByteArray>(None, None, None, Some(nulls), false),
            Self::Numbers(Numbers { wide: true, .. }) => signed::<i64>(None, nulls),
            Self::Numbers(_) => signed::<i32>(None, nulls),
        }
    }
}

/// The values of a few rows that are not null, and the bits that Parquet keeps each in; none for what
/// it does not keep as whole numbers.
pub(super) fn whole_numbers(column: &ArrayRef) -> Option<(Vec<i64>, usize)> {
    let Values::Numbers(mut numbers) = Values::of(column.data_type())? else { return None };
    let mut codes = Vec::with_capacity(column.len());
    numbers.number_all(column, &mut codes).ok()?;
    let values = codes.iter().map(|code| numbers.values[*code as usize]).collect();
    Some((values, if numbers.wide { 64 } else { 32 }))
}

fn extremes<T: Ord + Copy>(mut values: impl Iterator<Item = T>) -> Option<(T, T)> {
    let first = values.next()?;
    Some(values.fold((first, first), |(min, max), value| (min.min(value), max.max(value))))
}

/// The smallest and the largest value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bounds {
    Text(Vec<u8>, Vec<u8>),
    Narrow(i32, i32),
    Wide(i64, i64),
}

impl Bounds {
    pub(super) fn statistics(self, nulls: u64) -> Statistics {
        match self {
            Self::Text(min, max) => {
                let (min, max) = (ByteArray::from(min), ByteArray::from(max));
                Statistics::new(Some(min), Some(max), None, Some(nulls), false)
            }
            Self::Narrow(min, max) => signed(Some((min, max)), nulls),
            Self::Wide(min, max) => signed(Some((min, max)), nulls),
        }
    }

    /// As a page index has them.
    pub(super) fn bytes(self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Text(min, max) => (min, max),
            Self::Narrow(min, max) => (min.to_le_bytes().to_vec(), max.to_le_bytes().to_vec()),
            Self::Wide(min, max) => (min.to_le_bytes().to_vec(), max.to_le_bytes().to_vec()),
        }
    }
}

/// Statistics of signed numbers, which old readers look for in another place.
fn signed<T>(bounds: Option<(T, T)>, nulls: u64) -> Statistics
where
    Statistics: From<ValueStatistics<T>>,
{
    let (min, max) = bounds.unzip();
    let statistics = ValueStatistics::new(min, max, None, Some(nulls), false);
    Statistics::from(statistics.with_backwards_compatible_min_max(true))
}

/// Distinct whole numbers, and what is kept as such: dates, times, decimals.
#[derive(Debug)]
pub(super) struct Numbers {
    values: Vec<i64>,
    /// Whether Parquet keeps them in eight bytes, else in four.
    wide: bool,
    known: HashTable<u32>,
}

impl Numbers {
    fn new(wide: bool) -> Self {
        Self { values: Vec::new(), wide, known: HashTable::new() }
    }

    fn number_all(&mut self, column: &ArrayRef, out: &mut Vec<u32>) -> Result<(), TooMany> {
        macro_rules! each {
            ($kind:ty, $wide:expr) => {{
                let column = column.as_primitive::<$kind>();
                let values = column.values().iter().map($wide);
                match column.nulls() {
                    None => self.number_each(values, out),
                    Some(nulls) => {
                        let valid = values.zip(nulls.iter()).filter(|(_, valid)| *valid);
                        self.number_each(valid.map(|(value, _)| value), out)
                    }
                }
            }};
        }
        match column.data_type() {
            DataType::Int8 => each!(Int8Type, |v| i64::from(*v)),
            DataType::Int16 => each!(Int16Type, |v| i64::from(*v)),
            DataType::Int32 => each!(Int32Type, |v| i64::from(*v)),
            DataType::Date32 => each!(Date32Type, |v| i64::from(*v)),
            DataType::Int64 => each!(Int64Type, |v| *v),
            DataType::Timestamp(_, _) => each!(TimestampMicrosecondType, |v| *v),
            // At most 18 digits: they fit.
            DataType::Decimal128(_, _) => each!(Decimal128Type, |v| *v as i64),
            _ => Err(TooMany),
        }
    }

    #[inline]
    fn number_each(
        &mut self,
        values: impl Iterator<Item = i64>,
        out: &mut Vec<u32>,
    ) -> Result<(), TooMany> {
        // Neighbours are often alike.
        let mut last = None;
        for value in values {
            let code = match last {
                Some((before, code)) if before == value => code,
                _ => self.number(value)?,
            };
            last = Some((value, code));
            out.push(code);
        }
        Ok(())
    }

    #[inline]
    fn number(&mut self, value: i64) -> Result<u32, TooMany> {
        let hash = spread_number(value);
        let Self { values, known, .. } = self;
        if let Some(code) = known.find(hash, |code| values[*code as usize] == value) {
            return Ok(*code);
        }
        if values.len() >= VALUES_MAX {
            return Err(TooMany);
        }
        let code = values.len() as u32;
        values.push(value);
        known.insert_unique(hash, code, |code| spread_number(values[*code as usize]));
        Ok(code)
    }
}

#[inline]
fn spread_number(value: i64) -> u64 {
    fold(value as u64 ^ 0x9E37_79B9_7F4A_7C15, 0xD1B5_4A32_D192_ED03)
}
