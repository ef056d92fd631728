//! What is measured of queries, and of the endpoints of a project.

use super::Metric;
use super::Shape::{Counter, Gauge, Histogram};

/// Queries, by how they ended.
pub const QUERIES: Metric = Metric {
    name: "sluice_queries",
    shape: Counter,
    labels: &["outcome"],
    help: "Queries by how they ended: done, cancelled by who asked, refused, busy where too many \
           waited, too_long, too_large, failed.",
};

/// How long queries take.
pub const QUERY_SECONDS: Metric = Metric {
    name: "sluice_query_seconds",
    shape: Histogram,
    labels: &[],
    help: "Seconds from the question to the last row, with the wait for a turn; answers from the \
           cache are not in it.",
};

/// Rows that queries gave.
pub const QUERY_ROWS: Metric = Metric {
    name: "sluice_query_rows",
    shape: Counter,
    labels: &[],
    help: "Rows that queries gave.",
};

/// Queries at work.
pub const QUERIES_RUNNING: Metric =
    Metric { name: "sluice_queries_running", shape: Gauge, labels: &[], help: "Queries at work." };

/// Queries that wait.
pub const QUERIES_WAITING: Metric = Metric {
    name: "sluice_queries_waiting",
    shape: Gauge,
    labels: &[],
    help: "Queries that wait for their turn.",
};

/// Whether answers were there.
pub const QUERY_CACHE: Metric = Metric {
    name: "sluice_query_cache",
    shape: Counter,
    labels: &["found"],
    help: "Questions whose answer was kept (hit) and those whose was not (miss).",
};

/// What answers that are kept take.
pub const QUERY_CACHE_BYTES: Metric = Metric {
    name: "sluice_query_cache_bytes",
    shape: Gauge,
    labels: &[],
    help: "Bytes of the answers that are kept.",
};

/// Requests to endpoints.
pub const ENDPOINT_REQUESTS: Metric = Metric {
    name: "sluice_endpoint_requests",
    shape: Counter,
    labels: &["endpoint", "status"],
    help: "Requests to endpoints of the project, by name and status.",
};

/// How long models take.
pub const FORWARD_SECONDS: Metric = Metric {
    name: "sluice_forward_seconds",
    shape: Histogram,
    labels: &["endpoint"],
    help: "Seconds until a model answered what an endpoint forwarded to it.",
};
