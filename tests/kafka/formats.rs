//! Messages that are neither JSON nor Avro, through a broker and a job: changes of a database amount to
//! its rows, Protobuf's types come from a registry, CSV and raw messages are rows or rejected one by
//! one. What a decoder makes of every kind of bytes is tested beside it, not here.

use std::collections::BTreeMap;

use serde_json::json;

use super::poison::{framed, rejected};
use super::stream::{JOB, Stream};
use crate::support::clients;
use crate::support::kafka::{Broker, Record};
use crate::support::place::Place;
use crate::support::registry::Registry;

/// A job over one topic whose messages are of this format, with lines added to its source and to its
/// tables.
fn job<'a>(
    broker: &'a Broker,
    topic: &str,
    format: &str,
    source: &str,
    tables: &str,
) -> Stream<'a> {
    let topics = format!("[{topic}]");
    let stream = Stream::new(broker, Place::local(), broker.bootstrap(), &topics, source, tables);
    rewritten(&stream, &[("format: json", format!("format: {format}").as_str())]);
    stream
}

/// Writes the job file anew with some texts replaced by others.
fn rewritten(stream: &Stream<'_>, by: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(stream.place.path(JOB)).unwrap();
    for &(old, new) in by {
        assert!(text.contains(old), "`{old}` is not in the job file");
        text = text.replace(old, new);
    }
    stream.place.write(JOB, &text);
}

/// A message, and what becomes of it: a row, with bars between its columns, or a part of the reason
/// why it is rejected.
type Case = (Record, Result<&'static str, &'static str>);

/// Each message is a row or rejected, in its place and whatever its neighbours are.
fn becomes(stream: &Stream<'_>, topic: &str, columns: &str, cases: Vec<Case>) {
    let (records, expected): (Vec<Record>, Vec<_>) = cases.into_iter().unzip();
    stream.broker.produce(topic, &records);
    stream.run().ok();
    let kept = stream.place.sql(JOB, &format!("SELECT off, {columns} FROM kept"));
    let kept = kept.iter().map(|row| (row[0].clone(), Ok(row[1..].join("|"))));
    let refused = rejected(stream).into_iter().map(|[at, _, reason]| (at, Err(reason)));
    let mut found: BTreeMap<u64, Result<String, String>> = BTreeMap::new();
    for (at, what) in kept.chain(refused) {
        let before = found.insert(at.parse().unwrap(), what);
        assert_eq!(before, None, "message {at} came twice");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((at, found), expected) in found.iter().zip(expected) {
        match (found, expected) {
            (Ok(row), Ok(wanted)) => assert_eq!(row, wanted, "message {at}"),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "message {at}: {reason}"),
            _ => panic!("message {at}: {found:?} instead of {expected:?}"),
        }
    }
    stream.audit();
}

/// How many keys the database's table has had.
const KEYS: u64 = 11;
/// Changes before each run.
const CHANGES: u64 = 100;
/// When the first of them was made.
const BEGAN_S: u64 = 1_700_000_000;

/// The table as the document says that it is kept, and every change.
const TABLES: &str = r#"accounts: {sql: "SELECT id, site, amount, _op FROM samples", key: [id], delete_when: "_op = 'd'"}
changes: {sql: "SELECT _op AS op, id, _source_ts AS at FROM samples"}"#;

/// What a row has beside its key: a site and an amount.
type Row = (String, Option<u64>);

/// A database: what it holds, and what it has told.
#[derive(Default)]
struct Database {
    rows: BTreeMap<u64, Row>,
    /// Of every change what it did, to whom, and in which second.
    told: Vec<[String; 3]>,
}

