//! One Parquet file being written: encoder, upload, and the facts that the log wants to know.
//!
//! Small files are one put; bigger ones are streamed in parts, so that a file never has to fit in
//! memory. Which rows go into which file is decided elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart};
use tokio::runtime::{Handle, RuntimeFlavor};

use sluice_core::{Error, Result};

use super::encode::{Encoder, Workshop};
use super::stats;
use super::writer::WriteOptions;
use crate::manifest::DataFile;
use crate::store::{Scheme, Store};

/// S3 wants parts of at least 5 MiB, and smaller parts mean less memory per open file.
const PART_BYTES: usize = 5 * 1024 * 1024;

/// A local disk takes parts of any size; below this the writes themselves would cost.
const LOCAL_PART_BYTES: usize = 512 * 1024;

/// Two parts on their way while the next is encoded; more would only cost memory.
const PARTS_IN_FLIGHT_MAX: usize = 2;

/// Fewer rows than this are encoded in well under a millisecond, and moving other tasks away would
/// cost more than it saves.
const HEAVY_ROWS: usize = 1024;

/// Where a file will lie and what is known of it before its rows.
pub(crate) struct Target {
    pub store: Store,
    pub object: Path,
    /// Relative to the table.
    pub path: String,
    pub partition_values: BTreeMap<String, Option<String>>,
    pub modified_ms: i64,
}

/// A file between its first row and its footer. Dropping it leaves nothing visible behind.
pub(crate) struct SingleFile {
    target: Target,
    encoder: Encoder,
    upload: Upload,
    rows: u64,
    /// Per stored column: whether a NaN was seen, which Parquet's own statistics leave out.
    nan: Vec<bool>,
}

impl SingleFile {
    /// Begins a file for rows of `schema`; `first` are rows it will hold, for how to encode them.
    pub(crate) fn new(
        target: Target,
        schema: SchemaRef,
        options: &WriteOptions,
        shared: &Workshop,
        first: &RecordBatch,
    ) -> Result<Self> {
        let nan = vec![false; schema.fields().len()];
        let encoder = Encoder::new(schema, options, shared, first)?
            .map_err(|e| failed("cannot begin a parquet file", &target.path, e))?;
        let upload = Upload::new(&target);
        Ok(Self { target, encoder, upload, rows: 0, nan })
    }

    /// Encodes `rows` and uploads what is finished.
    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        heavy(rows.num_rows(), || self.encode(rows))?;
        self.drain().await
    }

    /// The size the file would have if it ended here, roughly.
    pub(super) fn encoded_bytes(&self) -> u64 {
        (self.encoder.bytes_written() + self.encoder.group_bytes()) as u64
    }

    /// What the file holds in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.encoder.memory_bytes() + self.upload.memory_bytes()
    }

    /// What [`SingleFile::flush`] would move from the encoder to the upload.
    pub(super) fn unflushed_bytes(&self) -> usize {
        self.encoder.group_bytes()
    }

    /// Ends the row group.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let Self { encoder, target, .. } = self;
        heavy(HEAVY_ROWS, || encoder.flush())
            .map_err(|e| failed("cannot encode rows", &target.path, e))?;
        self.drain().await
    }

    /// Waits until no part is on its way.
    pub(super) async fn settle(&mut self) -> Result<()> {
        self.upload.settle().await
    }

    /// Writes the footer; what is left to do is upload.
    pub(crate) fn seal(mut self) -> Result<Sealed> {
        let Self { encoder, target, .. } = &mut self;
        let metadata = heavy(HEAVY_ROWS, || encoder.finish())
            .map_err(|e| failed("cannot end a file", &target.path, e))?;
        let last = Bytes::from(std::mem::take(self.encoder.bytes()));
        let file = DataFile {
            path: self.target.path,
            partition_values: self.target.partition_values,
            bytes: self.encoder.bytes_written() as u64,
            rows: self.rows,
            modified_ms: self.target.modified_ms,
            stats: Some(stats::json(&metadata, &self.nan)),
        };
        Ok(Sealed { file, last, upload: self.upload })
    }

    /// Encodes `rows`; what is finished waits to be drained.
    pub(super) fn encode(&mut self, rows: &RecordBatch) -> Result<()> {
        for (seen, column) in self.nan.iter_mut().zip(rows.columns()) {
            *seen = *seen || has_nan(column);
        }
        self.rows += rows.num_rows() as u64;
        let written = self.encoder.write(rows);
        written.map_err(|e| failed("cannot encode rows", &self.target.path, e))
    }

    /// Uploads what is finished, when it is worth a request.
    pub(super) async fn drain(&mut self) -> Result<()> {
        let ready = self.encoder.bytes();
        if ready.is_empty() || (ready.len() < self.upload.part_bytes && !self.upload.started()) {
            return Ok(());
        }
        let bytes = std::mem::take(ready);
        self.upload.put(Bytes::from(bytes)).await
    }
}

