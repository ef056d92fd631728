//! The bytes of one Avro body to columns.
//!
//! In: bytes, types, a plan. Out: values in the columns, or what is wrong. It trusts no length: what
//! is said to be there has to be, lists are no longer than their message, and records within
//! records end somewhere.

use serde_json::{Map, Value as Json};

use super::plan::{Plan, Step};
use super::schema::{Id, Logical, Node, Types};
use crate::format::json::{
    Column, Reading, Record, Rescued, Value, Wrong, to_base64, unscaled, written,
};

/// Values within each other at most: types may be inside themselves.
const DEPTH_MAX: u32 = 64;

/// Items without any bytes that a message may have.
const EMPTY_ITEMS_MAX: usize = 1024;

/// Bytes of the longest number.
const LONG_BYTES_MAX: usize = 10;

/// A place in a body.
#[derive(Debug)]
pub(in crate::message) struct Reader<'a> {
    types: &'a Types,
    bytes: &'a [u8],
    at: usize,
    depth: u32,
    items: usize,
}

impl<'a> Reader<'a> {
    /// At the beginning of `bytes`.
    pub(in crate::message) fn new(types: &'a Types, bytes: &'a [u8]) -> Self {
        Self { types, bytes, at: 0, depth: 0, items: 0 }
    }

    /// The bytes that were passed over or read so far.
    pub(in crate::message) fn at(&self) -> usize {
        self.at
    }

    /// The same at another place.
    pub(in crate::message) fn moved(&self, at: usize) -> Self {
        Self { types: self.types, bytes: self.bytes, at, depth: 0, items: 0 }
    }

    /// Goes into a value whose type is a union, or none. False when it is of another branch.
    pub(in crate::message) fn enters(&mut self, branch: Option<usize>) -> Result<bool, Wrong> {
        match branch {
            None => Ok(true),
            Some(branch) => Ok(usize::try_from(self.long()?) == Ok(branch)),
        }
    }

