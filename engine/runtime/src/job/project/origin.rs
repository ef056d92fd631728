//! Where the values of a job were written, for people who wonder why they are what they are.
//!
//! In: a job's tree and its scope. Out: an [`Origin`] for the lake, the target, each variable,
//! secret and bucket, and each limit of its epochs. Of secrets it is the declaration, never the
//! value.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::model::Origin;
use crate::job::model::{SecretRef, StoreSpec};
use crate::job::read::{Document, Scope, segment};

/// The origins by `lake`, `target`, `vars.<name>`, `secrets.<name>`, `storage.<name>` and
/// `epoch.<key>`.
pub(in crate::job) fn origins(
    document: &Document,
    scope: &Scope,
    secrets: &BTreeMap<String, SecretRef>,
    stores: &[StoreSpec],
) -> BTreeMap<String, Origin> {
    let mut origins = BTreeMap::new();
    if document.value.get("lake").is_some() {
        origins.insert("lake".to_string(), written(document, "/lake"));
    }
    if let Some(target) = &scope.target {
        let pointer = format!("/targets{}/default", segment(target));
        let by_default = document.value.pointer(&pointer) == Some(&Value::Bool(true));
        let origin =
            if by_default { written(document, &pointer) } else { Origin::Asked("--target") };
        origins.insert("target".to_string(), origin);
    }
    for name in scope.vars.keys() {
        let pointer = scope.origins.get(name).cloned().flatten();
        let origin = pointer.map_or(Origin::Asked("--set"), |at| written(document, &at));
        origins.insert(format!("vars.{name}"), origin);
    }
    for name in secrets.keys() {
        if let Some(pointer) = scope.secrets.get(name).cloned().flatten() {
            origins.insert(format!("secrets.{name}"), written(document, &pointer));
        }
    }
    for StoreSpec { name, .. } in stores {
        let pointer = format!("/storage{}", segment(name));
        origins.insert(format!("storage.{name}"), written(document, &pointer));
    }
    let epoch = document.value.get("epoch").and_then(Value::as_object);
    for key in epoch.into_iter().flat_map(Map::keys) {
        let pointer = format!("/epoch{}", segment(key));
        origins.insert(format!("epoch.{key}"), written(document, &pointer));
    }
    origins
}

fn written(document: &Document, pointer: &str) -> Origin {
    let at = document.written_at(pointer);
    let (file, place) = document.place(pointer);
    let target = at.strip_prefix("/targets/").and_then(|rest| rest.split_once('/'));
    Origin::Written {
        file: file.to_path_buf(),
        place,
        by_project: document.is_borrowed(pointer),
        target: target.map(|(name, _)| name.replace("~1", "/").replace("~0", "~")),
    }
}
