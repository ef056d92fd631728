//! What a run says of itself while it works, kept until somebody writes it down for `status`.
//!
//! In: changes of a note, as they happen; they cost a lock. Out: a note that is written when it has
//! changed and somebody has the time: beside the renewal of the lease, and when a run waits or ends.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_core::{Clock, Result};
use sluice_lake::store::Location;

use crate::epoch::Environment;
use crate::status::RunnerNote;

/// How long a run that waits or ends goes on trying to write its note: it may be the store that is
/// gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// The note of one run.
#[derive(Debug, Clone)]
pub(in crate::schedule) struct Bulletin {
    clock: Arc<dyn Clock>,
    /// The lake, and the job.
    place: Option<(Location, String)>,
    said: Arc<Mutex<Said>>,
}

#[derive(Debug, Default)]
struct Said {
    note: RunnerNote,
    changed: bool,
    written: bool,
}

impl Bulletin {
    /// A note that is written nowhere until it has a place.
    pub fn new(env: &Environment, follow: bool) -> Self {
        let now = env.clock.wall_ms();
        let note = RunnerNote {
            host: env.host.clone(),
            pid: env.pid,
            follow,
            started_at_ms: now,
            since_ms: now,
            ..RunnerNote::default()
        };
        let said = Said { note, ..Said::default() };
        Self { clock: env.clock.clone(), place: None, said: Arc::new(Mutex::new(said)) }
    }

    /// Whoever holds the job's lease writes here.
    pub fn placed(&mut self, lake: &Location, job: &str) {
        self.place = Some((lake.clone(), job.to_string()));
    }

    /// Changes what it says.
    pub fn say(&self, change: impl FnOnce(&mut RunnerNote)) {
        let mut said = self.said.lock();
        change(&mut said.note);
        said.changed = true;
    }

    /// Whether it was written once.
    pub fn is_known(&self) -> bool {
        self.said.lock().written
    }

    /// Whether an earlier run left a note where this one goes; false where that cannot be told in
    /// short time.
    pub async fn has_past(&self) -> bool {
        let Some((lake, job)) = &self.place else { return false };
        tokio::select! {
            found = RunnerNote::read(lake, job) => matches!(found, Ok(Some(_))),
            () = self.clock.sleep(PATIENCE) => false,
        }
    }

    /// Writes it if it has changed.
    pub async fn post(&self) -> Result<()> {
        let Some((lake, job)) = &self.place else { return Ok(()) };
        let note = {
            let mut said = self.said.lock();
            if !std::mem::take(&mut said.changed) {
                return Ok(());
            }
            said.note.written_at_ms = self.clock.wall_ms();
            said.note.clone()
        };
        let written = note.write(lake, job).await;
        let mut said = self.said.lock();
        match written {
            Ok(()) => said.written = true,
            Err(_) => said.changed = true,
        }
        written
    }

    /// Writes it if that can be done in short time; nothing depends on it.
    pub async fn try_post(&self) {
        let told = tokio::select! {
            told = self.post() => told,
            () = self.clock.sleep(PATIENCE) => return,
        };
        if let Err(error) = told {
            tracing::debug!(error = error.chain(), "the runner's note was not written");
        }
    }
}
