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
        Ok(Arc::new(Self { types, fields, before, after }))
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
        let branches = match &types.get(fields[place].1).node {
            Node::Union(branches) => branches.clone(),
            _ => vec![fields[place].1],
        };
        let is_union = matches!(types.get(fields[place].1).node, Node::Union(_));
        for (branch, id) in branches.iter().enumerate() {
            if let Node::Record(inner) = &types.get(*id).node {
                let steps = steps(types, inner, record, unknown)?;
                return Ok(Self { place, branch: is_union.then_some(branch), steps });
            }
        }
        Err(format!("`{name}` is no record"))
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
        let (mut op, mut own_ms, mut source_ms) = (None, None, None);
        for ((name, id), start) in self.fields.iter().zip(&starts) {
            match name.as_str() {
                "op" => op = reader.from(*start).json(*id)?.as_str().map(str::to_string),
                "ts_ms" => own_ms = reader.from(*start).json(*id)?.as_i64(),
                "source" => source_ms = reader.from(*start).json(*id)?["ts_ms"].as_i64(),
                _ => {}
            }
        }
        let op = Op::parse(op.unwrap_or_default().as_bytes())?;
        let part = match op {
            Op::Delete => &self.before,
            _ => &self.after,
        };
        let mut reader = reader.from(starts[part.place]);
        if !reader.enters(part.branch)? {
            return Err(no_row(op));
        }
        let read = reader.record(&part.steps, row, record, reading);
        read.map_err(|wrong| wrong.within(op.row()))?;
        op.change(source_ms.or(own_ms)).map(Some)
    }
}
