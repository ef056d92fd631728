//! Pages to bytes: compression, and the header in front of them.
//!
//! In: a page's content. Out: what stands in the file. Which pages there are is not its concern.

use std::io::Cursor;
use std::sync::Arc;

use parking_lot::Mutex;
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::errors::{ParquetError, Result};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

/// A compressor for all columns of all files of one writer, which is driven by one task: each of its
/// own would take half a megabyte.
#[derive(Clone)]
pub(super) struct Press {
    compressor: Arc<Mutex<Compressor<'static>>>,
}

impl Press {
    /// Zstandard at `level`.
    pub(super) fn new(level: i32) -> std::io::Result<Self> {
        Ok(Self { compressor: Arc::new(Mutex::new(Compressor::new(level)?)) })
    }

    pub(super) fn compress(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut out = Cursor::new(Vec::with_capacity(compress_bound(plain.len())));
        let compressed = self.compressor.lock().compress_to_buffer(plain, &mut out);
        compressed.map_err(|e| ParquetError::External(Box::new(e)))?;
        let mut out = out.into_inner();
        out.shrink_to_fit();
        Ok(out)
    }
}

/// A compressed page behind its header, and the header's bytes. `plain_bytes` is its size before it
/// was compressed.
pub(super) fn serialized(page: Page, plain_bytes: usize) -> Result<(Vec<u8>, usize)> {
    let page = CompressedPage::new(page, plain_bytes);
    let body = page.compressed_size();
    let mut sink = TrackedWrite::new(Vec::with_capacity(body + 64));
    SerializedPageWriter::new(&mut sink).write_page(page)?;
    let bytes = sink.into_inner()?;
    let header = bytes.len() - body;
    Ok((bytes, header))
}
