//! What is measured of HTTP: requests, connections, whether work can be given at all.
//!
//! In: nothing. Out: constants, like those of `names`.

use super::Metric;
use super::Shape::{Counter, Gauge, Histogram};

/// HTTP requests.
pub const HTTP_REQUESTS: Metric = Metric {
    name: "sluice_http_requests",
    shape: Counter,
    labels: &["method", "route", "status"],
    help: "HTTP requests answered, by method, route and class of status.",
};

/// How long answers take to begin.
pub const HTTP_SECONDS: Metric = Metric {
    name: "sluice_http_seconds",
    shape: Histogram,
    labels: &["route"],
    help: "Seconds until the answer to an HTTP request began, by route.",
};

/// HTTP requests at work.
pub const HTTP_AT_WORK: Metric = Metric {
    name: "sluice_http_requests_at_work",
    shape: Gauge,
    labels: &[],
    help: "HTTP requests whose answer has not left.",
};

/// Bytes of HTTP bodies.
pub const HTTP_BYTES: Metric = Metric {
    name: "sluice_http_bytes",
    shape: Counter,
    labels: &["direction"],
    help: "Bytes of HTTP bodies, in and out, as they were sent.",
};

/// HTTP connections.
pub const HTTP_CONNECTIONS: Metric = Metric {
    name: "sluice_http_connections",
    shape: Gauge,
    labels: &[],
    help: "HTTP connections that are open.",
};

/// Requests and connections that were refused.
pub const HTTP_REFUSED: Metric = Metric {
    name: "sluice_http_refused",
    shape: Counter,
    labels: &["reason"],
    help: "HTTP requests refused, by reason: unauthenticated, forbidden, too_many, too_large, \
           too_slow, and connections, which had to wait because too many were open, or were \
           closed because one address had its share.",
};

/// Whether work can be given.
pub const READY: Metric = Metric {
    name: "sluice_ready",
    shape: Gauge,
    labels: &[],
    help: "1 while the serving process can be given work, as /health/ready says, else 0.",
};
