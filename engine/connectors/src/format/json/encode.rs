//! Rows to JSON lines that [`super::Decoder`] reads back as the same rows.
//!
//! In: batches. Out: bytes, compressed if wanted. Nulls are left out; times are ISO 8601; decimals
//! are exact. What JSON has no word for comes back as null: `NaN` and the infinities.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::LineDelimitedWriter;
use sluice_core::{Error, FileEncoder, Result};

use crate::format::compress::{Codec, Packer};

/// The encoder of one file of JSON lines.
#[derive(Debug)]
pub struct Encoder {
    plain: Vec<u8>,
    packer: Packer,
}

impl Encoder {
    /// Begins a file for rows of `schema`. Errors: `Config` for bytes, which JSON cannot hold.
    pub fn new(schema: &SchemaRef, codec: Option<Codec>) -> Result<Self> {
        if let Some(field) = schema.fields().iter().find(|f| holds_bytes(f.data_type())) {
            let message = format!("JSON has no bytes column={}", field.name());
            return Err(Error::config(message).hint("encode them in the SQL: encode(x, 'base64')"));
        }
        Ok(Self { plain: Vec::new(), packer: Packer::new(codec)? })
    }
}

/// Rows as JSON objects.
#[derive(Debug, Default)]
pub struct Objects {
    /// Their bytes, one object behind the other.
    pub bytes: Vec<u8>,
    /// Where each ends.
    pub ends: Vec<usize>,
}

impl Objects {
    /// The objects of `rows`, one per row.
    pub fn of(rows: &RecordBatch) -> Result<Self> {
        let mut lines = Vec::new();
        let mut writer = LineDelimitedWriter::new(&mut lines);
        writer.write(rows)?;
        writer.finish()?;
        // Line feeds inside of texts are escaped: each that is left ends a row.
        let mut objects = Self { bytes: Vec::with_capacity(lines.len()), ends: Vec::new() };
        for line in lines.split(|b| *b == b'\n').take(rows.num_rows()) {
            objects.bytes.extend_from_slice(line);
            objects.ends.push(objects.bytes.len());
        }
        if objects.ends.len() != rows.num_rows() {
            return Err(Error::bug("rows and their JSON lines are not as many"));
        }
        Ok(objects)
    }
}

fn holds_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|f| holds_bytes(f.data_type())),
        DataType::List(item) | DataType::LargeList(item) => holds_bytes(item.data_type()),
        other => other.is_binary(),
    }
}

impl FileEncoder for Encoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut writer = LineDelimitedWriter::new(&mut self.plain);
        writer.write(rows)?;
        writer.finish()?;
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
