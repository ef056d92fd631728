//! Manifests as bytes: JSON, with what is large in side files named by length and hash.
//!
//! Reading is in two steps, because the second needs the store: bytes to a [`Stored`] that names
//! its side files, then, with their content, to a [`Manifest`].

use bytes::Bytes;
use object_store::path::Path;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use sluice_core::{Error, Result};

use crate::store::Series;

use super::{FORMAT, FileRef, Manifest};

/// A table's action larger than this goes to a side file, so that the manifest itself stays
/// quick to read back, list and hash however many files an epoch wrote.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// The `kind` that stands for an action in a side file.
const SIDE: &str = "side";

/// A manifest ready to be written.
pub(super) struct Encoded {
    /// The manifest.
    pub bytes: Bytes,
    /// SHA-256 of `bytes` in hex.
    pub sha256: String,
    /// Side files, to be durable before the manifest is created.
    pub sides: Vec<(Path, Bytes)>,
}

/// What can be told of a manifest's bytes alone.
pub(super) enum Read {
    /// Not a manifest: cut off, empty, damaged.
    Unreadable,
    /// Written by a later version of Sluice.
    Newer(u32),
    /// A manifest, whose side files are still to be read.
    Stored(Stored),
}

/// A manifest whose side files are still to be read.
pub(super) struct Stored {
    value: Value,
}

/// What decides who sealed it; stays readable whatever else a later version changes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Stub {
    pub format: u32,
    pub epoch: u64,
    pub run: String,
    pub host: String,
}

/// The bytes of `manifest`. The same manifest always gives the same bytes.
pub(super) fn encode(manifest: &Manifest, series: &Series) -> Result<Encoded> {
    let json = |e| Error::bug("cannot write a manifest as json").because(e);
    let mut value = serde_json::to_value(manifest).map_err(json)?;
    let mut sides = Vec::new();
    for (table, action) in actions(&mut value) {
        let content = serde_json::to_vec(action).map_err(json)?;
        if content.len() <= INLINE_BYTES_MAX {
            continue;
        }
        let (bytes, sha256) = (content.len() as u64, hex(&content));
        let path = series.companion(manifest.epoch, &format!("-{table}-{bytes}-{sha256}.json"));
        let side = FileRef { path: path.to_string(), bytes, sha256: Some(sha256) };
        *action = serde_json::to_value(side).map_err(json)?;
        if let Value::Object(object) = action {
            object.insert("kind".into(), SIDE.into());
        }
        sides.push((path, content.into()));
    }
    let bytes = serde_json::to_vec(&value).map_err(json)?;
    Ok(Encoded { sha256: hex(&bytes), bytes: bytes.into(), sides })
}

/// Reads a manifest's bytes as far as they go.
pub(super) fn read(bytes: &[u8]) -> Read {
    let value = serde_json::from_slice::<Value>(bytes);
    match (read_stub(bytes), value) {
        (Some(stub), Ok(_)) if stub.format > FORMAT => Read::Newer(stub.format),
        (Some(_), Ok(value)) => Read::Stored(Stored { value }),
        _ => Read::Unreadable,
    }
}

/// Who sealed these bytes; none when they cannot be read.
pub(super) fn read_stub(bytes: &[u8]) -> Option<Stub> {
    serde_json::from_slice(bytes).ok()
}

impl Stored {
    /// The side files, in the order [`Self::finish`] wants them.
    pub(super) fn sides(&mut self) -> Vec<FileRef> {
        let of = |action: &Value| serde_json::from_value(action.clone()).ok();
        actions(&mut self.value).filter(|(_, a)| is_side(a)).filter_map(|(_, a)| of(a)).collect()
    }

    /// The whole manifest. Errors: `Conflict` when a side file is not what the manifest says, or
    /// the manifest is readable and yet not one.
    pub(super) fn finish(mut self, sides: Vec<(FileRef, Bytes)>) -> Result<Manifest> {
        let mut sides = sides.into_iter();
        for (_, action) in actions(&mut self.value).filter(|(_, a)| is_side(a)) {
            let Some((side, content)) = sides.next() else {
                return Err(Error::bug("a side file of a manifest was not read"));
            };
            let whole = content.len() as u64 == side.bytes;
            if !whole || side.sha256.as_deref() != Some(hex(&content).as_str()) {
                return Err(damaged(&side));
            }
            *action = serde_json::from_slice(&content).map_err(|_| damaged(&side))?;
        }
        serde_json::from_value(self.value).map_err(|e| {
            Error::conflict("a manifest lacks what its format promises")
                .hint("somebody changed it; restore it from a backup")
                .because(e)
        })
    }
}

/// SHA-256 in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The actions of the manifest's tables, by table.
fn actions(manifest: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    let tables = manifest.get_mut("tables").and_then(Value::as_object_mut);
    let parts = tables.into_iter().flat_map(Map::iter_mut);
    parts.filter_map(|(table, part)| Some((table, part.get_mut("action")?)))
}

fn is_side(action: &Value) -> bool {
    action.get("kind").and_then(Value::as_str) == Some(SIDE)
}

fn damaged(side: &FileRef) -> Error {
    Error::conflict(format!("a side file of a manifest is damaged path={}", side.path))
        .hint("restore it from a backup; `sluice audit` shows what else is missing")
}
