//! What a file sink promises: to turn rows into the bytes of finished files.
//!
//! Where the files are staged, sealed and copied to is the engine's business, not the sink's.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::Result;

/// How rows are spread over the files of one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSizing {
    /// Exactly this many files, rows spread evenly.
    Count(u32),
    /// As many files as it takes at about this many bytes each.
    TargetBytes(u64),
}

/// A sink whose output is files under a path of the lake's store.
pub trait FileSink: Send + Sync {
    /// URL or path of the folder, on the lake's store.
    fn path(&self) -> &str;

    /// The ending of file names, without a dot: `csv`, `csv.gz`, `parquet`.
    fn extension(&self) -> &str;

    /// How rows are spread over files.
    fn sizing(&self) -> FileSizing;

    /// Begins a file for rows of `schema`.
    fn encoder(&self, schema: SchemaRef) -> Result<Box<dyn FileEncoder>>;
}

/// The encoder of one file. Bytes come out in order, in pieces.
pub trait FileEncoder: Send {
    /// Takes rows.
    fn write(&mut self, rows: &RecordBatch) -> Result<()>;

    /// Bytes that are ready to be uploaded; empty when there are none yet.
    fn take(&mut self) -> Vec<u8>;

    /// Bytes held in memory right now.
    fn memory_bytes(&self) -> usize;

    /// Ends the file and gives its last bytes.
    fn finish(self: Box<Self>) -> Result<Vec<u8>>;
}
