//! Distinct texts, numbered as they first appear.
//!
//! In: columns of text. Out: a number for each value. Texts up to 16 bytes are compared as one
//! machine word. It is for columns of few values, and gives up at many or at long ones.

use arrow::array::{Array, StringArray};
use hashbrown::HashTable;

/// Values a dictionary may have. Parquet's writers give up at a megabyte of them; more numbers than
/// this no longer fit in two bytes, and the dictionary in a core's own cache.
pub(super) const VALUES_MAX: usize = 32 * 1024;

/// A text longer than this is no category, and would be too long for statistics.
const TEXT_BYTES_MAX: usize = 64;

/// A text up to this long is its own key.
const WORD_BYTES: usize = 16;

/// The column holds more than a dictionary is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// Distinct texts, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    known: HashTable<Known>,
}

/// One of the texts, with what it is found by.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// A text of up to 16 bytes, filled up with zeros; of a longer one its hash.
    key: u128,
    len: u32,
    code: u32,
}

impl Texts {
    /// How many texts there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all texts together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The text with this number.
    pub(super) fn get(&self, code: usize) -> &[u8] {
        let start = if code == 0 { 0 } else { self.ends[code - 1] };
        &self.bytes[start..self.ends[code]]
    }

    /// Forgets all texts from the `len`th on; nothing can be numbered afterwards.
    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Bytes the texts take in memory, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        let ends = self.ends.capacity() * size_of::<usize>();
        self.bytes.capacity() + ends + self.known.allocation_size()
    }

    /// Appends a number for each of `texts` that is not null.
    pub(super) fn number_all(
        &mut self,
        texts: &StringArray,
        out: &mut Vec<u32>,
    ) -> Result<(), TooMany> {
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
        let (hash, len) = (spread(key, text.len()), text.len() as u32);
        let Self { bytes, ends, known } = self;
        let same = |one: &Known| {
            let short = || len <= WORD_BYTES as u32;
            let end = || ends[one.code as usize];
            one.key == key
                && one.len == len
                && (short() || &bytes[end() - text.len()..end()] == text)
        };
        if let Some(one) = known.find(hash, same) {
            return Ok(one.code);
        }
        if ends.len() >= VALUES_MAX || text.len() > TEXT_BYTES_MAX {
            return Err(TooMany);
        }
        let code = ends.len() as u32;
        bytes.extend_from_slice(text);
        ends.push(bytes.len());
        let rehash = |one: &Known| spread(one.key, one.len as usize);
        known.insert_unique(hash, Known { key, len, code }, rehash);
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

/// The halves of a product, folded into one.
#[inline]
pub(super) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}
