//! Change files: the keyed rows of one epoch with weights, sealed with it, so that a lost race can
//! be repaired by applying them to another version of the table.
//!
//! A row of weight +1 is whole and replaces whatever has its key; a row of weight −1 has its key
//! columns and means that the key is gone. To be applied, all changes of one table and epoch have
//! to fit in memory.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int8Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use futures::stream::TryStreamExt;
use object_store::path::Path;

use sluice_core::{Error, Reservation, Result};

use super::keys::KeySet;
use super::lookup::holding;
use super::{Prepared, Rewrite, rewrite};
use crate::manifest::{DataFile, FileRef};
use crate::parquet::{
    Layout, PartitionedWriter, Read, SingleFile, Target, Workshop, WriteOptions, conform, project,
    read_file,
};
use crate::store::{Location, Store};

/// The last column of a change file: +1 or −1.
pub const WEIGHT_COLUMN: &str = "_weight";

/// The keyed rows of one epoch.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Whole rows, at most one per key.
    pub upserts: Vec<RecordBatch>,
    /// Keys whose earlier row goes away, with at least the key columns; a key that is replaced may
    /// be among `upserts` too.
    pub deletes: Vec<RecordBatch>,
}

/// Writes `changes` of a table with `schema` to `at`, one Parquet file.
pub async fn write_change_file(
    at: &Location,
    schema: &SchemaRef,
    changes: &Changes,
) -> Result<FileRef> {
    let mut writer = ChangeWriter::new(at, schema)?;
    for rows in &changes.deletes {
        writer.delete(rows).await?;
    }
    for rows in &changes.upserts {
        writer.upsert(rows).await?;
    }
    writer.finish().await
}

/// A change file being written. Dropping it leaves nothing visible behind.
pub struct ChangeWriter {
    full: SchemaRef,
    at: Location,
    /// Begun with its first rows.
    file: Option<SingleFile>,
}

impl ChangeWriter {
    /// Begins the change file `at` of a table with `schema`.
    pub fn new(at: &Location, schema: &SchemaRef) -> Result<Self> {
        Ok(Self { full: with_weight(schema)?, at: at.clone(), file: None })
    }

    /// Whole rows, at most one per key.
    pub async fn upsert(&mut self, rows: &RecordBatch) -> Result<()> {
        match rows.num_rows() {
            0 => Ok(()),
            _ => self.write(&weigh(rows, &self.full, 1)?).await,
        }
    }

    /// Keys whose earlier row goes away.
    pub async fn delete(&mut self, rows: &RecordBatch) -> Result<()> {
        match rows.num_rows() {
            0 => Ok(()),
            _ => self.write(&weigh(rows, &self.full, -1)?).await,
        }
    }

    /// Makes the file durable.
    pub async fn finish(mut self) -> Result<FileRef> {
        if self.file.is_none() {
            self.write(&RecordBatch::new_empty(self.full.clone())).await?;
        }
        let file = self.file.ok_or_else(|| Error::bug("a change file was not begun"))?;
        let written = file.seal()?.upload().await?;
        Ok(FileRef { path: written.path, bytes: written.bytes, sha256: None })
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let target = Target {
                    store: self.at.store.clone(),
                    object: self.at.path.clone(),
                    path: self.at.path.to_string(),
                    partition_values: Default::default(),
                    modified_ms: 0,
                };
                let options = WriteOptions::default();
                let shared = Workshop::new(&options)?;
                none.insert(SingleFile::new(target, self.full.clone(), &options, &shared, rows)?)
            }
        };
        file.write(rows).await
    }
}

/// Reads a change file of a table with `schema` into `memory`. A file that is gone or damaged is an
/// error of kind `Data`.
pub async fn read_change_file(
    store: &Store,
    file: &FileRef,
    schema: &SchemaRef,
    memory: &mut dyn Reservation,
) -> Result<Changes> {
    let full = with_weight(schema)?;
    let root = Location { store: store.clone(), path: Path::default() };
    let layout = Layout::new(root, full, Vec::new())?;
    let entry = DataFile { path: file.path.clone(), bytes: file.bytes, ..DataFile::default() };
    let mut batches = read_file(&layout, &entry, Read::default()).await?;
    let mut changes = Changes::default();
    while let Some(rows) = batches.try_next().await? {
        memory.insist(memory.bytes() + rows.get_array_memory_size())?;
        let Some(weights) = rows.column_by_name(WEIGHT_COLUMN) else {
            return Err(Error::data(format!("a change file has no weights path={}", file.path)));
        };
        let weights = weights.as_primitive::<Int8Type>();
        if weights.iter().any(|w| !matches!(w, Some(1 | -1))) {
            return Err(Error::data(format!("a change file has a bad weight path={}", file.path)));
        }
        let kept: BooleanArray = weights.iter().map(|w| Some(w == Some(1))).collect();
        let gone = arrow::compute::not(&kept)?;
        let plain = conform(&rows, &nullable(schema))?;
        push(&mut changes.upserts, conform(&filter_record_batch(&plain, &kept)?, schema)?);
        push(&mut changes.deletes, filter_record_batch(&plain, &gone)?);
    }
    Ok(changes)
}

/// Applies `changes` to a table whose active files are `files`, for a repair: the result is what
/// the epoch would have written had it been prepared against them.
pub async fn apply_change_file(
    layout: &Layout,
    files: &[DataFile],
    keys: &[String],
    changes: &Changes,
    writer: PartitionedWriter,
) -> Result<Prepared> {
    let schema = project(&nullable(&layout.schema), keys)?;
    let mut parts = Vec::with_capacity(changes.upserts.len() + changes.deletes.len());
    for rows in changes.upserts.iter().chain(&changes.deletes) {
        parts.push(conform(rows, &schema)?);
    }
    let key_rows = concat_batches(&schema, &parts)?;
    let set = KeySet::new(&nullable(&layout.schema), keys, &key_rows)?;
    let found = holding(layout, files, &set).await?;
    let matched: Vec<DataFile> = found.into_iter().map(|(file, _)| file).collect();
    let new_rows = &changes.upserts;
    let change = Rewrite { matched: &matched, keys, key_rows: &key_rows, new_rows };
    rewrite(layout, change, writer).await
}

fn push(batches: &mut Vec<RecordBatch>, rows: RecordBatch) {
    if rows.num_rows() > 0 {
        batches.push(rows);
    }
}

fn weigh(rows: &RecordBatch, full: &SchemaRef, weight: i8) -> Result<RecordBatch> {
    let weights = Arc::new(Int8Array::from(vec![weight; rows.num_rows()]));
    let plain: Vec<usize> = (0..full.fields().len() - 1).collect();
    let rows = conform(rows, &Arc::new(full.project(&plain)?))?;
    let mut columns = rows.columns().to_vec();
    columns.push(weights);
    Ok(RecordBatch::try_new(full.clone(), columns)?)
}

/// Deleted rows have nulls where their values are not known.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn with_weight(schema: &Schema) -> Result<SchemaRef> {
    if schema.index_of(WEIGHT_COLUMN).is_ok() {
        return Err(Error::config(format!("a keyed table cannot have a column {WEIGHT_COLUMN}"))
            .hint("give the column another name with AS"));
    }
    let mut fields: Vec<_> = nullable(schema).fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(WEIGHT_COLUMN, DataType::Int8, false)));
    Ok(Arc::new(Schema::new(fields)))
}
