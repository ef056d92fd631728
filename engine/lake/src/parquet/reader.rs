//! Reads a table's files back with the table's columns, whatever the file itself holds.
//!
//! Partition columns come from the file's entry, missing columns are null, others are cast.
//! Filters are not applied here beyond a row selection that the caller worked out.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;

use sluice_core::{Error, Result};

use super::{Layout, ObjectReader, batch_of, convert, project, value_array};
use crate::manifest::DataFile;

/// Batches of one file in its order.
pub type BatchStream = BoxStream<'static, Result<RecordBatch>>;

/// Rows per batch: enough to amortise per-batch work, little enough to stay in the cache.
const BATCH_ROWS: usize = 8192;

/// What to read of a file; the default is everything.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// Columns of the table, in the order wanted; `None` means all.
    pub projection: Option<Vec<String>>,
    /// Rows of the file; `None` means all.
    pub selection: Option<RowSelection>,
}

impl Read {
    /// All rows of some columns.
    pub fn columns(names: &[String]) -> Self {
        Self { projection: Some(names.to_vec()), selection: None }
    }
}

/// Opens `file`. A file that is gone or cut short is an error of kind `Data` that names it, a store
/// that does not answer one of kind `Unavailable`.
pub async fn read_file(layout: &Layout, file: &DataFile, read: Read) -> Result<BatchStream> {
    let schema = match &read.projection {
        Some(names) => project(&layout.schema, names)?,
        None => layout.schema.clone(),
    };
    let builder = open(layout, file).await?;
    let mask = stored_mask(&builder, layout, &schema);
    let mut builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    if let Some(selection) = read.selection {
        builder = builder.with_row_selection(selection);
    }
    let stream = builder.build().map_err(|e| unreadable(&file.path, e))?;
    let shape =
        Arc::new(Shape { schema, partition_by: layout.partition_by.clone(), file: file.clone() });
    let path = file.path.clone();
    Ok(stream.map_err(move |e| unreadable(&path, e)).map(move |rows| shape.apply(&rows?)).boxed())
}

/// The row count in the footer of `file`, for those who recount instead of believing.
pub async fn footer_rows(layout: &Layout, file: &DataFile) -> Result<u64> {
    let builder = open(layout, file).await?;
    let rows = builder.metadata().file_metadata().num_rows();
    u64::try_from(rows).map_err(|e| Error::data("a footer has a negative row count").because(e))
}

type Builder = ParquetRecordBatchStreamBuilder<ObjectReader>;

async fn open(layout: &Layout, file: &DataFile) -> Result<Builder> {
    let store = &layout.location.store;
    let reader = ObjectReader::new(store, layout.object(&file.path)?, file.bytes);
    ParquetRecordBatchStreamBuilder::new(reader).await.map_err(|e| unreadable(&file.path, e))
}

/// The file's top-level columns that `wanted` asks for and that do not come from the folder.
fn stored_mask(builder: &Builder, layout: &Layout, wanted: &SchemaRef) -> ProjectionMask {
    let fields = builder.schema().fields().iter().enumerate();
    let stored = fields.filter(|(_, field)| {
        wanted.index_of(field.name()).is_ok() && !layout.partition_by.contains(field.name())
    });
    ProjectionMask::roots(builder.parquet_schema(), stored.map(|(i, _)| i).collect::<Vec<_>>())
}

/// What the rows of one file are turned into.
struct Shape {
    schema: SchemaRef,
    partition_by: Vec<String>,
    file: DataFile,
}

impl Shape {
    fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            let (name, wanted) = (field.name(), field.data_type());
            let stored = rows.column_by_name(name);
            columns.push(match stored {
                Some(column) if !self.partition_by.contains(name) => convert(column, wanted, name)?,
                _ => {
                    let value = self.file.partition_values.get(name).and_then(|v| v.as_deref());
                    value_array(value, wanted, name, rows.num_rows())?
                }
            });
        }
        batch_of(&self.schema, columns, rows.num_rows())
    }
}

fn unreadable(path: &str, error: ParquetError) -> Error {
    let gone = || {
        Error::data(format!("a data file is gone path={path}"))
            .hint("restore the file, or rebuild the table with --rebuild")
    };
    match error {
        ParquetError::External(cause) => match cause.downcast_ref::<object_store::Error>() {
            Some(object_store::Error::NotFound { .. }) => gone().because(cause),
            _ => Error::unavailable(format!("cannot read a data file path={path}")).because(cause),
        },
        other => Error::data(format!("a data file is damaged path={path}"))
            .hint("restore the file, or rebuild the table with --rebuild")
            .because(other),
    }
}
