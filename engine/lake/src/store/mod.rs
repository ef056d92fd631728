//! Stores: local disk, S3, GCS, Azure or memory behind thin async methods with our errors.
//!
//! In: a URL or path and secrets. Out: a [`Location`] on a [`Store`]. The methods say what
//! happened in the words of the protocol (done, exists, unknown); they decide nothing about it.

mod advice;
mod cloud;
mod copy;
mod fault;
mod local;
mod object;
mod open;
mod probe;
mod series;
#[cfg(test)]
mod tests;
mod walk;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use url::{Position, Url};

use sluice_core::{Error, Result};

pub use cloud::Setting;
pub use copy::Copied;
pub(crate) use fault::IN_THE_WAY;
pub use object::{Create, Updated, Versioned};
pub use open::{open, setting};
pub use series::Series;

/// What kind of store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// A local disk; made durable by our own fsyncs.
    Local,
    /// Amazon S3 or a store that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// Memory of this process, by name; for tests.
    Memory,
}

/// A bucket, a container, the local disk or a named memory. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    url: Url,
    scheme: Scheme,
    durable: bool,
    /// Nobody has set credentials: the machine is asked for some.
    unattended: bool,
}

impl Store {
    /// A store over `inner`, whose root is `url`. For tests that wrap a store; else use [`open`].
    pub fn new(inner: Arc<dyn ObjectStore>, url: Url, scheme: Scheme) -> Self {
        Self { inner, url, scheme, durable: scheme == Scheme::Local, unattended: false }
    }

    /// The store itself, for readers and writers that need all of it.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        self.inner.clone()
    }

    /// What kind of store it is.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `scheme://bucket`; equal for two handles of one store.
    pub fn id(&self) -> String {
        self.url[..Position::BeforePath].to_string()
    }

    /// The URL of an object or folder, percent-encoded.
    pub fn url_of(&self, path: &Path) -> String {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.parts().map(|part| part.as_ref().to_string()));
        }
        url.into()
    }

    /// The object as a person would write it: a plain path on local disk, else a URL.
    pub fn describe(&self, path: &Path) -> String {
        match self.scheme {
            // The store is the whole disk.
            Scheme::Local => format!("/{path}"),
            _ => format!("{}/{path}", self.id()),
        }
    }

    /// The file behind `path`, on local disk only.
    pub fn local_path(&self, path: &Path) -> Option<PathBuf> {
        (self.scheme == Scheme::Local).then(|| PathBuf::from(self.describe(path)))
    }

    /// The same store over another implementation, such as one that injects faults.
    #[must_use]
    pub fn wrapped(&self, inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, ..self.clone() }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.url)
    }
}

/// A folder or object of a store.
#[derive(Clone, Debug)]
pub struct Location {
    /// The store.
    pub store: Store,
    /// The path from the store's root.
    pub path: Path,
}

impl Location {
    /// `relative` below this one; its segments are taken as they are.
    pub fn join(&self, relative: &str) -> Result<Location> {
        let text = format!("{}/{}", self.path, relative.trim_matches('/'));
        let path = Path::parse(&text).map_err(|e| {
            Error::config(format!("this is not a path below the lake path={relative}"))
                .hint("use plain folder names, without `.`, `..` or empty parts")
                .because(e)
        })?;
        Ok(Location { store: self.store.clone(), path })
    }

    /// One segment below this one; characters that stores refuse are percent-encoded.
    #[must_use]
    pub fn child(&self, name: &str) -> Location {
        Location { store: self.store.clone(), path: self.path.clone().join(name) }
    }

    /// The URL, percent-encoded, without a trailing slash.
    pub fn url(&self) -> String {
        self.store.url_of(&self.path)
    }

    /// The location as a person would write it.
    pub fn describe(&self) -> String {
        self.store.describe(&self.path)
    }
}
