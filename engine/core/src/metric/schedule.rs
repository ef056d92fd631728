//! What is measured of runs that a schedule or a person starts.
//!
//! In: nothing. Out: constants, which `engine/README.md` repeats for people.

use super::Metric;
use super::Shape::{Counter, Gauge, Histogram};

/// Runs, by how they ended.
pub const RUNS: Metric = Metric {
    name: "sluice_runs",
    shape: Counter,
    labels: &["job", "outcome"],
    help: "Runs that ended, by how: done, failed, cancelled, timed_out, interrupted, missed.",
};

/// How long runs took.
pub const RUN_SECONDS: Metric = Metric {
    name: "sluice_run_seconds",
    shape: Histogram,
    labels: &["job"],
    help: "Seconds of a run from start to end.",
};

/// When a run is due.
pub const NEXT_RUN: Metric = Metric {
    name: "sluice_next_run_timestamp_seconds",
    shape: Gauge,
    labels: &["job"],
    help: "When the next run starts by itself, in seconds since 1970; 0 when none is due.",
};

/// Jobs that start no run by themselves.
pub const JOB_PAUSED: Metric = Metric {
    name: "sluice_job_paused",
    shape: Gauge,
    labels: &["job"],
    help: "1 while the job is paused, else 0.",
};

/// Failures since the last success.
pub const RUN_FAILURES: Metric = Metric {
    name: "sluice_run_failures_in_a_row",
    shape: Gauge,
    labels: &["job"],
    help: "Runs of the job that failed since one did not.",
};

/// Runs whose records are not in the history yet.
pub const HISTORY_WAITING: Metric = Metric {
    name: "sluice_history_waiting",
    shape: Gauge,
    labels: &[],
    help: "Records of ended runs that wait to be written to the history.",
};
