//! Bad records never stop the line: each of them is rejected with its place, its bytes and a reason,
//! or is in the right column, and all that is good lands.

use super::stream::{JOB, Stream, ended, rows};
use crate::support::kafka::{Broker, Record};
use crate::support::registry::Registry;

/// The largest record of the topics here: more than 10 MB.
const LARGE: [(&str, &str); 1] = [("max.message.bytes", "16000000")];

/// What is rejected: where it was, how long it is, and why.
pub fn rejected(stream: &Stream<'_>) -> Vec<[String; 3]> {
    let query = "SELECT position, octet_length(encode(bytes, 'hex')) / 2, reason \
                 FROM samples__rejected ORDER BY source_file, position";
    let rows = stream.place.sql(JOB, query);
    rows.into_iter().map(|row| row.try_into().unwrap()).collect()
}

/// Bad and good records in turn; the line goes on after each.
fn poisons() -> Vec<Record> {
    let json = |text: &str| Record::to(0, text);
    let deep = format!("{{\"id\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let unclosed = "[".repeat(100_000);
    let large =
        format!("{{\"id\": 1, \"site\": \"{}\", \"amount\": \"no\"}}", "x".repeat(10_000_000));
    vec![
        Record::to(0, vec![0xFF, 0xFE, 0x00, 0x9F, 0x80]),
        Record::to(0, Vec::new()),
        json("not json at all"),
        json("[1, 2, 3]"),
        json("{\"id\": 1, \"site\": \"cut"),
        json("{\"id\": 1} {\"id\": 2}"),
        json(&deep),
        json(&unclosed),
        json(&large),
        json("{\"id\": 99999999999999999999999999}"),
        json("{\"id\": 1.5}"),
        json("{\"id\": \"text\"}"),
        json("{\"id\": 1e400}"),
        Record::to(0, b"{\"id\": 1, \"site\": \"\xC3\x28\"}".to_vec()),
        Record::tombstone(0, "gone"),
    ]
}

#[test]
fn every_poison_is_rejected_and_the_line_goes_on() {
    let broker = Broker::shared();
    let topic = broker.topic("poison", 1, &LARGE);
    let stream = Stream::of(broker, &topic);
    let poisons = poisons();
    let good = rows(0, poisons.len() as u64 + 1, 1);
    let mut records = vec![good[0].clone()];
    for (bad, good) in poisons.iter().zip(&good[1..]) {
        records.extend([bad.clone(), good.clone()]);
    }
    broker.produce(&topic, &records);
    stream.run().ok();
    let found = rejected(&stream);
    // Every second record, cut where it is kept when it is long.
    for (n, (bad, [position, bytes, reason])) in poisons.iter().zip(&found).enumerate() {
        assert_eq!(*position, (2 * n + 1).to_string(), "{reason}");
        let length = bad.value.as_ref().map_or(0, Vec::len).min(64 * 1024);
        let kept = bytes.parse().unwrap_or(0);
        assert_eq!(length, kept, "record {position}: {reason}");
        assert!(!reason.is_empty());
    }
    assert_eq!(found.len(), poisons.len(), "{found:?}");
    let exact = stream.exact(&[&topic]);
    assert_eq!([exact.kept, exact.rejected], [good.len() as u64, poisons.len() as u64]);
}

#[test]
fn poison_does_not_stop_a_run_that_follows() {
    let broker = Broker::shared();
    let topic = broker.topic("following-poison", 1, &LARGE);
    let stream = Stream::of(broker, &topic);
    let running = stream.follow();
    for (n, bad) in (0..).zip(poisons()) {
        broker.produce(&topic, &[bad, rows(n, 1, 1).remove(0)]);
    }
    let count = poisons().len().to_string();
    stream.until("SELECT count(*) FROM kept", &count);
    stream.until("SELECT count(*) FROM samples__rejected", &count);
    ended(running);
    stream.exact(&[&topic]);
}

#[test]
fn large_records_are_rows_too() {
    let broker = Broker::shared();
    let topic = broker.topic("large", 2, &LARGE);
    let stream = Stream::of(broker, &topic);
    let site = "y".repeat(10_000_000);
    let large = |id: u64, partition: i32| {
        let value = serde_json::json!({"id": id, "site": site, "amount": id});
        Record::to(partition, value.to_string())
    };
    let records: Vec<Record> = (0..8).map(|id| large(id, (id % 2) as i32)).collect();
    broker.produce(&topic, &records);
    // The least memory there is: a record that fits in no queue is fetched all the same.
    stream.run().arg("--memory").arg("256MiB").ok();
    let sizes = "SELECT count(*) || ' of ' || min(length(site)) FROM kept";
    assert_eq!(stream.cell(sizes), "8 of 10000000");
    stream.audit();
}

#[test]
fn strange_rows_are_in_the_right_columns() {
    let broker = Broker::shared();
    let topic = broker.topic("strange", 1, &[]);
    let stream = Stream::with(broker, &topic, "on_new_column: ignore");
    let json = |text: &str| Record::to(0, text);
    broker.produce(
        &topic,
        &[
            json("{\"id\": null, \"site\": null, \"amount\": null}"),
            json("{}"),
            json("{\"amount\": -9223372036854775808, \"id\": 9223372036854775807}"),
            json("{\"id\": 4, \"site\": \"\\u0000 \\ud83d\\ude00 é\", \"more\": {\"a\": [1]}}"),
            json("  {\"id\": 5,\n\t\"site\": \"\"}  "),
        ],
    );
    stream.run().ok();
    let query = "SELECT off, id, site IS NULL, length(site), amount FROM kept ORDER BY off";
    let found = stream.place.sql(JOB, query);
    assert_eq!(found[0], ["0", "", "true", "", ""]);
    assert_eq!(found[1], ["1", "", "true", "", ""]);
    let edges = ["2", "9223372036854775807", "true", "", "-9223372036854775808"];
    assert_eq!(found[2], edges);
    assert_eq!(found[3], ["3", "4", "false", "5", ""]);
    assert_eq!(found[4], ["4", "5", "false", "0", ""]);
    stream.audit();
}

#[test]
fn of_a_key_that_comes_twice_the_last_value_holds() {
    let broker = Broker::shared();
    let topic = broker.topic("twice", 1, &[]);
    let stream = Stream::of(broker, &topic);
    broker.produce(&topic, &[Record::to(0, "{\"id\": 1, \"id\": 2}"), rows(7, 1, 1).remove(0)]);
    stream.run().ok();
    assert_eq!(stream.place.sql(JOB, "SELECT id FROM kept ORDER BY off"), [["2"], ["7"]]);
    let exact = stream.exact(&[&topic]);
    assert_eq!([exact.kept, exact.rejected], [2, 0]);
}

#[test]
fn tombstones_are_what_the_job_says() {
    let broker = Broker::shared();
    for (said, kept, rejected) in [("", 2, 1), ("reject", 2, 1), ("row", 3, 0), ("skip", 2, 0)] {
        let topic = broker.topic("tombstones", 1, &[]);
        let source = if said.is_empty() { String::new() } else { format!("tombstones: {said}") };
        let stream = Stream::with(broker, &topic, &source);
        let [first, last] = [rows(0, 1, 1).remove(0), rows(1, 1, 1).remove(0)];
        broker.produce(&topic, &[first, Record::tombstone(0, "gone"), last]);
        stream.run().ok();
        let compared = stream.compared(&[&topic]);
        // The witness sees three; what is passed over is neither a row nor rejected.
        assert_eq!((compared.kept, compared.rejected), (kept, rejected), "`{said}`: {compared:?}");
        assert_eq!(compared.lost, 3 - kept - rejected, "`{said}`: {compared:?}");
        // Nor is it missed by who counts at the broker.
        stream.recounted();
    }
}

/// A record of a registered schema: a body behind the registry's five bytes.
pub fn framed(schema: u32, body: &[u8]) -> Record {
    Record::to(0, [&[0], schema.to_be_bytes().as_slice(), body].concat())
}

#[test]
fn wrong_schema_ids_are_rejected() {
    let broker = Broker::shared();
    let topic = broker.topic("schemas", 1, &[]);
    let registry = Registry::start();
    let row = r#"{"type": "record", "name": "row", "fields": [
        {"name": "id", "type": "long"}, {"name": "site", "type": "string"}, {"name": "amount", "type": "long"}]}"#;
    let id = registry.register(row);
    let foreign = registry.register(r#"{"type": "enum", "name": "other", "symbols": ["a", "b"]}"#);
    let body = |id: u8| [id * 2, 2, b'a', 20];
    let stream =
        Stream::with(broker, &topic, &format!("registry: {{url: \"{}\"}}", registry.url()));
    let text = std::fs::read_to_string(stream.place.path(JOB)).unwrap();
    stream.place.write(JOB, &text.replace("format: json", "format: avro"));
    broker.produce(
        &topic,
        &[
            framed(id, &body(1)),
            framed(foreign, &body(2)),
            framed(4_000_000, &body(3)),
            Record::to(0, vec![1, 0, 0, 0, 1, 2]),
            Record::to(0, vec![0, 0, 0]),
            framed(id, &body(4)[..2]),
            framed(id, &body(5)),
        ],
    );
    stream.run().ok();
    let ids = stream.place.sql(JOB, "SELECT id FROM kept ORDER BY off");
    assert_eq!(ids, [["1"], ["5"]]);
    let positions: Vec<String> = rejected(&stream).into_iter().map(|[at, ..]| at).collect();
    assert_eq!(positions, ["1", "2", "3", "4", "5"]);
    stream.audit();
}
