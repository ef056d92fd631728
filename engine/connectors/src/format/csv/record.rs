//! Where records and their fields stand in a chunk of CSV.
//!
//! In: bytes that begin with a record. Out: for each complete record of the right width the places
//! of its fields, and the records that are no such thing, with the reason. It reads no values.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3};

use super::{Dialect, RECORD_BYTES_MAX};

/// The fields of a chunk, row by row. Made to be filled again and again.
#[derive(Debug, Default)]
pub(super) struct Index {
    width: usize,
    pub(super) dialect: Dialect,
    pub(super) fields: Vec<Field>,
    /// Where each row stands, without its line break.
    pub(super) rows: Vec<(u32, u32)>,
    /// Records that are not rows, in order.
    pub(super) bad: Vec<Bad>,
    /// Bytes of the chunk that were dealt with: complete records and blank lines.
    pub(super) consumed: usize,
    /// Whether the bytes end within quotes.
    pub(super) open: bool,
}

/// A record that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    /// Where it stands in the chunk, without its line break.
    pub(super) place: (u32, u32),
    /// Why.
    pub(super) reason: String,
}

/// How much one chunk may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Records at most.
    pub(super) rows: usize,
    /// No record begins after this many bytes.
    pub(super) bytes: usize,
}

/// One field of one row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell<'a> {
    /// The text, without its quotes.
    pub(super) text: &'a [u8],
    /// Whether it stood in quotes.
    pub(super) quoted: bool,
    /// The dialect, when the text has doubled quotes or escapes; none when it is as it is meant.
    pub(super) doubled: Option<Dialect>,
}

impl<'a> Cell<'a> {
    /// The text with doubled quotes made single and without escapes.
    #[inline]
    pub(super) fn value(self) -> Cow<'a, [u8]> {
        match self.doubled {
            None => Cow::Borrowed(self.text),
            Some(dialect) => Cow::Owned(self.meant(dialect)),
        }
    }

    fn meant(self, dialect: Dialect) -> Vec<u8> {
        // Outside of quotes a quote is a plain character.
        let quote = dialect.quote.filter(|_| self.quoted).or(dialect.escape).unwrap_or_default();
        let escape = dialect.escape.unwrap_or(quote);
        let mut out = Vec::with_capacity(self.text.len());
        let mut rest = self.text;
        while let Some(at) = memchr2(quote, escape, rest) {
            out.extend_from_slice(&rest[..at]);
            let taken = rest.get(at + 1).or(rest.get(at));
            out.extend(taken);
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
        out
    }
}

/// A field's place; the highest bits say that it was quoted (`start`) and has doubled quotes
/// or escapes (`end`). Chunks are far smaller than 2 GiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    start: u32,
    end: u32,
}

impl Field {
    /// A field without quotes and escapes.
    #[inline]
    pub(super) fn plain(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }
}

const FLAG: u32 = 1 << 31;

/// A stretch without quotes that is shorter than this is gone through field by field.
const PLAIN_BYTES_MIN: usize = 64;

impl Index {
    /// Finds the records at the beginning of `bytes`. `ended` says that no bytes follow, so that a
    /// last line without a line break is a record too. A `width` of 0 is that of the first record.
    pub(super) fn fill(
        &mut self,
        dialect: Dialect,
        width: usize,
        bytes: &[u8],
        ended: bool,
        room: Room,
    ) {
        self.width = width;
        self.dialect = dialect;
        self.fields.clear();
        self.rows.clear();
        self.bad.clear();
        self.consumed = 0;
        self.open = false;
        let mut walk = Walk { dialect, bytes, ended, at: 0 };
        let mut quote = 0;
        while self.rows.len() + self.bad.len() < room.rows && walk.at < room.bytes {
            if walk.at >= quote {
                quote = next_quote(dialect, &bytes[..bytes.len().min(room.bytes)], walk.at);
            }
            if quote > walk.at + PLAIN_BYTES_MIN {
                let before = walk.at;
                walk.at = self.plain_records(&bytes[..quote], before, room);
                self.consumed = walk.at;
                if walk.at > before {
                    continue;
                }
            }
            let more = walk.skip_blank_lines();
            self.consumed = walk.at;
            if !more || !self.record(&mut walk) {
                break;
            }
            self.consumed = walk.at;
        }
    }

