//! Three brokers, of which one at a time is away while a job follows a topic and gives its rows to
//! another: those that stay take over, in the middle of what runner and transactions are at, and
//! each record is in the table and in the topic behind it once.
//!
//! Killed are who leads what is read, who coordinates the sink's transactions, and the rest; the
//! runner as well, while there is no coordinator.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::kafka::stream::{JOB, Stream, ended};
use crate::support::cli::Running;
use crate::support::kafka::witness::{self, Seen};
use crate::support::kafka::{Broker, Cluster};
use crate::support::wait;

/// As many as the producer has keys, each of which is in one of its own.
const PARTITIONS: i32 = 3;
const NODES: usize = 3;
/// Records a second.
const RATE: u32 = 300;
/// How long a broker is away at least: others have to be elected.
const AWAY_MS: u64 = 3_000;
/// How long rows may take until they are given again; far more than an election and a transaction
/// that nobody commits.
const SECONDS_MAX: u64 = 240;
/// Where brokers keep transactions; who leads its only partition coordinates them.
const TRANSACTIONS: &str = "__transaction_state";
/// The most places shown of what is wrong.
const SHOWN: usize = 10;

/// The table's rows go to a topic too.
const SINKS: &str = r#"sinks:
  given:
    connector: kafka
    from: kept
    bootstrap: "BOOTSTRAP"
    topic: TOPIC
    control_topic: TOPIC-control
epoch:"#;

#[test]
fn brokers_go_one_after_another_and_each_record_is_given_once() {
    let mut cluster = Cluster::start(NODES);
    let broker = Broker::at(cluster.broker().bootstrap().to_string());
    let [topic, given] = ["failover", "given"].map(|what| broker.topic(what, PARTITIONS, &[]));
    let stream = Stream::of(&broker, &topic);
    let text = std::fs::read_to_string(stream.place.path(JOB)).unwrap();
    let sinks = SINKS.replace("BOOTSTRAP", broker.bootstrap()).replace("TOPIC", &given);
    stream.place.write(JOB, &text.replace("epoch:", &sinks));

    let flood = witness::Flood::start(&broker, &topic, RATE, 14);
    let mut running = stream.follow();
    goes_on(&stream, &mut running);
    let leader = broker.leader(&topic, 0);
    running = strike(&mut cluster, &stream, running, (leader, false));
    let coordinator = broker.leader(TRANSACTIONS, 0);
    running = strike(&mut cluster, &stream, running, (coordinator, true));
    let struck = BTreeSet::from([leader, coordinator]);
    for node in (0..NODES).filter(|node| !struck.contains(node)) {
        running = strike(&mut cluster, &stream, running, (node, node % 2 == 0));
    }
    let written = flood.stop();
    ended(running);
    stream.run().ok();

    let exact = stream.exact(&[&topic]);
    assert!(exact.consumed >= written, "{written} records were acknowledged: {exact:?}");
    given_once(&broker, &topic, &given);
    stream.place.holds(JOB);
    stream.recounted();
}

/// A broker goes and comes back, the runner may be killed meanwhile; rows are given while it is
/// away, and when it is back.
fn strike(
    cluster: &mut Cluster,
    stream: &Stream<'_>,
    mut running: Running,
    (node, with_runner): (usize, bool),
) -> Running {
    cluster.kill(node);
    if with_runner {
        running.signal("KILL");
        running.wait().says(&[]);
        running = stream.follow();
    }
    wait::pause(AWAY_MS);
    goes_on(stream, &mut running);
    cluster.restart(node);
    goes_on(stream, &mut running);
    running
}

/// Waits until more rows are given than were, by a runner that goes on.
fn goes_on(stream: &Stream<'_>, running: &mut Running) {
    let before = delivered(stream);
    wait::until("rows to be given", SECONDS_MAX, || {
        assert!(running.ended().is_none(), "the runner ended\n{}", running.said());
        (delivered(stream) > before).then_some(())
    });
}

/// How many rows the sink was given.
fn delivered(stream: &Stream<'_>) -> u64 {
    let told = stream.place.job("status", JOB).arg("--json").ok().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    told["jobs"][0]["sinks"][0]["delivered"].as_u64().unwrap()
}

/// Each record of a topic that is a row is in the other once, as readers of committed messages see
/// them, with what the job adds: where it lay.
fn given_once(broker: &Broker, topic: &str, given: &str) {
    let mut wanted = BTreeMap::new();
    for record in witness::consume(broker, &[topic]) {
        // Junk is no row.
        let Some(mut row) = object(&record) else { continue };
        row["topic"] = json!(record.topic);
        row["part"] = json!(record.partition);
        row["off"] = json!(record.offset);
        wanted.insert(place(&row), row);
    }
    let mut found = BTreeMap::new();
    for row in witness::consume(broker, &[given]).iter().filter_map(object) {
        let at = place(&row);
        assert!(found.insert(at, row).is_none(), "given twice: {at:?}");
    }
    let lost: Vec<_> = wanted.keys().filter(|at| !found.contains_key(*at)).take(SHOWN).collect();
    assert!(lost.is_empty(), "{} of {} rows are given: {lost:?}", found.len(), wanted.len());
    let other = found.iter().filter(|(at, row)| wanted.get(*at) != Some(*row));
    let other: Vec<_> = other.take(SHOWN).collect();
    assert!(other.is_empty(), "of nowhere, or other values: {other:?}");
    assert!(!found.is_empty(), "nothing was given, which shows nothing");
}

/// Partition and offset, as a row says them.
fn place(row: &Value) -> (Option<i64>, Option<i64>) {
    (row["part"].as_i64(), row["off"].as_i64())
}

/// A record's value, if it is JSON.
fn object(record: &Seen) -> Option<Value> {
    let value = STANDARD.decode(record.value.as_ref()?).unwrap();
    serde_json::from_slice(&value).ok()
}
