//! Writes rows into partitioned Parquet files with a bounded number of files and bytes in memory.
//!
//! In: batches in any order. Out: the finished files. One writer is driven by one task; a run has
//! one per core. Nothing it writes is visible to readers until somebody names the files.

use std::collections::HashMap;
use std::iter::Peekable;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tokio::task::JoinSet;

use sluice_core::{Error, Phase, Phases, Reservation, Result};

use super::encode::Workshop;
use super::file::{Sealed, SingleFile, Target, heavy};
use super::split::{Key, Slice, split};
use super::{Layout, conform, hive};
use crate::manifest::DataFile;

/// Ending a file on a remote store is one slow request; eight at once hide that, and their bytes
/// (at most one part each) still fit in any pool.
const UPLOADS_MAX: usize = 8;

/// A row group below this is not worth ending when memory is short: the file is ended instead.
const FLUSH_BYTES_MIN: usize = 1024 * 1024;

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Zstandard, level 1.
    #[default]
    Zstd,
    /// Snappy: larger files, slightly faster.
    Snappy,
}

/// How files are written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Compression; default Zstandard.
    pub codec: Codec,
    /// A file is ended when it reaches about this size; default 128 MiB.
    pub target_file_bytes: u64,
    /// Rows per row group; default 1 Mi.
    pub row_group_rows: usize,
    /// Files open at once; default 64. Each holds the encoders of all columns (some 100 KiB to a
    /// few MiB), so 64 is what a core's share of a small pool carries.
    pub open_max: usize,
    /// Bytes of finished pages that the open files of a writer keep in memory together, until their
    /// row groups end; more wait in a temporary file. Default 64 MiB.
    pub spool_bytes: usize,
    /// Whether partition columns are stored in the files too; default false. Delta forbids it.
    pub keep_partition_columns: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            codec: Codec::Zstd,
            target_file_bytes: 128 * 1024 * 1024,
            row_group_rows: 1024 * 1024,
            open_max: 64,
            spool_bytes: 64 * 1024 * 1024,
            keep_partition_columns: false,
        }
    }
}

/// What files are called: `<prefix>-<k>.parquet`, k counted from 0 per writer.
#[derive(Debug, Clone)]
pub struct FileNaming {
    /// Unique per writer and attempt: no two writers may ever share it.
    pub prefix: String,
    /// The files' modification time in the log, milliseconds since 1970.
    pub modified_ms: i64,
}

/// A set of open files, one per partition that is being written.
pub struct PartitionedWriter {
    layout: Layout,
    options: WriteOptions,
    naming: FileNaming,
    memory: Box<dyn Reservation>,
    partition: Vec<usize>,
    stored: Vec<usize>,
    stored_schema: SchemaRef,
    open: HashMap<Key, Open>,
    shared: Workshop,
    /// Ended files whose bytes are on their way, with the bytes they hold.
    uploads: JoinSet<Result<DataFile>>,
    uploading_bytes: usize,
    files: Vec<DataFile>,
    named: u64,
    turn: u64,
    crowded: bool,
    phases: Option<Arc<Phases>>,
}

struct Open {
    file: SingleFile,
    /// When it was last written to, in writes.
    used: u64,
}

impl PartitionedWriter {
    /// A writer with no file open.
    pub fn new(
        layout: Layout,
        options: WriteOptions,
        naming: FileNaming,
        memory: Box<dyn Reservation>,
    ) -> Result<Self> {
        let partition = layout.partition_indices()?;
        let all = || (0..layout.schema.fields().len()).collect();
        let stored = if options.keep_partition_columns { all() } else { layout.stored_indices() };
        let stored_schema = SchemaRef::new(layout.schema.project(&stored)?);
        let shared = Workshop::new(&options)?;
        Ok(Self {
            layout,
            options,
            shared,
            naming,
            memory,
            partition,
            stored,
            stored_schema,
            open: HashMap::new(),
            uploads: JoinSet::new(),
            uploading_bytes: 0,
            files: Vec::new(),
            named: 0,
            turn: 0,
            crowded: false,
            phases: None,
        })
    }

    /// The same writer; the time it spends is counted in `phases`.
    #[must_use]
    pub fn counted(self, phases: Arc<Phases>) -> Self {
        Self { phases: Some(phases), ..self }
    }

