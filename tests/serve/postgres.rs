//! The PostgreSQL wire with clients that people use: psycopg, psql, and the questions about the catalog
//! that psql, DBeaver and Grafana ask.

use std::fs;

use super::{Hub, stopped};
use crate::support::root;

#[test]
fn clients_ask_as_they_are_used_to() {
    let hub = Hub::new();
    let server = hub.start();
    hub.client("api.py", &["fill"]);
    let port = hub.postgres.to_string();
    hub.client("wire.py", &["use", &port]);
    let folder = root().join("tests/serve/catalog");
    let count = fs::read_dir(&folder).unwrap().count();
    assert!(count > 10, "{count} questions");
    hub.client("wire.py", &["catalog", &port, &folder.display().to_string()]);
    hub.client("wire.py", &["psql", &port]);
    stopped(server);
}

#[test]
fn open_sessions_end_with_the_process() {
    let hub = Hub::new();
    let server = hub.start();
    hub.client("api.py", &["fill"]);
    let (port, pid) = (hub.postgres.to_string(), server.id().to_string());
    hub.client("wire.py", &["ends", &port, &pid]);
    assert_eq!(server.wait().code, Some(0));
}
