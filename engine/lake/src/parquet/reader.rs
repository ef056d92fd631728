//! Reads a table's files back with the table's columns, whatever the file itself holds.
//!
//! Partition columns come from the file's entry, missing columns are null, others are cast.
//! Filters are not applied here beyond a row selection that the caller worked out.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;

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
    /// Row groups of the file; `None` means all.
    pub groups: Option<Range<usize>>,
    /// Rows of those row groups; `None` means all.
    pub selection: Option<RowSelection>,
}

/// Some row groups of a file that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which; `None` means all.
    pub groups: Option<Range<usize>>,
    /// Their rows, counted in the file.
    pub rows: Range<usize>,
}

impl Read {
    /// All rows of some columns.
    pub fn columns(names: &[String]) -> Self {
        Self { projection: Some(names.to_vec()), ..Self::default() }
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
    if let Some(groups) = read.groups {
        builder = builder.with_row_groups(groups.collect());
    }
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

/// At most `count` parts of `file` with about the same rows each, so that as many can be read side by
/// side. Errors: those of [`read_file`].
pub async fn parts(layout: &Layout, file: &DataFile, count: usize) -> Result<Vec<Part>> {
    if count <= 1 {
        // Nothing is asked of the store.
        let rows = 0..usize::try_from(file.rows).unwrap_or(usize::MAX);
        return Ok(vec![Part { groups: None, rows }]);
    }
    let builder = open(layout, file).await?;
    let rows = |group: &RowGroupMetaData| usize::try_from(group.num_rows()).unwrap_or(0);
    Ok(divided(builder.metadata().row_groups().iter().map(rows), count))
}

/// Row groups of so many rows, divided into at most `count` parts.
fn divided(groups: impl ExactSizeIterator<Item = usize> + Clone, count: usize) -> Vec<Part> {
    let least = groups.clone().sum::<usize>().div_ceil(count.max(1));
    let last = groups.len();
    let (mut parts, mut from, mut first, mut at) = (Vec::new(), 0, 0, 0);
    for (group, rows) in groups.enumerate() {
        at += rows;
        if at - first >= least || group + 1 == last {
            parts.push(Part { groups: Some(from..group + 1), rows: first..at });
            (from, first) = (group + 1, at);
        }
    }
    parts
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_groups_are_divided_into_parts_that_join() {
        for (groups, count, expected) in [
            (&[][..], 2, vec![]),
            (&[5], 2, vec![(0, 5)]),
            (&[5, 5, 5, 1], 2, vec![(0, 10), (10, 16)]),
            (&[9, 1, 1, 1], 3, vec![(0, 9), (9, 12)]),
            (&[4, 4, 4], 1, vec![(0, 12)]),
            (&[1, 1, 1], 9, vec![(0, 1), (1, 2), (2, 3)]),
            (&[0, 0], 2, vec![(0, 0), (0, 0)]),
        ] {
            let parts = divided(groups.iter().copied(), count);
            let rows: Vec<_> = parts.iter().map(|part| (part.rows.start, part.rows.end)).collect();
            assert_eq!(rows, expected, "{groups:?} {count}");
            let covered: Vec<usize> =
                parts.iter().filter_map(|part| part.groups.clone()).flatten().collect();
            assert!(covered.into_iter().eq(0..groups.len()), "{groups:?} {count}");
        }
    }
}
