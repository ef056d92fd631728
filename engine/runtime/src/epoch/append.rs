//! Writing an epoch's rows: every partition of a plan goes through the expectations into its own
//! set of files.
//!
//! In: running streams. Out: files that nothing names yet, counts, and the rows themselves while
//! they are few enough to keep for the tables and views downstream. Rows of more partitions than
//! files may be open are sorted by partition first.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use parking_lot::Mutex;
use sluice_core::{Error, Memory, POSITION_COLUMN, Phases, Reservation, Result, Share};
use sluice_lake::manifest::DataFile;
use sluice_lake::parquet::{FileNaming, Layout, PartitionedWriter, WriteOptions};
use tokio::task::JoinSet;

use super::routing::{Outcome, Router};
use crate::catalog::{external, sql_error};
use crate::function::bytes_of;
use crate::plan::{TableNode, sorted};

/// New rows are kept in memory for downstream up to this many bytes per stream, and up to half of
/// what its open files may take: a quarter of a small pool, since they do not give way to others.
/// More are read back from the files. Small epochs, the ones that are often, stay in memory whole.
const KEEP_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Finished pages take this part of what a writer's files may take before they go to disk: the rest
/// is for rows that are no pages yet, which is what bounds how many files can be open.
const SPOOL_SHARE: usize = 16;

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
    /// How much of it one writer's open files may take, in bytes.
    pub writer_bytes_max: usize,
    /// Runs sorts within the pool.
    pub task: Arc<TaskContext>,
    /// Whether something downstream goes on from the new rows.
    pub read_on: bool,
    /// Where its time is counted.
    pub phases: Arc<Phases>,
}

impl Target {
    /// A writer of the target's files; `index` keeps concurrent writers apart.
    pub fn writer(&self, index: usize) -> Result<PartitionedWriter> {
        let prefix = format!("{}-{index}", self.prefix);
        let writer = PartitionedWriter::new(
            self.layout.clone(),
            WriteOptions {
                target_file_bytes: self.file_bytes,
                spool_bytes: self.writer_bytes_max / SPOOL_SHARE,
                ..WriteOptions::default()
            },
            FileNaming { prefix, modified_ms: self.modified_ms },
            Share::of(self.memory.as_ref(), &self.owner, self.writer_bytes_max),
        )?;
        Ok(writer.counted(self.phases.clone()))
    }

    /// `rows`, which have the target's columns, with those of one partition side by side.
    fn by_partition(&self, rows: SendableRecordBatchStream) -> Result<SendableRecordBatchStream> {
        let schema = &self.layout.schema;
        let columns = self.layout.partition_by.iter().map(|name| Ok(schema.index_of(name)?));
        sorted(rows, &columns.collect::<Result<Vec<_>>>()?, &self.task)
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
    stream: SendableRecordBatchStream,
    index: usize,
    target: &Target,
    router: &Router,
) -> Result<Appended> {
    let seen = Arc::new(Mutex::new(Appended::default()));
    let mut rows = routed(stream, target, router, &seen);
    let mut kept = Kept::of(target);
    let mut writer: Option<PartitionedWriter> = None;
    let mut is_sorted = false;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|e| sql_error(&format!("rows of {} failed", target.owner), e))?;
        if batch.num_rows() == 0 {
            continue;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(target.writer(index)?),
        };
        writer.write(&batch).await?;
        kept.add(batch);
        if writer.is_crowded() && !is_sorted {
            rows = target.by_partition(rows)?;
            is_sorted = true;
        }
    }
    drop(rows);
    let mut all = std::mem::take(&mut *seen.lock());
    all.rows = kept.rows;
    if let Some(writer) = writer {
        all.files = writer.finish().await?;
    }
    Ok(all)
}

/// The rows of `stream` that pass the expectations; what becomes of the others goes to `seen`.
fn routed(
    stream: SendableRecordBatchStream,
    target: &Target,
    router: &Router,
    seen: &Arc<Mutex<Appended>>,
) -> SendableRecordBatchStream {
    let (router, seen) = (router.clone(), seen.clone());
    let schema = target.layout.schema.clone();
    let route = {
        let schema = schema.clone();
        move |batch: RecordBatch| -> Result<RecordBatch> {
            let mut seen = seen.lock();
            seen.entering += batch.num_rows() as u64;
            let kept = router.route(fit(batch, &schema)?, &mut seen.outcome)?;
            seen.written += kept.num_rows() as u64;
            Ok(kept)
        }
    };
    let rows = stream.map(move |batch| route(batch?).map_err(external));
    Box::pin(RecordBatchStreamAdapter::new(schema, rows))
}

/// Rows kept for what is downstream, while they are few and the pool has room.
struct Kept {
    rows: Option<Vec<RecordBatch>>,
    memory: Box<dyn Reservation>,
}

impl Kept {
    fn of(target: &Target) -> Self {
        let owner = format!("new rows of {}", target.owner);
        let bytes_max = KEEP_BYTES_MAX.min(target.writer_bytes_max / 2);
        let memory = Share::of(target.memory.as_ref(), &owner, bytes_max);
        Self { rows: target.read_on.then(Vec::new), memory }
    }

    fn add(&mut self, batch: RecordBatch) {
        let Some(rows) = self.rows.as_mut() else { return };
        let bytes = self.memory.bytes() + bytes_of(&batch);
        if self.memory.resize(bytes).is_ok() {
            rows.push(batch);
        } else {
            self.rows = None;
            // Giving back is never refused.
            drop(self.memory.resize(0));
        }
    }
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

/// Writes rows, one batch after another.
pub(super) async fn write_rows(
    target: &Target,
    rows: impl Iterator<Item = Result<RecordBatch>> + Send,
) -> Result<Vec<DataFile>> {
    let mut writer = target.writer(0)?;
    for batch in rows {
        let batch = fit(batch?, &target.layout.schema)?;
        if batch.num_rows() > 0 {
            writer.write(&batch).await?;
        }
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
    memory: &mut dyn Reservation,
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
            memory.insist(memory.bytes() + bytes_of(&kept))?;
            rows.push(with_marks(kept, schema, node)?);
        }
    }
    Ok((rows, outcome, entering))
}

/// Rows of a keyed table with their marks behind the table's columns.
pub(super) fn with_marks(
    batch: RecordBatch,
    schema: &SchemaRef,
    node: &TableNode,
) -> Result<RecordBatch> {
    let width = schema.fields().len();
    let mut columns = batch.columns()[..width].to_vec();
    let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.extend(marks(node));
    if let Some(delete_when) = &node.delete_when {
        let table = RecordBatch::try_new(schema.clone(), columns.clone())?;
        let value = delete_when
            .evaluate(&table)
            .and_then(|v| v.into_array(table.num_rows()))
            .map_err(|e| sql_error("delete_when failed", e))?;
        columns.push(value);
    }
    if node.carried.position {
        columns.push(batch.column(width).clone());
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The marks behind a keyed table's columns: whether the row deletes, and where it came from.
pub(super) fn marks(node: &TableNode) -> impl Iterator<Item = Field> {
    let delete = node.delete_when.is_some();
    let delete = delete.then(|| Field::new("_delete", DataType::Boolean, true));
    let position = node.carried.position;
    delete.into_iter().chain(position.then(|| Field::new(POSITION_COLUMN, DataType::Int64, true)))
}
