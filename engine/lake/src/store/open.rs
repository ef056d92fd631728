//! From a URL or path to a store, the only place where stores are made.
//!
//! Cloud credentials come from the environment under the names their own tools use (`AWS_*` with
//! `AWS_ENDPOINT_URL` and `AWS_ALLOW_HTTP`, `GOOGLE_*`, `AZURE_*`) or from secrets of the same
//! names. `SLUICE_FSYNC=off` makes local disk fast and fragile; it is for benchmarks. Nothing is
//! contacted here and no folder is made: that happens at the first read or write.

use std::collections::BTreeMap;
use std::path::{Component, Path as FilePath, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use parking_lot::Mutex;
use url::{Position, Url};

use sluice_core::{Error, Result, Secrets};

use super::fault::IN_THE_WAY;
use super::local::DurableDisk;
use super::{Location, Scheme, Store};

/// Opens `./lake`, `/abs/lake`, `file:///abs/lake`, `s3://bucket/prefix`, `gs://bucket/prefix`,
/// `az://container/prefix` or `memory://name/prefix`. Relative paths start at the current folder.
///
/// Errors: `Config` for what is none of these, or lacks settings.
pub fn open(url_or_path: &str, secrets: &Secrets) -> Result<Location> {
    let wrong = |e: Box<dyn std::error::Error + Send + Sync>| {
        let hint = match e.downcast_ref::<std::io::Error>() {
            Some(_) => IN_THE_WAY,
            None => "write a path, or file://, s3://bucket, gs://bucket, az://container",
        };
        Error::config(format!("this is not a store sluice can open url={url_or_path}"))
            .hint(hint)
            .because(e)
    };
    if !url_or_path.contains("://") {
        return local(FilePath::new(url_or_path)).map_err(wrong);
    }
    let url = Url::parse(url_or_path).map_err(|e| wrong(e.into()))?;
    let host = url.host_str().unwrap_or_default().to_string();
    let (scheme, inner): (Scheme, Arc<dyn ObjectStore>) = match url.scheme() {
        "file" => {
            let path = url.to_file_path().map_err(|()| wrong("not a local file URL".into()))?;
            return local(&path).map_err(wrong);
        }
        _ if host.is_empty() => return Err(wrong("the name after :// is missing".into())),
        "s3" | "s3a" => (Scheme::S3, Arc::new(s3(&host, secrets).map_err(|e| wrong(e.into()))?)),
        "gs" => (Scheme::Gs, Arc::new(gs(&host, secrets).map_err(|e| wrong(e.into()))?)),
        "az" | "abfs" | "abfss" => {
            (Scheme::Az, Arc::new(az(&url, secrets).map_err(|e| wrong(e.into()))?))
        }
        "memory" => (Scheme::Memory, memory(&host)),
        other => return Err(wrong(format!("unknown kind of store {other}").into())),
    };
    let path = Path::from_url_path(url.path()).map_err(|e| wrong(e.into()))?;
    let root = Url::parse(&url[..Position::BeforePath]).map_err(|e| wrong(e.into()))?;
    Ok(Location { store: Store::new(inner, root, scheme), path })
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

fn s3(bucket: &str, secrets: &Secrets) -> object_store::Result<impl ObjectStore> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (key, value) in named::<AmazonS3ConfigKey>("aws_", secrets) {
        builder = builder.with_config(key, value);
    }
    let endpoints = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
    let plain = endpoints.iter().filter_map(|key| builder.get_config_value(key)).next();
    // Whoever writes http:// means it.
    if plain.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    builder.build()
}

fn gs(bucket: &str, secrets: &Secrets) -> object_store::Result<impl ObjectStore> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
    for (key, value) in named::<GoogleConfigKey>("google_", secrets) {
        builder = builder.with_config(key, value);
    }
    builder.build()
}

fn az(url: &Url, secrets: &Secrets) -> object_store::Result<impl ObjectStore> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
    for (key, value) in named::<AzureConfigKey>("azure_", secrets) {
        builder = builder.with_config(key, value);
    }
    builder.build()
}

/// The secrets that are settings of a client, such as `aws_access_key_id`.
fn named<K: FromStr>(prefix: &str, secrets: &Secrets) -> Vec<(K, String)> {
    let mut found = Vec::new();
    for name in secrets.names() {
        let lower = name.to_ascii_lowercase();
        if let (true, Ok(key), Some(value)) =
            (lower.starts_with(prefix), lower.parse(), secrets.get(name))
        {
            found.push((key, value.to_string()));
        }
    }
    found
}

/// The memory store of this name, shared by the whole process.
fn memory(name: &str) -> Arc<dyn ObjectStore> {
    static NAMED: OnceLock<Mutex<BTreeMap<String, Arc<InMemory>>>> = OnceLock::new();
    let mut named = NAMED.get_or_init(Mutex::default).lock();
    named.entry(name.to_string()).or_default().clone()
}
