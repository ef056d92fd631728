//! Messages of text: cases by hand; JSON against the decoder of lines; bytes by chance.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use serde_json::{Value, json};
use sluice_core::{DataSchema, ManualClock};

use super::*;

pub(super) fn schema(fields: Value) -> DataSchema {
    serde_json::from_value(json!({ "fields": fields })).unwrap()
}

pub(super) fn format(settings: Value, schema: Option<&DataSchema>) -> Arc<dyn MessageFormat> {
    let settings: Settings = serde_json::from_value(settings).unwrap();
    let checked = settings.check(schema).unwrap();
    let format = settings.build(schema, Arc::new(ManualClock::at(0))).unwrap();
    assert_eq!(format.schema(), checked);
    format
}

/// Rows as lines of JSON, and for each message why it was refused, if it was.
pub(super) fn read(
    format: &dyn MessageFormat,
    messages: &[Option<&[u8]>],
) -> (Vec<String>, Vec<Option<String>>) {
    let mut decoder = format.decoder();
    let reasons = messages.iter().map(|message| match message {
        Some(message) => decoder.take(message).err(),
        None => decoder.take_null().err(),
    });
    let reasons: Vec<_> = reasons.collect();
    let rows = RecordBatch::try_new(format.schema(), decoder.finish().unwrap()).unwrap();
    assert_eq!(rows.num_rows(), reasons.iter().filter(|r| r.is_none()).count());
    (lines(&rows), reasons)
}

pub(super) fn lines(rows: &RecordBatch) -> Vec<String> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    text.lines().map(str::to_string).collect()
}

fn one(format: &dyn MessageFormat, message: &[u8]) -> Result<String, String> {
    let (lines, reasons) = read(format, &[Some(message)]);
    match reasons.into_iter().next().flatten() {
        Some(reason) => Err(reason),
        None => Ok(lines[0].clone()),
    }
}

fn orders() -> DataSchema {
    schema(json!([
        {"name": "id", "type": "int32", "required": true},
        {"name": "note", "type": "string"},
        {"name": "price", "type": "decimal(8, 2)"},
    ]))
}

