//! JSON in and out: cases by hand, and everything else against a slow reader.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow::json::LineDelimitedWriter;
use sluice_core::{DataSchema, FileEncoder, Rejected};

use super::*;
use crate::format::compress::Codec;
use crate::format::encoding::Encoding;

pub(super) fn schema(fields: serde_json::Value) -> DataSchema {
    serde_json::from_value(serde_json::json!({ "fields": fields })).unwrap()
}

fn orders() -> DataSchema {
    schema(serde_json::json!([
        {"name": "id", "type": "int32", "required": true},
        {"name": "note", "type": "string"},
        {"name": "price", "from": "unitPrice", "type": "decimal(8, 2)"},
        {"name": "rate", "type": "float64"},
        {"name": "on", "type": "date", "format": "%d/%m/%Y"},
        {"name": "customer", "type": "struct", "fields": [
            {"name": "name", "type": "string", "required": true},
            {"name": "since", "type": "timestamp"},
        ]},
        {"name": "items", "type": "list(struct)", "fields": [
            {"name": "sku", "type": "string"},
            {"name": "sizes", "type": "list(int8)"},
        ]},
    ]))
}

pub(super) struct Read {
    pub(super) rows: RecordBatch,
    pub(super) rejected: Vec<Rejected>,
}

impl Read {
    pub(super) fn lines(&self) -> Vec<String> {
        let last = self.rows.num_columns() - 1;
        let columns: Vec<usize> = (0..last).collect();
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(&self.rows.project(&columns).unwrap()).unwrap();
        writer.finish().unwrap();
        let text = String::from_utf8(writer.into_inner()).unwrap();
        text.lines().map(str::to_string).collect()
    }

    fn positions(&self) -> Vec<i64> {
        let last = self.rows.columns().last().unwrap();
        last.as_primitive::<Int64Type>().values().to_vec()
    }

    pub(super) fn reasons(&self) -> Vec<&str> {
        self.rejected.iter().map(|r| r.reason.as_str()).collect()
    }
}

/// Reads `bytes` in pieces.
pub(super) fn read(layout: &Arc<Layout>, list: bool, bytes: &[u8], piece: usize) -> Read {
    let origin = Origin { object: "a.jsonl".into(), file: 0, start: 0, list };
    let mut decoder = Decoder::new(layout.clone(), origin);
    let (mut batches, mut rejected) = (Vec::new(), Vec::new());
    let mut pieces = bytes.chunks(piece);
    loop {
        let next = pieces.next();
        decoder.push(next.unwrap_or_default());
        while let Some(decoded) = decoder.next(next.is_none()).unwrap() {
            batches.push(decoded.rows);
            rejected.extend(decoded.rejected);
        }
        if next.is_none() {
            let rows = concat_batches(layout.schema(), &batches).unwrap();
            return Read { rows, rejected };
        }
    }
}

pub(super) fn layout(schema: &DataSchema, unknown: Unknown) -> Arc<Layout> {
    Arc::new(Layout::new(schema, unknown, Encoding::Utf8).unwrap())
}

fn one(data_type: &str, value: &str) -> Result<String, String> {
    let schema = schema(serde_json::json!([{"name": "x", "type": data_type}]));
    let line = format!("{{\"x\": {value}}}");
    let read = read(&layout(&schema, Unknown::Fail), false, line.as_bytes(), 1000);
    match read.rejected.first() {
        Some(rejected) => Err(rejected.reason.clone()),
        None => Ok(read.lines()[0].clone()),
    }
}

