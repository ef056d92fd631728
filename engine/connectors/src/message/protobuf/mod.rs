//! Messages of Protocol Buffers.
//!
//! In: `.proto` text, from a registry or in place, and the columns wanted. Out: who reads such
//! messages. Fields become columns by their names; enums are their names, the well-known types what
//! they stand for. The way is `compile` (text to descriptors) → `read` (a message to columns).

mod compile;
mod read;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use prost_reflect::{DynamicMessage, MessageDescriptor};
use sluice_core::{Error, Result};

use super::config::Proto;
use super::registry::{Schema, SchemaType};
use super::rows::{Body, Change, Columns};
use crate::format::json::{Reading, Record, Unknown, Wrong};

/// Numbers in the path to a message type: types within types.
const PATH_MAX: i64 = 32;

/// Messages of one type.
#[derive(Debug)]
pub(super) struct Protobuf {
    message: MessageDescriptor,
    rescues: bool,
}

impl Protobuf {
    /// Messages of the type that the settings name. Reads the file they name. Errors: `Config`.
    pub(super) fn of_config(proto: &Proto, columns: &Columns) -> Result<Self> {
        let wrong = |what: String| {
            Error::config(format!("messages of `proto` cannot be read: {what}"))
                .hint("check the text, `message`, and the fields of the schema")
        };
        let file = compile::of_config(proto).map_err(wrong)?;
        let message = match &proto.message {
            None => file.messages().next().ok_or_else(|| wrong("no message in it".into()))?,
            Some(name) => {
                let found = file.parent_pool().get_message_by_name(name);
                found.ok_or_else(|| wrong(format!("no such message message={name}")))?
            }
        };
        Self::new(message, columns).map_err(wrong)
    }

    fn new(message: MessageDescriptor, columns: &Columns) -> Result<Self, String> {
        if columns.unknown() == Unknown::Fail {
            read::check(&message, columns.record())?;
        }
        Ok(Self { message, rescues: columns.unknown().is_rescued() })
    }
}

impl Body for Protobuf {
    fn read(
        &self,
        message: &[u8],
        row: usize,
        record: &mut Record,
        reading: &mut Reading,
    ) -> Result<Option<Change>, Wrong> {
        let read = DynamicMessage::decode(self.message.clone(), message);
        let read = read.map_err(|e| Wrong::new(format!("not of its schema: {e}")))?;
        read::message(&read, row, record, self.rescues.then_some(reading))?;
        Ok(None)
    }
}

/// Messages of any of the types in a registered file; which of them, they say themselves.
#[derive(Debug)]
pub(super) struct OfFile {
    messages: HashMap<Vec<i64>, Result<Protobuf, String>>,
}

impl OfFile {
    /// Messages of a registered schema. Errors: why they cannot be read.
    pub(super) fn of_schema(schema: &Schema, columns: &Columns) -> Result<Arc<dyn Body>, String> {
        if schema.schema_type != SchemaType::Protobuf {
            return Err(format!("it is of type {}, not PROTOBUF", schema.schema_type.name()));
        }
        let file = compile::of_texts(&schema.text, &schema.references)?;
        let mut messages = HashMap::new();
        for (number, message) in (0..).zip(file.messages()) {
            add(&mut messages, vec![number], message, columns);
        }
        Ok(Arc::new(Self { messages }))
    }
}

/// Adds a message type and those within it.
fn add(
    messages: &mut HashMap<Vec<i64>, Result<Protobuf, String>>,
    path: Vec<i64>,
    message: MessageDescriptor,
    columns: &Columns,
) {
    // The entries of maps are types too, but none that anybody wrote.
    let written = message.child_messages().filter(|inner| !inner.is_map_entry());
    for (number, inner) in (0..).zip(written) {
        let path = path.iter().copied().chain([number]).collect();
        add(messages, path, inner, columns);
    }
    messages.insert(path, Protobuf::new(message, columns));
}

impl Body for OfFile {
    fn read(
        &self,
        message: &[u8],
        row: usize,
        record: &mut Record,
        reading: &mut Reading,
    ) -> Result<Option<Change>, Wrong> {
        let broken = || Wrong::new("the message does not say which type of its schema it is");
        let (path, body) = path(message).ok_or_else(broken)?;
        match self.messages.get(&path) {
            Some(Ok(protobuf)) => protobuf.read(body, row, record, reading),
            Some(Err(reason)) => Err(Wrong::new(reason.clone())),
            None => Err(Wrong::new(format!("no such type in its schema path={path:?}"))),
        }
    }
}

/// The numbers that lead to a message's type, and what follows them. A single zero is the first.
fn path(message: &[u8]) -> Option<(Vec<i64>, &[u8])> {
    let (count, mut rest) = zigzag(message)?;
    if count == 0 {
        return Some((vec![0], rest));
    }
    if !(0..=PATH_MAX).contains(&count) {
        return None;
    }
    let mut path = Vec::new();
    for _ in 0..count {
        let (number, after) = zigzag(rest)?;
        path.push(number);
        rest = after;
    }
    Some((path, rest))
}

/// A zigzag number of variable length, and what follows it.
fn zigzag(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7F) << (7 * i as u32);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), &bytes[i + 1..]));
        }
    }
    None
}
