//! Copying a finished object to its final name, as often as one likes.
//!
//! On local disk a hard link, which never replaces another file; elsewhere a copy inside the
//! store, which overwrites with the same bytes. Nothing passes through this process unless the
//! store cannot copy the object in one call.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{CopyMode, CopyOptions, ObjectStoreExt, WriteMultipart};

use sluice_core::{Error, Result};

use super::fault::{Fault, classify};
use super::{Scheme, Store};

/// S3 copies at most this much in one call.
const COPY_BYTES_MAX: u64 = 5 << 30;

/// Parts of a streamed copy: S3 takes 10,000 parts, so this reaches 625 GiB.
const PART_BYTES: usize = 64 << 20;

/// Parts in flight in a streamed copy; with [`PART_BYTES`] this bounds its memory at 192 MiB.
const PARTS_IN_FLIGHT_MAX: usize = 2;

/// How a copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// The target has the bytes of the source.
    Done,
    /// There is no source: it was copied and cleaned up before.
    SourceGone,
}

impl Store {
    /// Copies `from` to `to`. Copying twice harms nothing. Errors: `Conflict` when a different
    /// file stands at the target on local disk.
    pub async fn copy_new_or_same(&self, from: &Path, to: &Path) -> Result<Copied> {
        let mode = match self.scheme() {
            Scheme::Local => CopyMode::Create,
            _ => CopyMode::Overwrite,
        };
        let options = CopyOptions { mode, ..CopyOptions::default() };
        let Err(error) = self.inner.copy_opts(from, to, options).await else {
            return Ok(Copied::Done);
        };
        match classify(&error) {
            Fault::Missing => Ok(Copied::SourceGone),
            Fault::Exists if mode == CopyMode::Create => self.check_same(from, to).await,
            Fault::Unknown if self.scheme() == Scheme::S3 => match self.head(from).await? {
                None => Ok(Copied::SourceGone),
                Some(meta) if meta.size > COPY_BYTES_MAX => self.stream(from, to).await,
                Some(_) => Err(self.fail(error, "copy to", to)),
            },
            _ => Err(self.fail(error, "copy to", to)),
        }
    }

    /// The target is there already: it must be the same file, at least by its size.
    async fn check_same(&self, from: &Path, to: &Path) -> Result<Copied> {
        let (source, target) = (self.head(from).await?, self.head(to).await?);
        match (source, target) {
            (None, _) => Ok(Copied::SourceGone),
            (Some(source), Some(target)) if source.size == target.size => Ok(Copied::Done),
            _ => Err(Error::conflict(format!(
                "another file stands where this job publishes path={}",
                self.describe(to)
            ))
            .hint("move the file away and run again")),
        }
    }

    async fn stream(&self, from: &Path, to: &Path) -> Result<Copied> {
        let upload = self.inner.put_multipart(to).await.map_err(|e| self.fail(e, "copy to", to))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        if let Err(error) = self.fill(&mut upload, from).await {
            // Parts of an upload that nobody completes cost money until a lifecycle rule comes by.
            let _ = upload.abort().await;
            return Err(self.fail(error, "copy to", to));
        }
        upload.finish().await.map_err(|e| self.fail(e, "copy to", to))?;
        Ok(Copied::Done)
    }

    async fn fill(&self, upload: &mut WriteMultipart, from: &Path) -> object_store::Result<()> {
        let mut source = self.inner.get(from).await?.into_stream();
        while let Some(bytes) = source.try_next().await? {
            upload.wait_for_capacity(PARTS_IN_FLIGHT_MAX).await?;
            upload.put(bytes);
        }
        Ok(())
    }
}