#[test]
fn nested_rows_become_nested_columns() {
    let text = r#"
        {"id": 1, "note": "a\u00e9\n\ud834\udd1e", "unitPrice": 12.5, "rate": 1e-3, "on": "29/02/2024",
         "customer": {"name": "Ada", "since": "2024-01-01T10:00:00+01:00"},
         "items": [{"sku": "x", "sizes": [1, 2]}, null, {"sizes": []}]}
        {"id": 2.0, "customer": null, "items": []}
        {"rate": 3, "id": 3, "unitPrice": "7", "extra": 1}
    "#;
    let text = text.replace(",\n", ",");
    let expected = [
        r#"{"id":1,"note":"aé\n𝄞","price":12.50,"rate":0.001,"on":"2024-02-29","customer":{"name":"Ada","since":"2024-01-01T09:00:00Z"},"items":[{"sku":"x","sizes":[1,2]},null,{"sizes":[]}]}"#,
        r#"{"id":2,"items":[]}"#,
        r#"{"id":3,"price":7.00,"rate":3.0}"#,
    ];
    for piece in [1, 7, 10_000] {
        let found = read(&layout(&orders(), Unknown::Ignore), false, text.as_bytes(), piece);
        assert_eq!(found.lines(), expected);
        assert_eq!(found.rejected, []);
        let starts: Vec<i64> = text.match_indices("{\"id\"").map(|(at, _)| at as i64).collect();
        assert_eq!(found.positions()[..2], starts[..2]);
    }
}

