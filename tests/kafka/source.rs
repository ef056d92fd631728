//! Everything of a topic lands once: with restarts, several topics, patterns, partitions and topics
//! that come later, transactions, and while producers are at work.

use super::stream::{JOB, Stream, ended, rows};
use crate::support::kafka::{Broker, Outcome, Record, witness};
use crate::support::place::{Kind, Place};
use crate::support::wait;

#[test]
fn every_record_lands_once_and_a_restart_goes_on() {
    let broker = Broker::shared();
    let topic = broker.topic("restart", 4, &[]);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &rows(0, 5_000, 4));
    stream.run().ok();
    assert_eq!(stream.exact(&[&topic]).kept, 5_000);
    // Nothing new: nothing is taken again.
    stream.run().ok();
    broker.produce(&topic, &rows(5_000, 2_500, 4));
    stream.run().ok();
    assert_eq!(stream.exact(&[&topic]).kept, 7_500);
}

#[test]
fn small_epochs_hold_the_same() {
    let broker = Broker::shared();
    let topic = broker.topic("small", 3, &[]);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &rows(0, 1_000, 3));
    let text = std::fs::read_to_string(stream.place.path(JOB)).unwrap();
    stream.place.write(JOB, &text.replace("{every: 200ms}", "{rows: 90}"));
    stream.run().ok();
    // A chunk that was fetched is not cut: an epoch ends with the one that crosses its limit.
    let epochs = stream.place.next_epoch(JOB);
    assert!(epochs >= 3, "{epochs} epochs hold 1,000 rows of three partitions");
    stream.exact(&[&topic]);
}

fn follows(kind: Kind) {
    let broker = Broker::shared();
    let topic = broker.topic("follow", 3, &[]);
    let place = Place::new(kind);
    let topics = format!("[{topic}]");
    let stream = Stream::new(broker, place, broker.bootstrap(), &topics, "", "");
    let flood = witness::Flood::start(broker, &topic, 400, 3);
    for round in 0..3 {
        let running = stream.follow();
        let before = stream.place.next_epoch(JOB);
        let what = format!("epochs of round {round}");
        wait::until(&what, super::stream::SECONDS_MAX, || {
            (stream.place.next_epoch(JOB) >= before + 3).then_some(())
        });
        ended(running);
    }
    let count = flood.stop();
    stream.run().ok();
    let exact = stream.exact(&[&topic]);
    assert_eq!(exact.consumed, count);
}

#[test]
fn producers_at_work_are_followed_on_local_disk() {
    follows(Kind::Local);
}

#[test]
fn producers_at_work_are_followed_on_s3() {
    follows(Kind::S3);
}

#[test]
fn topics_of_a_list_and_of_a_pattern() {
    let broker = Broker::shared();
    let [one, two] = [broker.topic("many-a", 2, &[]), broker.topic("many-b", 1, &[])];
    broker.produce(&one, &rows(0, 300, 2));
    broker.produce(&two, &rows(300, 200, 1));
    let listed = Stream::of(broker, &format!("{one}, {two}"));
    listed.run().ok();
    assert_eq!(listed.exact(&[&one, &two]).kept, 500);

    let prefix = broker.name("pattern");
    let names = [format!("{prefix}-x"), format!("{prefix}-y"), format!("{prefix}-z")];
    broker.create(&names[0], 2, &[]);
    broker.create(&names[1], 1, &[]);
    broker.produce(&names[0], &rows(0, 100, 2));
    broker.produce(&names[1], &rows(100, 100, 1));
    let pattern = Stream::of(broker, &format!("\"^{prefix}-.*\""));
    pattern.run().ok();
    assert_eq!(pattern.exact(&[&names[0], &names[1]]).kept, 200);
    // A topic that comes later fits too, and is read from its beginning.
    broker.create(&names[2], 2, &[]);
    broker.produce(&names[2], &rows(200, 50, 2));
    pattern.run().ok();
    assert_eq!(pattern.exact(&[&names[0], &names[1], &names[2]]).kept, 250);
}

