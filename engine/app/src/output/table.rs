//! Rows as a table for people: all of it is held until the end, since widths come from the cells.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::value::texts;
use super::{Align, Grid, RowWriter};
use crate::failure::Failure;

/// Rows a table shows: nobody reads more, and they are held in memory. The other formats have no
/// limit.
pub const TABLE_ROWS_MAX: usize = 10_000;

pub(super) struct TableWriter<'w> {
    out: &'w mut (dyn Write + Send),
    grid: Grid,
    room: usize,
}

impl<'w> TableWriter<'w> {
    pub(super) fn new(schema: &Schema, out: &'w mut (dyn Write + Send)) -> Self {
        let columns = schema.fields().iter().map(|field| {
            let right = field.data_type().is_numeric();
            (field.name().as_str(), if right { Align::Right } else { Align::Left })
        });
        Self { out, grid: Grid::new(columns), room: TABLE_ROWS_MAX }
    }
}

impl RowWriter for TableWriter<'_> {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Failure> {
        let rows = rows.slice(0, rows.num_rows().min(self.room));
        self.room -= rows.num_rows();
        let columns = rows.columns().iter().map(texts).collect::<Result<Vec<_>, _>>()?;
        for row in 0..rows.num_rows() {
            let cell = |column: &Vec<Option<String>>| {
                column.get(row).cloned().flatten().unwrap_or_else(|| "NULL".to_string())
            };
            self.grid.row(columns.iter().map(cell));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        writeln!(self.out, "{}", self.grid)?;
        Ok(self.out.flush()?)
    }
}
