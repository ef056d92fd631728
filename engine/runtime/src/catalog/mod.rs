//! Tables as SQL sees them: placeholders while planning, files, intakes and rows while running.
//!
//! In: locations, file lists, intakes. Out: DataFusion `TableProvider`s. It knows nothing about
//! epochs and never lists a folder: whoever asks brings the files.

mod aside;
mod bound;
mod bounds;
mod counted;
mod files;
mod intake;
mod leaf;
mod prune;
mod snapshot;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::DataFusionError;
use sluice_core::{Error, Kind, Result, SOURCE_FILE_COLUMN};

pub use aside::Aside;
pub(crate) use bounds::Bounds;
pub use counted::CountedReader;
pub use files::FilesTable;
pub use intake::{Behind, IntakeTable, Tally, rejected_batch};
pub use leaf::Leaf;
pub use snapshot::SnapshotTable;
pub(crate) use snapshot::{gone, place};

/// The column of a quarantine table that names the broken expectations.
pub const EXPECTATION_COLUMN: &str = "_expectation";

/// The column of a quarantine table that says in which epoch the row came.
pub const EPOCH_COLUMN: &str = "_epoch";

/// The schema of a table's `__quarantine`: the table's columns, all nullable, then
/// [`EXPECTATION_COLUMN`] (Utf8) and [`EPOCH_COLUMN`] (Int64).
pub fn quarantine_schema(table: &Schema) -> SchemaRef {
    let columns = table.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    let mut fields: Vec<Field> = columns.collect();
    fields.push(Field::new(EXPECTATION_COLUMN, DataType::Utf8, true));
    fields.push(Field::new(EPOCH_COLUMN, DataType::Int64, true));
    Arc::new(Schema::new(fields))
}

/// `schema` with the file a row came from as its last column.
pub fn with_source_file(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(SOURCE_FILE_COLUMN, DataType::Utf8, true)));
    Arc::new(Schema::new(fields))
}

/// Rows held in memory as a table; one partition.
pub fn rows_table(schema: SchemaRef, rows: Vec<RecordBatch>) -> Result<Arc<dyn TableProvider>> {
    let table = MemTable::try_new(schema, vec![rows])
        .map_err(|e| sql_error("rows do not fit their schema", e))?;
    Ok(Arc::new(table))
}

/// An error of ours on its way through a plan; [`sql_error`] finds it again.
pub fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Turns a DataFusion error into ours: an error of ours inside it keeps its kind and hint.
pub fn sql_error(message: &str, error: DataFusionError) -> Error {
    match find_ours(error) {
        Ok(ours) => ours,
        Err(other) => {
            let kind = match other.find_root() {
                DataFusionError::ResourcesExhausted(_) => Kind::Unavailable,
                DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => Kind::Unavailable,
                DataFusionError::Internal(_) => Kind::Bug,
                _ => Kind::Data,
            };
            let exhausted = matches!(other.find_root(), DataFusionError::ResourcesExhausted(_));
            let ours = Error::new(kind, message.to_string());
            let ours = if exhausted {
                ours.with_retry(false).hint("give the run more memory with --memory")
            } else {
                ours
            };
            ours.because(other)
        }
    }
}

/// The error of ours inside a DataFusion error, if there is one.
pub(crate) fn find_ours(error: DataFusionError) -> std::result::Result<Error, DataFusionError> {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => Ok(*ours),
            Err(inner) => Err(DataFusionError::External(inner)),
        },
        DataFusionError::Context(text, inner) => {
            find_ours(*inner).map_err(|e| DataFusionError::Context(text, Box::new(e)))
        }
        DataFusionError::Shared(inner) => match Arc::try_unwrap(inner) {
            Ok(inner) => find_ours(inner),
            Err(inner) => shared(&inner).ok_or(DataFusionError::Shared(inner)),
        },
        other => Err(other),
    }
}

/// What is known of an error of ours that others hold as well, as each side of a join does.
fn shared(error: &DataFusionError) -> Option<Error> {
    let DataFusionError::External(inner) = error.find_root() else { return None };
    let ours = inner.downcast_ref::<Error>()?;
    let copy = Error::new(ours.kind(), ours.chain()).with_retry(ours.retry());
    Some(match ours.hint_text() {
        Some(hint) => copy.hint(hint),
        None => copy,
    })
}