impl Database {
    /// Changes a row, and gives what a connector sends of it: behind a delete a tombstone, and every
    /// other time the schema beside the change.
    fn change(&mut self) -> Vec<Record> {
        let n = self.told.len() as u64;
        let (id, at_s) = (n * 7 % KEYS, BEGAN_S + n);
        let before = self.rows.remove(&id);
        let stays = before.is_none() || !n.is_multiple_of(5);
        let after = stays.then(|| (format!("s{n}"), (!n.is_multiple_of(3)).then_some(n)));
        let op = match (&before, &after) {
            (None, _) if n < KEYS => "r",
            (None, _) => "c",
            (Some(_), Some(_)) => "u",
            (Some(_), None) => "d",
        };
        let row = |(site, amount): &Row| json!({"id": id, "site": site, "amount": amount});
        let change = json!({
            "before": before.as_ref().map(row),
            "after": after.as_ref().map(row),
            "op": op,
            "source": {"table": "accounts", "ts_ms": at_s * 1_000},
            "ts_ms": 7,
        });
        let value = match n.is_multiple_of(2) {
            true => json!({"schema": {"type": "struct", "fields": []}, "payload": change}),
            false => change,
        };
        self.rows.extend(after.map(|row| (id, row)));
        self.told.push([op.to_string(), id.to_string(), at_s.to_string()]);
        let (partition, key) = ((id % 2) as i32, json!({"id": id}).to_string());
        let tombstone = (op == "d").then(|| Record::tombstone(partition, &key));
        let record = Record::to(partition, value.to_string()).key(key);
        std::iter::once(record).chain(tombstone).collect()
    }

    /// Its rows as text.
    fn held(&self) -> Vec<[String; 3]> {
        let row = |(id, (site, amount)): (&u64, &Row)| {
            let amount = amount.map(|amount| amount.to_string()).unwrap_or_default();
            [id.to_string(), site.clone(), amount]
        };
        self.rows.iter().map(row).collect()
    }
}

/// Both tables are what the database says.
fn agrees(stream: &Stream<'_>, database: &Database) {
    let rows = stream.place.sql(JOB, "SELECT id, site, amount FROM accounts ORDER BY id");
    assert_eq!(rows, database.held());
    let told = stream.place.sql(JOB, "SELECT op, id, to_unixtime(at) FROM changes ORDER BY at");
    assert_eq!(told, database.told);
    stream.audit();
}

#[test]
fn changes_of_a_database_amount_to_its_rows() {
    let broker = Broker::shared();
    let topic = broker.topic("changes", 2, &[]);
    let stream = job(broker, &topic, "debezium", "", TABLES);
    let mut database = Database::default();
    // Rows of the first run are changed and deleted in the second; two that are gone come back.
    for _ in 0..2 {
        let sent: Vec<Record> = (0..CHANGES).flat_map(|_| database.change()).collect();
        broker.produce(&topic, &sent);
        stream.run().ok();
        agrees(&stream, &database);
        assert_eq!(database.rows.len() as u64, KEYS - 2, "{:?}", database.rows);
    }
    let done = |op: &&str| database.told.iter().any(|[told, ..]| told == op);
    assert!(["r", "c", "u", "d"].iter().all(done), "{:?}", database.told);
    // What is no change of a row changes nothing.
    let bad = [r#"{"op": "t"}"#, r#"{"op": "d", "before": null, "after": {"id": 1}}"#];
    broker.produce(&topic, &bad.map(|text| Record::to(0, text)));
    stream.run().ok();
    agrees(&stream, &database);
    let reasons: Vec<String> = rejected(&stream).into_iter().map(|[.., reason]| reason).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("truncate") && reasons[1].contains("without `before`"));
    let ids: u64 = database.rows.keys().sum();
    let amounts: u64 = database.rows.values().filter_map(|(_, amount)| *amount).sum();
    let expected = [database.rows.len() as u64, ids, amounts].map(|figure| figure.to_string());
    let columns = ["id", "amount"];
    assert_eq!(clients::totals(&stream.place, "deltalake", "accounts", &columns), expected);
}

/// What `samples` are in Protobuf.
const PROTO: &str = r#"syntax = "proto3";
message Sample { int64 id = 1; optional string site = 2; int64 amount = 3; }"#;

