//! The broker, its witness, and the bad network between, without a job: what the other tests rest on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::kafka::{Broker, Cluster, Ends, Outcome, Record, witness};
use crate::support::place::Place;
use crate::support::wait;

/// How long a client of a proxy is given where it is not to succeed.
const SHORT: Duration = Duration::from_millis(1_500);
const SECONDS_MAX: u64 = 60;

fn numbers(partition: i32, from: u64, count: u64) -> Vec<Record> {
    (from..from + count).map(|n| Record::to(partition, n.to_string())).collect()
}

#[test]
fn the_witness_reads_what_was_written() {
    let broker = Broker::shared();
    let topic = broker.topic("written", 2, &[]);
    let record = Record::to(1, "value").key("key").at_ms(1_700_000_000_123);
    let record = record.header("name", Some(b"text")).header("none", None);
    assert_eq!(broker.produce(&topic, &[record]), [(1, 0)]);
    assert_eq!(broker.produce(&topic, &[Record::tombstone(1, "key")]), [(1, 1)]);
    let own = serde_json::json!({"partition": 0, "key": "k", "value": "v"});
    assert_eq!(witness::produce(broker, &topic, &[own]), [(0, 0)]);
    let mut seen = witness::consume(broker, &[&topic]);
    seen.sort_by_key(|record| (record.partition, record.offset));
    let text = |text: &str| Some(text.to_string());
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!((&seen[1].key, &seen[1].value), (&text("a2V5"), &text("dmFsdWU=")));
    assert_eq!(seen[1].timestamp, 1_700_000_000_123);
    assert_eq!(seen[1].headers, [("name".to_string(), text("dGV4dA==")), ("none".into(), None)]);
    assert_eq!((&seen[2].key, &seen[2].value), (&text("a2V5"), &None));
}

#[test]
fn aborted_transactions_leave_gaps() {
    let broker = Broker::shared();
    let topic = broker.topic("transactions", 1, &[]);
    broker.transact(&topic, &numbers(0, 0, 3), Outcome::Commit);
    broker.transact(&topic, &numbers(0, 3, 2), Outcome::Abort);
    broker.transact(&topic, &numbers(0, 5, 1), Outcome::Commit);
    let seen = witness::consume(broker, &[&topic]);
    let offsets: Vec<i64> = seen.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 7]);
    assert_eq!(broker.ends(&topic)[&0], Ends { first: 0, next: 9 });
}

#[test]
fn topics_lose_records_grow_and_are_made_again() {
    let broker = Broker::shared();
    let topic = broker.topic("losing", 1, &[]);
    broker.produce(&topic, &numbers(0, 0, 10));
    broker.lose(&topic, 0, 7);
    assert_eq!(broker.ends(&topic)[&0], Ends { first: 7, next: 10 });
    broker.widen(&topic, 3);
    assert_eq!(broker.ends(&topic).len(), 3);
    broker.delete(&topic);
    assert!(broker.ends(&topic).is_empty());
    broker.create(&topic, 1, &[]);
    assert_eq!(broker.ends(&topic)[&0], Ends { first: 0, next: 0 });
}

#[test]
fn offsets_of_groups_are_moved_and_forgotten() {
    let broker = Broker::shared();
    let topic = broker.topic("groups", 1, &[]);
    let group = broker.name("group");
    broker.produce(&topic, &numbers(0, 0, 10));
    witness::commit(broker, &group, &topic, 0, 4);
    assert_eq!(witness::committed(broker, &group, &topic), BTreeMap::from([(0, 4)]));
    witness::forget(broker, &group);
    assert!(witness::committed(broker, &group, &topic).is_empty());
}

const COPY: &str = r#"job: copy
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  lines:
    connector: files
    path: ./input/*.csv
    schema:
      fields:
        - {name: topic, type: string}
        - {name: part, type: int32}
        - {name: off, type: int64}
        - {name: id, type: int64}
tables:
  kept: {sql: "SELECT topic, part, off, id FROM lines"}
"#;

/// The comparison that the other tests believe is shown a table that is wrong in every way.
#[test]
fn the_comparison_finds_what_is_wrong() {
    let broker = Broker::shared();
    let topic = broker.topic("compared", 1, &[]);
    let records: Vec<Record> = (0..6).map(|n| Record::to(0, format!("{{\"id\": {n}}}"))).collect();
    broker.produce(&topic, &records);
    let place = Place::local();
    place.write("copy.yaml", COPY);
    let compared = |rows: &[(i64, i64)]| {
        let line = |(off, id): &(i64, i64)| format!("{topic},0,{off},{id}\n");
        let lines: String = rows.iter().map(line).collect();
        place.write("input/1.csv", &format!("topic,part,off,id\n{lines}"));
        place.job("run", "copy.yaml").arg("--rebuild").ok();
        witness::compare(broker, &place, ["kept", "lines__rejected"], &["id"], &[&topic])
    };
    compared(&[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]).holds();
    // The first is lost, the third doubled, the fifth another, and one is of nowhere.
    let wrong = compared(&[(1, 1), (2, 2), (2, 2), (3, 3), (4, 5), (5, 5), (6, 6)]);
    let told = [wrong.lost, wrong.doubled, wrong.foreign, wrong.differ];
    assert_eq!(told, [1; 4], "{wrong:?}");
}

#[test]
fn a_proxy_stalls_resets_and_heals() {
    let (mut cluster, proxy) = Cluster::behind_a_proxy();
    let topic = cluster.broker().topic("behind", 1, &[]);
    let through = Broker::at(format!("127.0.0.1:{}", proxy.port()));
    assert_eq!(through.produce(&topic, &numbers(0, 0, 5)).len(), 5);
    proxy.stall();
    assert_eq!(through.brokers(SHORT), 0, "a stalled network lets something through");
    proxy.heal();
    assert_eq!(through.produce(&topic, &numbers(0, 5, 5)).len(), 5);
    proxy.refuse();
    assert_eq!(through.brokers(SHORT), 0, "a cut network lets something through");
    proxy.heal();
    proxy.delay(50);
    assert_eq!(through.produce(&topic, &numbers(0, 10, 5)).len(), 5);
    proxy.heal();
    // What was written survives the broker.
    cluster.kill(0);
    assert_eq!(through.brokers(SHORT), 0, "a dead broker answers");
    cluster.restart(0);
    assert_eq!(through.ends(&topic)[&0].next, 15);
    assert_eq!(witness::consume(&through, &[&topic]).len(), 15);
}

#[test]
fn three_brokers_stand_in_for_each_other() {
    let mut cluster = Cluster::start(3);
    let topic = cluster.broker().topic("replicated", 3, &[]);
    let flood = witness::Flood::start(cluster.broker(), &topic, 500, 1);
    let written = |cluster: &Cluster| cluster.broker().ends(&topic).values().map(|e| e.next).sum();
    for node in 0..3 {
        cluster.kill(node);
        let before: i64 = written(&cluster);
        let what = format!("records written without broker {node}");
        wait::until(&what, SECONDS_MAX, || (written(&cluster) > before).then_some(()));
        cluster.restart(node);
    }
    let count = flood.stop();
    assert_eq!(witness::consume(cluster.broker(), &[&topic]).len() as u64, count);
}
