//! The HTTP API as programs use it: who may do what, what is answered in which form, what is refused.

use std::collections::{BTreeMap, BTreeSet};

use super::{Hub, stopped};
use crate::support::wait;

#[test]
fn questions_are_answered_to_those_who_may_ask() {
    let hub = Hub::new();
    let server = hub.start();
    hub.client("api.py", &["use"]);
    stopped(server);
}

/// Of requests, queries, webhooks and sessions, as Prometheus' own parser reads it.
#[test]
fn what_is_measured_is_told_to_prometheus() {
    let hub = Hub::new();
    let server = hub.start();
    hub.client("api.py", &["fill"]);
    hub.client("wire.py", &["use", &hub.postgres.to_string()]);
    hub.client("api.py", &["use"]);
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_string(), value.parse::<f64>().unwrap())
    };
    let rows = "sluice_webhook_rows_total{job=hub,outcome=accepted,source=orders}";
    // Figures are told anew once a second. A list of a hundred orders came twice, one more by
    // itself.
    let told = wait::until("the last order in the figures", 60, || {
        let told = hub.client("scrape.py", &[]);
        let told: BTreeMap<String, f64> = told.lines().map(sample).collect();
        (told.get(rows) == Some(&101.0)).then_some(told)
    });
    let value = |name: &str| *told.get(name).unwrap_or_else(|| panic!("{name} of {told:#?}"));
    // Nobody gets in by a wrong password, nor as nobody.
    assert_eq!(value("sluice_postgres_refused_total{reason=unauthenticated}"), 2.0);
    assert_eq!(value("sluice_ready{}"), 1.0);
    for (outcome, count) in [("accepted", 2.0), ("duplicate", 1.0)] {
        let requests = "sluice_webhook_requests_total";
        let name = format!("{requests}{{job=hub,outcome={outcome},source=orders}}");
        assert_eq!(value(&name), count, "{name}");
    }
    assert_eq!(value("sluice_webhook_ack_seconds_count{job=hub,source=orders}"), 2.0);
    assert_eq!(
        value("sluice_http_requests_total{method=POST,route=/hooks/orders,status=2xx}"),
        3.0
    );
    for some in [
        "sluice_http_requests_total{method=GET,route=/v1/views/{name},status=2xx}",
        "sluice_http_seconds_count{route=/v1/sql}",
        "sluice_http_refused_total{reason=unauthenticated}",
        "sluice_http_refused_total{reason=forbidden}",
        "sluice_http_bytes_total{direction=out}",
        "sluice_http_connections{}",
        "sluice_queries_total{outcome=done}",
        "sluice_queries_total{outcome=refused}",
        "sluice_query_seconds_count{}",
        "sluice_query_rows_total{}",
        "sluice_query_cache_total{found=miss}",
        "sluice_endpoint_requests_total{endpoint=shop,status=200}",
        "sluice_endpoint_requests_total{endpoint=largest,status=400}",
        "sluice_epochs_total{job=hub,kind=data}",
        "sluice_memory_limit_bytes{}",
    ] {
        assert!(value(some) > 0.0, "{some}");
    }
    for gauge in ["sluice_postgres_connections{}", "sluice_queries_running{}"] {
        assert!(value(gauge) >= 0.0, "{gauge}");
    }
    let families: BTreeSet<&str> =
        told.keys().filter_map(|name| Some(name.split_once('{')?.0)).collect();
    assert!(families.len() > 30, "{families:?}");
    stopped(server);
}

/// Schemathesis makes requests of the description, right and wrong ones: none makes the server fail.
#[test]
fn the_description_holds_and_nothing_makes_the_server_fail() {
    let hub = Hub::new();
    let server = hub.start();
    hub.client("api.py", &["fill"]);
    let said = hub.client("conform.py", &[]);
    println!("{said}");
    stopped(server);
}

/// A browser sees a number change without loading the page again.
#[test]
fn the_status_page_lives() {
    let hub = Hub::new();
    let server = hub.start();
    hub.client("api.py", &["fill"]);
    hub.client("browser.py", &[]);
    stopped(server);
}
