//! A message that is one JSON object.
//!
//! In: bytes. Out: a row, by the same columns that lines of JSON files are read into. Blanks around
//! the object are fine, a second one is not.

use std::sync::Arc;

use super::registry::{Schema, SchemaType};
use super::rows::{Body, Change};
use crate::format::json::{Cursor, RECORD_BYTES_MAX, Reading, Record, Wrong};

/// Messages of JSON.
#[derive(Debug)]
pub(super) struct Json;

impl Body for Json {
    fn read(
        &self,
        message: &[u8],
        row: usize,
        record: &mut Record,
        reading: &mut Reading,
    ) -> Result<Option<Change>, Wrong> {
        let mut cursor = object(message)?;
        record.read(row, &mut cursor, reading)?;
        cursor.end()?;
        Ok(None)
    }
}

/// A place before the object that a message has to be.
pub(super) fn object(message: &[u8]) -> Result<Cursor<'_>, Wrong> {
    if message.len() > RECORD_BYTES_MAX {
        let max = sluice_core::format_bytes(RECORD_BYTES_MAX as u64);
        return Err(Wrong::new(format!("the message is larger than {max}")));
    }
    if std::str::from_utf8(message).is_err() {
        return Err(Wrong::new("not valid UTF-8"));
    }
    let mut cursor = Cursor::new(message);
    match cursor.peek() {
        Some(b'{') => Ok(cursor),
        _ => Err(Wrong::new("not a JSON object")),
    }
}

/// Messages whose schema is in a registry: it is there to be known, its rules are the producer's.
pub(super) fn of_schema(schema: &Schema) -> Result<Arc<dyn Body>, String> {
    match schema.schema_type {
        SchemaType::Json => Ok(Arc::new(Json)),
        other => Err(format!("it is of type {}, not JSON", other.name())),
    }
}
