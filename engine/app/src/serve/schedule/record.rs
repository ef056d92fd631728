//! What is told of jobs and their runs.
//!
//! These structs are what callers see, and [`RunRecord`] what the history and the state folder
//! keep. They decide nothing.

use serde::{Deserialize, Serialize};

/// How a run ended, as [`RunRecord::outcome`] says it.
pub(crate) mod outcome {
    /// It is at work.
    pub(crate) const RUNNING: &str = "running";
    /// It did what there was to do, or was stopped where it has no end of its own.
    pub(crate) const DONE: &str = "done";
    /// It ended with an error.
    pub(crate) const FAILED: &str = "failed";
    /// Somebody ended it, or its definition changed.
    pub(crate) const CANCELLED: &str = "cancelled";
    /// It took longer than it may.
    pub(crate) const TIMED_OUT: &str = "timed_out";
    /// Its process ended before it.
    pub(crate) const INTERRUPTED: &str = "interrupted";
    /// It was due and did not start.
    pub(crate) const MISSED: &str = "missed";
}

/// A run, from its start on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// Its id.
    pub(crate) id: String,
    /// The job.
    pub(crate) job: String,
    /// What started it: `schedule`, `after a, b`, `continuous`, `reload`, `manual by anna`.
    pub(crate) trigger: String,
    /// 1 for the first try, 0 for one that was missed.
    pub(crate) attempt: u32,
    /// When it started, milliseconds since 1970; of missed ones, when the first was due.
    pub(crate) started_ms: i64,
    /// When it ended; of missed ones, when the last was due.
    pub(crate) ended_ms: Option<i64>,
    /// Epochs it sealed.
    pub(crate) epochs: u64,
    /// Rows of sources it took.
    pub(crate) rows: u64,
    /// Bytes it wrote to tables and sinks.
    pub(crate) bytes: u64,
    /// One of [`outcome`].
    pub(crate) outcome: String,
    /// Why it ended so, if there is more to say.
    pub(crate) error: Option<String>,
    /// The hash of the definition it ran.
    pub(crate) definition: String,
}

impl RunRecord {
    /// Whether something went wrong with it.
    pub(crate) fn is_failure(&self) -> bool {
        self.outcome == outcome::FAILED || self.outcome == outcome::TIMED_OUT
    }
}

/// What a job is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It waits for its time, or for somebody.
    Idle,
    /// A run is at work.
    Running,
    /// Something has to happen first: [`JobState::note`] says what.
    Waiting,
    /// Nothing starts it but a person: somebody paused it, or cancelled what runs all the time.
    Paused,
    /// Its last run failed, and is not tried again before its time.
    Failed,
}

/// A run at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Running {
    /// Its id.
    pub(crate) id: String,
    /// When it started, milliseconds since 1970.
    pub(crate) since_ms: i64,
    /// Which try it is, from 1.
    pub(crate) attempt: u32,
    /// What started it.
    pub(crate) trigger: String,
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct JobState {
    /// The job.
    pub(crate) job: String,
    /// When it runs: `cron */5 * * * *`, `every 10s`, `after a, b`, `continuous`, `manual`.
    pub(crate) schedule: String,
    /// What it is at.
    pub(crate) state: State,
    /// Why it waits, or what holds it up.
    pub(crate) note: Option<String>,
    /// The run at work.
    pub(crate) run: Option<Running>,
    /// When the next one starts by itself, milliseconds since 1970.
    pub(crate) next_ms: Option<i64>,
    /// The run that ended last.
    pub(crate) last: Option<RunRecord>,
    /// Failures in a row; none while a run seals epochs.
    pub(crate) failures: u32,
    /// Whether it runs all the time, was cancelled, and nobody resumed it or ran it since.
    pub(crate) cancelled: bool,
}

impl JobState {
    /// The last run, if it failed and nothing has succeeded since: what the run at work seals shows
    /// that it is well.
    pub(crate) fn failed(&self) -> Option<&RunRecord> {
        self.last.as_ref().filter(|run| run.is_failure() && self.failures > 0)
    }
}
