//! Secrets: values that never print and never enter SQL text.

use std::collections::BTreeMap;

/// The job's secrets by name, resolved.
#[derive(Clone, Default)]
pub struct Secrets {
    values: BTreeMap<String, String>,
}

impl Secrets {
    /// From names and values.
    pub fn new(values: BTreeMap<String, String>) -> Self {
        Self { values }
    }

    /// The value of a secret. Use it, do not print it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The names, which may be shown.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}
