//! Standard output: rows of a query in four formats, and the tables of reports.
//!
//! In: Arrow batches, or cells that a command has made. Out: bytes to a writer. NULL is empty in
//! CSV and `NULL` in tables; timestamps are ISO 8601, with `Z` when they are instants; decimals
//! are exact; binary is hexadecimal.

mod csv;
mod grid;
mod json;
mod table;
mod value;

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use clap::ValueEnum;
use sluice_core::Error;

use crate::failure::Failure;

pub use csv::{csv_header, csv_lines};
pub use grid::{Align, Grid, age, count, counted, seconds};
pub use json::{json_names, json_rows};
pub use table::TABLE_ROWS_MAX;
pub use value::values as json_values;

/// How rows of a query are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people; at most 10,000 rows.
    Table,
    /// A header and comma-separated rows; NULL is empty, an empty string is `""`.
    Csv,
    /// One JSON array of objects; decimals are strings.
    Json,
    /// One JSON object per line; decimals are strings.
    Ndjson,
}

/// Writes the rows of one query, in order.
pub trait RowWriter: Send {
    /// Takes rows of the schema it was made for.
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Failure>;

    /// Writes what is left. Nothing may be written afterwards.
    fn finish(&mut self) -> Result<(), Failure>;
}

/// A writer of rows of `schema` to `out`.
pub fn row_writer<'w>(
    format: Format,
    schema: &Schema,
    out: &'w mut (dyn Write + Send),
) -> Result<Box<dyn RowWriter + 'w>, Failure> {
    Ok(match format {
        Format::Table => Box::new(table::TableWriter::new(schema, out)),
        Format::Csv => Box::new(csv::CsvWriter::start(schema, out)?),
        Format::Json => Box::new(json::JsonWriter::array(schema, out)),
        Format::Ndjson => Box::new(json::JsonWriter::lines(schema, out)),
    })
}

/// Writes a JSON document and a line end.
pub fn write_json(out: &mut dyn Write, value: &serde_json::Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(json_error)?;
    writeln!(out, "{text}")?;
    Ok(())
}

fn json_error(error: serde_json::Error) -> Failure {
    match error.io_error_kind() {
        Some(kind) => std::io::Error::from(kind).into(),
        None => Failure::Failed(Error::bug("cannot write JSON").because(error)),
    }
}