#[test]
fn a_message_of_json_is_one_object() {
    let format = format(json!({"format": "json"}), Some(&orders()));
    let good = [
        (r#"{"id": 1, "note": "x", "price": 1.5}"#, r#"{"id":1,"note":"x","price":1.50}"#),
        (" \n{\"id\":2}\r\n\t ", r#"{"id":2}"#),
        (r#"{"id":1,"id":2,"note":"a","note":"b"}"#, r#"{"id":2,"note":"b"}"#),
    ];
    for (message, row) in good {
        assert_eq!(one(format.as_ref(), message.as_bytes()).as_deref(), Ok(row), "{message}");
    }
    let deep = format!("{{\"id\":1,\"note\":{}", "[".repeat(100_000));
    let deep_objects = "{\"id\":".repeat(100_000);
    let bad: [(&[u8], &str); 14] = [
        (b"", "not a JSON object"),
        (b"   ", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{", "not JSON"),
        (b"{\"id\":1", "not JSON"),
        (b"{\"id\":1}{\"id\":2}", "text after the object"),
        (b"{\"id\":1}x", "text after the object"),
        (b"{\"id\":1,\"note\":\"\xFF\"}", "not valid UTF-8"),
        (b"{\"note\":\"x\"}", "column id: required but empty"),
        (b"{\"id\":null}", "column id: required but empty"),
        (b"{\"id\":3000000000}", "column id: not of type int32"),
        (b"{\"id\":1,\"price\":1234567.5}", "column price: not of type decimal(8, 2)"),
        (b"{\"id\":1,\"extra\":2}", "column extra: not in the schema"),
    ];
    for (message, reason) in bad.iter().map(|(m, r)| (*m, *r)).chain([
        (deep.as_bytes(), "brackets nest too deep"),
        (deep_objects.as_bytes(), "brackets nest too deep"),
    ]) {
        let found = one(format.as_ref(), message).unwrap_err();
        let shown = String::from_utf8_lossy(&message[..message.len().min(60)]);
        assert!(found.contains(reason), "{shown} {found}");
    }
}

#[test]
fn a_bad_message_costs_only_itself_and_a_tombstone_is_a_row_of_nulls() {
    let settings = json!({"format": "json", "on_new_column": "rescue"});
    let fields = json!([{"name": "a", "type": "int64"}, {"name": "b", "type": "list(string)"}]);
    let format = format(settings, Some(&schema(fields)));
    let messages: [Option<&[u8]>; 5] = [
        Some(br#"{"a":1,"b":["x","y"],"new":{"z":[1]}}"#),
        Some(br#"{"b":["x","y"],"new":1,"a":"no"}"#),
        None,
        Some(br#"{"b":["x", 2"#),
        Some(br#"{"b":[]}"#),
    ];
    let (lines, reasons) = read(format.as_ref(), &messages);
    let expected =
        [r#"{"a":1,"b":["x","y"],"_rescued":"{\"new\":{\"z\":[1]}}"}"#, "{}", r#"{"b":[]}"#];
    assert_eq!(lines, expected);
    let bad: Vec<bool> = reasons.iter().map(Option::is_some).collect();
    assert_eq!(bad, [false, true, false, true, false]);
}

#[test]
fn framed_json_is_read_behind_its_prefix() {
    let format = format(json!({"format": "json", "framing": "confluent"}), Some(&orders()));
    let good = framed(7, br#"{"id":1}"#);
    assert_eq!(one(format.as_ref(), &good).as_deref(), Ok(r#"{"id":1}"#));
    for message in [&b"{\"id\":1}"[..], b"", b"\0\0\0\0"] {
        assert!(one(format.as_ref(), message).unwrap_err().contains("schema id"));
    }
}

#[test]
fn a_message_of_csv_is_one_record() {
    let format = format(json!({"format": "csv", "delimiter": ";"}), Some(&orders()));
    let messages: [(&str, Result<&str, &str>); 11] = [
        ("1;x;1.5", Ok(r#"{"id":1,"note":"x","price":1.50}"#)),
        ("2;\"a;\"\"b\"\"\nc\";\n", Ok(r#"{"id":2,"note":"a;\"b\"\nc"}"#)),
        ("\r\n3;;\r\n", Ok(r#"{"id":3}"#)),
        ("", Err("no record")),
        ("\n", Err("no record")),
        ("1;x", Err("wrong number of fields")),
        ("1;x;2;y", Err("wrong number of fields")),
        ("1;x;2\n2;y;3", Err("more than one record")),
        (";x;2", Err("column id: required but empty")),
        ("1;\"x;2", Err("a quote is never closed")),
        ("3000000000;x;2", Err("column id: not an int32")),
    ];
    let texts: Vec<Option<&[u8]>> = messages.iter().map(|(m, _)| Some(m.as_bytes())).collect();
    let (lines, reasons) = read(format.as_ref(), &texts);
    let mut lines = lines.iter();
    for ((message, expected), reason) in messages.iter().zip(reasons) {
        match expected {
            Ok(row) => assert_eq!(lines.next().unwrap(), row, "{message:?} {reason:?}"),
            Err(why) => assert!(reason.as_deref().unwrap().contains(why), "{message:?} {reason:?}"),
        }
    }
    let (_, reasons) = read(format.as_ref(), &[None, Some(b"1;\xFF;2")]);
    assert!(reasons[0].as_deref().unwrap().contains("column id: required but empty"));
    assert!(reasons[1].as_deref().unwrap().contains("not valid UTF-8"));
}

#[test]
fn raw_messages_are_bytes_or_text() {
    let bytes = format(json!({"format": "raw"}), None);
    assert_eq!(one(bytes.as_ref(), b"\xFF\0").as_deref(), Ok(r#"{"value":"ff00"}"#));
    let text = schema(json!([{"name": "line", "type": "string", "required": true}]));
    let text = format(json!({"format": "raw"}), Some(&text));
    assert_eq!(one(text.as_ref(), "é".as_bytes()).as_deref(), Ok(r#"{"line":"é"}"#));
    assert_eq!(one(text.as_ref(), b"").as_deref(), Ok(r#"{"line":""}"#));
    assert!(one(text.as_ref(), b"\xFF").is_err());
    assert!(read(text.as_ref(), &[None]).1[0].is_some());
}

/// What messages are made of: most of what comes out is nearly JSON, and some of it is.
const FRAGMENTS: [&str; 20] = [
    "{\"a\":",
    "{\"a\": 1}",
    "{\"b\":\"x\"}",
    "1",
    "-2.50",
    "\"",
    "\"b\"",
    ",",
    ",\"b\":",
    ",\"c\":{\"x\":",
    "{",
    "}",
    "}}",
    "[",
    "]",
    " ",
    "null",
    "\\u00e9",
    "{\"c\":{\"x\":[\"p\",null]}}",
    ",\"d\":[1]",
];

#[test]
fn messages_are_read_as_lines_are() {
    use crate::format::encoding::Encoding;
    use crate::format::json::{Decoder, Layout as Lines, Origin, Unknown};
    let fields = schema(json!([
        {"name": "a", "type": "decimal(6, 2)"},
        {"name": "b", "type": "string", "required": false},
        {"name": "c", "type": "struct", "fields": [{"name": "x", "type": "list(string)"}]},
    ]));
    let settings = json!({"format": "json", "on_new_column": "rescue"});
    let format = AssertUnwindSafe(format(settings, Some(&fields)));
    let layout = Arc::new(Lines::new(&fields, Unknown::Rescue, Encoding::Utf8).unwrap());
    bolero::check!().with_iterations(10_000).with_max_len(30).for_each(|choices: &[u8]| {
        let text: String =
            choices.iter().map(|c| FRAGMENTS[usize::from(*c) % FRAGMENTS.len()]).collect();
        let text = text.trim_ascii();
        if text.is_empty() {
            return;
        }
        let origin = Origin { object: String::new(), file: 0, start: 0, list: false };
        let mut decoder = Decoder::new(layout.clone(), origin);
        decoder.push(text.as_bytes());
        let decoded = decoder.next(true).unwrap().unwrap();
        let columns: Vec<usize> = (0..decoded.rows.num_columns() - 1).collect();
        let (found, reasons) = read(format.as_ref(), &[Some(text.as_bytes())]);
        assert_eq!(found, lines(&decoded.rows.project(&columns).unwrap()), "{text}");
        let reason = decoded.rejected.first().map(|rejected| rejected.reason.clone());
        assert_eq!(reasons[0], reason, "{text}");
    });
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let fields = schema(json!([
        {"name": "a", "type": "int64"}, {"name": "b", "type": "string"},
        {"name": "c", "type": "list(struct)", "fields": [{"name": "x", "type": "float64"}]},
    ]));
    let flat = schema(json!([{"name": "a", "type": "int64"}, {"name": "b", "type": "date"}]));
    let avro = json!({"type": "record", "name": "R", "fields": [
        {"name": "a", "type": "long"}, {"name": "b", "type": ["null", "string"]},
        {"name": "c", "type": {"type": "array", "items": {"type": "record", "name": "X", "fields": [
            {"name": "x", "type": "double"}, {"name": "next", "type": ["null", "R"]},
        ]}}},
    ]});
    let proto = "syntax = \"proto3\"; message R { int64 a = 1; string b = 2; repeated X c = 3; \
                 message X { double x = 1; R next = 2; } }";
    let formats = AssertUnwindSafe([
        format(json!({"format": "json"}), Some(&fields)),
        format(json!({"format": "json", "framing": "confluent"}), Some(&fields)),
        format(json!({"format": "csv"}), Some(&flat)),
        format(json!({"format": "raw"}), None),
        format(
            json!({"format": "avro", "avro_schema": avro, "on_new_column": "rescue"}),
            Some(&fields),
        ),
        format(
            json!({"format": "protobuf", "proto": {"text": proto}, "on_new_column": "rescue"}),
            Some(&fields),
        ),
        format(json!({"format": "debezium", "times": "millis"}), Some(&fields)),
    ]);
    bolero::check!().with_iterations(5_000).with_max_len(80).for_each(|bytes: &[u8]| {
        for format in formats.iter() {
            let half = &bytes[..bytes.len() / 2];
            read(format.as_ref(), &[Some(bytes), None, Some(half)]);
        }
    });
}

#[test]
fn settings_that_do_not_go_together_are_all_told() {
    let fields = schema(json!([{"name": "id", "type": "int64"}]));
    let faults = |settings: Value| {
        let settings: Settings = serde_json::from_value(settings).unwrap();
        settings.check(Some(&fields)).map_err(|faults| format!("{faults:?}"))
    };
    let registry = json!({"url": "http://registry:8081"});
    let good = [
        json!({"format": "avro", "registry": registry}),
        json!({"format": "protobuf", "registry": registry}),
        json!({"format": "debezium", "envelope": "avro", "registry": registry}),
        json!({"format": "json", "registry": registry}),
    ];
    for settings in good {
        assert!(faults(settings.clone()).is_ok(), "{settings}");
    }
    let bad: [(Value, &[&str]); 7] = [
        (json!({"format": "json", "delimiter": ";", "times": "nanos"}), &["/delimiter", "/times"]),
        (json!({"format": "avro"}), &["/format"]),
        (json!({"format": "protobuf"}), &["/format"]),
        (json!({"format": "avro", "avro_schema": "x", "registry": registry}), &["/registry"]),
        (json!({"format": "json", "registry": {"url": "ftp://x"}}), &["/registry/url"]),
        (
            json!({"format": "json", "registry": {"url": "http://a:b@x", "password": "p"}}),
            &["/registry/url", "/registry/password"],
        ),
        (json!({"format": "avro", "registry": registry, "framing": "none"}), &["/framing"]),
    ];
    for (settings, pointers) in bad {
        let found = faults(settings.clone()).unwrap_err();
        assert!(pointers.iter().all(|pointer| found.contains(pointer)), "{settings} {found}");
    }
    let config: RegistryConfig =
        serde_json::from_value(json!({"url": "http://x", "token": "hidden"})).unwrap();
    assert!(!format!("{config:?}").contains("hidden"));
}
