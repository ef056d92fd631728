//! Writing an epoch's rows: every partition of a plan goes through the expectations into its own
//! set of files.
//!
//! In: running streams. Out: files that nothing names yet, counts, and the rows themselves while
//! they are few enough to keep for the tables and views downstream.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use sluice_core::{Error, Memory, POSITION_COLUMN, Result};
use sluice_lake::manifest::DataFile;
use sluice_lake::parquet::{FileNaming, Layout, PartitionedWriter, WriteOptions};
use tokio::task::JoinSet;

use super::routing::{Outcome, Router};
use crate::catalog::sql_error;
use crate::plan::TableNode;

/// New rows are kept in memory for downstream up to this many bytes per stream; more are read back
/// from the files. Small epochs, the ones that are often, stay in memory whole.
const KEEP_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Where and how files are written.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The folder that file paths are relative to, the columns, the partitions.
    pub layout: Layout,
    /// The files' time in the log, milliseconds since 1970.
    pub modified_ms: i64,
    /// The beginning of file names; the writer's number follows.
    pub prefix: String,
    /// A file is ended when it is about this large.
    pub file_bytes: u64,
    /// Who holds the memory, for messages.
    pub owner: String,
    /// The pool.
    pub memory: Arc<dyn Memory>,
}

impl Target {
    /// A writer of the target's files; `index` keeps concurrent writers apart.
    pub fn writer(&self, index: usize) -> Result<PartitionedWriter> {
        let prefix = format!("{}-{index}", self.prefix);
        PartitionedWriter::new(
            self.layout.clone(),
            WriteOptions { target_file_bytes: self.file_bytes, ..WriteOptions::default() },
            FileNaming { prefix, modified_ms: self.modified_ms },
            self.memory.reserve(&self.owner),
        )
    }
}

/// What became of the rows of some streams.
#[derive(Debug, Default)]
pub(super) struct Appended {
    /// Files written.
    pub files: Vec<DataFile>,
    /// Rows written, while all of them fit; none once they did not.
    pub rows: Option<Vec<RecordBatch>>,
    /// What the expectations did.
    pub outcome: Outcome,
    /// Rows that entered.
    pub entering: u64,
    /// Rows written.
    pub written: u64,
}

/// Runs `streams` to their end into files of `target`.
pub(super) async fn append(
    streams: Vec<SendableRecordBatchStream>,
    target: &Target,
    router: &Router,
) -> Result<Appended> {
    let mut tasks = JoinSet::new();
    for (index, stream) in streams.into_iter().enumerate() {
        let (target, router) = (target.clone(), router.clone());
        tasks.spawn(async move { append_one(stream, index, &target, &router).await });
    }
    let mut total = Appended { rows: Some(Vec::new()), ..Appended::default() };
    while let Some(ended) = tasks.join_next().await {
        let one = ended.map_err(|e| Error::bug("a writer ended by itself").because(e))??;
        total.entering += one.entering;
        total.written += one.written;
        total.files.extend(one.files);
        total.outcome.merge(one.outcome);
        total.rows = match (total.rows, one.rows) {
            (Some(mut all), Some(rows)) => {
                all.extend(rows);
                Some(all)
            }
            _ => None,
        };
    }
    total.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(total)
}

async fn append_one(
    mut stream: SendableRecordBatchStream,
    index: usize,
    target: &Target,
    router: &Router,
) -> Result<Appended> {
    let mut writer = None;
    let mut all = Appended { rows: Some(Vec::new()), ..Appended::default() };
    let mut kept_bytes = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|e| sql_error("a query failed", e))?;
        if batch.num_rows() == 0 {
            continue;
        }
        all.entering += batch.num_rows() as u64;
        let batch = fit(batch, &target.layout.schema)?;
        let kept = router.route(batch, &mut all.outcome)?;
        if kept.num_rows() == 0 {
            continue;
        }
        all.written += kept.num_rows() as u64;
        if writer.is_none() {
            writer = Some(target.writer(index)?);
        }
        if let Some(writer) = writer.as_mut() {
            writer.write(&kept).await?;
        }
        kept_bytes += kept.get_array_memory_size();
        if kept_bytes > KEEP_BYTES_MAX {
            all.rows = None;
        }
        if let Some(rows) = all.rows.as_mut() {
            rows.push(kept);
        }
    }
    if let Some(writer) = writer {
        all.files = writer.finish().await?;
    }
    Ok(all)
}

/// The batch under the table's own schema: plans may name their columns' nullability differently.
pub(super) fn fit(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema().as_ref() == schema.as_ref() {
        return Ok(batch);
    }
    let width = schema.fields().len();
    let columns = batch.columns().iter().take(width).zip(schema.fields());
    let cast = columns
        .map(|(column, field)| arrow::compute::cast(column, field.data_type()))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema.clone(), cast)?)
}

/// Writes rows that are in memory already.
pub(super) async fn write_rows(target: &Target, rows: &[RecordBatch]) -> Result<Vec<DataFile>> {
    if rows.iter().all(|b| b.num_rows() == 0) {
        return Ok(Vec::new());
    }
    let mut writer = target.writer(0)?;
    for batch in rows {
        writer.write(&fit(batch.clone(), &target.layout.schema)?).await?;
    }
    writer.finish().await
}

/// Runs `streams` to their end into memory: the rows of a keyed table, whose duplicates have to be
/// seen together. After the table's columns come the delete mark, when the table has one, and the
/// position, when the plan carries it.
pub(super) async fn gather(
    streams: Vec<SendableRecordBatchStream>,
    schema: &SchemaRef,
    node: &TableNode,
    router: &Router,
) -> Result<(Vec<RecordBatch>, Outcome, u64)> {
    let (mut rows, mut outcome, mut entering) = (Vec::new(), Outcome::default(), 0);
    let mut all = futures::stream::select_all(streams);
    while let Some(batch) = all.next().await {
        let batch = batch.map_err(|e| sql_error("a query failed", e))?;
        if batch.num_rows() == 0 {
            continue;
        }
        entering += batch.num_rows() as u64;
        let kept = router.route(batch, &mut outcome)?;
        if kept.num_rows() > 0 {
            rows.push(with_marks(kept, schema, node)?);
        }
    }
    Ok((rows, outcome, entering))
}

fn with_marks(batch: RecordBatch, schema: &SchemaRef, node: &TableNode) -> Result<RecordBatch> {
    let width = schema.fields().len();
    let mut columns = batch.columns()[..width].to_vec();
    let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    if let Some(delete_when) = &node.delete_when {
        let table = RecordBatch::try_new(schema.clone(), columns.clone())?;
        let value = delete_when
            .evaluate(&table)
            .and_then(|v| v.into_array(table.num_rows()))
            .map_err(|e| sql_error("delete_when failed", e))?;
        columns.push(value);
        fields.push(Field::new("_delete", DataType::Boolean, true));
    }
    if node.carried.position {
        columns.push(batch.column(width).clone());
        fields.push(Field::new(POSITION_COLUMN, DataType::Int64, true));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
