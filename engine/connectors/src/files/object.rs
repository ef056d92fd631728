//! One stored file, as it was when it was found.
//!
//! In: what a listing said about it. Out: its bytes, or an error that says that it is gone or is
//! no longer the same. It never reads more than it is asked for.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sluice_core::{Error, Result};
use sluice_lake::store::{Scheme, Store};
use tokio::sync::OnceCell;

/// Bytes per request: large enough for full speed from an object store, small enough to hold a few
/// per core.
pub(super) const PIECE_BYTES: u64 = 4 * 1024 * 1024;

/// The same on a local disk, where requests cost little: a piece stays in a core's cache until it is
/// decoded.
const LOCAL_PIECE_BYTES: u64 = 1024 * 1024;

/// A file up to this size is kept whole while it is looked at: as much as is read of any for its
/// header.
const KEPT_BYTES_MAX: u64 = 64 * 1024;

/// Bytes that are hashed on the spot; more would keep other tasks waiting.
const HASH_BYTES_AT_ONCE: usize = 64 * 1024;

/// What a listing says about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Which of the source's paths it belongs to.
    pub(crate) root: usize,
    /// The path as people write it; what a file is known by.
    pub(crate) path: String,
    /// The path on its store.
    pub(crate) location: String,
    pub(crate) size: u64,
    pub(crate) etag: Option<String>,
    pub(crate) modified_ms: i64,
}

impl Found {
    /// From a listing of the store of path number `root`.
    pub(crate) fn new(root: usize, store: &Store, meta: ObjectMeta) -> Self {
        Self {
            root,
            path: store.describe(&meta.location),
            location: meta.location.into(),
            size: meta.size,
            etag: meta.e_tag.map(bare),
            modified_ms: meta.last_modified.timestamp_millis(),
        }
    }

    /// Whether `meta` is the same content. Times are compared only without an etag, by the second:
    /// stores differ in how finely they tell them.
    fn is(&self, meta: &ObjectMeta) -> bool {
        let modified = meta.last_modified.timestamp_millis();
        self.size == meta.size
            && match (&self.etag, &meta.e_tag) {
                (Some(found), Some(now)) => *found == bare(now.clone()),
                _ => self.modified_ms.div_euclid(1000) == modified.div_euclid(1000),
            }
    }
}

/// An etag without the quotes that some answers put around it.
fn bare(etag: String) -> String {
    if etag.contains('"') { etag.trim_matches('"').to_string() } else { etag }
}

/// A file that can be read.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    store: Store,
    location: Path,
    found: Arc<Found>,
    /// All of a small file, once it was read; none where it is not kept.
    content: Option<Arc<OnceCell<Bytes>>>,
}

impl Object {
    /// The file `found` on `store`.
    pub(crate) fn new(store: Store, found: Found) -> Result<Self> {
        let location = Path::parse(&found.location)
            .map_err(|e| Error::bug(format!("not a path path={}", found.path)).because(e))?;
        Ok(Self { store, location, found: Arc::new(found), content: None })
    }

    /// What was found.
    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// Whether it lies on a local disk, where the etag is no sign of the content.
    pub(super) fn is_local(&self) -> bool {
        self.store.scheme() == Scheme::Local
    }

    /// Bytes per request when it is read from its beginning to its end.
    pub(super) fn piece_bytes(&self) -> u64 {
        if self.is_local() { LOCAL_PIECE_BYTES } else { PIECE_BYTES }
    }

    /// The same file, which keeps its content while it is looked at if it is small: one request then
    /// answers all questions.
    pub(super) fn kept(&self) -> Self {
        let small = self.found.size <= KEPT_BYTES_MAX;
        Self { content: small.then(Arc::default), ..self.clone() }
    }

    /// The bytes of a range within the file. Errors: `Data` when the file is gone or changed,
    /// `Unavailable` when the store does not answer.
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if let Some(content) = self.content.as_ref().filter(|_| range.end <= self.found.size) {
            let all = content.get_or_try_init(|| self.request(0..self.found.size)).await?;
            let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            return Ok(all.slice(index(range.start)..index(range.end)));
        }
        self.request(range).await
    }

    async fn request(&self, range: Range<u64>) -> Result<Bytes> {
        let read = self.bytes(range).await;
        if self.is_local() {
            // There the answer has the metadata of before the read, and a file that got shorter is
            // an error of its own.
            let now = self.store.object_store().head(&self.location).await;
            if now.is_ok_and(|now| !self.found.is(&now)) {
                return Err(self.changed());
            }
        }
        read
    }

    async fn bytes(&self, range: Range<u64>) -> Result<Bytes> {
        let length = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let answer = self.store.object_store().get_opts(&self.location, options).await;
        let answer = answer.map_err(|e| self.failed(e))?;
        if !self.found.is(&answer.meta) {
            return Err(self.changed());
        }
        let bytes = answer.bytes().await.map_err(|e| self.failed(e))?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(self.changed()) }
    }

    /// The first half of the SHA-256 of the first `length` bytes, in hex: enough to tell contents of
    /// one path apart, and half the state.
    pub(super) async fn hash(&self, length: u64) -> Result<String> {
        let mut hash = Sha256::new();
        let mut at = 0;
        while at < length {
            let end = (at + PIECE_BYTES).min(length);
            let bytes = self.read(at..end).await?;
            at = end;
            if bytes.len() <= HASH_BYTES_AT_ONCE {
                hash.update(&bytes);
                continue;
            }
            let hashed = tokio::task::spawn_blocking(move || {
                hash.update(&bytes);
                hash
            });
            hash = hashed.await.map_err(|e| Error::bug("hashing stopped").because(e))?;
        }
        Ok(hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }

    fn failed(&self, error: object_store::Error) -> Error {
        let path = &self.found.path;
        match error {
            object_store::Error::NotFound { .. } => {
                Error::data(format!("the file is gone path={path}"))
                    .hint("put it back, or run again to go on without it")
                    .because(error)
                    .with_retry(true)
            }
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => {
                Error::config(format!("the file may not be read path={path}"))
                    .hint("check the permissions and credentials")
                    .because(error)
            }
            _ => Error::unavailable(format!("cannot read the file path={path}")).because(error),
        }
    }

    fn changed(&self) -> Error {
        Error::data(format!("the file changed while it was being read path={}", self.found.path))
            .hint("run again when it is complete; `min_age` leaves young files for later")
            .with_retry(true)
    }
}

impl AsyncFileReader for Object {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let object = self.clone();
        async move { object.read(range).await.map_err(|e| ParquetError::External(Box::new(e))) }
            .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let size = self.found.size;
        async move {
            // Most footers fit into this: one request instead of two.
            const FOOTER_BYTES: usize = 64 * 1024;
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
