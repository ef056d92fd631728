//! What `sluice reset` leaves for the runner that comes next: `_sluice/<job>/reset.json`.
//!
//! ```text
//! reset of tables   mark ──────────────────────────────────► the next run makes them again
//! reset of a job    mark ─► records ─► tables ─► chain ─► mark goes: the job never was
//!                     └── a crash in between: every run is refused until the reset is repeated
//! ```
//!
//! A mark for tables is done when an epoch after it has made them, which the manifests tell: whoever
//! opens the job next takes it away. No mark is ever the only place that knows something.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sluice_core::{Error, Result};
use sluice_lake::manifest::{Action, Manifest, job_folder};
use sluice_lake::store::Location;

use crate::epoch::Lake;

/// What is to be made again, or to be nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reset", rename_all = "snake_case")]
pub enum Mark {
    /// Everything of the job is being deleted.
    Job,
    /// Tables and views are made again by the next run.
    Tables {
        /// The last epoch before the mark.
        epoch: u64,
        /// The life of the chain then.
        incarnation: String,
        /// Tables: their rows come from sources, so the whole job is made again.
        tables: Vec<String>,
        /// Views: each is built afresh by itself.
        views: Vec<String>,
    },
}

/// The name of the mark in the folder of a job.
pub(crate) const MARK: &str = "reset.json";

impl Mark {
    fn place(lake: &Lake) -> Location {
        job_folder(&lake.root, lake.chain.job()).child(MARK)
    }

    /// The mark that is there, done or not. Errors: `Conflict` when it is unreadable.
    pub async fn read(lake: &Lake) -> Result<Option<Self>> {
        let place = Self::place(lake);
        let Some(bytes) = place.store.get(&place.path).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::conflict(format!("the mark of a reset is unreadable path={}", place.describe()))
                .hint("repeat the `sluice reset`, which writes it again")
                .because(e)
        })
    }

    /// Leaves the mark; durable when this returns.
    pub async fn write(&self, lake: &Lake) -> Result<()> {
        let place = Self::place(lake);
        let json = serde_json::to_vec(self);
        let json = json.map_err(|e| Error::bug("cannot write a mark as json").because(e))?;
        place.store.put(&place.path, Bytes::from(json)).await
    }

    /// Takes the mark away.
    pub async fn remove(lake: &Lake) -> Result<()> {
        let place = Self::place(lake);
        place.store.delete(&place.path).await
    }

    /// What of it is still to be done after `last`; none when all is.
    pub async fn pending(self, lake: &Lake, last: Option<&Manifest>) -> Result<Option<Self>> {
        let Mark::Tables { epoch, incarnation, mut tables, mut views } = self else {
            return Ok(Some(self));
        };
        let Some(last) = last else { return Ok(None) };
        if last.incarnation != incarnation {
            tables.clear();
        }
        for n in epoch + 1..=last.epoch {
            let entry = lake.chain.get(n).await?;
            views.retain(|view| !entry.as_ref().is_some_and(|e| makes(&e.manifest, view)));
            if views.is_empty() {
                break;
            }
        }
        let left = !tables.is_empty() || !views.is_empty();
        Ok(left.then_some(Mark::Tables { epoch, incarnation, tables, views }))
    }
}

/// Whether an epoch puts all rows of a view in the place of others.
fn makes(manifest: &Manifest, view: &str) -> bool {
    match manifest.tables.get(view).map(|part| &part.action) {
        Some(Action::Delta(action)) => action.replace || action.create.is_some(),
        _ => false,
    }
}

/// Why nobody may run a job that is half deleted.
pub(in crate::recover) fn half_reset(job: &str) -> Error {
    Error::conflict(format!("a reset of this job was begun and not finished job={job}"))
        .hint("repeat it with `sluice reset`, then run the job")
}
