//! A slow reader of JSON that is obviously right, and what must be the same through both.
//!
//! The slow one reads line by line with serde_json, and goes through floats: the numbers it is
//! given are small enough for that. Text columns are given text only, since serde_json forgets how
//! numbers were written.

use serde_json::{Map, Value, json};
use sluice_core::DataSchema;

use super::tests::{layout, read, schema};
use super::*;

/// What lines are made of: most of what comes out is nearly JSON, and some of it is.
const FRAGMENTS: [&str; 32] = [
    "{\"a\":",
    "{\"a\": 1}\n",
    "{\"b\":\"x\"}\n",
    "1",
    "-2",
    "1.5",
    "0.25e2",
    "12.0",
    "\"",
    "\"b\"",
    ":",
    ",",
    ",\"b\":",
    ",\"c\":{\"x\":",
    "{",
    "}",
    "}\n",
    "}}\n",
    "[",
    "]",
    "\n",
    "\r\n",
    "null",
    "true",
    "\\u00e9",
    "\\",
    "\"é\"",
    "\u{1}",
    "01",
    "\"d\":[1,",
    ",\"d\":[2,3]",
    "{\"c\":{\"y\":[\"p\",null]},",
];

fn text(choices: &[u8]) -> String {
    choices.iter().map(|choice| FRAGMENTS[usize::from(*choice) % FRAGMENTS.len()]).collect()
}

fn small() -> DataSchema {
    schema(json!([
        {"name": "a", "type": "int16"},
        {"name": "b", "type": "decimal(6, 2)"},
        {"name": "c", "type": "struct", "fields": [
            {"name": "x", "type": "float64"},
            {"name": "y", "type": "list(string)"},
        ]},
        {"name": "d", "type": "list(int8)"},
    ]))
}

/// What the value becomes; none when it is not of the type.
fn number(value: &Value, scale: i32, limit: f64) -> Option<Value> {
    let number = match value {
        Value::Null => return Some(Value::Null),
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => {
            let plain = text.strip_prefix('-').unwrap_or(text);
            let digits = plain.chars().all(|c| c.is_ascii_digit() || c == '.' || c == 'e');
            (digits && plain.starts_with(|c: char| c.is_ascii_digit())).then_some(())?;
            text.parse().ok()?
        }
        _ => return None,
    };
    let scaled = number * 10_f64.powi(scale);
    let whole = (scaled - scaled.round()).abs() < 1e-6 && scaled.round().abs() <= limit;
    whole.then(|| json!(number))
}

fn object(value: &Value, fields: &[(&str, Kind)]) -> Option<Value> {
    let Value::Object(members) = value else { return None };
    let mut out = Map::new();
    for (name, kind) in fields {
        let value = kind.read(members.get(*name).unwrap_or(&Value::Null))?;
        if !value.is_null() {
            out.insert(name.to_string(), value);
        }
    }
    Some(Value::Object(out))
}

enum Kind {
    Int(f64),
    Cents,
    Float,
    Text,
    List(Box<Kind>),
    Struct(Vec<(&'static str, Kind)>),
}

impl Kind {
    fn read(&self, value: &Value) -> Option<Value> {
        match self {
            _ if value.is_null() => Some(Value::Null),
            Kind::Int(limit) => number(value, 0, *limit),
            Kind::Cents => number(value, 2, 999_999.0),
            Kind::Float => number(value, 6, f64::MAX),
            Kind::Text => match value {
                Value::String(_) => Some(value.clone()),
                other => Some(Value::String(other.to_string())),
            },
            Kind::List(kind) => {
                let Value::Array(items) = value else { return None };
                items
                    .iter()
                    .map(|item| kind.read(item))
                    .collect::<Option<Vec<_>>>()
                    .map(Value::Array)
            }
            Kind::Struct(fields) => object(value, fields),
        }
    }
}

fn slowly(text: &str) -> (Vec<Value>, usize) {
    let inner = vec![("x", Kind::Float), ("y", Kind::List(Box::new(Kind::Text)))];
    let fields = [
        ("a", Kind::Int(32767.0)),
        ("b", Kind::Cents),
        ("c", Kind::Struct(inner)),
        ("d", Kind::List(Box::new(Kind::Int(127.0)))),
    ];
    let (mut rows, mut bad) = (Vec::new(), 0);
    for line in text.split('\n').filter(|line| !line.trim_ascii().is_empty()) {
        let value = serde_json::from_str::<Value>(line).ok();
        match value.and_then(|value| object(&value, &fields)) {
            Some(row) => rows.push(row),
            None => bad += 1,
        }
    }
    (rows, bad)
}

/// Numbers compared as numbers: `1.50` is 1.5.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        Value::Object(members) => members.into_iter().map(|(k, v)| (k, plain(v))).collect(),
        other => other,
    }
}

/// serde_json refuses numbers past the largest float wherever they stand.
fn huge(text: &str) -> bool {
    let digits = |rest: &str| rest.bytes().take_while(u8::is_ascii_digit).count();
    text.split("e2").skip(1).any(|rest| digits(rest) > 1)
}

#[test]
fn it_reads_what_a_slow_reader_reads() {
    let layout = layout(&small(), Unknown::Ignore);
    let good = std::sync::atomic::AtomicUsize::new(0);
    bolero::check!().with_iterations(20_000).with_max_len(40).for_each(|choices: &[u8]| {
        let text = text(choices);
        if huge(&text) {
            return;
        }
        let found = read(&layout, false, text.as_bytes(), 1 << 20);
        let (rows, bad) = slowly(&text);
        let lines = found.lines();
        let lines: Vec<Value> =
            lines.iter().map(|line| plain(serde_json::from_str(line).unwrap())).collect();
        assert_eq!(lines, rows.into_iter().map(plain).collect::<Vec<_>>(), "{text:?}");
        assert_eq!(found.rejected.len(), bad, "{text:?} {:?}", found.reasons());
        good.fetch_add(lines.len(), std::sync::atomic::Ordering::Relaxed);
    });
    let good = good.into_inner();
    assert!(good > 1000, "only {good} good rows were compared");
}

#[test]
fn pieces_of_any_size_give_the_same_rows() {
    let layout = layout(&small(), Unknown::Rescue);
    bolero::check!().with_iterations(5_000).with_max_len(40).for_each(|choices: &[u8]| {
        let Some((piece, choices)) = choices.split_first() else { return };
        let text = text(choices);
        for list in [false, true] {
            let whole = read(&layout, list, text.as_bytes(), 1 << 20);
            let again = read(&layout, list, text.as_bytes(), 1 + usize::from(*piece % 30));
            assert_eq!(again.rows, whole.rows, "{text:?}");
            assert_eq!(again.rejected, whole.rejected, "{text:?}");
        }
    });
}

#[test]
fn no_bytes_make_it_panic_or_lose_a_line() {
    let layout = layout(&small(), Unknown::Ignore);
    bolero::check!().with_iterations(5_000).with_max_len(200).for_each(|bytes: &[u8]| {
        let found = read(&layout, false, bytes, 16);
        let lines = bytes.split(|b| *b == b'\n');
        let blank = |line: &&[u8]| line.iter().all(|b| b" \t\r".contains(b));
        let lines = lines.filter(|line| !blank(line)).count();
        assert_eq!(found.rows.num_rows() + found.rejected.len(), lines);
        read(&layout, true, bytes, 16);
    });
}
