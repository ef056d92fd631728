//! `storage:`: settings of buckets that have some of their own.
//!
//! In: entries with a URL and settings. Out: settings by URL, secrets still by name; of those that
//! a project lent, the ones that the job names. Which keys there are the store's client says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use sluice_core::bucket_of;
use sluice_lake::store::{Setting, setting};

use super::Builder;
use crate::job::model::StoreSpec;
use crate::job::named::Named;
use crate::job::read::segment;
use crate::job::spec::StorageEntry;

impl Builder<'_, '_> {
    pub(in crate::job) fn storage(&mut self, entries: Named<StorageEntry>) -> Vec<StoreSpec> {
        let mut stores = Vec::new();
        let mut buckets = BTreeSet::new();
        for (name, entry) in entries {
            let pointer = format!("/storage{}", segment(&name));
            let place = format!("{pointer}/url");
            if !self.is_damaged(&place) && !buckets.insert(bucket_of(&entry.url).to_string()) {
                let message = format!("a bucket has its settings in one place url={}", entry.url);
                self.report.at(&place, message, "put the settings of a bucket into one entry");
            }
            let settings = self.store_settings(&pointer, &entry.url, entry.settings);
            if self.report.document.is_borrowed(&pointer) && !self.names_bucket(&entry.url) {
                continue;
            }
            stores.push(StoreSpec { name, url: entry.url, settings });
        }
        stores
    }

    fn store_settings(
        &mut self,
        pointer: &str,
        url: &str,
        entries: Map<String, Value>,
    ) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        for (key, value) in entries {
            let place = format!("{pointer}{}", segment(&key));
            if self.is_damaged(&place) {
                continue;
            }
            let text = match value {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => {
                    let hint = "write a text, a number, true or false";
                    self.report.at(&place, format!("a setting has one value key={key}"), hint);
                    continue;
                }
            };
            match setting(url, &key) {
                None => {
                    let url_place = format!("{pointer}/url");
                    if !self.is_damaged(&url_place) {
                        let message = format!("this is no cloud's store url={url}");
                        let hint = "write s3://bucket, gs://bucket or az://container";
                        self.report.at(&url_place, message, hint);
                    }
                    return settings;
                }
                Some(Setting::Unknown) => {
                    let hint = "use the name of an environment variable of its cloud in lower \
                                case, with or without aws_, google_, azure_";
                    self.report.at_key(&place, format!("no such setting key={key}"), hint);
                }
                Some(Setting::Secret) if !text.starts_with("${secrets.") => {
                    let hint = format!(
                        "write `secrets: {{name: {{env: NAME}}}}` and {key}: \"${{secrets.name}}\""
                    );
                    self.report.at(&place, "a secret does not stand in a job file", hint);
                }
                Some(Setting::Plain | Setting::Secret) => {
                    settings.insert(key, text);
                }
            }
        }
        settings
    }
}
