//! Envelopes of JSON.
//!
//! In: a message. Out: its row. What stands in an envelope is found without reading it; only the
//! row itself is. Where a schema comes along it says what numbers count and which texts are
//! decimals; it is the same in most messages of a topic, and read again only when it is another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::DataType;
use serde_json::Value as Json;

use super::{Op, no_row};
use crate::format::json::{Cursor, Meaning, Reading, Record, Unit, Wrong};
use crate::format::value;
use crate::message::connect;
use crate::message::json::object;
use crate::message::rows::{Body, Change};

/// Change events of JSON.
#[derive(Debug)]
pub(in crate::message) struct Changes {
    /// What numbers count where no schema says it.
    times: Option<Unit>,
    /// The last schema that came along, and what it says.
    last: Mutex<Option<(Vec<u8>, Arc<Meanings>)>>,
}

/// The number of what is meant where no schema comes along.
const UNSAID: u64 = 1;

/// What the fields of a row stand for.
#[derive(Debug)]
struct Meanings {
    /// Another number for another schema.
    said: u64,
    /// By name.
    fields: HashMap<String, Meaning>,
}

/// Places in an envelope; each as it stands, the last of its name.
#[derive(Debug, Default)]
struct Parts<'a> {
    schema: Option<&'a [u8]>,
    payload: Option<&'a [u8]>,
    before: Option<&'a [u8]>,
    after: Option<&'a [u8]>,
    op: Option<&'a [u8]>,
    ts_ms: Option<&'a [u8]>,
    source: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Wrong> {
        let mut parts = Self::default();
        members(cursor, |name, raw| {
            let part = match name {
                b"schema" => &mut parts.schema,
                b"payload" => &mut parts.payload,
                b"before" => &mut parts.before,
                b"after" => &mut parts.after,
                b"op" => &mut parts.op,
                b"ts_ms" => &mut parts.ts_ms,
                b"source" => &mut parts.source,
                _ => return,
            };
            *part = Some(raw).filter(|raw| *raw != b"null");
        })?;
        Ok(parts)
    }
}

/// Goes through the members of the object that comes next.
fn members<'a>(
    cursor: &mut Cursor<'a>,
    mut each: impl FnMut(&[u8], &'a [u8]),
) -> Result<(), Wrong> {
    let mut key = Vec::new();
    cursor.expect(b'{')?;
    let mut more = !cursor.take(b'}');
    while more {
        let name = cursor.string(&mut key)?;
        cursor.expect(b':')?;
        let raw = cursor.raw()?;
        each(name, raw);
        more = cursor.take(b',');
        if !more {
            cursor.expect(b'}')?;
        }
    }
    Ok(())
}

impl Changes {
    /// With what numbers of time count where nothing says it.
    pub(in crate::message) fn new(times: Option<Unit>) -> Self {
        Self { times, last: Mutex::default() }
    }

    /// What the fields of rows stand for, as a schema says it.
    fn meanings(&self, schema: &[u8]) -> Result<Arc<Meanings>, Wrong> {
        // What is behind it is right between any two steps.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = UNSAID + 1;
        if let Some((text, meanings)) = last.as_ref() {
            if text == schema {
                return Ok(meanings.clone());
            }
            said = meanings.said + 1;
        }
        let parsed: Json = serde_json::from_slice(schema)
            .map_err(|e| Wrong::new(format!("not JSON: {e}")).within("schema"))?;
        let meanings = Arc::new(Meanings { said, fields: meanings(&parsed) });
        *last = Some((schema.to_vec(), meanings.clone()));
        Ok(meanings)
    }
}

impl Body for Changes {
    fn read(
        &self,
        message: &[u8],
        row: usize,
        record: &mut Record,
        reading: &mut Reading,
    ) -> Result<Option<Change>, Wrong> {
        let mut cursor = object(message)?;
        let mut parts = Parts::read(&mut cursor)?;
        cursor.end()?;
        let mut schema = None;
        if let Some(payload) = parts.payload
            && parts.op.is_none()
        {
            schema = parts.schema;
            parts = Parts::read(&mut Cursor::new(payload)).map_err(|w| w.within("payload"))?;
        }
        let Some(op) = parts.op else {
            return Err(Wrong::new("no change event: there is no `op` in it"));
        };
        let quoted = op.strip_prefix(b"\"").and_then(|op| op.strip_suffix(b"\""));
        let op = Op::parse(quoted.unwrap_or(op))?;
        let at_ms = match source_time(parts.source)? {
            Some(at) => Some(at),
            None => parts.ts_ms.map(time).transpose()?,
        };
        let found = match op {
            Op::Delete => parts.before,
            _ => parts.after,
        };
        let found = found.ok_or_else(|| no_row(op))?;
        let meanings = schema.map(|schema| self.meanings(schema)).transpose()?;
        let said = meanings.as_ref().map_or(UNSAID, |meanings| meanings.said);
        record.mean(said, |column| match &meanings {
            Some(meanings) => meanings.fields.get(column.origin()).copied().unwrap_or_default(),
            None => match (self.times, column.data_type()) {
                (Some(unit), DataType::Timestamp(_, _)) => Meaning::Number(unit),
                (_, DataType::Date32) => Meaning::NumberOfDays,
                _ => Meaning::Itself,
            },
        });
        let mut cursor = Cursor::new(found);
        record.read(row, &mut cursor, reading).map_err(|wrong| wrong.within(op.row()))?;
        op.change(at_ms).map(Some)
    }
}

/// When the database made the change.
fn source_time(source: Option<&[u8]>) -> Result<Option<i64>, Wrong> {
    let Some(source) = source.filter(|source| source.starts_with(b"{")) else { return Ok(None) };
    let mut found = None;
    members(&mut Cursor::new(source), |name, raw| {
        if name == b"ts_ms" {
            found = Some(raw).filter(|raw| *raw != b"null");
        }
    })?;
    found.map(time).transpose()
}

fn time(raw: &[u8]) -> Result<i64, Wrong> {
    value::integer(raw).ok_or_else(|| Wrong::new("no number").within("ts_ms"))
}

/// What an envelope's schema says of the fields of `after`, which are those of `before`.
fn meanings(schema: &Json) -> HashMap<String, Meaning> {
    let fields = |of: &Json| of.get("fields").and_then(Json::as_array).cloned().unwrap_or_default();
    let text = |of: &Json, key: &str| of.get(key).and_then(Json::as_str).map(str::to_string);
    let envelope = fields(schema);
    let after = envelope.iter().find(|f| text(f, "field").as_deref() == Some("after"));
    let mut meanings = HashMap::new();
    for field in after.map(fields).unwrap_or_default() {
        let Some(name) = text(&field, "field") else { continue };
        let semantic = text(&field, "name").unwrap_or_default();
        let meaning = match (connect::meaning(&semantic), text(&field, "type").as_deref()) {
            (Some(meaning), _) => meaning,
            (None, Some("bytes")) if semantic == "org.apache.kafka.connect.data.Decimal" => {
                let scale = field.get("parameters").and_then(|p| text(p, "scale"));
                let scale = scale.and_then(|scale| scale.parse().ok());
                scale.map_or(Meaning::Bytes, Meaning::Decimal)
            }
            (None, Some("bytes")) => Meaning::Bytes,
            _ => continue,
        };
        meanings.insert(name, meaning);
    }
    meanings
}