#[test]
fn protobuf_is_read_by_the_types_of_a_registry() {
    let broker = Broker::shared();
    let topic = broker.topic("protobuf", 1, &[]);
    let registry = Registry::start();
    let id = registry.register_proto(PROTO);
    let avro = registry.register(r#"{"type": "enum", "name": "other", "symbols": ["a", "b"]}"#);
    let source = format!("registry: {{url: \"{}\"}}", registry.url());
    let stream = job(broker, &topic, "protobuf", &source, "");
    // After the schema's number: which type of the file it is, a zero for the first or a list of
    // numbers with its length; then the fields. Numbers of that list are zigzag.
    let full = [0, 0x08, 1, 0x12, 1, b'a', 0x18, 20];
    let minus_one = [0, 0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    let cases = vec![
        (framed(id, &full), Ok("1|a|20")),
        (framed(4_000_000, &full), Err("unknown schema id")),
        (framed(id, &[2, 0, 0x08, 0xAC, 0x02]), Ok("300||0")),
        (framed(avro, &full), Err("not PROTOBUF")),
        (framed(id, &minus_one), Ok("0||-1")),
        (framed(id, &full[..2]), Err("not of its schema")),
        (framed(id, &[2, 8, 0x08, 1]), Err("no such type")),
        (Record::to(0, vec![1, 0, 0, 0, 1, 0, 0x08, 1]), Err("schema id")),
        (Record::tombstone(0, "gone"), Err("no value")),
        (framed(id, &[0]), Ok("0||0")),
    ];
    becomes(&stream, &topic, "id, site, amount", cases);
}

#[test]
fn a_message_of_csv_is_a_row() {
    let broker = Broker::shared();
    let topic = broker.topic("csv", 1, &[]);
    let stream = job(broker, &topic, "csv", "delimiter: \";\"", "");
    let csv = |text: &str| Record::to(0, text);
    let cases = vec![
        (csv("1;north;7"), Ok("1|false|north|7")),
        (csv(""), Err("no record")),
        (csv("2;\"a;\"\"b\"\"\nc\";\n"), Ok("2|false|a;\"b\"\nc|")),
        (csv("3;x"), Err("wrong number of fields")),
        (csv("4;x;1;y"), Err("wrong number of fields")),
        (csv("\r\n5;;\r\n"), Ok("5|true||")),
        (csv("6;x;1\n7;y;2"), Err("more than one record")),
        (csv("8;\"x;1"), Err("a quote is never closed")),
        (csv("no;x;1"), Err("column id")),
        (Record::to(0, b"9;\xFF;1".to_vec()), Err("not valid UTF-8")),
        (Record::tombstone(0, "gone"), Err("no value")),
        (csv("10;south;-7"), Ok("10|false|south|-7")),
    ];
    becomes(&stream, &topic, "id, site IS NULL, site, amount", cases);
}

#[test]
fn raw_messages_are_text_or_bytes() {
    let broker = Broker::shared();
    let bytes = |value: &[u8]| Record::to(0, value);
    let text = vec![
        (bytes("é;\n\"1\"".as_bytes()), Ok("false|é;\n\"1\"")),
        (bytes(b"\xFF"), Err("not valid UTF-8")),
        (bytes(b""), Ok("false|")),
        (Record::tombstone(0, "gone"), Err("no value")),
        (bytes(b"{}"), Ok("false|{}")),
    ];
    let binary = vec![
        (bytes(b"\xFF\0"), Ok("false|ff00")),
        (bytes(b""), Ok("false|")),
        (Record::tombstone(0, "gone"), Ok("true|")),
        (bytes(b"\n"), Ok("false|0a")),
    ];
    let kinds = [
        ("string", "", "site IS NULL, site", text),
        ("binary", "tombstones: row", "site IS NULL, encode(site, 'hex')", binary),
    ];
    for (kind, source, columns, cases) in kinds {
        let topic = broker.topic("raw", 1, &[]);
        let stream = job(broker, &topic, "raw", source, "");
        let [id, amount] = ["id", "amount"].map(|name| format!("- {{name: {name}, type: int64}}"));
        let site = format!("type: {kind}");
        // One column is all there may be.
        let by = [
            (id.as_str(), ""),
            (amount.as_str(), ""),
            ("id, site, amount", "site"),
            ("type: string", site.as_str()),
        ];
        rewritten(&stream, &by);
        becomes(&stream, &topic, columns, cases);
    }
}
