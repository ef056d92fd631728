//! Avro files that nobody has described: their schema is that of the job.

use std::fs;

use super::init::{job_file, rejected, table, taken};
use crate::support::files::{avro, bytes, list, long, one, text};
use crate::support::place::Place;

/// A record with every kind of field that schemas know, and some that they do not.
const SCHEMA: &str = r#"{"type": "record", "name": "order", "fields": [
    {"name": "id", "type": "long"},
    {"name": "placedAt", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
    {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
    {"name": "state", "type": {"type": "enum", "name": "state", "symbols": ["NEW", "SENT"]}},
    {"name": "who", "type": ["null", {"type": "record", "name": "person", "fields": [
        {"name": "name", "type": "string"},
        {"name": "firstName", "type": "string"},
        {"name": "age", "type": ["null", "int"]},
        {"name": "wakes", "type": {"type": "int", "logicalType": "time-millis"}}]}]},
    {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "line", "fields": [
        {"name": "sku", "type": "string"}, {"name": "weight", "type": "double"}]}}},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "counts", "type": {"type": "map", "values": "long"}}MORE
]}"#;

/// 12.50 and three days after 1970 began, in the state SENT.
fn order(id: i64, who: Vec<u8>) -> Vec<u8> {
    let line = [text("x"), 1.5_f64.to_le_bytes().to_vec()].concat();
    let total = bytes(&[0x04, 0xE2]);
    let counts = [long(1), text("a"), long(1), long(0)].concat();
    let fields = [
        long(id),
        long(86_400_000 * 3),
        one(1, long(3)),
        total,
        long(1),
        who,
        list(&[line.clone(), line]),
        list(&[text("new")]),
        counts,
    ];
    fields.concat()
}

#[test]
fn the_schema_of_the_files_is_that_of_the_job() {
    let place = Place::local();
    fs::create_dir(place.path("in")).unwrap();
    let person = [text("Ann"), text("A"), one(1, long(40)), long(0)].concat();
    let rows = [order(1, one(1, person)), order(2, one(0, Vec::new()))];
    fs::write(place.path("in/a.avro"), avro(&SCHEMA.replace("MORE", ""), &rows)).unwrap();
    let more = r#", {"name": "note", "type": ["null", "string"]}"#;
    let row = [order(3, one(0, Vec::new())), one(1, text("late"))].concat();
    fs::write(place.path("in/b.avro"), avro(&SCHEMA.replace("MORE", more), &[row])).unwrap();

    let said = taken(&place, "in");
    assert_eq!((rejected(&said), said["rows"].as_u64()), (0, Some(3)), "{said}");
    assert_eq!(said["complete"], true);
    let job = job_file(&place);
    let source = [
        "format: avro",
        "# Some files do not have note",
        "on_missing_column: \"null\"",
        "# No schema can hold counts",
        "on_new_column: ignore",
    ];
    for line in source {
        assert!(job.contains(&format!("    {line}")), "{line}\n{job}");
    }
    let table = table(&job);
    let schema = fs::read_to_string(place.path(&format!("pack/schemas/{table}.v1.yaml"))).unwrap();
    let fields: Vec<&str> = schema.lines().filter_map(|line| line.strip_prefix("  - ")).collect();
    let wanted = [
        "{name: id, type: int64}",
        "{name: placed_at, from: placedAt, type: timestamp}",
        "{name: day, type: date}",
        "{name: total, type: \"decimal(10, 2)\"}",
        "{name: state, type: string}",
        "{name: who, type: struct, fields: [{name: name, type: string}, {name: age, type: int32}]}",
        "{name: lines, type: \"list(struct)\", fields: [{name: sku, type: string}, {name: weight, type: float64}]}",
        "{name: tags, type: \"list(string)\"}",
        "{name: note, type: string}",
    ];
    assert_eq!(fields, wanted, "{schema}");
    assert!(schema.contains("# 1, 2, 3; never empty\n"), "{schema}");
    assert!(schema.contains("# no schema can hold wakes\n"), "{schema}");
    assert!(schema.contains("have to be snake_case: firstName\n"), "{schema}");

    let query = format!(
        "SELECT id, placed_at, day, total, state, who['name'], who['age'], lines[2]['weight'], \
         tags[1], note FROM {table} ORDER BY id"
    );
    let at = ["1970-01-04T00:00:00Z", "1970-01-04", "12.50", "SENT"];
    let rows = [["1", "Ann", "40", ""], ["2", "", "", ""], ["3", "", "", "late"]];
    let rows = rows.map(|[id, name, age, note]| {
        [id, at[0], at[1], at[2], at[3], name, age, "1.5", "new", note].map(str::to_string).to_vec()
    });
    assert_eq!(place.sql("pack", &query), rows);
}

#[test]
fn a_broken_header_is_told() {
    let place = Place::local();
    fs::write(place.path("cut.avro"), &avro(&SCHEMA.replace("MORE", ""), &[])[..100]).unwrap();
    let output = place.sluice(&["init", "--from", "cut.avro"]).expect(1);
    output.says(&["cannot be read as avro", "hint: "]);
    assert!(!place.path("jobs").exists());
}
