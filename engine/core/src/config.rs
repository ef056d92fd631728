//! A connector's part of the job file: its value after interpolation, and where each key stands.
//!
//! In: a JSON object and spans by JSON pointer, made by the job reader. Out: typed values through
//! serde, problems with places. It has been checked against the connector's JSON Schema already.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{DataSchema, Error, Problems, Result, Secrets, Span};

/// One `sources:` or `sinks:` entry.
#[derive(Debug, Clone)]
pub struct Config {
    /// The entry's name in the job.
    pub name: String,
    /// The job file.
    pub file: PathBuf,
    /// The entry as an object, interpolated, without `connector`, `from`, `schema`.
    pub value: Value,
    /// Where the values stand, by JSON pointer relative to the entry (`""` is the entry).
    pub spans: BTreeMap<String, Span>,
    /// The data schema named by `schema:`, when there is one.
    pub schema: Option<DataSchema>,
}

impl Config {
    /// The entry as the connector's own struct.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.value.clone()).map_err(|e| {
            Error::config(format!("cannot read the settings name={}", self.name)).because(e)
        })
    }

    /// The entry with the values of secrets in it. Use it, do not print it.
    #[must_use]
    pub fn with_secrets(&self, secrets: &Secrets) -> Self {
        let mut config = self.clone();
        fill(&mut config.value, secrets);
        config
    }

    /// The place of the value at `pointer`, or of the nearest value around it.
    pub fn span(&self, pointer: &str) -> Option<Span> {
        let mut at = pointer;
        loop {
            if let Some(span) = self.spans.get(at) {
                return Some(*span);
            }
            at = &at[..at.rfind('/')?];
        }
    }

    /// Reports a problem at `pointer`.
    pub fn problem(&self, problems: &mut Problems, pointer: &str, message: &str, hint: &str) {
        let hint = (!hint.is_empty()).then(|| hint.to_string());
        problems.push(&self.file, self.span(pointer), message, hint);
    }
}

fn fill(value: &mut Value, secrets: &Secrets) {
    match value {
        Value::String(text) => *text = secrets.fill(text),
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, secrets)),
        Value::Object(values) => values.values_mut().for_each(|value| fill(value, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
