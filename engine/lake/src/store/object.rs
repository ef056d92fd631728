//! Reading and writing objects: each method one request, each answer in the protocol's words.
//!
//! Missing is an answer, not an error. What cannot be known after a time-out or a server error is
//! `Unknown`, and whoever asked reads the object back.

use std::ops::Range;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::ready;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};

use sluice_core::{Error, Result};

use super::fault::{Fault, classify, translate};
use super::{Scheme, Store, local};

/// How a create-if-absent ended.
#[derive(Debug)]
pub enum Create {
    /// The object is there with our bytes.
    Done,
    /// An object of this name is there, or the store said so: read it back. It may be our own,
    /// after a retry inside the client, and on S3 there may be nothing.
    Exists,
    /// It happened or not: read it back.
    Unknown(Error),
}

/// How a conditional update ended.
#[derive(Debug)]
pub enum Updated {
    /// The object has our bytes.
    Done,
    /// The object is not the one that was read: it changed or is gone.
    Changed,
    /// It happened or not: read it back.
    Unknown(Error),
}

/// An object and the version it was read at.
#[derive(Debug, Clone)]
pub struct Versioned {
    /// The content.
    pub bytes: Bytes,
    /// What a later [`Store::update_if`] compares.
    pub version: UpdateVersion,
    /// Size and time by the store's clock.
    pub meta: ObjectMeta,
}