    /// The field of a row.
    #[inline]
    pub(super) fn cell<'a>(&self, bytes: &'a [u8], row: usize, column: usize) -> Cell<'a> {
        let Field { start, end } = self.fields[row * self.width + column];
        let text = &bytes[(start & !FLAG) as usize..(end & !FLAG) as usize];
        let doubled = (end & FLAG != 0).then_some(self.dialect);
        Cell { text, quoted: start & FLAG != 0, doubled }
    }

    /// Takes over the rows of `other`, whose bytes stand at `offset` here.
    pub(super) fn append(&mut self, other: &Index, offset: u32) {
        let field = |f: &Field| Field { start: f.start + offset, end: f.end + offset };
        self.fields.extend(other.fields.iter().map(field));
        self.rows.extend(other.rows.iter().map(|(start, end)| (start + offset, end + offset)));
        (self.width, self.dialect) = (other.width, other.dialect);
    }

    /// Adds a row whose fields are all empty and stand at `offset`.
    pub(super) fn append_empty(&mut self, width: usize, offset: u32) {
        self.fields.extend(std::iter::repeat_n(Field { start: offset, end: offset }, width));
        self.rows.push((offset, offset));
        self.width = width;
    }

    /// Fields per row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Forgets the rows for which `bad`, as long as the rows, has a reason, and keeps them with the
    /// other bad records.
    pub(super) fn retain(&mut self, bad: &mut [Option<String>]) {
        let mut kept = 0;
        for (row, reason) in bad.iter_mut().enumerate() {
            if let Some(reason) = reason.take() {
                self.bad.push(Bad { place: self.rows[row], reason });
                continue;
            }
            self.rows[kept] = self.rows[row];
            let from = row * self.width;
            self.fields.copy_within(from..from + self.width, kept * self.width);
            kept += 1;
        }
        self.rows.truncate(kept);
        self.fields.truncate(kept * self.width);
        self.bad.sort_by_key(|b| b.place.0);
    }

    /// Takes one record; false when it is not complete.
    #[inline]
    fn record(&mut self, walk: &mut Walk<'_>) -> bool {
        let (start, first) = (walk.at, self.fields.len());
        let mut fault = None;
        loop {
            let Some((field, next)) = walk.field(&mut fault) else {
                self.fields.truncate(first);
                return false;
            };
            self.fields.push(field);
            if let Next::Record(end) = next {
                self.close(first, (start, end), walk.at, fault);
                return true;
            }
        }
    }

    /// Ends the record whose fields begin at `first`.
    #[inline]
    pub(super) fn close(
        &mut self,
        first: usize,
        (start, end): (usize, usize),
        after: usize,
        mut fault: Option<Fault>,
    ) {
        let place = (start as u32, end as u32);
        self.open |= fault == Some(Fault::Open);
        let found = self.fields.len() - first;
        if self.width == 0 {
            self.width = found;
        }
        if after - start > RECORD_BYTES_MAX {
            fault = Some(Fault::Large);
        }
        if fault.is_none() && found == self.width {
            self.rows.push(place);
            return;
        }
        self.fields.truncate(first);
        let reason = match fault {
            Some(fault) => fault.reason(),
            None => format!("wrong number of fields expected={} found={found}", self.width),
        };
        self.bad.push(Bad { place, reason });
    }
}

/// The first quote at or behind `from`, or the end. Where escapes are special nothing is plain.
fn next_quote(dialect: Dialect, bytes: &[u8], from: usize) -> usize {
    match (dialect.quote, dialect.escape) {
        (_, Some(_)) => from,
        (None, None) => bytes.len(),
        (Some(quote), None) => memchr(quote, &bytes[from..]).map_or(bytes.len(), |at| from + at),
    }
}

/// Why a record is not a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A quoted field goes on after its closing quote.
    Trailing,
    /// The file ends inside quotes.
    Open,
    /// More than [`RECORD_BYTES_MAX`].
    Large,
}

impl Fault {
    pub(super) fn reason(self) -> String {
        match self {
            Fault::Trailing => "text after a closing quote".into(),
            Fault::Open => "a quote is never closed".into(),
            Fault::Large => {
                let max = sluice_core::format_bytes(RECORD_BYTES_MAX as u64);
                format!("the record is larger than {max}")
            }
        }
    }
}

/// What follows a field.
enum Next {
    /// Another field.
    Field,
    /// The end of the record, at this byte.
    Record(usize),
}

/// Where plain text ends.
struct Stop {
    at: Option<usize>,
    /// No escape stands from here on.
    free: usize,
    /// [`FLAG`] if one stands before.
    flag: u32,
}

struct Walk<'a> {
    dialect: Dialect,
    bytes: &'a [u8],
    ended: bool,
    at: usize,
}