#[test]
fn a_bad_row_is_set_aside_with_bytes_position_and_path() {
    let lines = [
        (r#"{"id": 1}"#, ""),
        (r#"{"id": "x"}"#, "column id: not of type int32 text=\"x\""),
        (r#"{"note": "a"}"#, "column id: required but empty"),
        (r#"{"id": 1, "customer": {"since": null}}"#, "column customer.name: required but empty"),
        (
            r#"{"id": 1, "items": [{"sizes": [1]}, {"sizes": [1, 200]}]}"#,
            "column items[1].sizes[1]: not of type int8 text=\"200\"",
        ),
        (r#"{"id": 1, "items": 7}"#, "column items: not of type list(struct) text=\"7\""),
        (r#"{"id": 1, "customer": {"name": "a", "x": 1}}"#, "column customer.x: not in the schema"),
        (r#"{"id": 1, "on": "31/02/2024"}"#, "column on: not of type date text=\"31/02/2024\""),
        (r#"{"id": 1, "rate": 1e999}"#, "column rate: not of type float64 text=\"1e999\""),
        (
            r#"{"id": 1, "unitPrice": 0.005}"#,
            "column unitPrice: not of type decimal(8, 2) text=\"0.005\"",
        ),
        (r#"[1, 2]"#, "not a JSON object"),
        (r#"{"id": 1} x"#, "not JSON: text after the object at=10"),
        (r#"{"id": 1"#, "not JSON: expected '}' at=8"),
        (r#"{"id": 01}"#, "column id: not JSON: a number that begins with 0 at=9"),
        (
            r#"{"id": 1, "note": "\ud834"}"#,
            "column note: not JSON: an escape that is no character at=19",
        ),
        (r#"{"id": 2}"#, ""),
    ];
    let text: String = lines.iter().map(|(line, _)| format!("{line}\r\n")).collect();
    for piece in [1, 13, 10_000] {
        let found = read(&layout(&orders(), Unknown::Fail), false, text.as_bytes(), piece);
        assert_eq!(found.lines(), [r#"{"id":1}"#, r#"{"id":2}"#]);
        let bad: Vec<_> = lines.iter().filter(|(_, reason)| !reason.is_empty()).collect();
        let wanted: Vec<&str> = bad.iter().map(|(_, reason)| *reason).collect();
        assert_eq!(found.reasons(), wanted);
        for (rejected, (line, _)) in found.rejected.iter().zip(&bad) {
            assert_eq!(rejected.bytes, line.as_bytes());
            assert!(text[rejected.position as usize..].starts_with(line));
        }
    }
    let found = read(
        &layout(&orders(), Unknown::Fail),
        false,
        b"{\"id\": 1, \"note\": \"\xff\"}\n{\"id\": 2}",
        9,
    );
    assert_eq!(found.reasons(), ["not valid UTF-8"]);
    assert_eq!(found.positions(), [23]);
}

#[test]
fn numbers_are_exact_whatever_they_look_like() {
    let cases = [
        ("int64", "9223372036854775807", Some("9223372036854775807")),
        ("int64", "1.0", Some("1")),
        ("int64", "1e3", Some("1000")),
        ("int64", "\"7\"", Some("7")),
        ("int64", "1.5", None),
        ("int64", "9223372036854775808", None),
        ("int8", "-129", None),
        (
            "decimal(38, 2)",
            "123456789012345678901234567890.12",
            Some("123456789012345678901234567890.12"),
        ),
        ("decimal(5, 2)", "0.1e1", Some("1.00")),
        ("decimal(5, 2)", "1000", None),
        ("float64", "1e308", Some("1.0e308")),
        ("float64", "1e999", None),
        ("float32", "1e39", None),
        ("float64", "true", None),
        ("bool", "true", Some("true")),
        ("bool", "0", Some("false")),
        ("bool", "\"maybe\"", None),
        ("string", "1.50", Some("\"1.50\"")),
        ("string", "{\"a\": [1]}", Some("\"{\\\"a\\\": [1]}\"")),
        ("string", "\"\"", Some("\"\"")),
        ("timestamp", "\"2024-02-30\"", None),
        ("list(date)", "[\"2024-02-29\", null]", Some("[\"2024-02-29\",null]")),
    ];
    for (data_type, value, wanted) in cases {
        let wanted = wanted.map(|value| format!("{{\"x\":{value}}}"));
        assert_eq!(one(data_type, value).ok(), wanted, "{data_type} {value}");
    }
}

#[test]
fn the_last_of_two_equal_keys_holds() {
    let text = br#"{"id": 1, "items": [{"sku": "a", "u": 1}], "id": 2, "items": [{"v": 2}], "w": 1, "w": {"x": 2}}"#;
    let found = read(&layout(&orders(), Unknown::Rescue), false, text, 10);
    let rescued = r#"{\"items[0].v\":2,\"w\":{\"x\": 2}}"#;
    assert_eq!(found.lines(), [format!(r#"{{"id":2,"items":[{{}}],"_rescued":"{rescued}"}}"#)]);
    let found = read(&layout(&orders(), Unknown::Rescue), false, br#"{"id": 1}"#, 10);
    assert_eq!(found.lines(), [r#"{"id":1}"#]);
}

#[test]
fn keys_of_good_rows_are_noted_unless_they_stand_within_others() {
    let lines = [
        r#"{"id": 1, "b": 1, "a": null, "customer": {"name": "x", "vip": true}}"#,
        r#"{"bad": 1}"#,
        r#"{"id": 2, "a": 2, "a.b": [], "items": [{"q": 1}], "b": 1, "b": 2}"#,
    ];
    for piece in [7, 1000] {
        for (unknown, met) in [(Unknown::Add, &["b", "a", "a.b"][..]), (Unknown::Rescue, &[])] {
            let layout = layout(&orders(), unknown);
            let found = read(&layout, false, lines.join("\n").as_bytes(), piece);
            assert_eq!((found.rows.num_rows(), found.rejected.len()), (2, 1));
            assert_eq!(layout.keys().met(), met);
            let rescued = r#""_rescued":"{\"a\":2,\"a.b\":[],\"items[0].q\":1,\"b\":2}""#;
            assert!(found.lines()[1].contains(rescued), "{:?}", found.lines());
        }
    }
}

#[test]
fn a_list_is_read_item_by_item() {
    let cases: [(&str, &[i64], &[&str]); 9] = [
        ("[]", &[], &[]),
        (" [ ] \n", &[], &[]),
        ("[{\"id\": 1},\n {\"id\": 2}\n]", &[1, 13], &[]),
        ("[{\"id\": 1, \"note\": \"],[{\\\"\"}]", &[1], &[]),
        (
            "[{\"id\": 1}, 7, {\"id\": \"}\"}, {\"id\": 3}]",
            &[1, 28],
            &["not a JSON object", "column id: not of type int32 text=\"}\""],
        ),
        (
            "[{\"id\": 1} {\"id\": 2}, {\"id\": 3}]",
            &[22],
            &["not JSON: text after the object at=10"],
        ),
        (
            "[{\"id\": 1}, {\"id\": 2",
            &[1],
            &["not JSON: expected '}' at=8", "the file ends inside the list"],
        ),
        ("[{\"id\": 1}] {\"id\": 2}", &[1], &["text outside of the list"]),
        ("[{\"id\": 1},]", &[1], &["not a JSON object"]),
    ];
    for (text, positions, reasons) in cases {
        assert_eq!(begins_list(text.as_bytes()), Some(true));
        for piece in [1, 5, 1000] {
            let found = read(&layout(&orders(), Unknown::Fail), true, text.as_bytes(), piece);
            assert_eq!(
                (found.positions(), found.reasons()),
                (positions.to_vec(), reasons.to_vec()),
                "{text}"
            );
        }
    }
    assert_eq!(begins_list(b" \n{"), Some(false));
    assert_eq!(begins_list(b" \n"), None);
}

#[test]
fn a_record_too_large_to_hold_is_rejected_and_the_next_one_read() {
    let large = format!("{{\"id\": 1, \"note\": \"{}\"}}", "x\\\"".repeat(RECORD_BYTES_MAX / 3));
    let lines = format!("{{\"id\": 1}}\n{large}\n{{\"id\": 2}}");
    let list = format!("[{{\"id\": 1}},{large},{{\"id\": 2}}]");
    for (list, text) in [(false, lines), (true, list)] {
        for piece in [1 << 20, RECORD_BYTES_MAX + 15, 1 << 30] {
            let found = read(&layout(&orders(), Unknown::Fail), list, text.as_bytes(), piece);
            assert_eq!(found.lines(), [r#"{"id":1}"#, r#"{"id":2}"#]);
            assert_eq!(found.reasons(), ["the record is larger than 16.0 MiB"]);
            let rejected = &found.rejected[0];
            assert_eq!(rejected.bytes, &text.as_bytes()[rejected.position as usize..][..64 * 1024]);
        }
    }
}

#[test]
fn other_encodings_keep_the_positions_of_the_file() {
    let schema = schema(serde_json::json!([{"name": "t", "type": "string"}]));
    let layout = Arc::new(Layout::new(&schema, Unknown::Fail, Encoding::Windows1252).unwrap());
    let found = read(&layout, false, b"{\"t\": \"\x80\xe9\"}\n{\"t\": \"b\"}", 5);
    assert_eq!(found.lines(), [r#"{"t":"€é"}"#, r#"{"t":"b"}"#]);
    assert_eq!(found.positions(), [0, 12]);
}

#[test]
fn what_is_written_reads_back_as_the_same_rows() {
    let text = r#"{"id": -5, "note": "a\"\\\u0001é", "unitPrice": -0.05, "rate": 1.5e300, "on": "01/02/2024", "customer": {"name": "", "since": "1969-12-31T23:59:59.000001Z"}, "items": [null, {"sku": null, "sizes": null}]}"#;
    let mut orders = orders();
    let rows = read(&layout(&orders, Unknown::Fail), false, text.as_bytes(), 1000).rows;
    let columns: Vec<usize> = (0..rows.num_columns() - 1).collect();
    let rows = rows.project(&columns).unwrap();
    for field in &mut orders.fields {
        // Written in ISO 8601, under the name in SQL.
        (field.format, field.from) = (None, None);
    }
    let mut encoder = Box::new(Encoder::new(&rows.schema(), None).unwrap());
    encoder.write(&rows).unwrap();
    let mut bytes = encoder.take();
    bytes.extend(encoder.finish().unwrap());
    let again = read(&layout(&orders, Unknown::Fail), false, &bytes, 1000);
    assert_eq!(again.rejected, [], "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(again.rows.project(&columns).unwrap().columns(), rows.columns());
    let bytes = schema(serde_json::json!([{"name": "raw", "type": "binary"}])).arrow().unwrap();
    let error = Encoder::new(&bytes, Some(Codec::Zstd)).unwrap_err();
    assert!(error.message().contains("column=raw"), "{error}");
}