    /// Whether nothing is left.
    pub(in crate::message) fn end(&self) -> Result<(), Wrong> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(Wrong::new(format!("not of its schema: {left} bytes after the record"))),
        }
    }

    /// Reads a record as row `row`.
    pub(in crate::message) fn record(
        &mut self,
        steps: &[Step],
        row: usize,
        record: &mut Record,
        reading: &mut Reading,
    ) -> Result<(), Wrong> {
        self.deeper()?;
        for step in steps {
            let before = reading.rescued.len();
            let read = match &step.into {
                Some((place, plan)) => {
                    let column = record.column(*place);
                    let read = self.read(plan, step.id, column, reading);
                    Rescued::nest(&mut reading.rescued[before..], &step.name);
                    read
                }
                None if step.rescued => self.json(step.id).map(|value| {
                    let (path, value) = (step.name.clone(), value.to_string());
                    reading.rescued.push(Rescued { path, value, nested: false });
                }),
                None => self.skip(step.id),
            };
            read.map_err(|wrong| wrong.within(&step.name))?;
        }
        self.depth -= 1;
        record.fill(row)
    }

    /// Reads a value of type `id`.
    fn read(
        &mut self,
        plan: &Plan,
        id: Id,
        column: &mut Column,
        reading: &mut Reading,
    ) -> Result<(), Wrong> {
        match (plan, &self.types.get(id).node) {
            (Plan::Union(plans), Node::Union(branches)) => {
                let branch = self.branch(branches.len())?;
                self.read(&plans[branch], branches[branch], column, reading)
            }
            (Plan::Value, _) => match self.scalar(id)? {
                Some(Scalar::Value(value)) => column.put(value),
                Some(Scalar::Uuid(bytes)) => match column.put(Value::Bytes(bytes)) {
                    Ok(()) => Ok(()),
                    Err(_) => column.put(Value::Text(&dashed(bytes))),
                },
                None => column.put_null(),
            },
            (Plan::Json, _) => {
                let json = self.json(id)?.to_string();
                column.put(Value::Text(&json))
            }
            (Plan::Record(steps), _) => {
                let row = column.rows();
                if let Some(record) = column.fields_mut() {
                    self.record(steps, row, record, reading)?;
                }
                column.close();
                Ok(())
            }
            (Plan::List(plan), Node::Array(item)) => {
                let item = *item;
                if let Some(items) = column.items_mut() {
                    self.blocks(|reader| reader.read(plan, item, items, reading))?;
                }
                column.close();
                Ok(())
            }
            (Plan::Entries { key, value, plan }, Node::Map(id)) => {
                let id = *id;
                if let Some(items) = column.items_mut() {
                    self.blocks(|reader| {
                        let name = reader.text()?;
                        if let Some(fields) = items.fields_mut() {
                            fields.column(*key).put(Value::Text(name))?;
                            reader.read(plan, id, fields.column(*value), reading)?;
                        }
                        items.close();
                        Ok(())
                    })?;
                }
                column.close();
                Ok(())
            }
            _ => Err(Wrong::new("a branch of its type that the column cannot hold")),
        }
    }

    /// A value that has none inside; none for null.
    fn scalar(&mut self, id: Id) -> Result<Option<Scalar<'a>>, Wrong> {
        let types: &'a Types = self.types;
        let typed = types.get(id);
        let value = match (&typed.node, typed.logical) {
            (Node::Null, _) => return Ok(None),
            (Node::Bool, _) => match self.take(1)?[0] {
                byte @ (0 | 1) => Value::Bool(byte == 1),
                _ => return Err(broken("a truth value is neither 0 nor 1")),
            },
            (Node::Int, logical) => {
                let value = i32::try_from(self.long()?);
                let value = value.map_err(|_| broken("a number beyond its type"))?;
                timed(i64::from(value), logical)
            }
            (Node::Long, logical) => timed(self.long()?, logical),
            (Node::Float, _) => Value::Float(f32::from_le_bytes(self.array()?)),
            (Node::Double, _) => Value::Double(f64::from_le_bytes(self.array()?)),
            (Node::Text, _) => Value::Text(self.text()?),
            (Node::Bytes, logical) => decimal(self.sized()?, logical)?,
            (Node::Fixed(size), Logical::Uuid) => {
                return Ok(Some(Scalar::Uuid(self.take(*size)?)));
            }
            (Node::Fixed(size), logical) => decimal(self.take(*size)?, logical)?,
            (Node::Enum(symbols), _) => {
                let symbol = usize::try_from(self.long()?).ok().and_then(|at| symbols.get(at));
                Value::Text(symbol.ok_or_else(|| broken("no symbol of its enum"))?)
            }
            _ => return Err(broken("a value with others inside")),
        };
        Ok(Some(Scalar::Value(value)))
    }

    /// Passes over a value.
    pub(in crate::message) fn skip(&mut self, id: Id) -> Result<(), Wrong> {
        let types: &'a Types = self.types;
        match &types.get(id).node {
            Node::Record(fields) => {
                self.deeper()?;
                for (_, id) in fields {
                    self.skip(*id)?;
                }
                self.depth -= 1;
                Ok(())
            }
            Node::Array(item) => self.blocks(|reader| reader.skip(*item)),
            Node::Map(value) => self.blocks(|reader| {
                reader.sized()?;
                reader.skip(*value)
            }),
            Node::Union(branches) => {
                let branch = self.branch(branches.len())?;
                self.skip(branches[branch])
            }
            Node::Bytes | Node::Text => self.sized().map(|_| ()),
            Node::Fixed(size) => self.take(*size).map(|_| ()),
            _ => self.scalar(id).map(|_| ()),
        }
    }

    /// A value as JSON: bytes as base64, times as ISO 8601.
    pub(in crate::message) fn json(&mut self, id: Id) -> Result<Json, Wrong> {
        let types: &'a Types = self.types;
        Ok(match &types.get(id).node {
            Node::Record(fields) => {
                self.deeper()?;
                let mut object = Map::new();
                for (name, id) in fields {
                    object.insert(name.clone(), self.json(*id)?);
                }
                self.depth -= 1;
                Json::Object(object)
            }
            Node::Array(item) => {
                let mut list = Vec::new();
                self.blocks(|reader| reader.json(*item).map(|value| list.push(value)))?;
                Json::Array(list)
            }
            Node::Map(value) => {
                let mut object = Map::new();
                self.blocks(|reader| {
                    let name = reader.text()?.to_string();
                    let value = reader.json(*value)?;
                    object.insert(name, value);
                    Ok(())
                })?;
                Json::Object(object)
            }
            Node::Union(branches) => {
                let branch = self.branch(branches.len())?;
                self.json(branches[branch])?
            }
            _ => match self.scalar(id)? {
                None => Json::Null,
                Some(Scalar::Uuid(bytes)) => Json::from(dashed(bytes)),
                Some(Scalar::Value(value)) => match value {
                    Value::Bool(value) => Json::from(value),
                    Value::Long(value) => Json::from(value),
                    Value::Float(value) => Json::from(value),
                    Value::Double(value) => Json::from(value),
                    Value::Bytes(bytes) => Json::from(to_base64(bytes)),
                    other => Json::from(written(other)),
                },
            },
        })
    }

    /// Goes through the blocks of a list or a map.
    fn blocks(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        self.deeper()?;
        loop {
            let mut count = self.long()?;
            if count == 0 {
                self.depth -= 1;
                return Ok(());
            }
            if count < 0 {
                // The bytes of the block follow, for those who pass over it.
                count = count.checked_neg().unwrap_or(i64::MAX);
                self.long()?;
            }
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            self.items = self.items.saturating_add(count);
            if self.items > self.bytes.len() + EMPTY_ITEMS_MAX {
                return Err(broken("a list longer than its message"));
            }
            for _ in 0..count {
                each(self)?;
            }
        }
    }

    fn deeper(&mut self) -> Result<(), Wrong> {
        self.depth += 1;
        match self.depth > DEPTH_MAX {
            true => Err(broken("values nest too deep")),
            false => Ok(()),
        }
    }

    fn branch(&mut self, branches: usize) -> Result<usize, Wrong> {
        let branch = usize::try_from(self.long()?).ok().filter(|branch| *branch < branches);
        branch.ok_or_else(|| broken("no branch of its union"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        let bytes: &'a [u8] = self.bytes;
        let taken = self.at.checked_add(count).and_then(|end| bytes.get(self.at..end));
        self.at += taken.map_or(0, <[u8]>::len);
        taken.ok_or_else(|| broken("the message ends inside a value"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        self.take(N)?.try_into().map_err(|_| broken("the message ends inside a value"))
    }

    /// A zigzag number of variable length.
    fn long(&mut self) -> Result<i64, Wrong> {
        let mut value = 0_u64;
        for i in 0..LONG_BYTES_MAX {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F) << (7 * i as u32);
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(broken("a number without end"))
    }

    fn sized(&mut self) -> Result<&'a [u8], Wrong> {
        let length = usize::try_from(self.long()?);
        self.take(length.map_err(|_| broken("a negative length"))?)
    }

    fn text(&mut self) -> Result<&'a str, Wrong> {
        std::str::from_utf8(self.sized()?).map_err(|_| broken("text that is no UTF-8"))
    }
}

/// A value that has none inside.
enum Scalar<'a> {
    Value(Value<'a>),
    /// Bytes that are text with dashes to people.
    Uuid(&'a [u8]),
}

fn timed(value: i64, logical: Logical) -> Value<'static> {
    match logical {
        Logical::Days => Value::Days(value),
        Logical::Time(unit) => Value::Time(value, unit),
        _ => Value::Long(value),
    }
}

fn decimal(bytes: &[u8], logical: Logical) -> Result<Value<'_>, Wrong> {
    match logical {
        Logical::Decimal(scale) => {
            let value = if bytes.is_empty() { Some(0) } else { unscaled(bytes) };
            let value = value.ok_or_else(|| broken("a decimal of more than 128 bits"))?;
            Ok(Value::Decimal(value, scale))
        }
        _ => Ok(Value::Bytes(bytes)),
    }
}

fn dashed(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn broken(what: &str) -> Wrong {
    Wrong::new(format!("not of its schema: {what}"))
}
