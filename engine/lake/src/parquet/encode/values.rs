//! The distinct values of a column, numbered as they first appear.
//!
//! In: the values of a batch. Out: a number for each, and in the end all of them as Parquet writes a
//! dictionary, with their bounds. Texts up to 16 bytes are compared as one machine word.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use hashbrown::HashTable;
use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};

/// Values a dictionary may have. Parquet's writers give up at a megabyte of them; more numbers than
/// this no longer fit in two bytes, and the dictionary in a core's own cache.
const VALUES_MAX: usize = 32 * 1024;

/// A text longer than this is no category, and would be too long for statistics.
const TEXT_BYTES_MAX: usize = 64;

/// A text up to this long is its own key.
const WORD_BYTES: usize = 16;

/// The values of one column.
#[derive(Debug)]
pub(super) enum Values {
    Texts(Texts),
    Numbers(Numbers),
}

/// The column holds more than a dictionary is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

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
            Self::Texts(texts) => texts.ends.len(),
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
            Self::Texts(texts) => {
                texts.ends.truncate(len);
                texts.bytes.truncate(texts.ends.last().copied().unwrap_or(0));
            }
            Self::Numbers(numbers) => numbers.values.truncate(len),
        }
    }

    /// The values as a dictionary page has them.
    pub(super) fn page(&self) -> Vec<u8> {
        match self {
            Self::Texts(texts) => {
                let mut page = Vec::with_capacity(texts.bytes.len() + 4 * texts.ends.len());
                for code in 0..texts.ends.len() {
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
            Self::Texts(texts) => {
                let keys = texts.keys.capacity() * size_of::<u128>();
                texts.bytes.capacity() + keys + texts.known.allocation_size()
            }
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

/// Distinct texts, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Per text of up to 16 bytes these, filled up with zeros; of a longer one its hash.
    keys: Vec<u128>,
    known: HashTable<u32>,
}

impl Texts {
    fn get(&self, code: usize) -> &[u8] {
        let start = if code == 0 { 0 } else { self.ends[code - 1] };
        &self.bytes[start..self.ends[code]]
    }

    fn number_all(&mut self, texts: &StringArray, out: &mut Vec<u32>) -> Result<(), TooMany> {
        let (offsets, bytes) = (texts.value_offsets(), texts.value_data());
        for row in 0..texts.len() {
            if texts.is_null(row) {
                continue;
            }
            let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
            out.push(self.number(&bytes[start..end], key(bytes, start, end))?);
        }
        Ok(())
    }

    #[inline]
    fn number(&mut self, text: &[u8], key: u128) -> Result<u32, TooMany> {
        let hash = spread(key, text.len());
        let Self { bytes, ends, keys, known } = self;
        let same = |code: &u32| {
            let code = *code as usize;
            let start = if code == 0 { 0 } else { ends[code - 1] };
            keys[code] == key
                && ends[code] - start == text.len()
                && (text.len() <= WORD_BYTES || &bytes[start..ends[code]] == text)
        };
        if let Some(code) = known.find(hash, same) {
            return Ok(*code);
        }
        if ends.len() >= VALUES_MAX || text.len() > TEXT_BYTES_MAX {
            return Err(TooMany);
        }
        let code = ends.len() as u32;
        bytes.extend_from_slice(text);
        ends.push(bytes.len());
        keys.push(key);
        let rehash = |code: &u32| {
            let code = *code as usize;
            let start = if code == 0 { 0 } else { ends[code - 1] };
            spread(keys[code], ends[code] - start)
        };
        known.insert_unique(hash, code, rehash);
        Ok(code)
    }
}

/// What a text is told by: its bytes if they are few, else a hash of them.
#[inline]
fn key(bytes: &[u8], start: usize, end: usize) -> u128 {
    let len = end - start;
    if len > WORD_BYTES {
        let words = bytes[start..end].chunks(WORD_BYTES).map(|word| self::key(word, 0, word.len()));
        return words.fold(0, |hash, word| u128::from(spread(word ^ (hash << 1), len)) ^ hash);
    }
    match bytes.get(start..).and_then(|rest| rest.first_chunk::<WORD_BYTES>()) {
        Some(word) => {
            let word = u128::from_le_bytes(*word);
            if len == WORD_BYTES { word } else { word & ((1 << (8 * len)) - 1) }
        }
        None => {
            let mut word = [0; WORD_BYTES];
            word[..len].copy_from_slice(&bytes[start..end]);
            u128::from_le_bytes(word)
        }
    }
}

/// A hash of a word and a length: two multiplications, folded.
#[inline]
fn spread(word: u128, len: usize) -> u64 {
    const A: u64 = 0x9E37_79B9_7F4A_7C15;
    const B: u64 = 0xD1B5_4A32_D192_ED03;
    let low = (word as u64) ^ A;
    let high = ((word >> 64) as u64) ^ (len as u64).wrapping_mul(B);
    fold(low ^ high.rotate_left(32), fold(high, B) ^ A)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
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
