//! What is kept beside a keyed table, so that rows that come late find their place.
//!
//! A table shows the newest row of a key, not when a key was deleted nor, where NULL fields keep
//! older values, how old each of those is. Rows here say so, for the keys that need it: per deleted
//! key one, and with `coalesce` one per key whose fields come from rows of different sequence. They
//! are kept in memory and sealed with the epoch, and never forgotten as long as a late row may come.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{cast, filter_record_batch, or};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use sluice_core::{Error, Reservation, Result};

use super::UpsertSpec;
use crate::operator::keyed::KeyedRows;

/// The rows that are remembered of one table.
#[derive(Debug)]
pub struct Remembered {
    rows: KeyedRows,
    layout: Layout,
}

impl Remembered {
    /// Nothing remembered yet; nothing at all where `spec` needs no memory.
    pub fn new(spec: &UpsertSpec, table: &SchemaRef) -> Result<Option<Self>> {
        let Some(sequence) = spec.sequence.filter(|_| spec.coalesce || spec.delete.is_some())
        else {
            return Ok(None);
        };
        let layout = Layout::new(spec, table);
        let age = table.field(sequence).data_type();
        let named = |name: String, data_type: &DataType| Field::new(name, data_type.clone(), true);
        let mut fields = vec![];
        for &key in &spec.keys {
            let field = table.field(key);
            fields.push(named(format!("key.{}", field.name()), field.data_type()));
        }
        fields.push(named("deleted".to_string(), &DataType::Boolean));
        fields.push(named("deleted_at".to_string(), age));
        if spec.coalesce {
            fields.push(named("dated".to_string(), &DataType::Boolean));
            let at = |f: &usize| named(format!("at.{}", table.field(*f).name()), age);
            fields.extend(layout.fields.iter().map(at));
        }
        let rows = KeyedRows::new(Arc::new(Schema::new(fields)), spec.keys.len())?;
        Ok(Some(Self { rows, layout }))
    }

    /// What is remembered of those keys.
    pub fn of(&self, keys: &RecordBatch) -> Result<RecordBatch> {
        self.rows.find(keys)
    }

    /// Remembers what [`super::resolve`] said.
    pub fn put(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 { Ok(()) } else { self.rows.put(rows) }
    }

    /// Counts what is held in `memory`.
    pub fn hold_in(&mut self, memory: Box<dyn Reservation>) -> Result<()> {
        self.rows.hold_in(memory)
    }

    /// Takes back sealed state: the base first, then deltas in the order they were sealed. What
    /// was not remembered when it was sealed is NULL; what is not any more falls away.
    ///
    /// # Errors
    /// `Config` when the state is of another key.
    pub fn restore(&mut self, files: Vec<RecordBatch>) -> Result<()> {
        let schema = self.rows.schema();
        let mut rows = Vec::with_capacity(files.len());
        for batch in files {
            let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
                Some(column) => Ok(cast(column, field.data_type())?),
                None if field.name().starts_with("key.") => Err(other_key()),
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            };
            let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
            rows.push(RecordBatch::try_new(schema.clone(), columns)?);
        }
        self.rows.restore(rows)
    }

    /// What changed since the last call.
    pub fn delta(&mut self) -> Result<Option<RecordBatch>> {
        self.rows.delta()
    }

    /// Everything that is worth remembering. At least one batch, which may be empty.
    pub fn base(&self) -> Result<Vec<RecordBatch>> {
        let mut base = vec![RecordBatch::new_empty(self.rows.schema())];
        for batch in self.rows.base()? {
            let flag = |column: usize| batch.column(column).as_boolean();
            let mut worth: BooleanArray = flag(self.layout.deleted()).clone();
            if self.layout.coalesce {
                worth = or(&worth, flag(self.layout.dated()))?;
            }
            base.push(filter_record_batch(&batch, &worth)?);
        }
        Ok(base)
    }
}

fn other_key() -> Error {
    Error::config("what is remembered of late rows belongs to another key of the table")
        .hint("run with --rebuild to make the table again from the sources")
}

/// Where the columns of remembered rows are: the key, whether a delete is remembered, its sequence,
/// whether fields have a sequence of their own, and those, one per field.
#[derive(Debug)]
pub(super) struct Layout {
    keys: usize,
    coalesce: bool,
    /// The table's columns that are neither key nor sequence.
    fields: Vec<usize>,
}

impl Layout {
    pub fn new(spec: &UpsertSpec, table: &Schema) -> Self {
        let is_field = |c: &usize| !spec.keys.contains(c) && spec.sequence != Some(*c);
        let fields = (0..table.fields().len()).filter(is_field).collect();
        Self { keys: spec.keys.len(), coalesce: spec.coalesce, fields }
    }

    /// The fields whose sequences are kept, in order.
    pub fn fields(&self) -> &[usize] {
        &self.fields
    }

    pub fn deleted(&self) -> usize {
        self.keys
    }

    pub fn dated(&self) -> usize {
        self.keys + 2
    }

    /// The columns that hold sequences: the delete's, then one per field.
    pub fn ages(&self) -> impl Iterator<Item = usize> {
        let fields = if self.coalesce { self.fields.len() } else { 0 };
        let first = self.dated() + 1;
        std::iter::once(self.keys + 1).chain(first..first + fields)
    }

    pub fn flag(&self, rows: &RecordBatch, column: usize, row: usize) -> bool {
        let flags = rows.column(column).as_boolean();
        flags.is_valid(row) && flags.value(row)
    }
}
