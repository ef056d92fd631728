//! Change events as the connectors write them.

use serde_json::{Value, json};

use crate::format::message::{MessageFormat, Tombstones};
use crate::message::tests::{format, read, schema};

fn fields() -> Value {
    json!([
        {"name": "id", "type": "int64", "required": true},
        {"name": "name", "type": "string"},
        {"name": "day", "type": "date"},
        {"name": "at", "type": "timestamp"},
        {"name": "fine", "type": "timestamp"},
        {"name": "zoned", "type": "timestamp"},
        {"name": "price", "type": "decimal(10, 2)"},
        {"name": "raw", "type": "binary"},
        {"name": "count", "type": "int64"},
    ])
}

fn one(format: &dyn MessageFormat, message: &Value) -> Result<String, String> {
    let text = message.to_string();
    let (lines, mut reasons) = read(format, &[Some(text.as_bytes())]);
    reasons.remove(0).map_or_else(|| Ok(lines[0].clone()), Err)
}

#[test]
fn rows_are_those_after_a_change_and_before_a_delete() {
    let format = format(json!({"format": "debezium"}), Some(&schema(fields())));
    assert_eq!(format.tombstones(), Tombstones::Skip);
    let row = |id: i64| json!({"id": id, "name": "x"});
    let good = [
        (
            json!({"before": null, "after": row(1), "op": "c", "ts_ms": 5, "source": {"ts_ms": 1000}}),
            r#"{"id":1,"name":"x","_op":"c","_source_ts":"1970-01-01T00:00:01Z"}"#,
        ),
        (
            json!({"before": row(1), "after": row(2), "op": "u", "ts_ms": 2000}),
            r#"{"id":2,"name":"x","_op":"u","_source_ts":"1970-01-01T00:00:02Z"}"#,
        ),
        (json!({"after": row(3), "op": "r"}), r#"{"id":3,"name":"x","_op":"r"}"#),
        (
            json!({"before": {"id": 4}, "after": null, "op": "d", "source": {}}),
            r#"{"id":4,"_op":"d"}"#,
        ),
        (
            json!({"schema": null, "payload": {"after": row(5), "op": "c"}}),
            r#"{"id":5,"name":"x","_op":"c"}"#,
        ),
    ];
    for (message, expected) in good {
        assert_eq!(one(format.as_ref(), &message).as_deref(), Ok(expected), "{message}");
    }
    let bad = [
        (json!({"op": "t"}), "a truncate"),
        (json!({"op": "m"}), "a message of the database"),
        (json!({"op": "x", "after": {"id": 1}}), "an unknown op"),
        (json!({"after": {"id": 1}}), "no `op`"),
        (json!({"id": 1}), "no `op`"),
        (json!({"op": "c", "before": {"id": 1}}), "without `after`"),
        (json!({"op": "d", "after": {"id": 1}}), "without `before`"),
        (json!({"op": "c", "after": {"name": "x"}}), "column after.id: required but empty"),
        (json!({"op": "c", "after": {"id": 1, "more": 2}}), "column after.more: not in the schema"),
        (json!({"op": "c", "after": 7}), "column after: not JSON"),
        (json!({"op": "c", "after": {"id": 1}, "ts_ms": "soon"}), "ts_ms: no number"),
        (json!({"op": "c", "after": {"id": 1, "at": 1000}}), "column after.at"),
        (json!([]), "not a JSON object"),
    ];
    for (message, reason) in bad {
        let found = one(format.as_ref(), &message).unwrap_err();
        assert!(found.contains(reason), "{message} {found}");
    }
}

#[test]
fn numbers_count_what_the_schema_says() {
    let format = format(json!({"format": "debezium"}), Some(&schema(fields())));
    let field = |name: &str, kind: &str, semantic: &str| json!({"field": name, "type": kind, "name": semantic});
    let decimal = json!({
        "field": "price", "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal",
        "parameters": {"scale": "2"},
    });
    let row = json!([
        {"field": "id", "type": "int64"},
        field("day", "int32", "io.debezium.time.Date"),
        field("at", "int64", "io.debezium.time.Timestamp"),
        field("fine", "int64", "io.debezium.time.MicroTimestamp"),
        field("zoned", "string", "io.debezium.time.ZonedTimestamp"),
        decimal,
        {"field": "raw", "type": "bytes"},
        field("count", "int64", "io.debezium.time.NanoTimestamp"),
    ]);
    let row = |name: &str| json!({"field": name, "type": "struct", "fields": row});
    let schema = json!({"type": "struct", "fields": [row("before"), row("after")]});
    let after = json!({
        "id": 1, "day": -1, "at": 1500, "fine": 1500, "zoned": "1970-01-01T01:00:00+01:00",
        // -1.50 is -150, which is FF6A.
        "price": "/2o=", "raw": "AQI=", "count": 7,
    });
    let message = json!({"schema": schema, "payload": {"after": after, "op": "c"}});
    let expected = r#"{"id":1,"day":"1969-12-31","at":"1970-01-01T00:00:01.500Z","fine":"1970-01-01T00:00:00.001500Z","zoned":"1970-01-01T00:00:00Z","price":-1.50,"raw":"0102","count":7,"_op":"c"}"#;
    // What one message says does not stay for the next.
    let bare = json!({"after": {"id": 2, "at": "2024-01-01T00:00:00Z", "price": "2.5"}, "op": "c"});
    let texts = [message.to_string(), bare.to_string(), message.to_string()];
    let messages: Vec<Option<&[u8]>> = texts.iter().map(|t| Some(t.as_bytes())).collect();
    let (lines, reasons) = read(format.as_ref(), &messages);
    assert_eq!(reasons, [None, None, None]);
    assert_eq!(lines[0], expected);
    assert_eq!(lines[1], r#"{"id":2,"at":"2024-01-01T00:00:00Z","price":2.50,"_op":"c"}"#);
    assert_eq!(lines[2], expected);
}

#[test]
fn numbers_count_what_the_settings_say_where_no_schema_does() {
    let settings = json!({"format": "debezium", "times": "micros"});
    let format = format(settings, Some(&schema(fields())));
    let after =
        json!({"id": 1, "day": 1, "at": 1500, "zoned": "1970-01-01T00:00:00Z", "price": "1.5"});
    let found = one(format.as_ref(), &json!({"after": after, "op": "u"}));
    let expected = r#"{"id":1,"day":"1970-01-02","at":"1970-01-01T00:00:00.001500Z","zoned":"1970-01-01T00:00:00Z","price":1.50,"_op":"u"}"#;
    assert_eq!(found.as_deref(), Ok(expected));
}
