//! Rows to the values of messages.
//!
//! In: batches. Out: bytes per row, or why a row has none. Keys, headers and partitions are
//! [`super::columns`]'.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use sluice_core::Result;

use super::config::{Format, Settings};
use crate::format::json;
use crate::message::AvroEncoder;

/// The values of a batch, one behind the other.
#[derive(Debug, Default)]
pub struct Values {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// Where each ends in them; a row that is refused has none.
    pub ends: Vec<usize>,
    /// Rows that cannot be written, by their number in the batch, and why.
    pub refused: Vec<(usize, String)>,
}

impl Values {
    /// The value of a row.
    pub fn get(&self, row: usize) -> &[u8] {
        let end = self.ends.get(row).copied().unwrap_or(0);
        let start = row.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        self.bytes.get(start.unwrap_or(0)..end).unwrap_or_default()
    }
}

/// Writes the values of messages.
///
/// Guarantee: one value per row in the rows' order, the same for the same row. A row that cannot be
/// written is refused; an error is about all of them and leaves nothing behind.
pub trait EncodeMessages: Send {
    /// The values of `rows`.
    fn encode(&mut self, rows: &RecordBatch) -> Result<Values>;
}

/// Whether rows of `schema` can be written as the settings say. Errors: `Config`, naming the column.
pub(super) fn fits(settings: &Settings, schema: &SchemaRef) -> Result<()> {
    match settings.format {
        Format::Json => json::Encoder::new(schema, None).map(|_| ()),
        Format::Avro => avro(settings, schema).map(|_| ()),
    }
}

/// What writes values as the settings say; `id` is the number that a registry gave to
/// [`registered`].
pub(super) fn encoder(
    settings: &Settings,
    schema: &Schema,
    id: u32,
) -> Result<Box<dyn EncodeMessages>> {
    Ok(match settings.format {
        Format::Json => Box::new(Json),
        Format::Avro => Box::new(Avro { encoder: avro(settings, schema)?, id }),
    })
}

/// The schema of values of rows of `schema`; none where they need none.
pub(super) fn registered(settings: &Settings, schema: &Schema) -> Result<Option<String>> {
    match settings.format {
        Format::Json => Ok(None),
        Format::Avro => Ok(Some(avro(settings, schema)?.schema().to_string())),
    }
}

fn avro(settings: &Settings, schema: &Schema) -> Result<AvroEncoder> {
    AvroEncoder::new(schema, &settings.topic)
}

/// An object per row; nulls are left out, times are ISO 8601.
struct Json;

impl EncodeMessages for Json {
    fn encode(&mut self, rows: &RecordBatch) -> Result<Values> {
        let json::Objects { bytes, ends } = json::Objects::of(rows)?;
        Ok(Values { bytes, ends, refused: Vec::new() })
    }
}

/// A zero byte, the schema's number, a body.
struct Avro {
    encoder: AvroEncoder,
    id: u32,
}

impl EncodeMessages for Avro {
    fn encode(&mut self, rows: &RecordBatch) -> Result<Values> {
        let mut values = Values::default();
        for body in self.encoder.encode(rows)? {
            values.bytes.push(0);
            values.bytes.extend_from_slice(&self.id.to_be_bytes());
            values.bytes.extend_from_slice(&body);
            values.ends.push(values.bytes.len());
        }
        Ok(values)
    }
}
