//! The first record of a CSV file: names, and where the rows begin.
//!
//! In: the first bytes of a file. Out: the names and the place after them. It maps nothing to
//! schemas.

use sluice_core::{Error, Result};

use super::Dialect;
use super::record::{Index, Room};

/// A header that is not complete after this many bytes is not one.
pub const HEADER_BYTES_MAX: usize = 1024 * 1024;

/// UTF-16 without a mark is told by this many characters of which each has a zero byte: Latin text
/// has, and no text in UTF-8.
const UTF16_CHARACTERS: usize = 4;

const BYTE_ORDER_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];

/// What stands before the rows of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Names in the file's order; empty when the file has none.
    pub names: Vec<String>,
    /// The byte at which rows begin, in the uncompressed file.
    pub end: u64,
}

impl Header {
    /// Reads the header at the beginning of a file; none when `bytes` does not hold all of it,
    /// unless it is the whole file (`ended`). An empty file has no names. Errors: `Data` when the
    /// record is broken or a name comes twice.
    pub fn read(dialect: Dialect, bytes: &[u8], ended: bool) -> Result<Option<Self>> {
        let mark = Self::mark(bytes);
        let bytes = &bytes[mark..];
        let mut index = Index::default();
        index.fill(dialect, 0, bytes, ended, Room { rows: 1, bytes: bytes.len() });
        let end = (mark + index.consumed) as u64;
        if let Some(bad) = index.bad.first() {
            return Err(Error::data(format!("the header cannot be read reason={:?}", bad.reason)));
        }
        if index.rows.is_empty() {
            return Ok(ended.then_some(Self { names: Vec::new(), end }));
        }
        let name = |column| {
            String::from_utf8_lossy(&index.cell(bytes, 0, column).value()).trim().to_string()
        };
        let names: Vec<String> = (0..index.width()).map(name).collect();
        for (i, name) in names.iter().enumerate() {
            if names[..i].contains(name) {
                let message = format!("a name comes twice in the header column={name:?}");
                return Err(Error::data(message).hint("give every column a name of its own"));
            }
        }
        Ok(Some(Self { names, end }))
    }

    /// Whether lines end in CR alone, as on a Mac before 2001: there is one, with something behind it,
    /// outside of quotes, and no line feed anywhere.
    pub fn ends_in_cr(dialect: Dialect, bytes: &[u8]) -> bool {
        if memchr::memchr(b'\n', bytes).is_some() {
            return false;
        }
        let mut quoted = false;
        let body = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        body.iter().any(|byte| {
            quoted ^= *byte == dialect.quote;
            *byte == b'\r' && !quoted
        })
    }

    /// Why `bytes`, with which a file begins, are no text that can be read: they are UTF-16, or what
    /// stands before `end` holds control characters or is not UTF-8. Rows may hold such things: they
    /// are looked at one by one.
    pub fn trouble(bytes: &[u8], end: u64) -> Option<&'static str> {
        let zeros = |first: usize| {
            let every_second = bytes.iter().skip(first).step_by(2).take(UTF16_CHARACTERS);
            bytes.len() >= 2 * UTF16_CHARACTERS && every_second.clone().all(|byte| *byte == 0)
        };
        if bytes.starts_with(&[0xFF, 0xFE])
            || bytes.starts_with(&[0xFE, 0xFF])
            || zeros(0) != zeros(1)
        {
            return Some("the file is in UTF-16, which `encoding` does not say");
        }
        let header = &bytes[..bytes.len().min(usize::try_from(end).unwrap_or(usize::MAX))];
        let control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
        if header.iter().any(control) {
            return Some("the file is not text: its header holds control characters");
        }
        match std::str::from_utf8(header) {
            Ok(_) => None,
            Err(_) => Some("the header is not UTF-8"),
        }
    }

    /// Bytes that a byte order mark takes at the beginning of a file.
    pub fn mark(bytes: &[u8]) -> usize {
        if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 }
    }
}
