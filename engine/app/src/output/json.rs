//! Rows as JSON objects: one array, or one object per line.

use std::collections::BTreeSet;
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use serde_json::{Map, Value};
use sluice_core::Result;

use super::value::values;
use super::{RowWriter, json_error};
use crate::failure::Failure;

pub(super) struct JsonWriter<'w> {
    out: &'w mut (dyn Write + Send),
    names: Vec<String>,
    array: bool,
    rows: u64,
}

impl<'w> JsonWriter<'w> {
    /// One array of objects.
    pub(super) fn array(schema: &Schema, out: &'w mut (dyn Write + Send)) -> Self {
        Self { out, names: json_names(schema), array: true, rows: 0 }
    }

    /// One object per line.
    pub(super) fn lines(schema: &Schema, out: &'w mut (dyn Write + Send)) -> Self {
        Self { out, names: json_names(schema), array: false, rows: 0 }
    }
}

impl RowWriter for JsonWriter<'_> {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Failure> {
        for row in json_rows(&self.names, rows)? {
            if self.array {
                self.out.write_all(if self.rows == 0 { b"[\n" } else { b",\n" })?;
            }
            serde_json::to_writer(&mut *self.out, &row).map_err(json_error)?;
            if !self.array {
                self.out.write_all(b"\n")?;
            }
            self.rows += 1;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if self.array {
            self.out.write_all(if self.rows == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        Ok(self.out.flush()?)
    }
}

/// An object per row; `names` are those of [`json_names`].
pub fn json_rows(names: &[String], rows: &RecordBatch) -> Result<Vec<Map<String, Value>>> {
    let columns = rows.columns().iter().map(values).collect::<Result<Vec<_>>>()?;
    let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
    let mut row = || -> Map<String, Value> {
        let cells = columns.iter_mut().map(|c| c.next().unwrap_or(Value::Null));
        names.iter().cloned().zip(cells).collect()
    };
    Ok((0..rows.num_rows()).map(|_| row()).collect())
}

/// The columns' names; a name that comes again gets a number, since an object cannot hold both.
pub fn json_names(schema: &Schema) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for field in schema.fields() {
        let mut name = field.name().clone();
        let mut number = 2;
        while !seen.insert(name.clone()) {
            name = format!("{}_{number}", field.name());
            number += 1;
        }
        names.push(name);
    }
    names
}
