//! CSV as in RFC 4180, with line feeds. NULL is empty, an empty string is `""`.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::RowWriter;
use super::value::texts;
use crate::failure::Failure;

pub(super) struct CsvWriter<'w> {
    out: &'w mut (dyn Write + Send),
}

impl<'w> CsvWriter<'w> {
    /// Writes the header.
    pub(super) fn start(schema: &Schema, out: &'w mut (dyn Write + Send)) -> Result<Self, Failure> {
        let mut line = String::new();
        for (i, field) in schema.fields().iter().enumerate() {
            push_cell(&mut line, i, Some(field.name()));
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
        Ok(Self { out })
    }
}

impl RowWriter for CsvWriter<'_> {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Failure> {
        let columns = rows.columns().iter().map(texts).collect::<Result<Vec<_>, _>>()?;
        let mut lines = String::new();
        for row in 0..rows.num_rows() {
            for (i, column) in columns.iter().enumerate() {
                push_cell(&mut lines, i, column.get(row).and_then(Option::as_deref));
            }
            lines.push('\n');
        }
        self.out.write_all(lines.as_bytes())?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
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
