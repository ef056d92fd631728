//! Any bytes are a job or a list of problems, and a tree is what a slow reader makes of the text.

use std::borrow::Cow;

use saphyr::{Scalar, ScalarStyle};
use saphyr_parser::{Event, Parser};
use serde_json::{Map, Number, Value};

use super::*;
use crate::job::read::Document;

/// Lines of job files, right and wrong, that are put together at random.
const LINES: [&str; 40] = [
    "job: shop",
    "lake: ./lake",
    "vars: {lake: ./lake, rows: 100}",
    "targets: {dev: {default: true}, prod: {vars: {lake: s3://a}}}",
    "secrets: {token: {env: TOKEN}}",
    "sources:",
    "  orders: {connector: generate, rows: 5, columns: {id: {}, amount: {}}}",
    "  sales:",
    "    connector: files",
    "    path: \"${vars.lake}/*.csv\"",
    "    path: [a, b]",
    "    schema: {fields: [{name: id, type: int64}]}",
    "    schema: {fields: [{name: x, type: list(struct), fields: [{name: y, type: struct}]}]}",
    "tables:",
    "  facts: {sql: SELECT id FROM orders}",
    "  facts:",
    "    sql: |",
    "      SELECT id, ${vars.rows} FROM orders",
    "    key: [id]",
    "    partition_by: [day]",
    "    expect: {p: {that: id > 0, else: drop, fail_above: 5%}}",
    "views:",
    "  v: {sql: SELECT count(*) AS n FROM facts}",
    "sinks:",
    "  out: {connector: files, from: v, path: ./out}",
    "epoch: {every: 5s, rows: 10}",
    "schedule: {cron: \"*/5 * * * *\"}",
    "tests: [{name: t, given: {orders: []}, expect: {facts: []}}]",
    "---",
    "&a *a",
    "!!map {}",
    "? x",
    "- ",
    "  \t",
    "{",
    "]",
    "\"",
    "'",
    ": :",
    "\u{0}é\u{feff}",
];

/// Lines chosen by `choices`; a choice that is none is bytes of its own.
fn text(choices: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for choice in choices {
        match LINES.get(usize::from(*choice) % 64) {
            Some(line) => text.extend_from_slice(line.as_bytes()),
            None => text.extend([*choice, b' ', *choice / 2]),
        }
        text.push(b'\n');
    }
    text
}

/// What the slow reader makes of a text.
#[derive(Debug, PartialEq)]
enum Slowly {
    /// Nothing is wrong with it.
    Right(Value),
    /// Something has to be told.
    Wrong,
    /// It has tags, anchors or keys without text, of which the parser's events say too little.
    Unclear,
}

/// Reads job files one event after another, and keeps no places.
struct Slow<'a> {
    events: std::vec::IntoIter<Event<'a>>,
}

fn slowly(text: &str) -> Slowly {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let events: Result<Vec<Event<'_>>, _> =
        Parser::new_from_str(&text).map(|event| event.map(|(event, _)| event)).collect();
    let Ok(events) = events else { return Slowly::Wrong };
    let starts = events.iter().filter(|e| matches!(e, Event::DocumentStart(_))).count();
    if starts != 1 {
        return Slowly::Wrong;
    }
    let mut slow = Slow { events: events.into_iter() };
    slow.events.find(|event| matches!(event, Event::DocumentStart(_)));
    let Some(first) = slow.events.next() else { return Slowly::Wrong };
    match slow.value(first) {
        Ok(value) if value.is_object() => Slowly::Right(value),
        Ok(_) => Slowly::Wrong,
        Err(end) => end,
    }
}

