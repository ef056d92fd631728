//! What the entries behind a checkpoint say, of each thing the last word.
//!
//! In: entries as they are. Out: lines for the next checkpoint, or nothing where an entry has
//! something that we do not write ourselves: then the library is to make the checkpoint.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};

use sluice_core::{Error, Result};

use super::super::action;
use super::super::log::{self, READS_MAX};
use crate::store::Location;

/// What is new.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The last line about each file, by its plain path.
    files: BTreeMap<String, Value>,
    /// The last one of each application, by its id.
    txns: BTreeMap<String, Value>,
    /// When the newest entry was written by the store's clock, milliseconds since 1970.
    pub now_ms: i64,
}

impl News {
    /// Reads the entries from after `version` up to `until`; none where there is something in them
    /// that we do not write.
    pub async fn read(location: &Location, version: i64, until: i64) -> Result<Option<Self>> {
        let mut news = Self::default();
        let mut entries = stream::iter(version + 1..=until)
            .map(|version| async move {
                let path = log::entry_path(location, version)?;
                let found = location.store.get_versioned(&path).await?;
                found.ok_or_else(|| log::gap(location, version))
            })
            .buffered(READS_MAX);
        while let Some(entry) = entries.try_next().await? {
            news.now_ms = entry.meta.last_modified.timestamp_millis();
            if news.take(&entry.bytes).is_none() {
                return Ok(None);
            }
        }
        Ok::<_, Error>(Some(news))
    }

    /// Whether a file, by the path that a log has for it, has a newer line; none where it lies
    /// outside the table.
    pub fn has_file(&self, path: &str) -> Option<bool> {
        Some(self.files.contains_key(&action::plain(path).ok()?))
    }

    /// Whether an application has a newer line.
    pub fn has_txn(&self, app_id: &str) -> bool {
        self.txns.contains_key(app_id)
    }

    /// The lines, without those of files that were removed no later than `expired_ms`.
    pub fn lines(&self, expired_ms: i64) -> impl Iterator<Item = &Value> {
        let files = self.files.values().filter(move |line| {
            let removed = &line["remove"];
            let at = removed["deletionTimestamp"].as_i64().unwrap_or(0);
            removed.is_null() || at > expired_ms
        });
        self.txns.values().chain(files)
    }

    /// Takes one entry; none where it has something that we do not write. In one entry a file that
    /// is removed and added is there.
    fn take(&mut self, entry: &[u8]) -> Option<()> {
        let (mut removes, mut adds) = (Vec::new(), Vec::new());
        for line in entry.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let line: Map<String, Value> = serde_json::from_slice(line).ok()?;
            for (what, said) in line {
                match what.as_str() {
                    "add" => adds.push(of_file("add", said)?),
                    "remove" => removes.push(of_file("remove", said)?),
                    "txn" => {
                        let app_id = said["appId"].as_str()?.to_string();
                        self.txns.insert(app_id, json!({ "txn": said }));
                    }
                    "commitInfo" | "cdc" => {}
                    // With `metaData` and `protocol`: what they ask of checkpoints the library knows.
                    _ => return None,
                }
            }
        }
        self.files.extend(removes);
        self.files.extend(adds);
        Some(())
    }
}

/// A line with the plain path of its file.
fn of_file(what: &str, said: Value) -> Option<(String, Value)> {
    let path = action::plain(said["path"].as_str()?).ok()?;
    said["deletionVector"].is_null().then(|| (path, json!({ what: said })))
}
