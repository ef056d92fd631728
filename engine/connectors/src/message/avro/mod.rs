//! Messages of Avro: bodies without a file's header, as their writer's schema says.
//!
//! In: the writer's schema and the columns wanted of it. Out: who reads such messages; and for sinks
//! the other way round, rows to bodies and a schema made from theirs. The way is `schema` (JSON to
//! types) → `plan` (types against columns, once per schema) → `read` (bytes to columns). Values are
//! kept as those of Avro files are.

mod encode;
mod plan;
mod read;
mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use encode::Encoder;

pub(super) use plan::{Step, steps};
pub(super) use read::Reader;
pub(super) use schema::{Node, Types};

use super::registry::{Schema, SchemaType};
use super::rows::{Body, Change, Columns};
use crate::format::json::{Reading, Record, Wrong};

/// Messages of one writer's schema.
#[derive(Debug)]
pub(super) struct Avro {
    types: Types,
    steps: Vec<Step>,
}

impl Avro {
    /// Messages of this schema, read into `columns`. Errors: why that cannot be.
    pub(super) fn new(
        text: &str,
        references: &[(String, String)],
        columns: &Columns,
    ) -> Result<Self, String> {
        let types = Types::parse(text, references)?;
        let Node::Record(fields) = &types.root().node else {
            return Err("it is not of a record".into());
        };
        let steps = steps(&types, fields, columns.record(), columns.unknown())?;
        Ok(Self { types, steps })
    }

    /// Messages of a registered schema.
    pub(super) fn of_schema(schema: &Schema, columns: &Columns) -> Result<Arc<dyn Body>, String> {
        is_avro(schema)?;
        Ok(Arc::new(Self::new(&schema.text, &schema.references, columns)?))
    }
}

/// Refuses schemas of another type.
pub(super) fn is_avro(schema: &Schema) -> Result<(), String> {
    match schema.schema_type {
        SchemaType::Avro => Ok(()),
        other => Err(format!("it is of type {}, not AVRO", other.name())),
    }
}

impl Body for Avro {
    fn read(
        &self,
        message: &[u8],
        row: usize,
        record: &mut Record,
        reading: &mut Reading,
    ) -> Result<Option<Change>, Wrong> {
        let mut reader = Reader::new(&self.types, message);
        reader.record(&self.steps, row, record, reading)?;
        reader.end()?;
        Ok(None)
    }
}