    /// Takes rows whose columns are those of the table, found by name; missing ones are null, ones
    /// the table does not have are a bug. After an error the writer is of no more use.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        for field in rows.schema_ref().fields() {
            if self.layout.schema.index_of(field.name()).is_err() {
                return Err(Error::bug(format!(
                    "rows have a column that their table has not column={:?}",
                    field.name()
                )));
            }
        }
        let rows = conform(rows, &self.layout.schema)?;
        let count = rows.num_rows();
        let split = || split(&rows, &self.partition, &self.stored);
        let slices = heavy(count, || during(&self.phases, Phase::Split, split))?;
        let mut slices = slices.into_iter().peekable();
        while slices.peek().is_some() {
            if slices.peek().is_some_and(|next| !self.has_room(&next.key)) {
                self.crowded = true;
                self.end_oldest().await?;
            }
            let phases = self.phases.clone();
            let encode = || during(&phases, Phase::Encode, || self.encode(&mut slices));
            heavy(count, encode)?;
            self.drain().await?;
        }
        self.fit().await
    }

    /// Ends all files; they are durable afterwards. Sorted by path, so that equal input gives an
    /// equal answer.
    pub async fn finish(mut self) -> Result<Vec<DataFile>> {
        let mut keys: Vec<Key> = self.open.keys().cloned().collect();
        keys.sort();
        for key in keys {
            self.end(&key).await?;
        }
        self.settle().await?;
        self.memory.resize(0)?;
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(std::mem::take(&mut self.files))
    }

    /// Whether a file had to be ended because too many were open: rows that come in any order then
    /// make a file each few rows, and are better sorted by partition.
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Whether rows of `key` can be written without ending a file.
    fn has_room(&self, key: &Key) -> bool {
        self.open.len() < self.options.open_max.max(1) || self.open.contains_key(key)
    }

    /// Encodes slices up to the first for which a file has to be ended first.
    fn encode(&mut self, slices: &mut Peekable<impl Iterator<Item = Slice>>) -> Result<()> {
        while let Some(Slice { key, rows }) = slices.next_if(|next| self.has_room(&next.key)) {
            self.turn += 1;
            if !self.open.contains_key(&key) {
                let file = self.begin(&key, &rows)?;
                self.open.insert(key.clone(), Open { file, used: 0 });
            }
            let Some(open) = self.open.get_mut(&key) else { continue };
            open.used = self.turn;
            open.file.encode(&rows)?;
        }
        Ok(())
    }

    /// Uploads what is finished, and ends the files that are large enough.
    async fn drain(&mut self) -> Result<()> {
        let mut full = Vec::new();
        for (key, open) in &mut self.open {
            open.file.drain().await?;
            if open.file.encoded_bytes() >= self.options.target_file_bytes {
                full.push(key.clone());
            }
        }
        for key in full {
            self.end(&key).await?;
        }
        Ok(())
    }

    fn begin(&mut self, key: &Key, first: &RecordBatch) -> Result<SingleFile> {
        let folder = hive::folder(&self.layout.partition_by, key);
        let path = format!("{folder}{}-{}.parquet", self.naming.prefix, self.named);
        self.named += 1;
        let target = Target {
            store: self.layout.location.store.clone(),
            object: self.layout.object(&path)?,
            path,
            partition_values: self.layout.partition_by.iter().cloned().zip(key.clone()).collect(),
            modified_ms: self.naming.modified_ms,
        };
        SingleFile::new(target, self.stored_schema.clone(), &self.options, &self.shared, first)
    }

    async fn end_oldest(&mut self) -> Result<()> {
        let oldest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(k, _)| k.clone());
        match oldest {
            Some(key) => self.end(&key).await,
            None => Ok(()),
        }
    }

    async fn end(&mut self, key: &Key) -> Result<()> {
        let Some(open) = self.open.remove(key) else { return Ok(()) };
        while self.uploads.len() >= UPLOADS_MAX {
            self.uploaded().await?;
        }
        let sealed: Sealed = during(&self.phases, Phase::Encode, || open.file.seal())?;
        self.uploading_bytes += sealed.memory_bytes();
        self.uploads.spawn(sealed.upload());
        Ok(())
    }

    /// Takes one finished upload; false when there is none.
    async fn uploaded(&mut self) -> Result<bool> {
        let Some(done) = self.uploads.join_next().await else { return Ok(false) };
        let file = done.map_err(|e| Error::bug("an upload was cut off").because(e))??;
        self.files.push(file);
        if self.uploads.is_empty() {
            self.uploading_bytes = 0;
        }
        Ok(true)
    }

    async fn settle(&mut self) -> Result<()> {
        while self.uploaded().await? {}
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        let open: usize = self.open.values().map(|open| open.file.memory_bytes()).sum();
        open + self.uploading_bytes
    }

    /// Brings the reservation in line with what is held, giving memory back when the pool is
    /// short: first by waiting for uploads, then by ending the largest row group or file.
    async fn fit(&mut self) -> Result<()> {
        if self.memory.resize(self.memory_bytes()).is_ok() {
            return Ok(());
        }
        self.settle().await?;
        for open in self.open.values_mut() {
            open.file.settle().await?;
        }
        while let Err(error) = self.memory.resize(self.memory_bytes()) {
            let largest = self.open.iter_mut().max_by_key(|(_, open)| open.file.memory_bytes());
            let Some((key, open)) = largest else { return Err(error) };
            if open.file.unflushed_bytes() >= FLUSH_BYTES_MIN {
                open.file.flush().await?;
                open.file.settle().await?;
                continue;
            }
            let key = key.clone();
            self.end(&key).await?;
            self.settle().await?;
        }
        Ok(())
    }
}

fn during<T>(phases: &Option<Arc<Phases>>, phase: Phase, work: impl FnOnce() -> T) -> T {
    match phases {
        Some(phases) => phases.during(phase, work),
        None => work(),
    }
}