impl Walk<'_> {
    /// Goes to the next record; false when there is none, or not yet.
    #[inline]
    fn skip_blank_lines(&mut self) -> bool {
        loop {
            match self.bytes[self.at..] {
                [] => return false,
                [b'\n', ..] => self.at += 1,
                [b'\r', b'\n', ..] => self.at += 2,
                [b'\r'] if self.ended => self.at += 1,
                [b'\r'] => return false,
                _ => return true,
            }
        }
    }

    /// Takes one field; none when it is not complete.
    #[inline]
    fn field(&mut self, fault: &mut Option<Fault>) -> Option<(Field, Next)> {
        if let Some(quote) = self.dialect.quote
            && self.bytes.get(self.at) == Some(&quote)
        {
            return self.quoted(quote, fault);
        }
        let start = self.at;
        let (end, next) = self.plain(start)?;
        Some((Field { start: start as u32, end }, next))
    }

    /// The end of the text that begins before or at `from` and goes on to a delimiter or a line
    /// break, flagged if it has escapes, and what follows it.
    #[inline]
    fn plain(&mut self, from: usize) -> Option<(u32, Next)> {
        let Stop { at: stop, free, flag } = self.stop(from);
        let free = free.max(self.at);
        let bare = |end: usize| end - usize::from(end > free && self.bytes[end - 1] == b'\r');
        let (end, after, ends) = match stop {
            Some(end) if self.bytes[end] == b'\n' => (bare(end), end + 1, true),
            Some(end) => (end, end + 1, false),
            None if self.ended => (bare(self.bytes.len()), self.bytes.len(), true),
            None => return None,
        };
        self.at = after;
        let next = if ends { Next::Record(end) } else { Next::Field };
        Some((end as u32 | flag, next))
    }

    /// The first delimiter or line break at or behind `from` that is not escaped.
    #[inline]
    fn stop(&self, from: usize) -> Stop {
        let Dialect { delimiter, escape, .. } = self.dialect;
        let Some(escape) = escape else {
            return Stop { at: find(self.bytes, from, delimiter, b'\n'), free: from, flag: 0 };
        };
        let (mut free, mut flag) = (from, 0);
        loop {
            let rest = self.bytes.get(free..).unwrap_or_default();
            match memchr3(escape, delimiter, b'\n', rest).map(|hit| free + hit) {
                Some(hit) if self.bytes[hit] == escape => {
                    flag = FLAG;
                    free = hit + 2;
                }
                at => return Stop { at, free, flag },
            }
        }
    }

    fn quoted(&mut self, quote: u8, fault: &mut Option<Fault>) -> Option<(Field, Next)> {
        let start = self.at + 1;
        let escape = self.dialect.escape.unwrap_or(quote);
        let (mut from, mut flag) = (start, 0);
        let close = loop {
            let rest = self.bytes.get(from..).unwrap_or_default();
            match memchr2(quote, escape, rest).map(|hit| from + hit) {
                Some(hit)
                    if self.bytes[hit] != quote || self.bytes.get(hit + 1) == Some(&quote) =>
                {
                    flag = FLAG;
                    from = hit + 2;
                }
                Some(hit) => break hit,
                None if self.ended => {
                    *fault = Some(Fault::Open);
                    let end = self.bytes.len();
                    self.at = end;
                    return Some((
                        Field { start: start as u32, end: end as u32 },
                        Next::Record(end),
                    ));
                }
                None => return None,
            }
        };
        let field = Field { start: start as u32 | FLAG, end: close as u32 | flag };
        let next = self.after_quote(close + 1, fault)?;
        Some((field, next))
    }

    /// What follows a closing quote, at `at`.
    #[inline]
    fn after_quote(&mut self, at: usize, fault: &mut Option<Fault>) -> Option<Next> {
        let (step, next) = match self.bytes[at..] {
            [] | [b'\r'] if !self.ended => return None,
            [] => (0, Next::Record(at)),
            [b'\r'] => (1, Next::Record(at)),
            [b'\n', ..] => (1, Next::Record(at)),
            [b'\r', b'\n', ..] => (2, Next::Record(at)),
            [byte, ..] if byte == self.dialect.delimiter => (1, Next::Field),
            _ => {
                *fault = Some(Fault::Trailing);
                return self.plain(at).map(|(_, next)| next);
            }
        };
        self.at = at + step;
        Some(next)
    }
}

/// The first `a` or `b` at or after `from`, eight bytes at a time: most fields are short.
#[inline]
fn find(bytes: &[u8], from: usize, a: u8, b: u8) -> Option<usize> {
    let (all_a, all_b) = (splat(a), splat(b));
    let mut at = from;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        let hits = zeros(word ^ all_a) | zeros(word ^ all_b);
        if hits != 0 {
            return Some(at + (hits.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|x| *x == a || *x == b).map(|i| at + i)
}

#[inline]
fn splat(byte: u8) -> u64 {
    u64::from(byte) * 0x0101_0101_0101_0101
}

/// The high bit of every byte that is zero; bytes above the lowest such byte may be wrong.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_sees_every_place_and_nothing_else() {
        for length in 0..40 {
            for place in 0..length {
                for other in [b'x', b',' ^ 1, b'\n' + 1, 0x80 | b',', 0, 255] {
                    let mut bytes = vec![other; length];
                    assert_eq!(find(&bytes, 0, b',', b'\n'), None);
                    bytes[place] = b',';
                    assert_eq!(find(&bytes, 0, b',', b'\n'), Some(place));
                    bytes[length - 1] = b'\n';
                    assert_eq!(find(&bytes, 0, b',', b'\n'), Some(place));
                    assert_eq!(find(&bytes, place, b',', b'\n'), Some(place));
                }
            }
        }
    }
}