#[test]
fn partitions_that_come_while_it_runs_are_read_from_their_beginning() {
    let broker = Broker::shared();
    let topic = broker.topic("widened", 1, &[]);
    broker.produce(&topic, &rows(0, 100, 1));
    // What a partition gets before anybody has looked is read too, whatever `start` says.
    let options = "options: {topic.metadata.refresh.interval.ms: 1000}";
    let stream = Stream::with(broker, &topic, options);
    let running = stream.follow();
    stream.until("SELECT count(*) FROM kept", "100");
    // So many more that what each may hold ahead has to be less: all are fetched anew.
    broker.widen(&topic, 4);
    broker.produce(&topic, &rows(100, 400, 4));
    stream.until("SELECT count(*) FROM kept", "500");
    ended(running);
    stream.exact(&[&topic]);
    broker.widen(&topic, 6);
    broker.produce(&topic, &rows(500, 60, 6));
    stream.run().ok();
    assert_eq!(stream.exact(&[&topic]).kept, 560);
}

#[test]
fn only_what_is_committed_is_read() {
    let broker = Broker::shared();
    let topic = broker.topic("committed", 2, &[]);
    let stream = Stream::of(broker, &topic);
    broker.transact(&topic, &rows(0, 40, 2), Outcome::Commit);
    broker.transact(&topic, &rows(40, 30, 2), Outcome::Abort);
    broker.produce(&topic, &rows(70, 10, 2));
    stream.run().ok();
    // Two transactions leave a marker each in both partitions.
    let gaps =
        |aborted: u64, markers: u64| format!("{} positions without a row", aborted + markers);
    assert_eq!(stream.exact(&[&topic]).kept, 50);
    stream.audit_says(&gaps(30, 4));
    // Nothing but an aborted transaction.
    broker.transact(&topic, &rows(80, 20, 2), Outcome::Abort);
    stream.run().ok();
    broker.transact(&topic, &rows(100, 20, 2), Outcome::Commit);
    stream.run().ok();
    assert_eq!(stream.exact(&[&topic]).kept, 70);
    stream.audit_says(&gaps(50, 8));
}

#[test]
fn what_was_aborted_before_an_open_transaction_is_passed() {
    let broker = Broker::shared();
    let topic = broker.topic("interleaved", 1, &[]);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &rows(0, 5, 1));
    let aborted = broker.begin(&topic, &rows(5, 5, 1));
    let open = broker.begin(&topic, &rows(10, 5, 1));
    // Its mark is behind the open one, up to which a run reads.
    aborted.end(Outcome::Abort);
    stream.run().ok();
    assert_eq!(stream.exact(&[&topic]).kept, 5);
    stream.audit_says("5 positions without a row");
    open.end(Outcome::Commit);
    stream.run().ok();
    assert_eq!(stream.exact(&[&topic]).kept, 10);
    // And two marks.
    stream.audit_says("7 positions without a row");
}

/// A compacted topic of one partition, some of whose records are gone; and how many were written.
pub fn compacted(broker: &Broker) -> (String, u64) {
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "500"),
        ("min.compaction.lag.ms", "0"),
    ];
    let topic = broker.topic("compacted", 1, &configs);
    broker.produce(&topic, &keyed(0));
    let next = compacted_more(broker, &topic, 200);
    (topic, next)
}

/// Writes into a compacted topic from record `from` on, until some of those before it are gone that
/// were there; gives how many were written in all.
pub fn compacted_more(broker: &Broker, topic: &str, from: u64) -> u64 {
    let left = || {
        let seen = witness::consume(broker, &[topic]);
        seen.iter().filter(|record| record.offset < from as i64).count()
    };
    let (before, mut next) = (left(), from);
    wait::until("compaction of a topic", super::stream::SECONDS_MAX, || {
        // A segment is closed when another record comes late enough.
        wait::pause(500);
        broker.produce(topic, &keyed(next));
        next += 200;
        (left() < before).then_some(())
    });
    next
}

/// Records of few keys.
fn keyed(from: u64) -> Vec<Record> {
    let records = rows(from, 200, 1).into_iter().enumerate();
    records.map(|(n, record)| record.key((n % 10).to_string())).collect()
}

#[test]
fn compacted_topics_have_gaps_and_no_loss() {
    let broker = Broker::shared();
    let (topic, written) = compacted(broker);
    let stream = Stream::of(broker, &topic);
    stream.run().ok();
    stream.audit();
    let held = stream.cell("SELECT count(*) FROM kept");
    assert_eq!(broker.ends(&topic)[&0].next, written as i64);
    assert!(held.parse::<u64>().unwrap() < written, "{held} rows of {written}");
    stream.audit_says("positions without a row");
}
