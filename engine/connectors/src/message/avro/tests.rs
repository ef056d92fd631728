//! Avro messages: cases by hand, and what our encoder writes.

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde_json::{Value, json};
use sluice_core::ManualClock;

use super::*;
use crate::message::Settings;
use crate::message::tests::{format, lines, read, schema};

fn fields() -> Value {
    json!([
        {"name": "id", "type": "int32", "required": true},
        {"name": "note", "type": "string"},
        {"name": "price", "type": "decimal(10, 3)"},
        {"name": "rate", "type": "float64"},
        {"name": "on", "type": "date"},
        {"name": "at", "type": "timestamp"},
        {"name": "ok", "type": "bool"},
        {"name": "raw", "type": "binary"},
        {"name": "tags", "type": "list(string)"},
        {"name": "who", "type": "struct", "fields": [{"name": "name", "type": "string"}]},
    ])
}

/// Rows made by the JSON format.
fn rows(fields: &Value, texts: &[&str]) -> RecordBatch {
    let format = format(json!({"format": "json"}), Some(&schema(fields.clone())));
    let mut decoder = format.decoder();
    texts.iter().for_each(|text| decoder.take(text.as_bytes()).unwrap());
    RecordBatch::try_new(format.schema(), decoder.finish().unwrap()).unwrap()
}

#[test]
fn what_the_encoder_writes_is_read_again() {
    let texts = [
        r#"{"id":1,"note":"é","price":-1.5,"rate":0.25,"on":"1969-12-31","at":"2024-02-29T01:02:03.000004Z","ok":true,"raw":"ab","tags":["x",null,"y"],"who":{"name":"Ada"}}"#,
        r#"{"id":-2147483648,"price":9999999.999,"tags":[],"who":{}}"#,
        r#"{"id":3}"#,
    ];
    let batch = rows(&fields(), &texts);
    let encoder = Encoder::new(&batch.schema(), "acme.orders").unwrap();
    let bodies = encoder.encode(&batch).unwrap();
    let settings = json!({"format": "avro", "avro_schema": encoder.schema()});
    let format = format(settings, Some(&schema(fields())));
    let messages: Vec<Option<&[u8]>> = bodies.iter().map(|b| Some(b.as_slice())).collect();
    let (found, reasons) = read(format.as_ref(), &messages);
    assert_eq!(reasons, [None, None, None]);
    assert_eq!(found, lines(&batch));
    // A message that is cut anywhere, or has more behind it, is refused alone.
    let whole = &bodies[0];
    for end in 0..whole.len() {
        let messages = [Some(&whole[..end]), Some(whole.as_slice())];
        let (found, reasons) = read(format.as_ref(), &messages);
        assert!(reasons[0].is_some() && reasons[1].is_none(), "{end} {reasons:?}");
        assert_eq!(found[0], lines(&batch)[0]);
    }
    let more = [whole.as_slice(), &[0]].concat();
    assert!(read(format.as_ref(), &[Some(&more)]).1[0].as_deref().unwrap().contains("after"));
}

