//! What the body of a delivery says, row by row.
//!
//! In: bytes, their content type, and what a job file says they are. Out: the JSON of each row; or
//! why the body is none of the kind. Every row is JSON from here on; whether it fits the source's
//! columns is found out when it is decoded. `pick` finds a value in a row, `challenge` the question
//! of a sender that wants to hear a word.

pub(super) mod challenge;
pub(super) mod pick;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::format::json::Cursor;

/// Rows of one delivery: as many as a batch has. A sender of more may as well send a file.
const ROWS_MAX: usize = 65_536;

/// The field of a form that some senders put a whole JSON object into.
const PAYLOAD: &str = "payload";

/// A mark that some systems put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What bodies are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// As their content type says.
    #[default]
    Auto,
    /// One JSON object, or a list of them.
    Json,
    /// One JSON object per line.
    JsonLines,
    /// Fields of a form, which become the fields of one object.
    Form,
}

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Its content type is none that is read.
    Unknown(String),
    /// It is none of its kind.
    Malformed(String),
    /// It has more rows than one delivery may have.
    TooMany,
}

/// The rows of `body`, of which nothing is copied where it is JSON.
pub(super) fn rows(
    format: Format,
    content_type: Option<&str>,
    body: &Bytes,
) -> Result<Vec<Bytes>, Unfit> {
    let text = body.slice(usize::from(body.starts_with(BYTE_ORDER_MARK)) * BYTE_ORDER_MARK.len()..);
    let rows = match kind(format, content_type, &text)? {
        Format::JsonLines => lines(&text)?,
        Format::Form => vec![form(&text)?],
        Format::Json | Format::Auto => json(&text)?,
    };
    if rows.len() > ROWS_MAX { Err(Unfit::TooMany) } else { Ok(rows) }
}

fn kind(format: Format, content_type: Option<&str>, body: &[u8]) -> Result<Format, Unfit> {
    if format != Format::Auto {
        return Ok(format);
    }
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let media = media.to_ascii_lowercase();
    match media.as_str() {
        "application/json" | "text/json" => Ok(Format::Json),
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines"
        | "application/jsonlines"
        | "application/json-lines" => Ok(Format::JsonLines),
        "application/x-www-form-urlencoded" => Ok(Format::Form),
        // Senders that give it no type, or that of any text.
        "" | "text/plain" if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) => {
            Ok(Format::Json)
        }
        other if other.ends_with("+json") => Ok(Format::Json),
        _ => Err(Unfit::Unknown(media)),
    }
}

/// A place before the value that `text` begins with.
fn cursor(text: &[u8]) -> Result<Cursor<'_>, Unfit> {
    match std::str::from_utf8(text) {
        Ok(_) => Ok(Cursor::new(text)),
        Err(_) => Err(Unfit::Malformed("not valid UTF-8".into())),
    }
}

fn json(text: &Bytes) -> Result<Vec<Bytes>, Unfit> {
    let mut cursor = cursor(text)?;
    let mut rows = Vec::new();
    match cursor.peek() {
        Some(b'{') => rows.push(text.slice_ref(cursor.raw().map_err(malformed)?)),
        Some(b'[') => {
            cursor.expect(b'[').map_err(malformed)?;
            while !(rows.is_empty() && cursor.peek() == Some(b']')) {
                rows.push(text.slice_ref(cursor.raw().map_err(malformed)?));
                if !cursor.take(b',') {
                    break;
                }
            }
            cursor.expect(b']').map_err(malformed)?;
        }
        _ => return Err(Unfit::Malformed("neither a JSON object nor a list".into())),
    }
    cursor.end().map_err(malformed)?;
    Ok(rows)
}

fn malformed(wrong: crate::format::json::Wrong) -> Unfit {
    Unfit::Malformed(wrong.reason())
}

fn lines(text: &Bytes) -> Result<Vec<Bytes>, Unfit> {
    let mut rows = Vec::new();
    for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        if line.is_empty() {
            continue;
        }
        let mut cursor = cursor(line)?;
        if cursor.peek() != Some(b'{') {
            return Err(Unfit::Malformed("a line is no JSON object".into()));
        }
        cursor.raw().and_then(|_| cursor.end()).map_err(malformed)?;
        rows.push(text.slice_ref(line));
    }
    match rows.is_empty() {
        true => Err(Unfit::Malformed("no line".into())),
        false => Ok(rows),
    }
}

