//! The work of one epoch for one file sink, and for the rows that could not be decoded.
//!
//! Files are written finished into the staging folder of the lake's store, sealed with the epoch,
//! and copied to their final names when it is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, SendableRecordBatchStream};
use futures::StreamExt;
use object_store::buffered::BufWriter;
use sluice_core::{
    BuiltSink, Error, FileSink, FileSizing, Reservation, Result, Step, reach, rejected_schema,
};
use sluice_lake::manifest::{Action, Copy, FilesAction, OutboxAction, TableCounts, TablePart};
use sluice_lake::store::{Location, Scheme};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::Lake;
use super::intake::Taken;
use super::work::{NewRows, Open, Worker};
use crate::catalog::{rejected_batch, sql_error};
use crate::outbox;
use crate::plan::{Carried, Role, SinkNode, physical, rejected_name, sink_name, streams};

/// Parts of a file that is uploaded while it is written: S3 takes 10,000, so this reaches 78 GiB.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// The same on a local disk, where a part costs next to nothing.
const LOCAL_PART_BYTES: usize = 512 * 1024;

/// Parts on their way while the next is encoded. With [`PART_BYTES`] and the one being filled this
/// bounds a file's memory at 32 MiB; latency is hidden by fewer.
const PARTS_IN_FLIGHT_MAX: usize = 3;

impl Worker {
    /// Runs one sink's node over the new rows of what it is fed from.
    pub(super) async fn run_sink(&mut self, open: &mut Open<'_>, node: &SinkNode) -> Result<()> {
        let Some(provider) = self.input(open, &node.spec.from, Role::New, Carried::default())?
        else {
            return Ok(());
        };
        if let Some(NewRows::Memory(rows)) = open.new_rows.get(&node.spec.from)
            && rows.iter().all(|b| b.num_rows() == 0)
        {
            return Ok(());
        }
        let factory = self
            .env
            .registry
            .sink(&node.spec.connector)
            .ok_or_else(|| Error::bug("a sink has no connector"))?;
        let plan = crate::plan::leaf_plan(&node.spec.from, &provider.schema())?;
        let tables = BTreeMap::from([(node.spec.from.clone(), provider)]);
        let plan = physical(&self.context, &plan, &tables).await?;
        match factory.build(&node.spec.config)? {
            BuiltSink::Files(sink) => self.run_files(open, node, sink, plan).await,
            BuiltSink::Outlet(_) => self.run_outbox(open, node, plan).await,
        }
    }

    /// Rows that wait to be delivered once the epoch is published.
    async fn run_outbox(
        &mut self,
        open: &mut Open<'_>,
        node: &SinkNode,
        plan: Arc<dyn ExecutionPlan>,
    ) -> Result<()> {
        let schema = self.graph.columns_of(&node.spec.from);
        let schema = schema.ok_or_else(|| Error::bug("a sink is fed from nothing"))?;
        let place = outbox::Place {
            outbox: outbox::Outbox::new(&self.lake.root, &self.identity.job, &node.spec.name),
            schema,
            epoch: open.epoch,
            unique: open.unique.clone(),
            memory: (self.env.memory.clone(), self.env.writer_bytes_max()),
            now_ms: open.opened_at_ms,
        };
        let files = outbox::write(streams(&self.context, plan)?, &place).await?;
        reach(Step::OutboxWritten, open.epoch);
        let written = files.iter().map(|f| f.rows).sum();
        let counts = TableCounts { entering: written, written, ..TableCounts::default() };
        let action = match files.is_empty() {
            true => Action::None,
            false => Action::Outbox(OutboxAction { files }),
        };
        open.tables.insert(sink_name(&node.spec.name), TablePart { counts, action });
        Ok(())
    }

    async fn run_files(
        &mut self,
        open: &mut Open<'_>,
        node: &SinkNode,
        sink: Arc<dyn FileSink>,
        mut plan: Arc<dyn ExecutionPlan>,
    ) -> Result<()> {
        let end = sink_location(&self.lake, sink.path())?;
        if let FileSizing::Count(files) = sink.sizing() {
            let spread = Partitioning::RoundRobinBatch(files as usize);
            plan = Arc::new(
                RepartitionExec::try_new(plan, spread)
                    .map_err(|e| sql_error("cannot spread rows over files", e))?,
            );
        }
        let staged = self.lake.staged(open.epoch, &open.unique);
        let staged = staged.child(&node.spec.name);
        let mut tasks = JoinSet::new();
        for (index, stream) in streams(&self.context, plan)?.into_iter().enumerate() {
            let folder = staged.child(&index.to_string());
            let (sink, memory) = (sink.clone(), self.env.memory.clone());
            let owner = format!("files of sink {}", node.spec.name);
            tasks.spawn(async move {
                let held = memory.reserve(&owner);
                write_files(stream, &*sink, &folder, held).await
            });
        }
        let mut files = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.map_err(|e| Error::bug("a sink ended by itself").because(e))?;
            files.extend(ended?);
        }
        self.record_sink(open, node, &end, sink.extension(), files);
        Ok(())
    }

    fn record_sink(
        &self,
        open: &mut Open<'_>,
        node: &SinkNode,
        end: &Location,
        extension: &str,
        mut files: Vec<Staged>,
    ) {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let written = files.iter().map(|f| f.rows).sum();
        let (short, epoch) = (self.identity.short(), open.epoch);
        let copies = files
            .into_iter()
            .enumerate()
            .map(|(k, file)| Copy {
                from: file.path,
                to: end
                    .child(&format!("part-{short}-{epoch:020}-{k}.{extension}"))
                    .path
                    .to_string(),
                bytes: file.bytes,
                rows: file.rows,
                partition_values: BTreeMap::new(),
            })
            .collect();
        let location = end.path.to_string();
        let action = Action::Files(FilesAction { location, copies, ..FilesAction::default() });
        let counts = TableCounts { entering: written, written, ..TableCounts::default() };
        open.tables.insert(sink_name(&node.spec.name), TablePart { counts, action });
    }

    /// Appends the rows and files that a source could not decode to `<source>__rejected`.
    pub(super) async fn run_rejected(&mut self, open: &mut Open<'_>, taken: &Taken) -> Result<()> {
        let mut aside = taken.tally.take_rejected();
        if !taken.unreadable.is_empty() {
            aside.push(rejected_batch(&taken.unreadable)?)?;
        }
        let epoch = open.epoch;
        let count = aside.rows();
        let rows = aside.batches()?.map(move |rows| of_epoch(epoch, &rows?));
        self.replace_files(open, &rejected_name(&taken.name), &taken.retracted, count, rows).await
    }
}

