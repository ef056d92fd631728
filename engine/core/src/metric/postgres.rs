//! What is measured of the PostgreSQL wire: connections. Its queries count as queries.
//!
//! In: nothing. Out: constants, like those of `names`.

use super::Metric;
use super::Shape::{Counter, Gauge};

/// PostgreSQL connections.
pub const POSTGRES_SESSIONS: Metric = Metric {
    name: "sluice_postgres_connections",
    shape: Gauge,
    labels: &[],
    help: "PostgreSQL connections that are open.",
};

/// PostgreSQL connections that were refused.
pub const POSTGRES_REFUSED: Metric = Metric {
    name: "sluice_postgres_refused",
    shape: Counter,
    labels: &["reason"],
    help: "PostgreSQL connections refused, by reason: unauthenticated, and connections, because \
           too many were open.",
};
