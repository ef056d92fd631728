//! What is measured of webhooks: constants like those of `names`.

use super::Metric;
use super::Shape::{Counter, Gauge, Histogram};

/// Deliveries, by how they were answered.
pub const WEBHOOK_REQUESTS: Metric = Metric {
    name: "sluice_webhook_requests",
    shape: Counter,
    labels: &["job", "source", "outcome"],
    help: "Requests to a webhook by outcome: accepted, duplicate, challenge, unauthorized, stale, \
           forbidden, malformed, too_large, unsupported, not_allowed, slow, throttled, busy.",
};

/// Rows of deliveries.
pub const WEBHOOK_ROWS: Metric = Metric {
    name: "sluice_webhook_rows",
    shape: Counter,
    labels: &["job", "source", "outcome"],
    help: "Rows of a webhook: accepted into its log; duplicate, passed over when the log was read.",
};

/// Bytes of deliveries.
pub const WEBHOOK_BYTES: Metric = Metric {
    name: "sluice_webhook_bytes",
    shape: Counter,
    labels: &["job", "source"],
    help: "Bytes of the bodies that a webhook accepted.",
};

/// How long senders wait for their answer.
pub const WEBHOOK_ACK_SECONDS: Metric = Metric {
    name: "sluice_webhook_ack_seconds",
    shape: Histogram,
    labels: &["job", "source"],
    help: "Seconds from the last byte of a delivery to its acknowledgement.",
};

/// Rows that wait in a log.
pub const WEBHOOK_BACKLOG_ROWS: Metric = Metric {
    name: "sluice_webhook_backlog_rows",
    shape: Gauge,
    labels: &["job", "source"],
    help: "Rows in the log of a webhook that no published epoch holds yet.",
};

/// Bytes that wait in a log.
pub const WEBHOOK_BACKLOG_BYTES: Metric = Metric {
    name: "sluice_webhook_backlog_bytes",
    shape: Gauge,
    labels: &["job", "source"],
    help: "Bytes of those rows.",
};
