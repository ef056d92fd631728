//! What stands before the body of a message, and whose body it is.
//!
//! In: the bytes of a message. Out: its body and who reads it. With Confluent's framing that is a
//! zero byte and the schema's id in four bytes, big-endian; what Protobuf adds to it belongs to its
//! body. It asks no registry: what is known of schemas is in [`Known`].

use std::sync::Arc;

use sluice_core::Result;

use super::known::Known;
use super::rows::Body;

/// The first byte of a framed message.
const MAGIC: u8 = 0;

/// Bytes before the body.
const PREFIX_BYTES: usize = 5;

/// Who reads messages.
#[derive(Debug, Clone)]
pub(super) enum Lookup {
    /// The same for all, which are bodies only.
    Fixed(Arc<dyn Body>),
    /// The same for all, behind a prefix that decides nothing.
    Prefixed(Arc<dyn Body>),
    /// Who reads the schema that the prefix names; and the last one.
    Registry(Arc<Known>, Option<(u32, Arc<dyn Body>)>),
}

impl Lookup {
    /// Fetches the schemas that messages name.
    pub(super) async fn prepare(&self, messages: &[&[u8]]) -> Result<()> {
        match self {
            Lookup::Fixed(_) | Lookup::Prefixed(_) => Ok(()),
            Lookup::Registry(known, _) => {
                let ids = messages.iter().filter_map(|message| split(message).ok());
                known.prepare(ids.map(|(id, _)| id)).await
            }
        }
    }

    /// Who reads the message, and its body; or why nobody does.
    pub(super) fn find<'m>(&mut self, message: &'m [u8]) -> Result<(&dyn Body, &'m [u8]), String> {
        match self {
            Lookup::Fixed(body) => Ok((&**body, message)),
            Lookup::Prefixed(body) => Ok((&**body, split(message)?.1)),
            Lookup::Registry(known, last) => {
                let (id, rest) = split(message)?;
                let found = match last.take() {
                    Some(found) if found.0 == id => found,
                    _ => (id, known.body(id)?),
                };
                Ok((last.insert(found).1.as_ref(), rest))
            }
        }
    }
}

/// The id of the schema, and the body.
pub(super) fn split(message: &[u8]) -> Result<(u32, &[u8]), String> {
    match message.split_at_checked(PREFIX_BYTES) {
        Some(([MAGIC, id @ ..], rest)) => {
            let id = id.try_into().unwrap_or_default();
            Ok((u32::from_be_bytes(id), rest))
        }
        None if message.first() == Some(&MAGIC) => Err("the message ends in its schema id".into()),
        _ => Err("no schema id before the message: its first byte is not 0".into()),
    }
}

/// `body` behind the id of its schema.
pub fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(PREFIX_BYTES + body.len());
    message.push(MAGIC);
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(body);
    message
}
