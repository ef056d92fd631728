//! One decoder and one encoder per format, ours.
//!
//! In: bytes and a data schema. Out: typed rows and the rows that could not be decoded; or the
//! other way round, rows to the bytes of a file. A bad row is never an error of the job. Nothing
//! here lists folders or knows what an epoch is.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use sluice_core::{Decoded, RESCUED_COLUMN, Result};

pub mod avro;
pub mod csv;
pub mod json;
pub mod message;
pub mod parquet;

pub mod compress;
pub mod encoding;
pub mod sniff;
mod time;
pub(crate) mod value;

/// Rows per batch at most, as readers promise.
pub const BATCH_ROWS_MAX: usize = 65_536;

/// A rejected row keeps this much of its bytes: enough to see what is wrong with it, little enough
/// to keep thousands of them in memory.
pub const REJECTED_BYTES_MAX: usize = 64 * 1024;

/// A decoder of text, fed piece by piece.
pub trait Decode: Send {
    /// Takes the next bytes.
    fn push(&mut self, bytes: &[u8]);

    /// The next chunk; none when more bytes are needed, or when `ended` says that there are none
    /// and all are decoded. Errors: `Unreadable` when the file is none of the format; `Bug`.
    fn next(&mut self, ended: bool) -> Result<Option<Decoded>>;

    /// What the bytes take that are held, those that are done with included.
    fn bytes(&self) -> usize;
}

/// `schema`, which ends with the position, with [`RESCUED_COLUMN`] before it.
fn with_rescued(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    let at = fields.len().saturating_sub(1);
    fields.insert(at, Arc::new(Field::new(RESCUED_COLUMN, DataType::Utf8, true)));
    Arc::new(Schema::new(fields))
}

/// Bits of a position that count within a file: 1 TiB of bytes or 10^12 rows.
const POSITION_BITS: u32 = 40;

/// Order of a row within its intake: the number of its file there, then its place in that file.
pub fn position(file: u32, at: u64) -> i64 {
    (i64::from(file) << POSITION_BITS) | (at as i64 & ((1 << POSITION_BITS) - 1))
}

/// Text shown in a reason is cut here: it is there to be recognised, the row's bytes are kept too.
const SHOWN_CHARS_MAX: usize = 64;

/// The beginning of a value, for a reason.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(4 * SHOWN_CHARS_MAX)])
        .chars()
        .take(SHOWN_CHARS_MAX)
        .collect()
}

/// At most [`REJECTED_BYTES_MAX`] of a bad row.
pub(crate) fn cut(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(REJECTED_BYTES_MAX)].to_vec()
}
