//! A store that does what a rule says: fails before or after the deed, lies, or overwrites.
//!
//! In: a real store and a rule from operation and path to a fault. Out: a store with the same
//! content whose answers can be wrong in the ways real ones are.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use crate::store::Store;

/// What is done to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A create-if-absent.
    Create,
    /// A conditional update.
    Update,
    /// A plain write.
    Put,
    /// The start of a multipart upload.
    Upload,
    /// A read or a look.
    Get,
    /// A copy to this path.
    Copy,
    /// A deletion.
    Delete,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nothing happens, and the answer is an error that says nothing about it.
    Before,
    /// It happens, and the answer is an error that says nothing about it.
    After,
    /// It happens, and the answer is that it was there already: a retry inside the client.
    Echo,
    /// Nothing happens, and the answer is that it is there already: S3's conflict.
    Exists,
    /// A create overwrites what is there: a store without conditional writes.
    Overwrite,
}

type Rule = dyn Fn(Op, &Path) -> Fault + Send + Sync;

/// A store with faults.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    rule: Arc<Rule>,
}

impl Faulty {
    /// `store` with the faults that `rule` answers; it is asked once per operation.
    pub fn wrap(store: &Store, rule: impl Fn(Op, &Path) -> Fault + Send + Sync + 'static) -> Store {
        let faulty = Faulty { inner: store.object_store(), rule: Arc::new(rule) };
        store.wrapped(Arc::new(faulty))
    }

    /// Fails before the deed if the rule says so.
    fn before(&self, op: Op, path: &Path) -> Result<Fault> {
        match (self.rule)(op, path) {
            Fault::Before => Err(failed("before", path)),
            Fault::Exists => Err(exists(path)),
            fault => Ok(fault),
        }
    }
}

/// The answer after the deed.
fn after<T>(fault: Fault, path: &Path, result: Result<T>) -> Result<T> {
    match fault {
        Fault::After => result.and_then(|_| Err(failed("after", path))),
        Fault::Echo => result.and_then(|_| Err(exists(path))),
        _ => result,
    }
}

fn failed(when: &str, path: &Path) -> Error {
    Error::Generic { store: "faulty", source: format!("failed {when} path={path}").into() }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "said so".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        let op = match opts.mode {
            PutMode::Create => Op::Create,
            PutMode::Update(_) => Op::Update,
            PutMode::Overwrite => Op::Put,
        };
        let fault = self.before(op, location)?;
        if fault == Fault::Overwrite {
            opts.mode = PutMode::Overwrite;
        }
        after(fault, location, self.inner.put_opts(location, payload, opts).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.before(Op::Upload, location)?;
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.before(Op::Get, location)?;
        after(fault, location, self.inner.get_opts(location, options).await)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let fault = self.before(Op::Get, location)?;
        after(fault, location, self.inner.get_ranges(location, ranges).await)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let fault = store.before(Op::Delete, &location)?;
                after(fault, &location, store.inner.delete(&location).await)?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fault = self.before(Op::Copy, to)?;
        after(fault, to, self.inner.copy_opts(from, to, options).await)
    }
}
