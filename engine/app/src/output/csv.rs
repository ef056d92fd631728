//! CSV as in RFC 4180, with line feeds. NULL is empty, an empty string is `""`.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use sluice_core::Result;

use super::RowWriter;
use super::value::texts;
use crate::failure::Failure;

pub(super) struct CsvWriter<'w> {
    out: &'w mut (dyn Write + Send),
}

impl<'w> CsvWriter<'w> {
    /// Writes the header.
    pub(super) fn start(schema: &Schema, out: &'w mut (dyn Write + Send)) -> Result<Self, Failure> {
        out.write_all(csv_header(schema).as_bytes())?;
        Ok(Self { out })
    }
}

impl RowWriter for CsvWriter<'_> {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Failure> {
        Ok(self.out.write_all(csv_lines(rows)?.as_bytes())?)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
}

/// The names of the columns as a line.
pub fn csv_header(schema: &Schema) -> String {
    let mut line = String::new();
    for (i, field) in schema.fields().iter().enumerate() {
        push_cell(&mut line, i, Some(field.name()));
    }
    line.push('\n');
    line
}

/// A line per row.
pub fn csv_lines(rows: &RecordBatch) -> Result<String> {
    let columns = rows.columns().iter().map(texts).collect::<Result<Vec<_>>>()?;
    let mut lines = String::new();
    for row in 0..rows.num_rows() {
        for (i, column) in columns.iter().enumerate() {
            push_cell(&mut lines, i, column.get(row).and_then(Option::as_deref));
        }
        lines.push('\n');
    }
    Ok(lines)
}

fn push_cell(line: &mut String, column: usize, text: Option<&str>) {
    if column > 0 {
        line.push(',');
    }
    let Some(text) = text else { return };
    if text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
}
