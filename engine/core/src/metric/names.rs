//! The list of everything that is measured.
//!
//! In: nothing. Out: constants, which `engine/README.md` repeats for people. Units are part of the
//! names, as Prometheus has it: seconds, bytes, rows.

use super::Metric;
use super::Shape::{Counter, Gauge, Histogram};
use super::http;
use super::postgres;
use super::query;
use super::schedule;
use super::webhook;

/// Epochs sealed.
pub const EPOCHS: Metric = Metric {
    name: "sluice_epochs",
    shape: Counter,
    labels: &["job", "kind"],
    help: "Epochs sealed, by what they did: data, compaction, rebuild, adopt.",
};

/// Time per epoch.
pub const EPOCH_SECONDS: Metric = Metric {
    name: "sluice_epoch_seconds",
    shape: Histogram,
    labels: &["job", "phase"],
    help: "Seconds of an epoch by phase: take (with the wait for rows), work, seal, publish as the \
           clock shows them; decode, split, encode within work and over all cores.",
};

/// Rows, by what became of them.
pub const ROWS: Metric = Metric {
    name: "sluice_rows",
    shape: Counter,
    labels: &["job", "source", "table", "outcome"],
    help: "Rows sealed: of a source decoded, rejected, pruned or lost; of a table or view written, \
           quarantined, dropped, late, deduplicated, deleted or removed.",
};

/// Bytes, by what became of them.
pub const BYTES: Metric = Metric {
    name: "sluice_bytes",
    shape: Counter,
    labels: &["job", "source", "table", "outcome"],
    help: "Bytes sealed: of a source taken, as stored; of a table or view written or removed.",
};

/// Rows that wait in a source.
pub const LAG_ROWS: Metric = Metric {
    name: "sluice_lag_rows",
    shape: Gauge,
    labels: &["job", "source", "partition"],
    help: "Rows that a partition has and that no epoch took yet.",
};

/// How far behind a source the job is.
pub const LAG_SECONDS: Metric = Metric {
    name: "sluice_lag_seconds",
    shape: Gauge,
    labels: &["job", "source", "partition"],
    help: "Age in seconds of the last row taken of a partition while others wait in it, else 0.",
};

/// Watermarks.
pub const WATERMARK: Metric = Metric {
    name: "sluice_watermark_seconds",
    shape: Gauge,
    labels: &["job", "of"],
    help: "Newest event time up to which sealed epochs took a partition of a source that knows one, \
           in seconds since 1970.",
};

/// State.
pub const STATE_BYTES: Metric = Metric {
    name: "sluice_state_bytes",
    shape: Gauge,
    labels: &["job", "owner"],
    help: "Bytes of the state files that the last sealed epoch names, by who keeps them.",
};

/// Files.
pub const FILES: Metric = Metric {
    name: "sluice_files",
    shape: Gauge,
    labels: &["job", "table"],
    help: "Files of a table or view.",
};

/// Sizes of tables.
pub const TABLE_BYTES: Metric = Metric {
    name: "sluice_table_bytes",
    shape: Gauge,
    labels: &["job", "table"],
    help: "Bytes of the files of a table or view.",
};

/// The length of logs.
pub const LOG_VERSIONS: Metric = Metric {
    name: "sluice_log_versions",
    shape: Gauge,
    labels: &["job", "table"],
    help: "Versions of a Delta table since its last checkpoint.",
};

/// When an epoch was published last.
pub const LAST_EPOCH: Metric = Metric {
    name: "sluice_last_epoch_timestamp_seconds",
    shape: Gauge,
    labels: &["job"],
    help: "When an epoch was published last, in seconds since 1970.",
};

/// Whether a job is run.
pub const JOB_UP: Metric = Metric {
    name: "sluice_job_up",
    shape: Gauge,
    labels: &["job"],
    help: "1 while this process runs the job, 0 before and after.",
};

/// Failures that a run went on after, or ended by.
pub const FAILURES: Metric = Metric {
    name: "sluice_failures",
    shape: Counter,
    labels: &["job", "kind"],
    help: "Failures of a run, by who has to act: config, data, unreadable, unavailable, conflict, \
           fenced, bug.",
};

