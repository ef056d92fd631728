//! Rows to CSV that [`super::Decoder`] reads back as the same rows.
//!
//! In: batches. Out: bytes, compressed if wanted. A null is an empty field, an empty string `""`;
//! times are `YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC; decimals are exact. The one exception is a null
//! alone in its record, which comes back as an empty string, since a blank line is no record.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use sluice_core::{FileEncoder, Result};

use super::Dialect;
use super::text::Text;
use crate::format::compress::{Codec, Packer};

/// Around fields unless the dialect says otherwise.
const QUOTE: u8 = b'"';

/// The encoder of one CSV file.
#[derive(Debug)]
pub struct Encoder {
    dialect: Dialect,
    plain: Vec<u8>,
    packer: Packer,
}

impl Encoder {
    /// Begins a file for rows of `schema`, with names in its first record if `header`. Errors:
    /// `Config` when a column cannot be written as text.
    pub fn new(
        schema: SchemaRef,
        dialect: Dialect,
        header: bool,
        codec: Option<Codec>,
    ) -> Result<Self> {
        for field in schema.fields() {
            Text::check(field.name(), field.data_type())?;
        }
        let mut encoder = Self { dialect, plain: Vec::new(), packer: Packer::new(codec)? };
        if header {
            for (i, field) in schema.fields().iter().enumerate() {
                encoder.separate(i);
                quote(&mut encoder.plain, dialect, field.name().as_bytes());
            }
            encoder.plain.push(b'\n');
            encoder.packer.push(&mut encoder.plain)?;
        }
        Ok(encoder)
    }

    fn separate(&mut self, column: usize) {
        if column > 0 {
            self.plain.push(self.dialect.delimiter);
        }
    }
}

impl FileEncoder for Encoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut columns = Vec::with_capacity(rows.num_columns());
        for array in rows.columns() {
            columns.push(Text::new(array)?);
        }
        let alone = columns.len() == 1;
        // With such a delimiter numbers and times need quotes too.
        let careful = b".-+: ".contains(&self.dialect.delimiter);
        let mut text = Vec::with_capacity(64);
        for row in 0..rows.num_rows() {
            for (i, column) in columns.iter().enumerate() {
                self.separate(i);
                if column.is_null(row) {
                    if alone {
                        self.plain.extend([self.dialect.quote.unwrap_or(QUOTE); 2]);
                    }
                } else if careful || column.is_free() {
                    text.clear();
                    column.write(row, &mut text);
                    quote(&mut self.plain, self.dialect, &text);
                } else {
                    column.write(row, &mut self.plain);
                }
            }
            self.plain.push(b'\n');
        }
        self.packer.push(&mut self.plain)
    }

    fn take(&mut self) -> Vec<u8> {
        self.packer.take()
    }

    fn memory_bytes(&self) -> usize {
        self.plain.capacity() + self.packer.memory_bytes()
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>> {
        self.packer.finish()
    }
}

/// Writes a field, in quotes where it needs them.
fn quote(out: &mut Vec<u8>, dialect: Dialect, text: &[u8]) {
    let quote = dialect.quote.unwrap_or(QUOTE);
    let special = |b: &u8| *b == dialect.delimiter || *b == quote || *b == b'\n' || *b == b'\r';
    // Three bytes at the beginning of a file could be taken for a byte order mark.
    let marked = super::Header::mark(text) > 0;
    if !text.is_empty() && !marked && !text.iter().any(special) {
        out.extend_from_slice(text);
        return;
    }
    out.push(quote);
    let mut rest = text;
    while let Some(at) = memchr::memchr(quote, rest) {
        out.extend_from_slice(&rest[..=at]);
        out.push(quote);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(quote);
}