#[test]
fn arrow_reads_what_the_encoder_writes() {
    use arrow_avro::reader::ReaderBuilder;
    use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
    let plain = json!([{"name": "a", "type": "int64"}, {"name": "b", "type": "list(string)"}, {"name": "c", "type": "decimal(12, 2)"}]);
    let batch = rows(&plain, &[r#"{"a":1,"b":["x"],"c":-300.25}"#, r#"{"b":[]}"#]);
    let encoder = Encoder::new(&batch.schema(), "t").unwrap();
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    let text = AvroSchema::new(encoder.schema().to_string());
    store.set(Fingerprint::Id(9), text).unwrap();
    let mut decoder = ReaderBuilder::new().with_writer_schema_store(store).build_decoder().unwrap();
    for body in encoder.encode(&batch).unwrap() {
        decoder.decode(&crate::message::framed(9, &body)).unwrap();
    }
    assert_eq!(lines(&decoder.flush().unwrap().unwrap()), lines(&batch));
}

#[test]
fn writers_differ_from_readers() {
    let text = json!({"type": "record", "name": "A", "namespace": "n", "fields": [
        {"name": "more", "type": {"type": "map", "values": "long"}},
        {"name": "id", "type": "long"},
        {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["X", "Y"]}},
        {"name": "at", "type": {"type": "long", "connect.name": "io.debezium.time.Timestamp"}},
        {"name": "next", "type": ["null", "A"], "default": null},
    ]});
    let fields = json!([
        {"name": "id", "type": "int8"}, {"name": "kind", "type": "string"},
        {"name": "at", "type": "timestamp"}, {"name": "next", "type": "string"},
        {"name": "absent", "type": "int64"},
    ]);
    let settings = json!({"format": "avro", "avro_schema": text, "on_new_column": "rescue"});
    let format = format(settings.clone(), Some(&schema(fields.clone())));
    // {"k": 5}, 1, Y, 1970-01-01T00:00:01Z, none
    let good: &[u8] = &[2, 2, b'k', 10, 0, 2, 2, 0xD0, 0x0F, 0];
    let (found, reasons) = read(format.as_ref(), &[Some(good)]);
    assert_eq!(reasons, [None]);
    let row =
        r#"{"id":1,"kind":"Y","at":"1970-01-01T00:00:01Z","_rescued":"{\"more\":{\"k\":5}}"}"#;
    assert_eq!(found, [row]);
    let bad: [(&[u8], &str); 6] = [
        (&[0, 0x90, 0x03, 2, 0, 0], "column id: not a int8 without loss"),
        (&[0, 2, 4, 0, 0], "no symbol"),
        (&[0, 2, 1, 0, 0], "no symbol"),
        (&[0xFE, 0xFF, 0xFF, 0xFF, 0x0F], "a list longer than its message"),
        (&[2, 1], "a negative length"),
        (&[0, 2, 0, 0, 4], "no branch"),
    ];
    for (message, reason) in bad {
        let (_, reasons) = read(format.as_ref(), &[Some(message)]);
        assert!(reasons[0].as_deref().unwrap().contains(reason), "{message:?} {reasons:?}");
    }
    // A record that is inside itself again and again.
    let deep = [0, 2, 0, 0, 2].repeat(10_000);
    let (_, reasons) = read(format.as_ref(), &[Some(&deep)]);
    assert!(reasons[0].as_deref().unwrap().contains("too deep"), "{reasons:?}");
    let strict = json!({"format": "avro", "avro_schema": settings["avro_schema"]});
    let strict: Settings = serde_json::from_value(strict).unwrap();
    let refused = strict.build(Some(&schema(fields)), Arc::new(ManualClock::at(0)));
    assert!(refused.is_err());
}

#[test]
fn schemas_that_are_none_are_refused() {
    let columns = Columns::new(
        &schema(json!([{"name": "id", "type": "int64"}])),
        crate::format::json::Unknown::Ignore,
        false,
    )
    .unwrap();
    let deep = "[".repeat(100_000);
    let cases = [
        ("{", "not JSON"),
        (deep.as_str(), "not JSON"),
        ("\"string\"", "not of a record"),
        (
            r#"{"type":"record","name":"A","fields":[{"name":"id","type":"B"}]}"#,
            "an unknown type type=B",
        ),
        (r#"{"type":"record","name":"A"}"#, "lacks fields"),
        (
            r#"{"type":"record","name":"A","fields":[{"name":"id","type":{"type":"array","items":"long"}}]}"#,
            "column id: cannot be read as int64",
        ),
    ];
    for (text, reason) in cases {
        let found = Avro::new(text, &[], &columns).unwrap_err();
        assert!(found.contains(reason), "{found}");
    }
    let referred = [("n.B".to_string(), r#"{"type":"fixed","size":2,"name":"n.B"}"#.to_string())];
    let text = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"n.B"}]}"#;
    assert!(Avro::new(text, &referred, &columns).is_ok());
}