/// A file whose bytes are complete but not all uploaded.
pub(crate) struct Sealed {
    file: DataFile,
    last: Bytes,
    upload: Upload,
}

impl Sealed {
    /// Bytes in memory until the upload ends.
    pub(super) fn memory_bytes(&self) -> usize {
        self.last.len() + self.upload.memory_bytes()
    }

    /// Makes the file durable.
    pub(crate) async fn upload(self) -> Result<DataFile> {
        self.upload.finish(self.last).await?;
        Ok(self.file)
    }
}

/// Bytes on their way to one object.
struct Upload {
    store: Arc<dyn ObjectStore>,
    object: Path,
    part_bytes: usize,
    parts: Option<WriteMultipart>,
    /// Bytes handed over, all parts together.
    taken: usize,
    /// Whether parts may still be on their way.
    busy: bool,
}

impl Upload {
    fn new(target: &Target) -> Self {
        let (store, object) = (target.store.object_store(), target.object.clone());
        let part_bytes = match target.store.scheme() {
            Scheme::Local => LOCAL_PART_BYTES,
            _ => PART_BYTES,
        };
        Self { store, object, part_bytes, parts: None, taken: 0, busy: false }
    }

    fn started(&self) -> bool {
        self.parts.is_some()
    }

    fn memory_bytes(&self) -> usize {
        let in_flight = if self.busy { PARTS_IN_FLIGHT_MAX * self.part_bytes } else { 0 };
        self.taken % self.part_bytes + in_flight
    }

    async fn put(&mut self, bytes: Bytes) -> Result<()> {
        let part_bytes = self.part_bytes;
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => {
                let begun = self.store.put_multipart(&self.object).await;
                let upload = begun.map_err(|e| unwritten(&self.object, e))?;
                none.insert(WriteMultipart::new_with_chunk_size(upload, part_bytes))
            }
        };
        self.taken += bytes.len();
        self.busy = true;
        for start in (0..bytes.len()).step_by(part_bytes) {
            let room = parts.wait_for_capacity(PARTS_IN_FLIGHT_MAX).await;
            room.map_err(|e| unwritten(&self.object, e))?;
            parts.put(bytes.slice(start..bytes.len().min(start + part_bytes)));
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        if let Some(parts) = &mut self.parts {
            let settled = parts.wait_for_capacity(1).await;
            settled.map_err(|e| unwritten(&self.object, e))?;
        }
        self.busy = false;
        Ok(())
    }

    async fn finish(mut self, last: Bytes) -> Result<()> {
        if self.parts.is_none() && last.len() <= self.part_bytes {
            let put = self.store.put(&self.object, PutPayload::from_bytes(last)).await;
            return put.map(drop).map_err(|e| unwritten(&self.object, e));
        }
        self.put(last).await?;
        match self.parts {
            Some(parts) => {
                let done = parts.finish().await;
                done.map(drop).map_err(|e| unwritten(&self.object, e))
            }
            None => Err(Error::bug("a file with many bytes has no upload")),
        }
    }
}

/// Runs work on so many rows, which may take milliseconds; on a multi-threaded runtime other tasks
/// move away first.
pub(super) fn heavy<T>(rows: usize, work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|h| h.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) if rows >= HEAVY_ROWS => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn has_nan(column: &dyn Array) -> bool {
    match column.data_type() {
        DataType::Float32 => {
            column.as_primitive::<Float32Type>().values().iter().any(|v| v.is_nan())
        }
        DataType::Float64 => {
            column.as_primitive::<Float64Type>().values().iter().any(|v| v.is_nan())
        }
        _ => false,
    }
}

fn failed(what: &str, path: &str, error: parquet::errors::ParquetError) -> Error {
    Error::data(format!("{what} path={path}")).because(error)
}

fn unwritten(object: &Path, error: object_store::Error) -> Error {
    use object_store::Error::{PermissionDenied, Unauthenticated};
    let what = format!("cannot write a data file path={object}");
    match error {
        PermissionDenied { .. } | Unauthenticated { .. } => {
            Error::config(what).hint("check the credentials and the folder's permissions")
        }
        _ => Error::unavailable(what),
    }
    .because(error)
}
