//! Batches as a file has them to batches as a schema wants them.
//!
//! In: a layout, batches of columns that were read. Out: rows with positions (row numbers), and the
//! rows with values that the schema's types cannot hold. A column that was not read is null.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringBuilder, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::json::LineDelimitedWriter;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use sluice_core::{DataSchema, Decoded, Error, FieldSpec, Rejected, Result, with_position};

use super::{cast, nested};
use crate::format::{cut, position, with_rescued};

/// What a row without a value is in JSON.
const EMPTY_OBJECT: &str = "{}";

/// How the files of a source are decoded.
#[derive(Debug)]
pub struct Layout {
    fields: Vec<FieldSpec>,
    types: Vec<DataType>,
    /// Whether columns that the schema does not have are kept in [`sluice_core::RESCUED_COLUMN`].
    rescues: bool,
    schema: SchemaRef,
}

impl Layout {
    /// A layout for rows of `schema`. Errors: `Config` when a type is unknown, or when fields within
    /// fields ask for more than their type.
    pub fn new(schema: &DataSchema) -> Result<Self> {
        let rows = schema.arrow()?;
        nested::check(&schema.fields)?;
        let types = rows.fields().iter().map(|f| f.data_type().clone()).collect();
        Ok(Self {
            fields: schema.fields.clone(),
            types,
            rescues: false,
            schema: with_position(&rows),
        })
    }

    /// The same, with the columns that the schema does not have in [`sluice_core::RESCUED_COLUMN`].
    #[must_use]
    pub fn rescuing(self) -> Self {
        Self { rescues: true, schema: with_rescued(&self.schema), ..self }
    }

    /// The fields of the schema, in order.
    pub fn fields(&self) -> &[FieldSpec] {
        &self.fields
    }

    /// The rows' schema, position last.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The fields of the schema with the types of their values.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&FieldSpec, &DataType)> {
        self.fields.iter().zip(&self.types)
    }

    /// Whether the schema has the column `name` of a file.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.origin() == name)
    }

    /// Whether the column `name` of a file can come out in rows, or in what is rescued of them.
    pub(super) fn reads(&self, name: &str) -> bool {
        self.rescues || self.wants(name)
    }

    /// Says which column of a file cannot be read as its type. Columns that the file does not have
    /// are no concern here. Errors: `Data` naming column and types.
    pub fn check(&self, found: &Schema, object: &str) -> Result<()> {
        for (field, wanted) in self.columns() {
            let Ok(column) = found.field_with_name(field.origin()) else { continue };
            if !cast::allowed(column.data_type(), wanted) {
                let message = format!(
                    "a column is of another type column={} wanted={} found={} path={object}",
                    field.origin(),
                    field.data_type,
                    column.data_type(),
                );
                return Err(Error::data(message).hint(
                    "give the field the file's type in the schema and cast it in the SQL; a column \
                     that was added by itself is of the type of the first file that had it",
                ));
            }
        }
        Ok(())
    }
}

/// What a Parquet file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Top-level columns.
    pub names: Vec<String>,
    /// For each the type that a schema would give it; none where it has no word for it.
    pub types: Vec<Option<String>>,
    /// Row groups in order.
    pub groups: Vec<Group>,
}

/// A row group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Rows in it.
    pub rows: u64,
    /// Bytes as stored.
    pub bytes: u64,
}

impl Footer {
    /// Reads the footer of `file`, which messages call `object`, and checks that its columns can be
    /// read by `layout`. Errors: `Unreadable` when it is not Parquet, `Data` when a type does
    /// not fit; what the reader says.
    pub async fn read(
        file: impl AsyncFileReader + 'static,
        layout: &Layout,
        object: &str,
    ) -> Result<Self> {
        let opened = ParquetRecordBatchStreamBuilder::new(file).await;
        let opened = opened.map_err(|e| error(e, object))?;
        layout.check(opened.schema(), object)?;
        let fields = opened.schema().fields();
        let names = fields.iter().map(|f| f.name().clone()).collect();
        let types = fields.iter().map(|f| cast::learned(f.data_type())).collect();
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let groups = opened.metadata().row_groups().iter();
        let groups = groups
            .map(|g| Group { rows: count(g.num_rows()), bytes: count(g.compressed_size()) })
            .collect();
        Ok(Self { names, types, groups })
    }
}

/// Our error for a Parquet error: the reader's own if it has one, else that the file is broken.
pub fn error(error: ParquetError, object: &str) -> Error {
    let message = format!("the file cannot be read as parquet path={object}");
    let hint = "check that the file is whole, or leave it out of the path";
    match error {
        ParquetError::External(cause) => match cause.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(cause) => Error::unreadable(message).hint(hint).because(cause),
        },
        other => Error::unreadable(message).hint(hint).because(other),
    }
}

/// What is read, for positions and for people.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The path, as shown.
    pub object: String,
    /// The file's number within its intake.
    pub file: u32,
    /// The number of the first row within the file.
    pub row: u64,
}

/// Batches as a file has them, brought to the schema.
#[derive(Debug)]
pub struct Batches {
    layout: Arc<Layout>,
    origin: Origin,
}

