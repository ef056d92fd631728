//! Parquet files of tables and datasets: rows in, finished files with their facts out, and back.
//!
//! In: a [`Layout`] (where, which columns, partitioned by what) and Arrow rows. Out: [`DataFile`]s
//! with row counts and Delta statistics. Files lie in hive folders (`k=v/`); partition columns are
//! in the folder names, not in the files. Nothing here makes a file visible: that is the log's or
//! the publisher's doing.

mod codes;
mod encode;
mod file;
mod hive;
mod object;
mod reader;
mod split;
mod stats;
mod texts;
mod writer;

#[cfg(test)]
mod stats_tests;
#[cfg(test)]
mod tests;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use object_store::path::Path;

use sluice_core::{Error, Result};

use crate::manifest::DataFile;
use crate::store::Location;

pub(crate) use encode::Workshop;
pub(crate) use file::{SingleFile, Target};
pub(crate) use hive::{decode as percent_decode, encode as percent_encode};
pub use hive::{folder as partition_folder, value_array, values_of_path};
pub(crate) use object::ObjectReader;
pub use reader::{BatchStream, Part, Read, footer_rows, parts, read_file};
pub use writer::{Codec, FileNaming, PartitionedWriter, WriteOptions};

/// Where a table's files lie and what is in them.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The table's folder, or the folder it is staged in.
    pub location: Location,
    /// All columns in order, partition columns among them.
    pub schema: SchemaRef,
    /// Partition columns, outermost folder first.
    pub partition_by: Vec<String>,
}

impl Layout {
    /// A layout; an error of kind `Config` when a partition column is not in the schema or every
    /// column is one.
    pub fn new(location: Location, schema: SchemaRef, partition_by: Vec<String>) -> Result<Self> {
        for name in &partition_by {
            if schema.index_of(name).is_err() {
                return Err(Error::config(format!("unknown partition column column={name:?}"))
                    .hint("`partition_by` takes columns of the table"));
            }
        }
        if !schema.fields().is_empty() && partition_by.len() >= schema.fields().len() {
            return Err(Error::config("every column is a partition column")
                .hint("leave at least one column out of `partition_by`"));
        }
        Ok(Self { location, schema, partition_by })
    }

    /// The store's path of a file named relative to the table.
    pub fn object(&self, relative: &str) -> Result<Path> {
        Ok(self.location.join(relative)?.path)
    }

    /// Positions of the partition columns in the schema, in `partition_by`'s order.
    fn partition_indices(&self) -> Result<Vec<usize>> {
        let index = |name: &String| Ok(self.schema.index_of(name)?);
        self.partition_by.iter().map(index).collect()
    }

    /// Positions of the columns that are stored in the files.
    fn stored_indices(&self) -> Vec<usize> {
        let stored = |i: &usize| !self.partition_by.contains(self.schema.field(*i).name());
        (0..self.schema.fields().len()).filter(stored).collect()
    }
}

/// `rows` with exactly the columns of `schema`: found by name, cast where the type differs, null
/// where the column is missing. A value that does not fit its column is an error of kind `Data`.
pub fn conform(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if rows.schema_ref() == schema {
        return Ok(rows.clone());
    }
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match rows.column_by_name(field.name()) {
            Some(column) => convert(column, field.data_type(), field.name())?,
            None => new_null_array(field.data_type(), rows.num_rows()),
        });
    }
    batch_of(schema, columns, rows.num_rows())
}

/// `column` as `wanted`; nothing is silently turned into null.
pub(crate) fn convert(column: &ArrayRef, wanted: &DataType, name: &str) -> Result<ArrayRef> {
    if column.data_type() == wanted {
        return Ok(column.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, wanted, &options).map_err(|e| {
        let from = column.data_type();
        Error::data(format!(
            "values do not fit their column column={name:?} from={from} to={wanted}"
        ))
        .because(e)
    })
}

/// A batch that may have no columns at all.
pub(crate) fn batch_of(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|e| Error::data("rows do not fit the table's schema").because(e))
}

/// The columns of `schema` called `names`, in that order; an error of kind `Config` for others.
pub(crate) fn project(schema: &Schema, names: &[String]) -> Result<SchemaRef> {
    let mut fields = Vec::with_capacity(names.len());
    for name in names {
        let field = schema
            .field_with_name(name)
            .map_err(|_| Error::config(format!("the table has no such column column={name:?}")))?;
        fields.push(field.clone());
    }
    Ok(SchemaRef::new(Schema::new(fields)))
}

/// Rows of all `files`; files whose rows are not known count as 0.
pub fn rows_of(files: &[DataFile]) -> u64 {
    files.iter().map(|f| f.rows).sum()
}
