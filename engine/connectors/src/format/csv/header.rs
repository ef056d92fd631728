//! The first record of a CSV file: names, and where the rows begin.
//!
//! In: the first bytes of a file. Out: the names and the place after them. It maps nothing to
//! schemas.

use sluice_core::{Error, Result};

use super::Dialect;
use super::record::{Index, Room};
use crate::format::encoding::Encoding;

/// A header that is not complete after this many bytes is not one.
pub const HEADER_BYTES_MAX: usize = 1024 * 1024;

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
            let value = index.cell(bytes, 0, column).value();
            String::from_utf8_lossy(&dialect.encoding.text(&value)).trim().to_string()
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
            quoted ^= Some(*byte) == dialect.quote;
            *byte == b'\r' && !quoted
        })
    }

    /// Why `header`, with which a file begins, is no text: it holds control characters, or is not
    /// of the encoding. Rows may hold such things: they are looked at one by one.
    pub fn trouble(encoding: Encoding, header: &[u8]) -> Option<&'static str> {
        let control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
        if header.iter().any(control) {
            return Some("the file is not text: its header holds control characters");
        }
        match std::str::from_utf8(&encoding.text(header)) {
            Ok(_) => None,
            Err(_) => Some("the header is not UTF-8"),
        }
    }

    /// Bytes that a byte order mark takes at the beginning of a file.
    pub fn mark(bytes: &[u8]) -> usize {
        if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 }
    }
}