/// Fields as an object of texts; of one that comes several times, a list.
fn form(text: &Bytes) -> Result<Bytes, Unfit> {
    let mut fields: Map<String, Value> = Map::new();
    for (name, value) in form_urlencoded::parse(text) {
        let value = Value::String(value.into_owned());
        match fields.get_mut(name.as_ref()) {
            None => {
                fields.insert(name.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    if let (1, Some(Value::String(payload))) = (fields.len(), fields.get(PAYLOAD))
        && payload.trim_start().starts_with('{')
    {
        let payload = Bytes::from(payload.clone());
        return json(&payload).map(|mut rows| rows.swap_remove(0));
    }
    if fields.is_empty() {
        return Err(Unfit::Malformed("a form without fields".into()));
    }
    Ok(Bytes::from(Value::Object(fields).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Format, content_type: &str, body: &[u8]) -> Result<Vec<String>, Unfit> {
        let rows = rows(format, Some(content_type), &Bytes::copy_from_slice(body))?;
        Ok(rows.iter().map(|row| String::from_utf8(row.to_vec()).unwrap()).collect())
    }

    #[test]
    fn bodies_are_what_their_type_says() {
        let cases: [(&str, &str, &[&str]); 12] = [
            ("application/json", "{\"a\": 1}", &["{\"a\": 1}"]),
            (
                "application/json; charset=utf-8",
                " [{\"a\":1} , {\"a\":[2]}]\n",
                &["{\"a\":1}", "{\"a\":[2]}"],
            ),
            ("application/json", "[]", &[]),
            ("application/json", "[1, {}]", &["1", "{}"]),
            ("application/cloudevents+json", "\u{feff}{}", &["{}"]),
            ("Text/Plain", "{}", &["{}"]),
            ("", "[{}]", &["{}"]),
            ("application/x-ndjson", "{\"a\":1}\r\n\n {\"a\":2}", &["{\"a\":1}", "{\"a\":2}"]),
            (
                "application/x-www-form-urlencoded",
                "a=1&b=x+y%21",
                &["{\"a\":\"1\",\"b\":\"x y!\"}"],
            ),
            ("application/x-www-form-urlencoded", "a=1&a=2&a=3", &["{\"a\":[\"1\",\"2\",\"3\"]}"]),
            ("application/x-www-form-urlencoded", "payload=%7B%22a%22%3A1%7D", &["{\"a\":1}"]),
            ("application/x-www-form-urlencoded", "payload=x", &["{\"payload\":\"x\"}"]),
        ];
        for (content_type, body, expected) in cases {
            let found = read(Format::Auto, content_type, body.as_bytes());
            assert_eq!(found.unwrap(), expected, "{content_type} {body}");
        }
        assert_eq!(read(Format::Json, "text/xml", b"{}").unwrap(), ["{}"]);
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_is_refused() {
        let json = "application/json";
        let malformed: [(&str, &[u8]); 14] = [
            (json, b""),
            (json, b"  "),
            (json, b"5"),
            (json, b"{\"a\": 1"),
            (json, b"{\"a\": \"x"),
            (json, b"[{\"a\": 1}"),
            (json, b"[{\"a\": 1},"),
            (json, b"[{},]"),
            (json, b"[,]"),
            (json, b"{} {}"),
            (json, b"{\"a\": \"\xFF\"}"),
            ("application/x-ndjson", b"{}\n{\"a\""),
            ("application/x-ndjson", b"\n\n"),
            ("application/x-www-form-urlencoded", b""),
        ];
        for (content_type, body) in malformed {
            let found = read(Format::Auto, content_type, body);
            let shown = String::from_utf8_lossy(body);
            assert!(matches!(found, Err(Unfit::Malformed(_))), "{shown} {found:?}");
        }
        for content_type in ["text/xml", "multipart/form-data; boundary=x", "text/plain", ""] {
            let found = read(Format::Auto, content_type, b"<a/>");
            assert!(matches!(found, Err(Unfit::Unknown(_))), "{content_type} {found:?}");
        }
        let many = format!("[{}{{}}]", "{},".repeat(ROWS_MAX));
        assert_eq!(read(Format::Auto, json, many.as_bytes()), Err(Unfit::TooMany));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic_and_rows_are_json() {
        let kinds = [Format::Auto, Format::Json, Format::JsonLines, Format::Form];
        bolero::check!().with_iterations(10_000).with_max_len(60).for_each(|bytes: &[u8]| {
            let wrapped = [b"[{\"a\":".as_slice(), bytes, b"}]"].concat();
            for body in [Bytes::copy_from_slice(bytes), Bytes::from(wrapped)] {
                for format in kinds {
                    for row in rows(format, None, &body).unwrap_or_default() {
                        let value: Result<Value, _> = serde_json::from_slice(&row);
                        // What is beyond a float's range is a number all the same.
                        let known = |e: &serde_json::Error| e.to_string().contains("out of range");
                        assert!(value.as_ref().err().is_none_or(known), "{row:?} {value:?}");
                    }
                }
            }
        });
    }
}
