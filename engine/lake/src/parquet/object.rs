//! The bytes of one object for the Parquet reader: ranged reads, the footer in one request, and a
//! small file with it.
//!
//! Errors of the store pass through as they are; the reader on top names the file.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, TryFutureExt, ready};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::store::Store;

/// Read at once from the end of a file and kept: most footers fit, and small files whole, so that
/// one request is enough.
const FOOTER_BYTES: u64 = 64 * 1024;

/// One Parquet file on a store.
#[derive(Debug, Clone)]
pub(crate) struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
    /// The file's end, from a position on.
    tail: Option<(u64, Bytes)>,
}

impl ObjectReader {
    /// A file whose size is known.
    pub(crate) fn new(store: &Store, path: Path, bytes: u64) -> Self {
        Self { store: store.object_store(), path, bytes, tail: None }
    }

    async fn read_tail(&mut self) -> Result<()> {
        if self.tail.is_none() && self.bytes > 0 {
            let from = self.bytes.saturating_sub(FOOTER_BYTES);
            let bytes = self.store.get_range(&self.path, from..self.bytes).await;
            self.tail = Some((from, bytes.map_err(external)?));
        }
        Ok(())
    }

    /// A range that lies in what was read already.
    fn kept(&self, range: &Range<u64>) -> Option<Bytes> {
        let (from, bytes) = self.tail.as_ref()?;
        let at = |position: u64| usize::try_from(position.checked_sub(*from)?).ok();
        let (start, end) = (at(range.start)?, at(range.end)?);
        (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
    }
}

impl AsyncFileReader for ObjectReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        match self.kept(&range) {
            Some(bytes) => ready(Ok(bytes)).boxed(),
            None => self.store.get_range(&self.path, range).map_err(external).boxed(),
        }
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        match ranges.iter().map(|range| self.kept(range)).collect() {
            Some(all) => ready(Ok(all)).boxed(),
            None => async move { self.store.get_ranges(&self.path, &ranges).await }
                .map_err(external)
                .boxed(),
        }
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let bytes = self.bytes;
        async move {
            self.read_tail().await?;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, bytes).await?))
        }
        .boxed()
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}
