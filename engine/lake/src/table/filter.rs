//! The keys of many rows, by their hashes: which rows of a table may have one of them.
//!
//! In: key columns, batch by batch. Out: for each row of the table whether its key is among them; a
//! few rows of other keys pass too, which whoever looks at the keys has to see. Eight bytes a key
//! and the table's spare room are held, not the keys, and set aside in the run's pool.

use std::hash::BuildHasher;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use hashbrown::{DefaultHashBuilder, HashSet};

use sluice_core::{Reservation, Result};

use super::keys::KeySet;
use crate::manifest::DataFile;
use crate::parquet::{conform, project};

/// Up to so many keys are kept as they are, to rule out files by statistics: more touch most files
/// anyway.
const EXACT_MAX: usize = 64 * 1024;

/// A key in the table, at most 7/8 of whose places are taken, half of them right after it grew.
const KEY_BYTES: usize = 20;

/// The hashes of keys.
pub struct KeyFilter {
    schema: SchemaRef,
    table: SchemaRef,
    names: Vec<String>,
    converter: RowConverter,
    hasher: DefaultHashBuilder,
    hashes: HashSet<u64>,
    exact: Option<Vec<RecordBatch>>,
    memory: Box<dyn Reservation>,
}

impl KeyFilter {
    /// No keys yet, of the columns `keys` of a table with `schema`.
    pub fn new(schema: &Schema, keys: &[String], memory: Box<dyn Reservation>) -> Result<Self> {
        let table = SchemaRef::new(schema.clone());
        let schema = project(schema, keys)?;
        let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone()));
        Ok(Self {
            converter: RowConverter::new(fields.collect())?,
            schema,
            table,
            names: keys.to_vec(),
            hasher: DefaultHashBuilder::default(),
            hashes: HashSet::new(),
            exact: Some(Vec::new()),
            memory,
        })
    }

    /// Takes the keys of `rows`, which have the key columns. Errors: the pool has no room.
    pub fn insert(&mut self, rows: &RecordBatch) -> Result<()> {
        let rows = conform(rows, &self.schema)?;
        self.memory.resize((self.hashes.len() + rows.num_rows()) * KEY_BYTES)?;
        let encoded = self.converter.convert_columns(rows.columns())?;
        self.hashes.extend(encoded.iter().map(|row| self.hasher.hash_one(row.as_ref())));
        if self.hashes.len() > EXACT_MAX {
            self.exact = None;
        }
        if let Some(exact) = &mut self.exact {
            exact.push(rows);
        }
        Ok(())
    }

    /// The key columns.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Per row of `rows` whether its key may be one of them; never null.
    pub(super) fn contains(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let rows = conform(rows, &self.schema)?;
        let encoded = self.converter.convert_columns(rows.columns())?;
        let known = |row: arrow::row::Row<'_>| {
            Some(self.hashes.contains(&self.hasher.hash_one(row.as_ref())))
        };
        Ok(encoded.iter().map(known).collect())
    }

    /// Those of `files` that may have a row with one of the keys.
    pub(super) fn candidates(&self, files: &[DataFile]) -> Result<Vec<DataFile>> {
        if self.hashes.is_empty() {
            return Ok(Vec::new());
        }
        let Some(exact) = &self.exact else { return Ok(files.to_vec()) };
        let keys = concat_batches(&self.schema, exact)?;
        let set = KeySet::new(&self.table, &self.names, &keys)?;
        let mut candidates = Vec::new();
        for file in files {
            if set.may_be_in(file)? {
                candidates.push(file.clone());
            }
        }
        Ok(candidates)
    }
}
