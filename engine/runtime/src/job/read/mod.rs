//! From the text of a job file to a tree of values with places, interpolated.
//!
//! In: a file's text, that of its project, `--target`, `--set`. Out: [`Interpolated`], a JSON value
//! in which nothing is left to replace but references to secrets. It does not know which keys a job
//! file has, apart from those that interpolation and a project need.

mod layer;
mod place;
mod reference;
mod scope;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sluice_core::Span;

use self::reference::Expanded;
use super::report::Report;

pub(crate) use self::layer::layered;
pub(crate) use self::place::Text;
pub(crate) use self::scope::{Scope, choose_target};
pub(crate) use self::tree::{Document, nearest, segment};

/// A tree after interpolation.
#[derive(Debug, Clone)]
pub(crate) struct Interpolated {
    /// The values.
    pub(crate) value: Value,
    /// Values that could not be worked out, by JSON pointer; they stand as written.
    pub(crate) failed: BTreeSet<String>,
    /// For every text that was replaced, the index of the written character of each of its own.
    origins: BTreeMap<String, Vec<usize>>,
}

impl Interpolated {
    /// Replaces the references in `document`; what is wrong goes to `report`.
    pub(crate) fn new(document: &Document, scope: &Scope, report: &mut Report<'_>) -> Self {
        let mut value = document.value.clone();
        let mut walk =
            Walk { scope, report, failed: document.broken.clone(), origins: BTreeMap::new() };
        if let Value::Object(entries) = &mut value {
            for (key, entry) in entries {
                if !matches!(key.as_str(), "vars" | "secrets" | "targets") {
                    walk.value(entry, &segment(key));
                }
            }
        }
        let Walk { failed, origins, .. } = walk;
        Self { value, failed, origins }
    }

    /// A place in `document` for each character of the text at `pointer`, and one for its end.
    pub(crate) fn places(&self, document: &Document, pointer: &str) -> Vec<Span> {
        let written = document.places(pointer);
        let Some(origins) = self.origins.get(pointer) else { return written };
        let last = written.last().copied();
        origins.iter().filter_map(|i| written.get(*i).copied().or(last)).collect()
    }
}

struct Walk<'a, 'b> {
    scope: &'a Scope,
    report: &'a mut Report<'b>,
    failed: BTreeSet<String>,
    origins: BTreeMap<String, Vec<usize>>,
}

impl Walk<'_, '_> {
    fn value(&mut self, value: &mut Value, pointer: &str) {
        match value {
            Value::Object(entries) => {
                for (key, entry) in entries {
                    self.value(entry, &format!("{pointer}{}", segment(key)));
                }
            }
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.value(item, &format!("{pointer}/{i}"));
                }
            }
            Value::String(text) => {
                if let Some(replaced) = self.text(text, pointer) {
                    *value = replaced;
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, pointer: &str) -> Option<Value> {
        let (message, hint) = match reference::expand(text, self.scope) {
            Ok(Expanded::Same) => return None,
            Ok(Expanded::Value(value)) => {
                if let Value::String(text) = &value {
                    let origins = vec![0; text.chars().count() + 1];
                    self.origins.insert(pointer.to_string(), origins);
                }
                return Some(value);
            }
            Ok(Expanded::Text(text, origins)) => {
                self.origins.insert(pointer.to_string(), origins);
                return Some(Value::String(text));
            }
            Ok(Expanded::Secret(name)) if is_setting(pointer) => {
                return Some(Value::String(format!("${{secrets.{name}}}")));
            }
            Ok(Expanded::Secret(_)) => (
                "a secret cannot be used here".to_string(),
                "secrets stand in the settings of sources, sinks and storage, as tokens of users and \
                 as keys of endpoints only"
                    .to_string(),
            ),
            Err(wrong) => wrong,
        };
        self.report.at(pointer, message, hint);
        self.failed.insert(pointer.to_string());
        None
    }
}

/// Whether the value at `pointer` is handed to a connector, a store or whoever checks or needs a
/// token.
fn is_setting(pointer: &str) -> bool {
    let mut segments = pointer.split('/').skip(1);
    let section = segments.next().unwrap_or_default();
    let key = segments.nth(1).unwrap_or_default();
    match section {
        "sources" | "sinks" => !matches!(key, "" | "connector" | "schema" | "from" | "backlog"),
        "storage" => !matches!(key, "" | "url"),
        "users" => key == "token",
        "endpoints" => key == "forward" && pointer.ends_with("/forward/key"),
        _ => false,
    }
}
