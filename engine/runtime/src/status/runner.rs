//! What a runner says of itself: one small object beside its lease, for `status` of other processes.
//!
//! In: what a run is at. Out: `runner.json`, and what it says. It has no weight in the protocol: one
//! that is lost or old is only news that are missing. When it is written is `schedule`'s.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sluice_core::{Error, Result};
use sluice_lake::manifest::job_folder;
use sluice_lake::store::Location;

/// What a runner is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// It takes the lease, finishes what is sealed and asks its sources where they are.
    #[default]
    Opening,
    /// It asks its sources for rows.
    Taking,
    /// It works an epoch.
    Working,
    /// An epoch is done, and sealed once the one before is published.
    Sealing,
    /// Something failed; it waits before it tries again.
    Waiting,
    /// It is over.
    Ended,
}

/// A dependency that failed again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circuit {
    /// `store`, or the name of a source.
    pub dependency: String,
    /// Failures in a row.
    pub failures: u32,
    /// Since when it is left alone, milliseconds since 1970.
    pub since_ms: i64,
    /// When it is tried next, milliseconds since 1970.
    pub until_ms: i64,
}

/// The last failure that a run went on after, or ended by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// Who has to act; see [`sluice_core::Kind`].
    pub kind: String,
    /// What went wrong, with its causes.
    pub message: String,
}

/// What a runner says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerNote {
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// Whether it goes on when sources are empty.
    pub follow: bool,
    /// When the run began, milliseconds since 1970.
    pub started_at_ms: i64,
    /// What it is at.
    pub at: At,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
    /// The epoch it is at.
    pub epoch: Option<u64>,
    /// When it sealed an epoch last, milliseconds since 1970.
    pub sealed_at_ms: Option<i64>,
    /// Its last failure.
    pub trouble: Option<Trouble>,
    /// What it leaves alone.
    pub circuits: Vec<Circuit>,
    /// When it said so, milliseconds since 1970.
    pub written_at_ms: i64,
}

impl RunnerNote {
    /// The note of a job's last runner; none when there is none, or none that can be read.
    pub async fn read(lake: &Location, job: &str) -> Result<Option<Self>> {
        let place = place(lake, job);
        let bytes = place.store.get(&place.path).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Puts it in the place of the one before.
    pub async fn write(&self, lake: &Location, job: &str) -> Result<()> {
        let json = serde_json::to_vec(self);
        let json = json.map_err(|e| Error::bug("cannot write a note as json").because(e))?;
        let place = place(lake, job);
        place.store.put_hint(&place.path, Bytes::from(json)).await
    }
}

fn place(lake: &Location, job: &str) -> Location {
    job_folder(lake, job).child("runner.json")
}
