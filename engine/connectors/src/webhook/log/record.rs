//! How a delivery lies in the log: an entry for its rows and a small one for its head.
//!
//! In: deliveries. Out: bytes, and deliveries again. Numbers are little-endian; the first byte is
//! the form's version. What cannot be read back is damage, never a panic.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use fjall::Slice;
use sluice_core::{Error, Result};

/// The form that is written.
const VERSION: u8 = 1;

/// The length of a text that is not there.
const ABSENT: u32 = u32::MAX;

/// What all rows of a request share besides their id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::webhook) struct About {
    /// Milliseconds since 1970.
    pub received_ms: i64,
    /// JSON text of an object.
    pub headers: Option<String>,
    pub path: Option<String>,
    /// JSON text of an object.
    pub query: Option<String>,
}

impl About {
    /// Bytes of the texts.
    pub(in crate::webhook) fn bytes(&self) -> usize {
        [&self.headers, &self.path, &self.query].into_iter().flatten().map(String::len).sum()
    }
}

/// Rows that are taken or passed over together, on their way into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::webhook) struct Entry {
    /// What tells them from others.
    pub id: Option<String>,
    pub about: Arc<About>,
    /// The JSON of each; at least one.
    pub rows: Vec<Bytes>,
}

impl Entry {
    /// Bytes of the rows, and of what is written in front of them: the same in front of each entry
    /// of a request.
    pub(in crate::webhook) fn bytes(&self) -> usize {
        self.row_bytes() + self.about.bytes() + self.id.as_ref().map_or(0, String::len)
    }

    fn row_bytes(&self) -> usize {
        self.rows.iter().map(Bytes::len).sum()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let About { received_ms, headers, path, query } = &*self.about;
        let mut to = Vec::with_capacity(self.bytes() + 4 * self.rows.len() + 64);
        to.push(VERSION);
        to.extend_from_slice(&received_ms.to_le_bytes());
        for text in [&self.id, headers, path, query] {
            put(&mut to, text.as_deref());
        }
        to.extend_from_slice(&length(self.rows.len()).to_le_bytes());
        for row in &self.rows {
            to.extend_from_slice(&length(row.len()).to_le_bytes());
        }
        for row in &self.rows {
            to.extend_from_slice(row);
        }
        to
    }
}

fn length(length: usize) -> u32 {
    // Bodies are bounded far below it.
    u32::try_from(length).unwrap_or(ABSENT - 1)
}

fn put(to: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => {
            to.extend_from_slice(&length(text.len()).to_le_bytes());
            to.extend_from_slice(text.as_bytes());
        }
        None => to.extend_from_slice(&ABSENT.to_le_bytes()),
    }
}

/// Rows that are taken or passed over together, out of the log.
#[derive(Debug, Clone)]
pub(in crate::webhook) struct Record {
    pub id: Option<String>,
    pub about: About,
    bytes: Slice,
    rows: Vec<Range<usize>>,
}

impl Record {
    pub(super) fn decode(bytes: Slice) -> Result<Self> {
        let mut from = Fields { bytes: &bytes, at: 0 };
        let read = from.record();
        let (id, about, rows) = read.ok_or_else(damaged)?;
        Ok(Self { id, about, rows, bytes })
    }

    /// How many rows there are.
    pub(in crate::webhook) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The JSON of a row.
    pub(in crate::webhook) fn row(&self, i: usize) -> &[u8] {
        self.rows.get(i).map_or(&[], |range| &self.bytes[range.clone()])
    }
}

/// What is known of an entry without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::webhook) struct Head {
    /// The number of its first row.
    pub first: u64,
    pub rows: u32,
    /// Bytes of the rows.
    pub bytes: u64,
    /// Bytes of all rows before them, since the log began.
    pub before: u64,
    pub received_ms: i64,
    pub id: Option<String>,
}

impl Head {
    /// The number behind its last row.
    pub(in crate::webhook) fn end(&self) -> u64 {
        self.first + u64::from(self.rows)
    }