/// Circuit breakers.
pub const CIRCUIT_OPEN: Metric = Metric {
    name: "sluice_circuit_open",
    shape: Gauge,
    labels: &["job", "dependency"],
    help: "1 while a source, the store or a sink is left alone because it failed again and again, \
           else 0.",
};

/// What does not answer.
pub const DEPENDENCY_MISSING: Metric = Metric {
    name: "sluice_dependency_missing",
    shape: Gauge,
    labels: &["job", "dependency"],
    help: "1 from the first failure of a source or the store until it answers, else 0.",
};

/// Sinks that take nothing.
pub const SINK_FAILURES: Metric = Metric {
    name: "sluice_sink_failures_in_a_row",
    shape: Gauge,
    labels: &["job", "sink"],
    help: "Attempts to deliver to a sink that failed since one did not.",
};

/// Series of views that are too many.
pub const VIEW_SERIES_DROPPED: Metric = Metric {
    name: "sluice_view_series_dropped",
    shape: Gauge,
    labels: &["job", "view"],
    help: "Series that the rows of a view would make beyond those that are shown.",
};

/// Memory, by owner.
pub const MEMORY_BYTES: Metric = Metric {
    name: "sluice_memory_bytes",
    shape: Gauge,
    labels: &["owner"],
    help: "Bytes reserved of the memory pool, by owner; numbers in names are left out.",
};

/// The memory pool.
pub const MEMORY_LIMIT: Metric = Metric {
    name: "sluice_memory_limit_bytes",
    shape: Gauge,
    labels: &[],
    help: "Bytes of the memory pool.",
};

/// Resident memory of the process.
pub const RSS: Metric = Metric {
    name: "sluice_process_resident_memory_bytes",
    shape: Gauge,
    labels: &[],
    help: "Resident memory of the process in bytes.",
};

/// Open files of the process.
pub const OPEN_FILES: Metric = Metric {
    name: "sluice_process_open_files",
    shape: Gauge,
    labels: &[],
    help: "Open file descriptors of the process.",
};

/// Processor time of the process.
pub const CPU_SECONDS: Metric = Metric {
    name: "sluice_process_cpu_seconds",
    shape: Gauge,
    labels: &[],
    help: "Processor time of the process in seconds, since it started.",
};

/// All of them, in the order in which people read them.
pub const ALL: &[&Metric] = &[
    &JOB_UP,
    &EPOCHS,
    &EPOCH_SECONDS,
    &LAST_EPOCH,
    &ROWS,
    &BYTES,
    &LAG_ROWS,
    &LAG_SECONDS,
    &WATERMARK,
    &STATE_BYTES,
    &FILES,
    &TABLE_BYTES,
    &LOG_VERSIONS,
    &FAILURES,
    &CIRCUIT_OPEN,
    &DEPENDENCY_MISSING,
    &SINK_FAILURES,
    &VIEW_SERIES_DROPPED,
    &query::QUERIES,
    &query::QUERY_SECONDS,
    &query::QUERY_ROWS,
    &query::QUERIES_RUNNING,
    &query::QUERIES_WAITING,
    &query::QUERY_CACHE,
    &query::QUERY_CACHE_BYTES,
    &query::ENDPOINT_REQUESTS,
    &query::FORWARD_SECONDS,
    &schedule::RUNS,
    &schedule::RUN_SECONDS,
    &schedule::RUN_FAILURES,
    &schedule::NEXT_RUN,
    &schedule::JOB_PAUSED,
    &schedule::HISTORY_WAITING,
    &webhook::WEBHOOK_REQUESTS,
    &webhook::WEBHOOK_ROWS,
    &webhook::WEBHOOK_BYTES,
    &webhook::WEBHOOK_ACK_SECONDS,
    &webhook::WEBHOOK_BACKLOG_ROWS,
    &webhook::WEBHOOK_BACKLOG_BYTES,
    &http::READY,
    &http::HTTP_REQUESTS,
    &http::HTTP_SECONDS,
    &http::HTTP_AT_WORK,
    &http::HTTP_BYTES,
    &http::HTTP_CONNECTIONS,
    &http::HTTP_REFUSED,
    &postgres::POSTGRES_SESSIONS,
    &postgres::POSTGRES_REFUSED,
    &MEMORY_BYTES,
    &MEMORY_LIMIT,
    &RSS,
    &OPEN_FILES,
    &CPU_SECONDS,
];