impl<'a> Slow<'a> {
    fn value(&mut self, event: Event<'a>) -> Result<Value, Slowly> {
        match event {
            Event::Scalar(text, style, 0, None) => Ok(scalar(&text, style)),
            Event::SequenceStart(0, None) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Ok(Value::Array(items)),
                        event => items.push(self.value(event)?),
                    }
                }
            }
            Event::MappingStart(0, None) => {
                let mut map = Map::new();
                loop {
                    let key = match self.next()? {
                        Event::MappingEnd => return Ok(Value::Object(map)),
                        Event::Scalar(key, style, 0, None) => match &*key == "~" {
                            true if style == ScalarStyle::Plain => return Err(Slowly::Unclear),
                            _ => key.to_string(),
                        },
                        Event::MappingStart(0, None) | Event::SequenceStart(0, None) => {
                            return Err(Slowly::Wrong);
                        }
                        _ => return Err(Slowly::Unclear),
                    };
                    let event = self.next()?;
                    let value = self.value(event)?;
                    if map.insert(key, value).is_some() {
                        return Err(Slowly::Wrong);
                    }
                }
            }
            Event::Alias(_) => Err(Slowly::Wrong),
            _ => Err(Slowly::Unclear),
        }
    }

    fn next(&mut self) -> Result<Event<'a>, Slowly> {
        self.events.next().ok_or(Slowly::Wrong)
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match Scalar::parse_from_cow_and_metadata(Cow::Borrowed(text), style, None) {
        Some(Scalar::Boolean(yes)) => Value::Bool(yes),
        Some(Scalar::Integer(number)) => Value::from(number),
        Some(Scalar::FloatingPoint(number)) => match Number::from_f64(number.0) {
            Some(number) => Value::Number(number),
            None => Value::String(number.0.to_string()),
        },
        Some(Scalar::String(text)) => Value::String(text.to_string()),
        Some(Scalar::Null) | None => Value::Null,
    }
}

/// Holds the tree of a text against what the slow reader makes of it; true where it is right.
fn same(text: &str) -> bool {
    let mut problems = Problems::default();
    let read = Document::parse(Path::new("job.yaml"), text, &mut problems);
    match slowly(text) {
        Slowly::Right(value) => {
            assert!(problems.is_empty(), "{text:?}: {problems:?}");
            assert_eq!(read.map(|document| document.value), Some(value), "{text:?}");
            true
        }
        Slowly::Wrong => {
            assert!(!problems.is_empty(), "{text:?}");
            false
        }
        Slowly::Unclear => false,
    }
}

fn reads(name: &str, bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        same(text);
    }
    let root = folder(name, &[]);
    fs::create_dir_all(&root).unwrap();
    let file = root.join("job.yaml");
    fs::write(&file, bytes).unwrap();
    if let Err(problems) = load(&file, &LoadOptions::default(), &registry()) {
        assert!(!problems.is_empty(), "{:?}", String::from_utf8_lossy(bytes));
    }
    let _ = fs::remove_dir_all(&root);
}

#[test]
fn any_lines_are_a_job_or_problems() {
    bolero::check!()
        .with_iterations(300)
        .with_max_len(24)
        .for_each(|choices: &[u8]| reads("fuzz-lines", &text(choices)));
}

#[test]
fn trees_are_what_a_slow_reader_reads() {
    let right = std::sync::atomic::AtomicUsize::new(0);
    bolero::check!().with_iterations(5_000).with_max_len(6).for_each(|choices: &[u8]| {
        if std::str::from_utf8(&text(choices)).is_ok_and(same) {
            right.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    assert!(same(WHOLE));
    let right = right.into_inner();
    assert!(right > 50, "only {right} texts were right");
}

#[test]
fn any_bytes_are_a_job_or_problems() {
    bolero::check!()
        .with_iterations(300)
        .with_max_len(200)
        .for_each(|bytes: &[u8]| reads("fuzz-bytes", bytes));
}

#[test]
fn a_job_with_any_byte_changed_is_a_job_or_problems() {
    bolero::check!().with_iterations(300).with_max_len(8).for_each(|changes: &[u8]| {
        let mut bytes = WHOLE.as_bytes().to_vec();
        for change in changes.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            bytes[at] = change[2];
        }
        reads("fuzz-changed", &bytes);
    });
}