impl Store {
    /// Creates an object unless one of this name is there. Errors: `Config` when the store cannot
    /// or may not.
    pub async fn create(&self, path: &Path, bytes: Bytes) -> Result<Create> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let Err(error) = self.inner.put_opts(path, bytes.into(), options).await else {
            return Ok(Create::Done);
        };
        match classify(&error) {
            Fault::Exists => Ok(Create::Exists),
            Fault::Full | Fault::Unknown => Ok(Create::Unknown(self.fail(error, "create", path))),
            Fault::Missing
            | Fault::NoBucket
            | Fault::Denied
            | Fault::Unsupported
            | Fault::InTheWay => Err(self.fail(error, "create", path)),
        }
    }

    /// Writes an object, over whatever is there.
    pub async fn put(&self, path: &Path, bytes: Bytes) -> Result<()> {
        let put = self.inner.put(path, bytes.into()).await;
        put.map(|_| ()).map_err(|e| self.fail(e, "write", path))
    }

    /// Writes an object that may be lost in a power cut: one that only makes things faster.
    pub async fn put_hint(&self, path: &Path, bytes: Bytes) -> Result<()> {
        let mut options = PutOptions::default();
        options.extensions.insert(local::Fleeting);
        let put = self.inner.put_opts(path, bytes.into(), options).await;
        put.map(|_| ()).map_err(|e| self.fail(e, "write", path))
    }

    /// The content; none when the object is not there.
    pub async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        Ok(self.get_versioned(path).await?.map(|object| object.bytes))
    }

    /// The content with its version; none when the object is not there.
    pub async fn get_versioned(&self, path: &Path) -> Result<Option<Versioned>> {
        let found = match self.inner.get(path).await {
            Err(e) if classify(&e) == Fault::Missing => return Ok(None),
            other => other.map_err(|e| self.fail(e, "read", path))?,
        };
        let meta = found.meta.clone();
        let version = UpdateVersion { e_tag: meta.e_tag.clone(), version: meta.version.clone() };
        let bytes = found.bytes().await.map_err(|e| self.fail(e, "read", path))?;
        Ok(Some(Versioned { bytes, version, meta }))
    }

    /// Bytes `[start, end)`. An object that is not there is a `Conflict`: somebody removed it.
    pub async fn get_range(&self, path: &Path, range: Range<u64>) -> Result<Bytes> {
        match self.inner.get_range(path, range).await {
            Err(e) if classify(&e) == Fault::Missing => Err(self.gone(path).because(e)),
            other => other.map_err(|e| self.fail(e, "read", path)),
        }
    }

    /// Size, time and version; none when the object is not there.
    pub async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>> {
        match self.inner.head(path).await {
            Err(e) if classify(&e) == Fault::Missing => Ok(None),
            other => other.map(Some).map_err(|e| self.fail(e, "look at", path)),
        }
    }

    /// All objects below a folder, sorted by path.
    pub async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        let found = self.inner.list(Some(prefix)).try_collect().await;
        self.sorted(found, prefix)
    }

    /// The objects below a folder whose path sorts after `offset`, sorted by path.
    pub async fn list_after(&self, prefix: &Path, offset: &Path) -> Result<Vec<ObjectMeta>> {
        let found = self.inner.list_with_offset(Some(prefix), offset);
        // Some servers that speak Azure's protocol do not know where to start.
        let found = found.try_filter(|meta| ready(meta.location > *offset)).try_collect().await;
        self.sorted(found, prefix)
    }

    /// The names of the folders directly below a folder, sorted.
    pub async fn folders(&self, prefix: &Path) -> Result<Vec<String>> {
        let found = self.inner.list_with_delimiter(Some(prefix)).await;
        let found = found.map_err(|e| self.fail(e, "list", prefix))?.common_prefixes;
        let mut names: Vec<String> =
            found.iter().filter_map(|path| path.filename().map(str::to_string)).collect();
        names.sort();
        Ok(names)
    }

    /// Deletes an object; one that is not there is fine.
    pub async fn delete(&self, path: &Path) -> Result<()> {
        match self.inner.delete(path).await {
            Err(e) if classify(&e) == Fault::Missing => Ok(()),
            other => other.map_err(|e| self.fail(e, "delete", path)),
        }
    }

    /// Writes an object if it still is the one read at `version`. Atomic but for the local disk,
    /// where it compares and then writes: callers there hold the job's OS lock.
    pub async fn update_if(
        &self,
        path: &Path,
        bytes: Bytes,
        version: UpdateVersion,
    ) -> Result<Updated> {
        if self.scheme == Scheme::Local {
            return match self.head(path).await? {
                Some(now) if now.e_tag == version.e_tag => {
                    self.put(path, bytes).await.map(|()| Updated::Done)
                }
                _ => Ok(Updated::Changed),
            };
        }
        let options = PutOptions { mode: PutMode::Update(version), ..PutOptions::default() };
        let Err(error) = self.inner.put_opts(path, bytes.into(), options).await else {
            return Ok(Updated::Done);
        };
        match classify(&error) {
            Fault::Exists | Fault::Missing => Ok(Updated::Changed),
            Fault::Full | Fault::Unknown => Ok(Updated::Unknown(self.fail(error, "update", path))),
            Fault::NoBucket | Fault::Denied | Fault::Unsupported | Fault::InTheWay => {
                Err(self.fail(error, "update", path))
            }
        }
    }

    /// Makes an object durable that somebody else wrote, before acting on it: their process may
    /// have died between writing and syncing. Nothing to do but on local disk.
    pub async fn settle(&self, path: &Path) -> Result<()> {
        let Some(local) = self.local_path(path).filter(|_| self.durable) else { return Ok(()) };
        local::settle(local).await.map_err(|e| self.fail(e, "sync", path))
    }

    /// Our error for a store's, naming the object.
    pub(super) fn fail(&self, error: object_store::Error, doing: &str, path: &Path) -> Error {
        translate(error, doing, &self.describe(path), (self.scheme, self.unattended))
    }

    fn gone(&self, path: &Path) -> Error {
        Error::conflict(format!("an object is gone path={}", self.describe(path)))
            .hint("something other than sluice deleted it; `sluice audit` shows what is missing")
    }

    fn sorted(
        &self,
        found: object_store::Result<Vec<ObjectMeta>>,
        prefix: &Path,
    ) -> Result<Vec<ObjectMeta>> {
        let mut found = found.map_err(|e| self.fail(e, "list", prefix))?;
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }
}
