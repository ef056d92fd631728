//! `replay --from rejected` over a topic: records that the job could not decode are taken once it is
//! mended, each once and in its place, tombstones too; what is still bad, and what was not kept
//! whole, stays rejected.

use serde_json::json;

use super::stream::{JOB, Stream, rows};
use crate::support::kafka::{Broker, Record, witness};

/// More of a record than is kept of one that is rejected.
const LONG: usize = 70_000;

/// The job with another type of the ids, and lines added to its source. The table stays as it is.
fn write(stream: &Stream<'_>, topic: &str, id: &str, source: &str) {
    stream.write(stream.broker.bootstrap(), &format!("[{topic}]"), source, "");
    let text = std::fs::read_to_string(stream.place.path(JOB)).unwrap();
    let text = text.replace("{name: id, type: int64}", &format!("{{name: id, type: {id}}}"));
    let text = text.replace("partition, offset]", "partition, offset, timestamp, key]");
    let columns = "SELECT cast(id AS bigint) AS id, _key AS record_key, _timestamp AS said_at,";
    stream.place.write(JOB, &text.replace("SELECT id,", columns));
}

/// A row whose id is no whole number of 32 bits.
fn wide(partition: i32, id: u64, site: &str) -> Record {
    let row = json!({"id": 3_000_000_000 + id, "site": site, "amount": id});
    Record::to(partition, row.to_string()).key("key").header("name", Some(b"text"))
}

fn replay(stream: &Stream<'_>) -> String {
    stream.place.job("replay", JOB).arg("--from").arg("rejected").ok().stdout
}

/// The table holds all records but so many, each once and as it was written.
fn complete(stream: &Stream<'_>, topic: &str, (kept, missing): (u64, u64)) {
    // Rows that were taken again stay where they were rejected, which counts for nothing here.
    let tables = ["kept", "nothing__rejected"];
    let columns = ["id", "site", "amount"];
    let exact = witness::compare(stream.broker, &stream.place, tables, &columns, &[topic]);
    let found = [exact.kept, exact.lost, exact.doubled, exact.foreign, exact.differ];
    assert_eq!(found, [kept, missing, 0, 0, 0], "{exact:#?}");
    assert_eq!(exact.consumed, kept + missing, "{exact:#?}");
    stream.place.holds(JOB);
    stream.recounted();
}

#[test]
fn rejected_records_are_taken_again_once() {
    let broker = Broker::shared();
    let topic = broker.topic("replayed", 2, &[]);
    let stream = Stream::of(broker, &topic);
    write(&stream, &topic, "int32", "");
    broker.produce(&topic, &rows(0, 20, 2));
    let bad = [
        wide(0, 1, "east"),
        Record::tombstone(1, "gone"),
        Record::to(0, "not json at all"),
        wide(1, 2, "west"),
        Record::to(1, Vec::new()),
        wide(0, 3, &"x".repeat(LONG)),
        wide(0, 4, "north"),
    ];
    broker.produce(&topic, &bad);
    stream.run().ok();
    let count = |table: &str| stream.cell(&format!("SELECT count(*) FROM {table}"));
    assert_eq!([count("kept"), count("samples__rejected")], ["20", "7"]);
    complete(&stream, &topic, (20, 7));

    // Three ids and the tombstone are rows now. What is no JSON, the empty one and the long one stay.
    write(&stream, &topic, "int64", "tombstones: row");
    let told = replay(&stream);
    let taken = "7 rows of samples__rejected taken again, 3 still cannot be decoded, 1 of them \
                 because not all their bytes were kept";
    assert!(told.contains(taken), "{told}");
    complete(&stream, &topic, (24, 3));
    // Of a rejected record its key and time are not kept.
    let without = "kept WHERE record_key IS NULL AND said_at IS NULL";
    assert_eq!(count(without), "4");

    assert!(replay(&stream).contains("0 rows"), "taken twice");
    complete(&stream, &topic, (24, 3));
    // The run goes on where it was, and what it rejects from now on the next one takes.
    broker.produce(&topic, &[wide(1, 5, "south"), Record::to(0, "nor this")]);
    stream.run().ok();
    complete(&stream, &topic, (25, 4));
    let told = replay(&stream);
    assert!(told.contains("1 row of samples__rejected taken again, 1 still"), "{told}");
    complete(&stream, &topic, (25, 4));
    assert_eq!([count("samples__rejected"), count(without)], ["8", "4"]);
}
