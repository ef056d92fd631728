//! What settings of all connectors are read with: their JSON Schema, common shapes of values, and all
//! that is wrong with them at once.
//!
//! In: entries of a job file. Out: values, and faults with their places. It knows no connector.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::Value;
use sluice_core::{Config, DataSchema, Error, Problems, Result, parse_bytes};

/// The JSON Schema of settings, without a title and with everything in its place.
pub(crate) fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("$schema");
    schema.remove("title");
    schema.to_value()
}

/// One text or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them.
    pub(crate) fn as_slice(&self) -> &[String] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }

    /// All of them, each with its place; `pointer` is that of the whole.
    pub(crate) fn texts(&self, pointer: &str) -> Vec<(String, &String)> {
        match self {
            OneOrMany::One(one) => vec![(pointer.to_string(), one)],
            OneOrMany::Many(many) => (0..)
                .zip(many)
                .map(|(i, text): (u32, _)| (format!("{pointer}/{i}"), text))
                .collect(),
        }
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Size {
    /// In bytes.
    Bytes(u64),
    /// `64MiB`, `1GB`.
    Text(String),
}

/// Reports fields that cannot be columns beside each other.
pub(crate) fn check_fields(faults: &mut Faults, schema: &DataSchema) {
    for (i, field) in schema.fields.iter().enumerate() {
        if schema.fields[..i].iter().any(|f| f.name == field.name) {
            let message = format!("a field comes twice in the schema field={}", field.name);
            faults.add("/schema", &message, "give every field a name of its own");
        }
        if field.name.starts_with('_') {
            let message = format!("names that begin with _ are reserved field={}", field.name);
            faults.add("/schema", &message, "rename it with `from:`");
        }
    }
}

/// Bytes of a size, if one is given.
pub(crate) fn size(faults: &mut Faults, pointer: &str, size: Option<&Size>) -> Option<u64> {
    let bytes = match size? {
        Size::Bytes(bytes) => *bytes,
        Size::Text(text) => faults.keep(pointer, parse_bytes(text))?,
    };
    if bytes == 0 {
        faults.add(pointer, "a size of zero", "give a size such as 32MiB");
    }
    Some(bytes)
}

/// What is wrong with an entry.
#[derive(Debug, Default)]
pub struct Faults {
    list: Vec<(String, Error)>,
}

impl Faults {
    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn add(&mut self, pointer: &str, message: &str, hint: &str) {
        self.list.push((pointer.to_string(), Error::config(message).hint(hint)));
    }

    pub(crate) fn with(mut self, pointer: &str, error: Error) -> Self {
        self.list.push((pointer.to_string(), error));
        self
    }

    pub(crate) fn keep<T>(&mut self, pointer: &str, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.list.push((pointer.to_string(), error))).ok()
    }

    pub(crate) fn and(mut self, more: Self) -> Self {
        self.list.extend(more.list);
        self
    }

    /// As problems of the job file.
    pub(crate) fn report(&self, config: &Config, problems: &mut Problems) {
        for (pointer, error) in &self.list {
            let hint = error.hint_text().unwrap_or("see the connector's page");
            config.problem(problems, pointer, &error.chain(), hint);
        }
    }

    /// The place of the first.
    pub(crate) fn first_place(&self) -> Option<&str> {
        self.list.first().map(|(pointer, _)| pointer.as_str())
    }

    /// The first, for whoever builds without having checked.
    pub(crate) fn first(self, config: &Config) -> Error {
        let first = self.list.into_iter().next();
        first.map_or_else(
            || Error::bug(format!("settings are refused for no reason name={}", config.name)),
            |(_, error)| error,
        )
    }
}
