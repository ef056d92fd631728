//! Does this store keep the promise that everything rests on: of two creates of one name, only
//! one succeeds, and what it wrote reads back?
//!
//! Asked at first contact. A store that lets both pass is refused, because two runners could then
//! both seal one epoch.

use bytes::Bytes;
use object_store::path::Path;

use sluice_core::{Error, Result};

use super::{Create, Store};

impl Store {
    /// Probes the store with objects of its own below `prefix`, which it deletes again.
    ///
    /// Errors: `Config` when the store breaks the promise. In a debug build
    /// `SLUICE_SKIP_PROBE=1` skips it, so that a test can show what the probe is for.
    pub async fn probe(&self, prefix: &Path) -> Result<()> {
        if cfg!(debug_assertions) && std::env::var("SLUICE_SKIP_PROBE").as_deref() == Ok("1") {
            return Ok(());
        }
        let id = rand::random::<u64>();
        let path = prefix.clone().join(format!("probe-{id:016x}"));
        let answer = self.ask(&path, id).await;
        let deleted = self.delete(&path).await;
        answer.and(deleted)
    }

    async fn ask(&self, path: &Path, id: u64) -> Result<()> {
        let (first, second) = (format!("first {id}"), format!("second {id}"));
        // `Exists` may be our own create after a retry inside the client; the read tells.
        if let Create::Unknown(error) = self.create(path, Bytes::from(first.clone())).await? {
            return Err(error);
        }
        match self.create(path, Bytes::from(second)).await? {
            Create::Exists => {}
            Create::Done => return Err(self.refused("creates a name twice")),
            Create::Unknown(error) => return Err(error),
        }
        match self.get(path).await? {
            Some(bytes) if bytes == first.as_bytes() => Ok(()),
            Some(_) => Err(self.refused("replaces what a create wrote")),
            None => Err(self.refused("does not read back what it wrote")),
        }
    }

    fn refused(&self, what: &str) -> Error {
        let message = format!("the store {what}, two runners could both win store={}", self.id());
        Error::config(message)
            .hint("use a store with conditional writes: a local disk, S3, GCS, Azure, MinIO, R2")
    }
}
