//! JSON: an object per line, or one list of objects.
//!
//! In: bytes in pieces and a data schema. Out: typed rows and the rows that could not be decoded.
//! The way is `record` (where objects stand) → `scan` (tokens) → `column` (tokens straight to
//! typed columns, nested ones too) → `decode` (chunks, bad rows). A row that turns out bad is taken
//! back from the columns it has already reached: there is one way for good and bad chunks alike.
//! `typed` fills the same columns from values that are none of text, for binary messages.
//! `encode` writes. It opens no files.
//!
//! Of a key that comes twice in one object the last value holds. Numbers never pass through a
//! float unless the column is one.

mod array;
mod column;
mod decode;
mod encode;
mod keys;
mod record;
mod scan;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod tests;
mod typed;

pub(crate) use column::{Column, Reading, Record, Rescued};
pub(crate) use decode::object;
pub use decode::{Decoder, Layout, Origin, Unknown};
pub use encode::{Encoder, Objects};
pub use keys::{Keys, LEARNED_MAX};
pub use record::begins_list;
pub(crate) use scan::{Cursor, Wrong, joined};
pub(crate) use typed::{Meaning, Unit, Value, to_base64, unscaled, written};

/// An object larger than this is rejected: it bounds the memory that a missing line break can take.
pub const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
