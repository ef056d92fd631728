//! Protobuf messages: bytes by hand.

use std::sync::Arc;

use serde_json::json;
use sluice_core::ManualClock;

use super::*;
use crate::message::Settings;
use crate::message::tests::{format, read, schema};

const TEXT: &str = r#"
    syntax = "proto3";
    package acme;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/wrappers.proto";
    message Order {
        int64 id = 1;
        optional string note = 2;
        Kind kind = 3;
        google.protobuf.Timestamp at = 4;
        repeated Item items = 5;
        map<string, int32> counts = 6;
        google.protobuf.Int32Value maybe = 7;
        uint64 big = 8;
        enum Kind { NONE = 0; SOME = 1; }
        message Item { string sku = 1; }
    }
    message Other { int64 id = 1; }
"#;

fn fields() -> sluice_core::DataSchema {
    schema(json!([
        {"name": "id", "type": "int32"},
        {"name": "note", "type": "string"},
        {"name": "kind", "type": "string"},
        {"name": "at", "type": "timestamp"},
        {"name": "items", "type": "list(struct)", "fields": [{"name": "sku", "type": "string"}]},
        {"name": "counts", "type": "list(struct)", "fields": [
            {"name": "key", "type": "string"}, {"name": "value", "type": "int64"},
        ]},
        {"name": "maybe", "type": "int32"},
        {"name": "big", "type": "decimal(20, 0)"},
    ]))
}

/// id 300, SOME, one second, items x and "", counts {a: 2}, maybe 0, big 2^64 - 1.
const GOOD: &[u8] = &[
    0x08, 0xAC, 0x02, 0x18, 0x01, 0x22, 0x02, 0x08, 0x01, 0x2A, 0x03, 0x0A, 0x01, b'x', 0x2A, 0x00,
    0x32, 0x05, 0x0A, 0x01, b'a', 0x10, 0x02, 0x3A, 0x00, 0x40, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
    0xFF, 0xFF, 0xFF, 0x01,
];

#[test]
fn fields_become_columns() {
    let settings = json!({"format": "protobuf", "proto": {"text": TEXT, "message": "acme.Order"}});
    let format = format(settings, Some(&fields()));
    let messages: [Option<&[u8]>; 6] = [
        Some(GOOD),
        Some(b""),
        Some(&GOOD[..4]),
        Some(&[0x0A, 0x01, b'x']),
        Some(&[0x18, 0x09]),
        Some(&[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
    ];
    let (lines, reasons) = read(format.as_ref(), &messages);
    assert_eq!(reasons[..2], [None, None]);
    let expected = r#"{"id":300,"kind":"SOME","at":"1970-01-01T00:00:01Z","items":[{"sku":"x"},{"sku":""}],"counts":[{"key":"a","value":2}],"maybe":0,"big":18446744073709551615}"#;
    assert_eq!(lines[0], expected);
    assert_eq!(lines[1], r#"{"id":0,"kind":"NONE","items":[],"counts":[],"big":0}"#);
    let why = ["not of its schema", "not of its schema", "no value of its enum", "column id"];
    for (reason, why) in reasons[2..].iter().zip(why) {
        assert!(reason.as_deref().unwrap().contains(why), "{reason:?}");
    }
}

#[test]
fn a_registered_file_has_several_types() {
    let columns = Columns::new(
        &schema(json!([{"name": "id", "type": "int64"}, {"name": "sku", "type": "string"}])),
        Unknown::Ignore,
        false,
    )
    .unwrap();
    let registered =
        Schema { schema_type: SchemaType::Protobuf, text: TEXT.into(), references: Vec::new() };
    let body = OfFile::of_schema(&registered, &columns).unwrap();
    let mut record = columns.record().clone();
    let mut reading = Reading::new(Unknown::Ignore);
    let mut take = |row: usize, message: &[u8]| body.read(message, row, &mut record, &mut reading);
    // The first, the second, and the one within the first.
    assert!(take(0, &[0, 0x08, 5]).is_ok());
    assert!(take(1, &[2, 2, 0x08, 6]).is_ok());
    assert!(take(2, &[4, 0, 0, 0x0A, 1, b'x']).is_ok());
    for bad in [&[][..], &[2, 8], &[1], &[0x80], &[0xFE, 0xFF, 0x03], &[4, 0]] {
        assert!(take(3, bad).is_err(), "{bad:?}");
    }
}

#[test]
fn what_cannot_be_read_is_told_before() {
    let build = |proto: serde_json::Value, on_new_column: &str| {
        let settings =
            json!({"format": "protobuf", "proto": proto, "on_new_column": on_new_column});
        let settings: Settings = serde_json::from_value(settings).unwrap();
        settings.build(Some(&fields()), Arc::new(ManualClock::at(0)))
    };
    assert!(build(json!({"text": TEXT}), "fail").is_ok());
    assert!(build(json!({"text": TEXT, "message": "acme.None"}), "fail").is_err());
    assert!(build(json!({"text": "syntax = "}), "fail").is_err());
    assert!(build(json!({"text": "syntax = \"proto3\"; import \"gone.proto\";"}), "fail").is_err());
    assert!(build(json!({}), "fail").is_err());
    let more = TEXT.replace("uint64 big = 8;", "uint64 big = 8; int32 more = 9;");
    assert!(build(json!({"text": more}), "fail").is_err());
    let format = build(json!({"text": more}), "rescue").unwrap();
    let (lines, _) = read(format.as_ref(), &[Some(&[0x08, 1, 0x48, 7])]);
    assert!(lines[0].ends_with(r#""_rescued":"{\"more\":7}"}"#), "{lines:?}");
}