impl Batches {
    /// Batches of a file whose next row is the origin's.
    pub fn new(layout: Arc<Layout>, origin: Origin) -> Self {
        Self { layout, origin }
    }

    /// The file, as shown.
    pub(super) fn object(&self) -> &str {
        &self.origin.object
    }

    /// The number of the next row.
    pub fn row(&self) -> u64 {
        self.origin.row
    }

    /// Passes over rows that come in no batch.
    pub fn skip(&mut self, rows: u64) {
        self.origin.row += rows;
    }

    /// The rows of the next batch.
    pub fn decode(&mut self, read: &RecordBatch) -> Result<Decoded> {
        let decoded = self.rows(read)?;
        self.skip(read.num_rows() as u64);
        Ok(decoded)
    }

    /// The rows of `read`, which begins with the next row. It stays the next one.
    pub(super) fn rows(&self, read: &RecordBatch) -> Result<Decoded> {
        let rows = read.num_rows();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.layout.fields.len() + 1);
        let mut faults = Faults { reasons: Vec::new() };
        for (field, wanted) in self.layout.columns() {
            let Some(column) = read.column_by_name(field.origin()) else {
                if field.required {
                    faults.add(&BooleanBuffer::new_unset(rows), || empty(field));
                }
                arrays.push(new_null_array(wanted, rows));
                continue;
            };
            let kept = cast::keep(column, wanted)?;
            if let Some(good) = &kept.good {
                faults.add(good, || {
                    format!("column {}: not a {} without loss", field.name, field.data_type)
                });
            }
            if let Some(nulls) = kept.array.logical_nulls().filter(|_| field.required) {
                faults.add(nulls.inner(), || empty(field));
            }
            arrays.push(kept.array);
        }
        if self.layout.rescues {
            arrays.push(self.rescued(read)?);
        }
        let Origin { file, row, .. } = self.origin;
        let positions = (0..rows as u64).map(|i| position(file, row + i));
        arrays.push(Arc::new(Int64Array::from_iter_values(positions)));
        if faults.reasons.is_empty() {
            let rows = RecordBatch::try_new(self.layout.schema.clone(), arrays)?;
            return Ok(Decoded::new(rows, Vec::new()));
        }
        self.reject(read, arrays, &faults)
    }

    /// For each row the columns that the schema does not have, as JSON; null where all are null.
    fn rescued(&self, read: &RecordBatch) -> Result<ArrayRef> {
        let schema = read.schema();
        let columns = schema.fields().iter().enumerate();
        let others = columns.filter(|(_, f)| !self.layout.wants(f.name())).map(|(i, _)| i);
        let others = read.project(&others.collect::<Vec<_>>())?;
        if others.num_columns() == 0 {
            return Ok(new_null_array(&DataType::Utf8, read.num_rows()));
        }
        let mut text = StringBuilder::new();
        for row in 0..others.num_rows() {
            let json = as_json(&others.slice(row, 1));
            match std::str::from_utf8(&json) {
                Ok(json) if json.len() > EMPTY_OBJECT.len() => text.append_value(json),
                _ => text.append_null(),
            }
        }
        Ok(Arc::new(text.finish()))
    }

    /// Sets the bad rows aside.
    fn reject(
        &self,
        read: &RecordBatch,
        arrays: Vec<ArrayRef>,
        faults: &Faults,
    ) -> Result<Decoded> {
        // The arrays have nulls in bad rows where the schema wants none: first they are dropped.
        let fields = self.layout.schema.fields().iter();
        let loose: Vec<_> = fields.map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(loose)), arrays)?;
        let good: BooleanArray = faults.reasons.iter().map(|r| Some(r.is_none())).collect();
        let rows = filter_record_batch(&rows, &good)?;
        let rows = RecordBatch::try_new(self.layout.schema.clone(), rows.columns().to_vec())?;
        let mut rejected = Vec::new();
        for (i, reason) in faults.reasons.iter().enumerate() {
            let Some(reason) = reason else { continue };
            rejected.push(Rejected {
                object: self.origin.object.clone(),
                position: self.origin.row + i as u64,
                bytes: cut(&as_json(&read.slice(i, 1))),
                reason: reason.clone(),
            });
        }
        Ok(Decoded::new(rows, rejected))
    }
}

/// For each row the first thing that is wrong with it; empty as long as nothing is.
struct Faults {
    reasons: Vec<Option<String>>,
}

impl Faults {
    fn add(&mut self, good: &BooleanBuffer, reason: impl Fn() -> String) {
        if good.count_set_bits() == good.len() {
            return;
        }
        self.reasons.resize(good.len(), None);
        for (row, found) in self.reasons.iter_mut().enumerate() {
            if !good.value(row) && found.is_none() {
                *found = Some(reason());
            }
        }
    }
}

fn empty(field: &FieldSpec) -> String {
    format!("column {}: required but empty", field.name)
}

/// A row as people can read it; empty when it has a type that JSON has no word for.
fn as_json(row: &RecordBatch) -> Vec<u8> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    match writer.write(row).and_then(|()| writer.finish()) {
        Ok(()) => writer.into_inner().trim_ascii_end().to_vec(),
        Err(_) => Vec::new(),
    }
}
