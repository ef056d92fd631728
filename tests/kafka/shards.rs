//! Shards of one job shared out by the consumer group: runners are added, killed, frozen for a
//! minute, resumed and removed, while producers are at work; nothing is lost and nothing doubled.

use std::collections::BTreeSet;
use std::time::Duration;

use super::stream::{JOB, SECONDS_MAX, Stream, ended, rows};
use crate::support::kafka::{Broker, witness};
use crate::support::place::{Kind, Place};
use crate::support::wait;

/// A job with four shards over a topic.
fn sharded<'a>(broker: &'a Broker, place: Place, topic: &str) -> Stream<'a> {
    let topics = format!("[{topic}]");
    let stream = Stream::new(broker, place, broker.bootstrap(), &topics, "", "");
    let text = std::fs::read_to_string(stream.place.path(JOB)).unwrap();
    stream.place.write(JOB, &text.replacen("sources:\n", "shards: 4\nsources:\n", 1));
    stream
}

/// The processes that run shards now, by the leases.
fn runners(stream: &Stream<'_>) -> BTreeSet<u64> {
    let status = stream.place.job("status", JOB).arg("--json").ok().stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let chains = status["jobs"][0]["chains"].as_array().cloned().unwrap_or_default();
    chains.iter().filter_map(|chain| chain["holder"]["pid"].as_u64()).collect()
}

/// Waits until each of these runs at least one shard, and nobody else does.
fn shared_by(stream: &Stream<'_>, all: &[u32]) {
    let all: BTreeSet<u64> = all.iter().map(|id| u64::from(*id)).collect();
    wait::until("shards to be shared out", SECONDS_MAX, || (runners(stream) == all).then_some(()));
}

/// Waits for rows that are not there yet.
fn goes_on(stream: &Stream<'_>) {
    let count =
        |stream: &Stream<'_>| stream.cell("SELECT count(*) FROM kept").parse::<u64>().unwrap();
    let before = count(stream);
    wait::until("more rows", SECONDS_MAX, || (count(stream) > before + 200).then_some(()));
}

fn come_and_go(kind: Kind) {
    let broker = Broker::shared();
    let topic = broker.topic("shards", 8, &[]);
    broker.produce(&topic, &rows(0, 800, 8));
    let stream = sharded(broker, Place::new(kind), &topic);
    stream.run().ok();
    assert_eq!(stream.exact(&[&topic]).kept, 800);
    let flood = witness::Flood::start(broker, &topic, 400, 5);
    let first = stream.follow();
    shared_by(&stream, &[first.id()]);
    let second = stream.follow();
    shared_by(&stream, &[first.id(), second.id()]);
    goes_on(&stream);
    first.signal("KILL");
    drop(first);
    shared_by(&stream, &[second.id()]);
    let third = stream.follow();
    shared_by(&stream, &[second.id(), third.id()]);
    second.signal("STOP");
    shared_by(&stream, &[third.id()]);
    goes_on(&stream);
    std::thread::sleep(Duration::from_secs(60));
    second.signal("CONT");
    shared_by(&stream, &[second.id(), third.id()]);
    goes_on(&stream);
    ended(third);
    shared_by(&stream, &[second.id()]);
    goes_on(&stream);
    ended(second);
    let count = flood.stop();
    stream.run().ok();
    let exact = stream.exact(&[&topic]);
    assert_eq!(exact.consumed, count + 800);
}

#[test]
fn runners_come_and_go_on_local_disk() {
    come_and_go(Kind::Local);
}

#[test]
fn runners_come_and_go_on_s3() {
    come_and_go(Kind::S3);
}

#[test]
fn more_shards_than_partitions_are_refused() {
    let broker = Broker::shared();
    let topic = broker.topic("narrow", 2, &[]);
    let stream = sharded(broker, Place::local(), &topic);
    let refused = stream.run().arg("--follow").expect(1);
    refused.says(&["fewer partitions than the job has shards", "partitions=2 shards=4"]);
}

#[test]
fn a_pattern_alone_has_no_partitions_to_share_out() {
    let broker = Broker::shared();
    let stream = sharded(broker, Place::local(), "\"^narrow-.*\"");
    let refused = stream.run().arg("--follow").expect(2);
    refused.says(&["a job with shards names at least one topic", "source=samples"]);
}
