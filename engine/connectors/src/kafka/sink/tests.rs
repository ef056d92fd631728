//! What needs no broker: settings, the parts of messages, values.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use serde_json::{Value, json};
use sluice_core::{Config, Problems, SinkFactory};

use super::columns::Columns;
use super::config::Settings;
use super::value;
use crate::kafka::Factory;

fn config(value: Value) -> Config {
    let mut entry = json!({ "bootstrap": "localhost:9092", "topic": "orders" });
    if let (Some(entry), Value::Object(more)) = (entry.as_object_mut(), value) {
        entry.extend(more);
    }
    Config {
        name: "out".to_string(),
        file: PathBuf::from("job.yaml"),
        value: entry,
        spans: Default::default(),
        schema: None,
    }
}

fn settings(value: Value) -> Settings {
    Settings::read(&config(value)).unwrap()
}

fn rows() -> RecordBatch {
    let at = TimestampMicrosecondArray::from(vec![Some(1_500_000), None]).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int32Array::from(vec![Some(7), None]))),
        ("name", Arc::new(StringArray::from(vec![Some("a\n\"b\""), Some("c")]))),
        ("at", Arc::new(at)),
        ("gone", Arc::new(BooleanArray::from(vec![Some(false), Some(true)]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

#[test]
fn settings_are_told_all_that_is_wrong_with_them() {
    let cases = [
        (json!({}), 0),
        (json!({ "topic": "a b" }), 1),
        (json!({ "topic": "_sluice_control" }), 1),
        (json!({ "max_bytes": "1B", "control_topic": "" }), 2),
        (json!({ "bootstrap": "nowhere" }), 1),
        (json!({ "format": "avro" }), 1),
        (json!({ "format": "avro", "registry": { "url": "http://localhost:8081" } }), 0),
        (json!({ "format": "avro", "registry": { "url": "registry" } }), 1),
        (json!({ "registry": { "url": "http://localhost:8081" } }), 1),
        (json!({ "options": { "transactional.id": "x", "acks": 1 } }), 2),
        (json!({ "options": { "enable.idempotence": false, "client.id": "y" } }), 1),
    ];
    for (value, expected) in cases {
        let mut problems = Problems::new();
        SinkFactory::check(&Factory, &config(value.clone()), &mut problems);
        assert_eq!(problems.sorted().len(), expected, "{value}: {problems}");
    }
}

#[test]
fn parts_of_messages_come_from_columns() {
    let wanted = json!({
        "key": "name", "partition": "id", "timestamp": "at", "tombstone": "gone",
        "headers": { "number": "id", "time": "at" }, "omit": ["gone", "at"],
    });
    let rows = rows();
    let columns = Columns::new(&settings(wanted), &rows.schema()).unwrap();
    let parts = columns.of(&rows).unwrap();
    assert_eq!(parts.key(0).unwrap().unwrap(), b"a\n\"b\"");
    assert_eq!((parts.partition(0), parts.partition(1)), (Some(7), None));
    assert_eq!((parts.timestamp(0), parts.timestamp(1)), (Some(1_500), None));
    assert_eq!((parts.is_tombstone(0), parts.is_tombstone(1)), (false, true));
    let headers = parts.headers(0).unwrap();
    let time = b"1970-01-01T00:00:01.500Z".to_vec();
    assert_eq!(headers, [("number", b"7".to_vec()), ("time", time)]);
    assert!(parts.headers(1).unwrap().is_empty());
    let names: Vec<String> =
        parts.value.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["id", "name"]);
}

#[test]
fn several_columns_make_a_key_together() {
    let rows = rows();
    let wanted = settings(json!({ "key": ["id", "name", "gone"] }));
    let parts = Columns::new(&wanted, &rows.schema()).unwrap().of(&rows).unwrap();
    assert_eq!(parts.key(0).unwrap().unwrap(), br#"[7,"a\n\"b\"",false]"#);
    assert_eq!(parts.key(1).unwrap().unwrap(), br#"[null,"c",true]"#);
    let wanted = settings(json!({ "key": "id" }));
    let parts = Columns::new(&wanted, &rows.schema()).unwrap().of(&rows).unwrap();
    assert_eq!((parts.key(0).unwrap(), parts.key(1).unwrap()), (Some(b"7".to_vec()), None));
}

#[test]
fn columns_that_do_not_do_are_named() {
    let schema = rows().schema();
    let cases = [
        (json!({ "key": "nothing" }), "nothing"),
        (json!({ "partition": "name" }), "whole numbers"),
        (json!({ "timestamp": "id" }), "times"),
        (json!({ "tombstone": "id" }), "true and false"),
        (json!({ "omit": ["id", "name", "at", "gone"] }), "no column is left"),
    ];
    for (value, expected) in cases {
        let error = Columns::new(&settings(value), &schema).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn each_row_has_its_value() {
    let rows = rows();
    let mut encoder = value::encoder(&settings(json!({})), &rows.schema(), 0).unwrap();
    let values = encoder.encode(&rows).unwrap();
    let first: Value = serde_json::from_slice(values.get(0)).unwrap();
    let at = "1970-01-01T00:00:01.500Z";
    assert_eq!(first, json!({ "id": 7, "name": "a\n\"b\"", "at": at, "gone": false }));
    let second: Value = serde_json::from_slice(values.get(1)).unwrap();
    assert_eq!(second, json!({ "name": "c", "gone": true }));
    let none = rows.slice(0, 0);
    assert!(encoder.encode(&none).unwrap().ends.is_empty());
}

#[test]
fn avro_values_name_their_schema() {
    let rows = rows();
    let avro = settings(json!({ "format": "avro", "registry": { "url": "http://localhost:1" } }));
    let text = value::registered(&avro, &rows.schema()).unwrap().unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(schema["name"], "orders");
    assert_eq!(schema["fields"][0]["type"], json!(["null", "int"]));
    let values = value::encoder(&avro, &rows.schema(), 258).unwrap().encode(&rows).unwrap();
    let second = values.get(1);
    // The schema's number; null, "c", null, true.
    assert_eq!(second, [0, 0, 0, 1, 2, 0, 2, 2, b'c', 0, 2, 1]);
}