/// Where a sink writes. Errors: `Config` when that is another store than the lake's.
pub fn sink_location(lake: &Lake, path: &str) -> Result<Location> {
    let end = sluice_lake::store::open(path, &sluice_core::Secrets::default())?;
    if end.store.id() != lake.root.store.id() {
        return Err(Error::config(format!("a file sink lies in another store path={path}"))
            .hint("put the sink's path into the same store as the lake"));
    }
    Ok(Location { store: lake.root.store.clone(), path: end.path })
}

struct Staged {
    path: String,
    bytes: u64,
    rows: u64,
}

async fn write_files(
    mut stream: SendableRecordBatchStream,
    sink: &dyn FileSink,
    folder: &Location,
    mut memory: Box<dyn Reservation>,
) -> Result<Vec<Staged>> {
    let cut = match sink.sizing() {
        FileSizing::Count(_) => u64::MAX,
        FileSizing::TargetBytes(bytes) => bytes,
    };
    let mut files: Vec<Staged> = Vec::new();
    let mut current: Option<OpenFile> = None;
    // A fixed number of files exists even when there are fewer rows than files.
    if matches!(sink.sizing(), FileSizing::Count(_)) {
        current = Some(OpenFile::begin(sink, stream.schema(), folder, 0).await?);
    }
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(|e| sql_error("a query failed", e))?;
        let mut file = match current.take() {
            Some(file) => file,
            None => OpenFile::begin(sink, batch.schema(), folder, files.len()).await?,
        };
        file.write(&batch).await?;
        memory.insist(file.memory_bytes())?;
        if file.bytes >= cut {
            files.push(file.finish().await?);
        } else {
            current = Some(file);
        }
    }
    if let Some(file) = current {
        files.push(file.finish().await?);
    }
    Ok(files)
}

struct OpenFile {
    encoder: Box<dyn sluice_core::FileEncoder>,
    upload: BufWriter,
    upload_bytes_max: usize,
    path: String,
    bytes: u64,
    rows: u64,
}

impl OpenFile {
    async fn begin(
        sink: &dyn FileSink,
        schema: arrow::datatypes::SchemaRef,
        folder: &Location,
        index: usize,
    ) -> Result<Self> {
        let at = folder.child(&format!("{index}.{}", sink.extension()));
        let path = at.path.to_string();
        let part = match at.store.scheme() {
            Scheme::Local => LOCAL_PART_BYTES,
            _ => PART_BYTES,
        };
        let upload = BufWriter::with_capacity(at.store.object_store(), at.path, part);
        let upload = upload.with_max_concurrency(PARTS_IN_FLIGHT_MAX);
        let upload_bytes_max = part * (1 + PARTS_IN_FLIGHT_MAX);
        Ok(Self {
            encoder: sink.encoder(schema)?,
            upload,
            upload_bytes_max,
            path,
            bytes: 0,
            rows: 0,
        })
    }

    /// Bytes of rows that are not encoded yet, and of parts that may be on their way.
    fn memory_bytes(&self) -> usize {
        let sent = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        self.encoder.memory_bytes() + sent.min(self.upload_bytes_max)
    }

    async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.encoder.write(batch)?;
        self.rows += batch.num_rows() as u64;
        let ready = self.encoder.take();
        self.bytes += ready.len() as u64;
        self.send(ready).await
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.upload.put(bytes.into()).await.map_err(|e| upload_failed(&self.path, e.into()))
    }

    async fn finish(mut self) -> Result<Staged> {
        let rest = self.encoder.finish()?;
        self.bytes += rest.len() as u64;
        let sent = self.upload.put(rest.into()).await;
        sent.map_err(|e| upload_failed(&self.path, e.into()))?;
        self.upload.shutdown().await.map_err(|e| upload_failed(&self.path, e))?;
        Ok(Staged { path: self.path, bytes: self.bytes, rows: self.rows })
    }
}

fn upload_failed(path: &str, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot upload a file path={path}")).because(error)
}

/// Rejected rows of `epoch`.
fn of_epoch(epoch: u64, rejected: &RecordBatch) -> Result<RecordBatch> {
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from_value(epoch, rejected.num_rows()))];
    columns.extend(rejected.columns().iter().cloned());
    Ok(RecordBatch::try_new(rejected_schema(), columns)?)
}
