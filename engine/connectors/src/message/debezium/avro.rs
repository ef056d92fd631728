//! Envelopes of Avro.
//!
//! In: a body and its writer's schema. Out: its row. What was done comes behind the rows, so that
//! a body is passed over once, and then read where its row stands.

use std::sync::Arc;

use super::{Op, no_row};
use crate::format::json::{Reading, Record, Unknown, Wrong};
use crate::message::avro::{Node, Reader, Step, Types, is_avro, steps};
use crate::message::registry::Schema;
use crate::message::rows::{Body, Change, Columns};
/// Change events of one writer's schema.
#[derive(Debug)]
pub(in crate::message) struct Changes {
    types: Types,
    /// The types of the envelope's fields, in order.
    fields: Vec<(String, usize)>,
    before: Part,
    after: Part,
    /// Where the database's own time stands, if it does.
    source: Option<Time>,
}

/// A time in a record of an envelope.
#[derive(Debug)]
struct Time {
    place: usize,
    branch: Option<usize>,
    /// The types of the fields before it.
    before: Vec<usize>,
    id: usize,
}

/// A row in an envelope.
#[derive(Debug)]
struct Part {
    /// Its field's number in the envelope.
    place: usize,
    /// Which branch of the field's union it is; none when there is no union.
    branch: Option<usize>,
    steps: Vec<Step>,
}

impl Changes {
    /// Change events of a registered schema. Errors: why they cannot be read.
    pub(in crate::message) fn of_schema(
        schema: &Schema,
        columns: &Columns,
    ) -> Result<Arc<dyn Body>, String> {
        is_avro(schema)?;
        let types = Types::parse(&schema.text, &schema.references)?;
        let Node::Record(fields) = types.root().node.clone() else {
            return Err("it is not of a record".into());
        };
        if !fields.iter().any(|(name, _)| name == "op") {
            return Err("no change event: there is no `op` in it".into());
        }
        let part =
            |name: &str| Part::find(&types, &fields, name, columns.record(), columns.unknown());
        let (before, after) = (part("before")?, part("after")?);
        let source = Time::find(&types, &fields);
        Ok(Arc::new(Self { types, fields, before, after, source }))
    }
}

impl Part {
    fn find(
        types: &Types,
        fields: &[(String, usize)],
        name: &str,
        record: &Record,
        unknown: Unknown,
    ) -> Result<Self, String> {
        let place = fields.iter().position(|(field, _)| field == name);
        let place = place.ok_or_else(|| format!("no change event: there is no `{name}` in it"))?;
        let (branch, inner) =
            record_of(types, fields[place].1).ok_or_else(|| format!("`{name}` is no record"))?;
        Ok(Self { place, branch, steps: steps(types, inner, record, unknown)? })
    }
}

impl Time {
    fn find(types: &Types, fields: &[(String, usize)]) -> Option<Self> {
        let place = fields.iter().position(|(field, _)| field == "source")?;
        let (branch, inner) = record_of(types, fields[place].1)?;
        let at = inner.iter().position(|(field, _)| field == "ts_ms")?;
        let before = inner[..at].iter().map(|(_, id)| *id).collect();
        Some(Self { place, branch, before, id: inner[at].1 })
    }

    fn read(&self, mut reader: Reader<'_>) -> Result<Option<i64>, Wrong> {
        if !reader.enters(self.branch)? {
            return Ok(None);
        }
        for id in &self.before {
            reader.skip(*id)?;
        }
        Ok(reader.json(self.id)?.as_i64())
    }
}

/// The names and types of a record's fields.
type Fields = [(String, usize)];

/// The fields of a record; and which branch it is where it stands in a union.
fn record_of(types: &Types, id: usize) -> Option<(Option<usize>, &Fields)> {
    match &types.get(id).node {
        Node::Record(fields) => Some((None, fields)),
        Node::Union(branches) => {
            branches.iter().enumerate().find_map(|(branch, id)| match &types.get(*id).node {
                Node::Record(fields) => Some((Some(branch), fields.as_slice())),
                _ => None,
            })
        }
        _ => None,
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
        let mut reader = Reader::new(&self.types, message);
        let mut starts = Vec::with_capacity(self.fields.len());
        for (name, id) in &self.fields {
            starts.push(reader.at());
            reader.skip(*id).map_err(|wrong| wrong.within(name))?;
        }
        reader.end()?;
        let (mut op, mut own_ms) = (None, None);
        for ((name, id), start) in self.fields.iter().zip(&starts) {
            match name.as_str() {
                "op" => op = reader.moved(*start).json(*id)?.as_str().map(str::to_string),
                "ts_ms" => own_ms = reader.moved(*start).json(*id)?.as_i64(),
                _ => {}
            }
        }
        let source_ms = match &self.source {
            Some(time) => time.read(reader.moved(starts[time.place]))?,
            None => None,
        };
        let op = Op::parse(op.unwrap_or_default().as_bytes())?;
        let part = match op {
            Op::Delete => &self.before,
            _ => &self.after,
        };
        let mut reader = reader.moved(starts[part.place]);
        if !reader.enters(part.branch)? {
            return Err(no_row(op));
        }
        let read = reader.record(&part.steps, row, record, reading);
        read.map_err(|wrong| wrong.within(op.row()))?;
        op.change(source_ms.or(own_ms)).map(Some)
    }
}
