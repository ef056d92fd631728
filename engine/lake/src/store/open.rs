//! From a URL or path to a store, the only place where stores are made.
//!
//! Settings of clouds are collected in `cloud`. `SLUICE_FSYNC=off` makes local disk fast and
//! fragile; it is for benchmarks. Nothing is contacted here and no folder is made: that happens at
//! the first read or write.

use std::collections::BTreeMap;
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::{Arc, OnceLock};

use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use parking_lot::Mutex;
use url::{Position, Url};

use sluice_core::{Error, Result, Secrets};

use super::fault::IN_THE_WAY;
use super::local::DurableDisk;
use super::{Location, Scheme, Setting, Store, cloud};

/// Opens `./lake`, `/abs/lake`, `file:///abs/lake`, `s3://bucket/prefix`, `gs://bucket/prefix`,
/// `az://container/prefix`, `abfss://container@account.dfs.core.windows.net/prefix` or
/// `memory://name/prefix`. Relative paths start at the current folder.
///
/// Errors: `Config` for what is none of these, or lacks settings.
pub fn open(url_or_path: &str, secrets: &Secrets) -> Result<Location> {
    let wrong = |e: Box<dyn std::error::Error + Send + Sync>| {
        let hint = match e.downcast_ref::<std::io::Error>() {
            Some(_) => IN_THE_WAY,
            None => "write a path, or file://, s3://bucket, gs://bucket, az://container",
        };
        not_a_store(url_or_path).hint(hint).because(e)
    };
    if !url_or_path.contains("://") {
        return local(FilePath::new(url_or_path)).map_err(wrong);
    }
    let url = Url::parse(url_or_path).map_err(|e| wrong(e.into()))?;
    if url.scheme() == "file" {
        let path = url.to_file_path().map_err(|()| wrong("not a local file URL".into()))?;
        return local(&path).map_err(wrong);
    }
    let Some(scheme) = scheme_of(&url) else {
        return Err(wrong(format!("unknown kind of store {}", url.scheme()).into()));
    };
    let host = url.host_str().unwrap_or_default();
    if host.is_empty() {
        return Err(wrong("the name after :// is missing".into()));
    }
    let path = Path::from_url_path(url.path()).map_err(|e| wrong(e.into()))?;
    let root = Url::parse(&url[..Position::BeforePath]).map_err(|e| wrong(e.into()))?;
    let store = match scheme {
        Scheme::Memory => Store::new(memory(host), root, scheme),
        _ => {
            let client = cloud::client(scheme, &root, secrets).map_err(|e| {
                not_a_store(url_or_path).hint(super::advice::settings(scheme)).because(e)
            })?;
            let mut store = Store::new(client.inner, root, scheme);
            store.unattended = client.unattended;
            store
        }
    };
    Ok(Location { store, path })
}

/// What `key` is to the store at `url`; none when that is no cloud's store.
pub fn setting(url: &str, key: &str) -> Option<Setting> {
    let scheme = scheme_of(&Url::parse(url).ok()?)?;
    (scheme != Scheme::Memory).then(|| cloud::setting(scheme, key))
}

fn scheme_of(url: &Url) -> Option<Scheme> {
    Some(match url.scheme() {
        "s3" | "s3a" => Scheme::S3,
        "gs" => Scheme::Gs,
        "az" | "azure" | "abfs" | "abfss" => Scheme::Az,
        "memory" => Scheme::Memory,
        _ => return None,
    })
}

fn not_a_store(url_or_path: &str) -> Error {
    Error::config(format!("this is not a store sluice can open url={url_or_path}"))
}

fn local(path: &FilePath) -> Result<Location, Box<dyn std::error::Error + Send + Sync>> {
    let fsync = std::env::var("SLUICE_FSYNC").as_deref() != Ok("off");
    let absolute = resolve(&std::path::absolute(path)?)?;
    let path = Path::from_absolute_path(&absolute)?;
    let inner = Arc::new(DurableDisk::new(fsync));
    let mut store = Store::new(inner, Url::parse("file:///")?, Scheme::Local);
    store.durable = fsync;
    Ok(Location { store, path })
}

/// `path` without links, `.` and `..`, so that one folder has one name. What is not there yet
/// keeps its name.
fn resolve(path: &FilePath) -> std::io::Result<PathBuf> {
    let mut real = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                real.pop();
            }
            other => real.push(other),
        }
        match real.canonicalize() {
            Ok(found) => real = found,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(real)
}

/// The memory store of this name, shared by the whole process.
fn memory(name: &str) -> Arc<dyn ObjectStore> {
    static NAMED: OnceLock<Mutex<BTreeMap<String, Arc<InMemory>>>> = OnceLock::new();
    let mut named = NAMED.get_or_init(Mutex::default).lock();
    named.entry(name.to_string()).or_default().clone()
}
