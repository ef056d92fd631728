//! What is gone before it was read stops the job with the range that is lost; who has looked goes on
//! with `--accept-loss`, and the audit tells how much that was.

use super::stream::{Stream, rows};
use crate::support::cli::Output;
use crate::support::kafka::{Broker, witness};
use crate::support::wait;

/// The run ends by itself with these facts and the way out.
fn refused(stream: &Stream<'_>, facts: &[&str]) -> Output {
    let output = stream.run().expect(1);
    output.says(facts);
    output.says(&["hint: ", "--accept-loss"]);
    output
}

/// Nothing changes by being refused, however often.
fn refused_again(stream: &Stream<'_>, facts: &[&str]) {
    let before = stream.place.next_epoch(super::stream::JOB);
    refused(stream, facts);
    refused(stream, facts);
    assert_eq!(stream.place.next_epoch(super::stream::JOB), before, "an epoch was sealed");
}

#[test]
fn deleted_records_are_a_loss_once_something_was_read() {
    let broker = Broker::shared();
    let topic = broker.topic("deleted", 2, &[]);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &rows(0, 100, 2));
    broker.lose(&topic, 0, 5);
    // What was gone before the first run is nothing that anybody missed.
    stream.run().ok();
    assert_eq!(stream.exact(&[&topic]).kept, 95);

    broker.produce(&topic, &rows(100, 100, 2));
    broker.lose(&topic, 1, 80);
    let partition = format!("partition={topic}/1");
    refused_again(&stream, &[&partition, "offsets=50..80", "rows=30"]);
    stream.run().arg("--accept-loss").ok();
    stream.audit_says("30 rows lost, as accepted");
    assert_eq!(stream.cell("SELECT count(*) FROM kept"), "165");
    // Nothing of what is there is lost or doubled, and what was lost is not missed again.
    broker.produce(&topic, &rows(200, 10, 2));
    stream.run().ok();
    let compared = stream.compared(&[&topic]);
    assert_eq!([compared.lost, compared.doubled, compared.differ], [0; 3], "{compared:?}");
    stream.audit_says("30 rows lost, as accepted");
    stream.recounted();
}

#[test]
fn a_partition_may_have_lost_all_it_had() {
    let broker = Broker::shared();
    let topic = broker.topic("emptied", 1, &[]);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &rows(0, 10, 1));
    stream.run().ok();
    // All of it was read: deleting that is no loss.
    broker.lose(&topic, 0, 10);
    stream.run().ok();
    broker.produce(&topic, &rows(10, 10, 1));
    broker.lose(&topic, 0, 20);
    refused_again(&stream, &["offsets=10..20", "rows=10"]);
    stream.run().arg("--accept-loss").ok();
    stream.audit_says("10 rows lost, as accepted");
    broker.produce(&topic, &rows(20, 10, 1));
    stream.run().ok();
    assert_eq!(stream.cell("SELECT count(*) FROM kept"), "20");
    stream.audit();
}

#[test]
fn retention_is_a_loss_too() {
    let broker = Broker::shared();
    let configs = [("retention.ms", "1000"), ("segment.ms", "200"), ("file.delete.delay.ms", "0")];
    let topic = broker.topic("retained", 1, &configs);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &rows(0, 10, 1));
    stream.run().ok();
    broker.produce(&topic, &rows(10, 40, 1));
    let first = wait::until("retention to delete", super::stream::SECONDS_MAX, || {
        // A segment is closed when another record comes late enough.
        wait::pause(400);
        let next = broker.ends(&topic)[&0].next as u64;
        broker.produce(&topic, &rows(next, 1, 1));
        let first = broker.ends(&topic)[&0].first;
        (first > 10).then_some(first)
    });
    assert!(first > 10);
    // More may go while it is asked: the range begins where reading ended.
    refused(&stream, &[&format!("partition={topic}/0"), "offsets=10..", "rows="]);
    stream.run().arg("--accept-loss").ok();
    stream.audit_says("rows lost, as accepted");
}

#[test]
fn a_topic_that_was_made_again_is_another() {
    let broker = Broker::shared();
    let topic = broker.topic("again", 1, &[]);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &rows(0, 50, 1));
    stream.run().ok();
    broker.delete(&topic);
    broker.create(&topic, 1, &[]);
    // As many as were read, and more: nothing but the topic's own id tells it from the other.
    broker.produce(&topic, &rows(1_000, 80, 1));
    refused_again(&stream, &["deleted and created again", &topic, "read_to=50"]);
    stream.run().arg("--accept-loss").ok();
    assert_eq!(stream.cell("SELECT count(*) FROM kept"), "130");
    assert_eq!(stream.cell("SELECT count(*) FROM kept WHERE id >= 1000"), "80");
    stream.audit();
    broker.produce(&topic, &rows(1_080, 5, 1));
    stream.run().ok();
    assert_eq!(stream.cell("SELECT count(DISTINCT id) FROM kept"), "135");
    stream.recounted();
}

#[test]
fn a_topic_that_went_backwards_is_not_read_as_if_nothing_were() {
    let broker = Broker::shared();
    let topic = broker.topic("backwards", 1, &[]);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &rows(0, 50, 1));
    stream.run().ok();
    broker.delete(&topic);
    broker.create(&topic, 1, &[]);
    broker.produce(&topic, &rows(100, 10, 1));
    refused_again(&stream, &[&topic, "read_to=50"]);
    stream.run().arg("--accept-loss").ok();
    assert_eq!(stream.cell("SELECT count(*) FROM kept"), "60");
    stream.audit();
}

#[test]
fn a_topic_that_is_gone_stops_the_job() {
    let broker = Broker::shared();
    let topic = broker.topic("gone", 1, &[]);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &rows(0, 5, 1));
    stream.run().ok();
    broker.delete(&topic);
    refused_again(&stream, &[&format!("topic={topic}")]);
    assert_eq!(stream.cell("SELECT count(*) FROM kept"), "5");
}

#[test]
fn what_is_lost_while_it_runs_stops_it() {
    let broker = Broker::shared();
    let topic = broker.topic("running", 1, &[]);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &rows(0, 100, 1));
    let running = stream.follow();
    stream.until("SELECT count(*) FROM kept", "100");
    // It cannot read while it sleeps.
    running.signal("STOP");
    broker.produce(&topic, &rows(100, 5_000, 1));
    broker.lose(&topic, 0, 5_100);
    running.signal("CONT");
    broker.produce(&topic, &rows(5_100, 10, 1));
    // What was on its way already may have come: all of it, a part, or nothing.
    let stopped = wait::until("the loss or all rows", super::stream::SECONDS_MAX, || {
        let whole = stream.cell("SELECT count(*) FROM kept") == "5110";
        let lost = running.said().contains("deleted before they were read");
        (whole || lost).then_some(lost)
    });
    if stopped {
        let output = running.wait();
        assert_eq!(output.code, Some(1), "{}", output.text());
        output.says(&["--accept-loss"]);
        stream.run().arg("--accept-loss").ok();
        stream.audit_says("rows lost, as accepted");
    }
    let seen = witness::consume(broker, &[&topic]).len();
    assert_eq!(seen, 10);
    assert_eq!(stream.cell("SELECT count(*) FROM kept WHERE id >= 5100"), "10");
}
