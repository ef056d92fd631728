//! A message as it is.
//!
//! In: bytes. Out: a row with one column of them, `binary` or `string`. Nothing is read; text has
//! to be UTF-8.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use sluice_core::{DataSchema, Error, Result};

use crate::format::message::{DecodeMessages, MessageFormat, Tombstones};

/// The column where no schema names one.
const VALUE_COLUMN: &str = "value";

/// Bytes of the messages that are taken at once: places in a column are 31 bits wide.
const BYTES_MAX: usize = 1 << 30;

/// Messages of anything.
#[derive(Debug)]
pub(super) struct Raw {
    schema: SchemaRef,
    required: bool,
}

impl Raw {
    /// One column, as `schema` says it. Errors: `Config` when it says something else.
    pub(super) fn new(schema: Option<&DataSchema>) -> Result<Self> {
        let Some(schema) = schema else {
            let field = Field::new(VALUE_COLUMN, DataType::Binary, true);
            return Ok(Self { schema: Arc::new(Schema::new(vec![field])), required: false });
        };
        let fields = schema.arrow()?;
        let bytes = |field: &Field| matches!(field.data_type(), DataType::Binary | DataType::Utf8);
        match fields.fields().as_ref() {
            [field] if bytes(field) => {
                let required = !field.is_nullable();
                Ok(Self { schema: fields, required })
            }
            _ => Err(Error::config("raw messages are one column of type binary or string")
                .hint("remove the schema, or leave one field in it")),
        }
    }
}

#[async_trait]
impl MessageFormat for Raw {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn tombstones(&self) -> Tombstones {
        Tombstones::Row
    }

    async fn prepare(&self, _messages: &[&[u8]]) -> Result<()> {
        Ok(())
    }

    fn decoder(&self) -> Box<dyn DecodeMessages> {
        let field = self.schema.field(0);
        let text = *field.data_type() == DataType::Utf8;
        Box::new(Bytes {
            name: field.name().clone(),
            text,
            required: self.required,
            values: BinaryBuilder::new(),
        })
    }
}

struct Bytes {
    name: String,
    text: bool,
    required: bool,
    values: BinaryBuilder,
}

impl DecodeMessages for Bytes {
    fn take(&mut self, message: &[u8]) -> Result<(), String> {
        if self.text && std::str::from_utf8(message).is_err() {
            return Err(format!("column {}: not valid UTF-8", self.name));
        }
        if self.values.values_slice().len() + message.len() > BYTES_MAX {
            return Err("too many bytes of messages at once".into());
        }
        self.values.append_value(message);
        Ok(())
    }

    fn take_null(&mut self) -> Result<(), String> {
        if self.required {
            return Err(format!("column {}: required but empty", self.name));
        }
        self.values.append_null();
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let values = self.values.finish();
        if !self.text {
            return Ok(vec![Arc::new(values)]);
        }
        let (offsets, bytes, nulls) = values.into_parts();
        Ok(vec![Arc::new(StringArray::try_new(offsets, bytes, nulls)?)])
    }
}
