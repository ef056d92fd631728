//! Where reading begins, what is known of a record beside its value, and the group's offsets, which
//! are for tools: set when an epoch is published, and never read.

use std::collections::BTreeMap;

use super::stream::{JOB, Stream, ended, rows};
use crate::support::kafka::{Broker, Outcome, Record, witness};
use crate::support::scrape::Scrape;
use crate::support::wait;

/// Milliseconds since 1970, long ago: 2023-11-14T22:13:20Z.
const LONG_AGO_MS: i64 = 1_700_000_000_000;

/// The ids in the table, in order.
fn ids(stream: &Stream<'_>) -> Vec<u64> {
    let rows = stream.place.sql(JOB, "SELECT id FROM kept ORDER BY id");
    rows.iter().map(|row| row[0].parse().unwrap()).collect()
}

#[test]
fn latest_takes_what_comes_from_then_on() {
    let broker = Broker::shared();
    let topic = broker.topic("latest", 2, &[]);
    broker.produce(&topic, &rows(0, 10, 2));
    let stream = Stream::with(broker, &topic, "start: latest");
    stream.run().ok();
    broker.produce(&topic, &rows(10, 5, 2));
    stream.run().ok();
    assert_eq!(ids(&stream), [10, 11, 12, 13, 14]);
    // A partition that comes afterwards has nothing that was there before.
    broker.widen(&topic, 3);
    broker.produce(&topic, &rows(15, 6, 3));
    stream.run().ok();
    assert_eq!(ids(&stream), (10..21).collect::<Vec<u64>>());
    stream.audit();
}

#[test]
fn a_timestamp_takes_what_is_as_late_or_later() {
    let broker = Broker::shared();
    let topic = broker.topic("times", 2, &[]);
    let aged = rows(0, 20, 2).into_iter().enumerate();
    let aged: Vec<Record> =
        aged.map(|(n, row)| row.at_ms(LONG_AGO_MS + n as i64 * 1_000)).collect();
    broker.produce(&topic, &aged);
    let stream = Stream::with(broker, &topic, "start: {timestamp: 2023-11-14T22:13:32Z}");
    stream.run().ok();
    assert_eq!(ids(&stream), (12..20).collect::<Vec<u64>>());
    stream.audit();
}

#[test]
fn offsets_take_what_they_name() {
    let broker = Broker::shared();
    let topic = broker.topic("offsets", 2, &[]);
    broker.produce(&topic, &rows(0, 20, 2));
    let start = format!("start: {{offsets: {{\"{topic}/0\": 7, \"{topic}/1\": 9}}}}");
    let stream = Stream::with(broker, &topic, &start);
    stream.run().ok();
    assert_eq!(ids(&stream), [14, 16, 18, 19]);
    stream.audit();
}

/// A second table beside the usual one.
const ALL_COLUMNS: &str = r#"told: {sql: "SELECT id, _offset AS off, _timestamp AS at, CAST(_key AS VARCHAR) AS key, _headers[1]['key'] AS name, CAST(_headers[1]['value'] AS VARCHAR) AS value, cardinality(_headers) AS headers FROM samples"}"#;

#[test]
fn keys_times_and_headers_are_columns() {
    let broker = Broker::shared();
    let topic = broker.topic("metadata", 1, &[]);
    let plain = |id: u64| rows(id, 1, 1).remove(0).at_ms(LONG_AGO_MS + 123);
    let full = plain(1).key("left").header("trace", Some(b"abc")).header("empty", None);
    broker.produce(&topic, &[plain(0), full, plain(2).key("").header("trace", Some(b""))]);
    let stream = Stream::of(broker, &topic);
    let topics = format!("[{topic}]");
    stream.write(broker.bootstrap(), &topics, "", ALL_COLUMNS);
    let text = std::fs::read_to_string(stream.place.path(JOB)).unwrap();
    let all = "metadata: [topic, partition, offset, timestamp, key, headers]";
    stream.place.write(JOB, &text.replace("metadata: [topic, partition, offset]", all));
    stream.run().ok();
    let told =
        "SELECT off, to_unixtime(at), key, name, value, coalesce(headers, 0) FROM told ORDER BY id";
    let told = stream.place.sql(JOB, told);
    let seconds = (LONG_AGO_MS / 1_000).to_string();
    assert_eq!(told[0][..5], ["0", &seconds, "", "", ""], "{told:?}");
    assert_eq!(told[1], ["1", &seconds, "left", "trace", "abc", "2"]);
    assert_eq!(told[2], ["2", &seconds, "", "trace", "", "1"]);
    stream.exact(&[&topic]);
}

