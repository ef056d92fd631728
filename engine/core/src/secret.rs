//! Secrets: values that never print and never enter SQL text.

use std::collections::BTreeMap;

/// The job's secrets by name, resolved, and the settings of buckets that have some of their own.
#[derive(Clone, Default)]
pub struct Secrets {
    values: BTreeMap<String, String>,
    stores: BTreeMap<String, BTreeMap<String, String>>,
}

impl Secrets {
    /// From names and values.
    pub fn new(values: BTreeMap<String, String>) -> Self {
        Self { values, stores: BTreeMap::new() }
    }

    /// With settings of the bucket that `url` names, whatever follows it there.
    #[must_use]
    pub fn with_store(mut self, url: &str, settings: BTreeMap<String, String>) -> Self {
        self.stores.insert(bucket_of(url).to_string(), settings);
        self
    }

    /// The settings of the bucket that `url` names, if it has some of its own.
    pub fn store(&self, url: &str) -> Option<&BTreeMap<String, String>> {
        self.stores.get(bucket_of(url))
    }

    /// The value of a secret. Use it, do not print it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value that a setting's text stands for: a secret's, or itself. Use it, do not print it.
    pub fn fill(&self, text: &str) -> String {
        let name = text.strip_prefix("${secrets.").and_then(|rest| rest.strip_suffix('}'));
        name.and_then(|name| self.get(name)).unwrap_or(text).to_string()
    }

    /// The names, which may be shown.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }
}

/// `scheme://bucket` of `scheme://bucket/and/more`.
pub fn bucket_of(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    &url[..end]
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}
