//! Job snapshots: what readers see, all tables of a job at one epoch.
//!
//! In: what publishing an epoch made visible. Out: a record per epoch under
//! `<lake>/_sluice/<job>/published`, and the newest one for readers. It publishes nothing itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::ready;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use sluice_core::{Error, Result};

use crate::manifest::job_folder;
use crate::store::{Create, Location, Series};

#[cfg(test)]
mod tests;

/// A snapshot superseded for less than this keeps its files: an hour, as long as a query may run.
pub const KEEP_MS: i64 = 3_600_000;

/// Records read at once: enough to hide a store's latency.
const READ_AHEAD: usize = 8;

/// Tries to read a record while others clean up around it.
const ATTEMPTS_MAX: u32 = 3;

/// All tables of a job at one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The epoch.
    pub epoch: u64,
    /// The incarnation it belongs to.
    pub incarnation: String,
    /// The job.
    pub job: String,
    /// Milliseconds since 1970.
    pub published_at_ms: i64,
    /// Every table of the job, also those the epoch did not touch.
    pub tables: BTreeMap<String, PublishedTable>,
}

/// One table at one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum PublishedTable {
    /// A Delta table.
    Delta {
        /// The table's folder, from the store's root.
        location: String,
        /// Its version.
        version: i64,
    },
    /// A dataset of files.
    Files {
        /// The dataset's folder, from the store's root.
        location: String,
        /// The incarnation whose files count.
        incarnation: String,
        /// The last epoch whose files count.
        epoch: u64,
        /// How many files that makes.
        #[serde(default)]
        files: u64,
        /// The partition columns, as the files were written.
        #[serde(default)]
        partition_by: Option<Vec<String>>,
    },
}

/// The published records of one job.
#[derive(Debug, Clone)]
pub struct Snapshots {
    series: Series,
}

impl Snapshots {
    /// The records of `job` in `lake`; nothing is read yet.
    pub fn new(lake: &Location, job: &str) -> Self {
        Self { series: Series::new(job_folder(lake, job).child("published")) }
    }

    /// Writes the record of an epoch, as often as one likes: the first one stays, whoever wrote
    /// it, since publishing an epoch twice gives the same. Readers see it from now on.
    pub async fn write(&self, record: &Published) -> Result<()> {
        let json = |e| Error::bug("cannot write a published record as json").because(e);
        let bytes = Bytes::from(serde_json::to_vec(record).map_err(json)?);
        let store = &self.series.folder().store;
        let path = self.series.path(record.epoch);
        match store.create(&path, bytes.clone()).await? {
            Create::Done => {}
            // An overwrite says the same, so there is no harm in it, whatever stands there.
            Create::Unknown(_) => store.put(&path, bytes).await?,
            Create::Exists => match self.get(record.epoch).await {
                Ok(Some(_)) => store.settle(&path).await?,
                _ => store.put(&path, bytes).await?,
            },
        }
        Ok(())
    }

    /// Says that the record of `n` is there, or was: readers start from it.
    pub async fn set_hint(&self, n: u64) -> Result<()> {
        self.series.set_hint(n).await
    }

    /// The record of epoch `n`; none when it is not there. Errors: `Conflict` when unreadable.
    pub async fn get(&self, n: u64) -> Result<Option<Published>> {
        let path = self.series.path(n);
        let store = &self.series.folder().store;
        let Some(bytes) = store.get(&path).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            let place = store.describe(&path);
            Error::conflict(format!("a published record is unreadable path={place}"))
                .hint("the next `sluice run` of the job writes a new one")
                .because(e)
        })
    }

    /// What readers see now; none when nothing was published.
    pub async fn latest(&self) -> Result<Option<Published>> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(newest) = self.series.newest().await? else { return Ok(None) };
            if let Some(record) = self.get(newest).await? {
                return Ok(Some(record));
            }
        }
        let place = self.series.folder().describe();
        Err(Error::unavailable(format!("the newest published record vanishes path={place}")))
    }

    /// The snapshots somebody may still be reading at `now_ms`: the newest one, and those that
    /// were superseded less than `keep_ms` ago. Vacuum keeps the files they need.
    pub async fn needed(&self, now_ms: i64, keep_ms: i64) -> Result<Vec<Published>> {
        let listed = self.listed().await?;
        let needed = listed[first_needed(&listed, now_ms, keep_ms)..].to_vec();
        let records = stream::iter(needed).map(|(n, _)| self.get(n)).buffered(READ_AHEAD);
        records.try_filter_map(|record| ready(Ok(record))).try_collect().await
    }

    /// Deletes the records that [`Self::needed`] leaves out, oldest first. Returns how many.
    pub async fn clean(&self, now_ms: i64, keep_ms: i64) -> Result<u64> {
        let listed = self.listed().await?;
        let old = &listed[..first_needed(&listed, now_ms, keep_ms)];
        for (n, _) in old {
            self.series.folder().store.delete(&self.series.path(*n)).await?;
        }
        if let Some((newest, _)) = listed.last() {
            self.set_hint(*newest).await?;
        }
        Ok(old.len() as u64)
    }

    /// Numbers and times by the store's clock, sorted by number.
    async fn listed(&self) -> Result<Vec<(u64, i64)>> {
        let listed = self.series.listed().await?;
        let records = listed.into_iter().filter(|(_, rest, _)| rest == ".json");
        Ok(records.map(|(n, _, meta)| (n, meta.last_modified.timestamp_millis())).collect())
    }
}

/// The index of the first record that is still needed. Each record is superseded when the next
/// one is written, so it is the last one written before the window begins, or the first one.
fn first_needed(records: &[(u64, i64)], now_ms: i64, keep_ms: i64) -> usize {
    let before = |(_, written_ms): &(u64, i64)| now_ms.saturating_sub(*written_ms) >= keep_ms;
    records.iter().rposition(before).unwrap_or(0)
}