#[test]
fn watermarks_are_the_newest_times_that_were_taken_and_never_go_back() {
    let broker = Broker::shared();
    // Records of long ago are to stay.
    let topic = broker.topic("watermarks", 2, &[("retention.ms", "-1")]);
    let stream = Stream::of(broker, &topic);
    // Even ids are of partition 0, odd ones of 1.
    let aged = |id: u64, ms: i64| rows(id, 1, 2).remove(0).at_ms(LONG_AGO_MS + ms);
    broker.produce(&topic, &[aged(0, 9_250), aged(2, 4_000)]);
    stream.run().ok();
    // The next run goes on from the manifest: what comes late is older, and the other partition had
    // nothing yet.
    broker.produce(&topic, &[aged(4, 1_000), aged(1, 7_500)]);
    let running = stream.run().arg("--follow").arg("--metrics").arg("127.0.0.1:0").start();
    let scrape = Scrape::of(&running);
    stream.until("SELECT count(*) FROM kept", "4");
    for (partition, ms) in [(0, 9_250), (1, 7_500)] {
        let of = format!("of=\"samples/{topic}/{partition}\"");
        let told = scrape.sample("sluice_watermark_seconds", &["job=\"samples\"", &of]);
        let newest = (LONG_AGO_MS + ms) as f64 / 1e3;
        assert_eq!(told, Some(newest), "partition {partition}");
    }
    ended(running);
}

/// A group of a test's own.
fn with_group(broker: &'static Broker, topic: &str) -> (Stream<'static>, String) {
    let group = broker.name("lag-tools");
    (Stream::with(broker, topic, &format!("group: {group}")), group)
}

/// Waits until these offsets are committed: that is done after an epoch is published, and nobody
/// waits for it.
fn shows(broker: &Broker, group: &str, topic: &str, offsets: BTreeMap<i32, i64>) {
    wait::until("offsets of a group", super::stream::SECONDS_MAX, || {
        (witness::committed(broker, group, topic) == offsets).then_some(())
    });
}

#[test]
fn what_is_published_is_committed_to_the_group() {
    let broker = Broker::shared();
    let topic = broker.topic("group", 2, &[]);
    let (stream, group) = with_group(broker, &topic);
    broker.produce(&topic, &rows(0, 100, 2));
    let running = stream.follow();
    stream.until("SELECT count(*) FROM kept", "100");
    shows(broker, &group, &topic, BTreeMap::from([(0, 50), (1, 50)]));
    broker.produce(&topic, &rows(100, 20, 2));
    stream.until("SELECT count(*) FROM kept", "120");
    shows(broker, &group, &topic, BTreeMap::from([(0, 60), (1, 60)]));
    ended(running);
    stream.exact(&[&topic]);
}

#[test]
fn marks_of_transactions_are_passed_when_nothing_follows_them() {
    let broker = Broker::shared();
    let topic = broker.topic("marks", 1, &[]);
    let (stream, group) = with_group(broker, &topic);
    let running = stream.follow();
    broker.transact(&topic, &rows(0, 5, 1), Outcome::Commit);
    broker.transact(&topic, &rows(5, 5, 1), Outcome::Abort);
    shows(broker, &group, &topic, BTreeMap::from([(0, 12)]));
    ended(running);
    assert_eq!(stream.exact(&[&topic]).kept, 5);
}

#[test]
fn offsets_of_the_group_are_never_used() {
    let broker = Broker::shared();
    let topic = broker.topic("unused", 2, &[]);
    let (stream, group) = with_group(broker, &topic);
    // Somebody was there before.
    witness::commit(broker, &group, &topic, 0, 33);
    broker.produce(&topic, &rows(0, 100, 2));
    stream.run().ok();
    assert_eq!(stream.exact(&[&topic]).kept, 100);
    // Moved back, moved ahead, gone: a group whose offsets have expired (`offsets.retention.minutes`) has
    // none, like one that was deleted, and brokers take minutes to expire any.
    let moved: [&dyn Fn(); 3] = [
        &|| witness::commit(broker, &group, &topic, 0, 1),
        &|| witness::commit(broker, &group, &topic, 1, 1_000_000),
        &|| witness::forget(broker, &group),
    ];
    for (n, moves) in (1..).zip(moved) {
        moves();
        broker.produce(&topic, &rows(100 * n, 100, 2));
        stream.run().ok();
        assert_eq!(stream.exact(&[&topic]).kept, 100 + 100 * n);
    }
}