    pub(super) fn of(entry: &Entry, first: u64, before: u64) -> Self {
        let (rows, bytes) = (length(entry.rows.len()), entry.row_bytes() as u64);
        let received_ms = entry.about.received_ms;
        Self { first, rows, bytes, before, received_ms, id: entry.id.clone() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(64);
        to.push(VERSION);
        to.extend_from_slice(&self.rows.to_le_bytes());
        to.extend_from_slice(&self.bytes.to_le_bytes());
        to.extend_from_slice(&self.before.to_le_bytes());
        to.extend_from_slice(&self.received_ms.to_le_bytes());
        put(&mut to, self.id.as_deref());
        to
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self> {
        let first = <[u8; 8]>::try_from(key).ok().map(u64::from_be_bytes);
        let mut from = Fields { bytes: value, at: 0 };
        first.and_then(|first| from.head(first)).ok_or_else(damaged)
    }
}

pub(super) fn damaged() -> Error {
    Error::data("an entry of the log is damaged")
        .hint("the disk gave back something else than was written to it")
}

/// Bytes that are read field by field.
struct Fields<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Fields<'_> {
    fn record(&mut self) -> Option<(Option<String>, About, Vec<Range<usize>>)> {
        self.version()?;
        let received_ms = self.i64()?;
        let (id, headers, path, query) = (self.text()?, self.text()?, self.text()?, self.text()?);
        let count = self.u32()? as usize;
        // Each row has a length, so that no count makes more room than there are bytes.
        if count > (self.bytes.len() - self.at) / 4 {
            return None;
        }
        let mut lengths = Vec::with_capacity(count);
        for _ in 0..count {
            lengths.push(self.u32()? as usize);
        }
        let mut rows = Vec::with_capacity(count);
        for length in lengths {
            let start = self.at;
            self.take(length)?;
            rows.push(start..self.at);
        }
        let about = About { received_ms, headers, path, query };
        (self.at == self.bytes.len()).then_some((id, about, rows))
    }

    fn head(&mut self, first: u64) -> Option<Head> {
        self.version()?;
        let (rows, bytes, before) = (self.u32()?, self.u64()?, self.u64()?);
        let (received_ms, id) = (self.i64()?, self.text()?);
        // A head without rows would never end a walk over heads.
        (rows > 0).then_some(Head { first, rows, bytes, before, received_ms, id })
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn version(&mut self) -> Option<()> {
        (self.take(1)? == [VERSION]).then_some(())
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A text, or none.
    fn text(&mut self) -> Option<Option<String>> {
        match self.u32()? {
            ABSENT => Some(None),
            length => {
                let bytes = self.take(length as usize)?.to_vec();
                String::from_utf8(bytes).ok().map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let about = About {
            received_ms: -5,
            headers: Some("{\"a\":\"é\"}".into()),
            path: None,
            query: Some(String::new()),
        };
        let rows = vec![Bytes::from_static(b"{\"a\":1}"), Bytes::new(), Bytes::from_static(b"{}")];
        Entry { id: Some("id".into()), about: Arc::new(about), rows }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let entry = entry();
        let record = Record::decode(entry.encode().into()).unwrap();
        assert_eq!((&record.id, &record.about, record.len()), (&entry.id, &*entry.about, 3));
        for (i, row) in entry.rows.iter().enumerate() {
            assert_eq!(record.row(i), row.as_ref());
        }
        assert_eq!(record.row(3), b"");
        let head = Head::of(&entry, 7, 100);
        assert_eq!((head.end(), head.bytes, entry.bytes()), (10, 9, 9 + 10 + 2));
        assert_eq!(Head::decode(&7u64.to_be_bytes(), &head.encode()).unwrap(), head);
    }

    #[test]
    fn damage_is_told_and_makes_nothing_panic() {
        let (whole, head) = (entry().encode(), Head::of(&entry(), 7, 100).encode());
        for end in 0..whole.len() {
            assert!(Record::decode(whole[..end].to_vec().into()).is_err(), "{end}");
        }
        for end in 0..head.len() {
            assert!(Head::decode(&[0; 8], &head[..end]).is_err(), "{end}");
        }
        assert!(Head::decode(&[0; 7], &head).is_err());
        bolero::check!().with_iterations(5_000).with_max_len(80).for_each(|bytes: &[u8]| {
            let kept = &whole[..whole.len().min(bytes.len())];
            for bytes in [bytes.to_vec(), [&[VERSION], bytes].concat(), [kept, bytes].concat()] {
                drop(Head::decode(&[0; 8], &bytes));
                drop(Record::decode(bytes.into()));
            }
        });
    }
}
