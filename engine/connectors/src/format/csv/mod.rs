//! CSV as RFC 4180 has it, and as people write it.
//!
//! In: bytes in pieces, a data schema, the file's header. Out: typed rows and the rows that could
//! not be decoded. The way is `record` (where records and fields stand) → `column` (text to
//! values) → `decode` (chunks, bad rows). `border` finds where a big file may be cut; `header`
//! reads names; `encode` writes. It opens no files.
//!
//! What counts as CSV: a quote at the beginning of a field opens a quoted field, in which a doubled
//! quote is a quote and line breaks are text; anywhere else a quote is a plain character. Records
//! end with `\n` or `\r\n`. Blank lines are skipped. Dialects may do without quotes, or take any
//! character behind an escape as it is.

mod border;
mod column;
mod decode;
mod encode;
mod header;
mod message;
mod plain;
mod record;
mod rescue;
#[cfg(test)]
mod slow;
mod spelling;
#[cfg(test)]
mod tests;
mod text;

pub use border::{Scan, State, guess};
pub use column::Column;
pub use decode::{Decoder, Layout, Mapping, Origin};
pub use encode::Encoder;
pub use header::{HEADER_BYTES_MAX, Header};
pub use message::Messages;
pub use spelling::Spelling;

use super::encoding::Encoding;

/// A record larger than this is rejected. It bounds the memory that a forgotten quote can take,
/// and is far above what people put into a row.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What files differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Between fields; ASCII.
    pub delimiter: u8,
    /// Around fields; ASCII. None: nothing is.
    pub quote: Option<u8>,
    /// Before a character that is to be taken as it is, within quotes and without; ASCII.
    pub escape: Option<u8>,
    /// How characters are written.
    pub encoding: Encoding,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { delimiter: b',', quote: Some(b'"'), escape: None, encoding: Encoding::Utf8 }
    }
}
