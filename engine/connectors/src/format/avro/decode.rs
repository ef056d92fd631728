//! Blocks of an Avro file to batches of rows.
//!
//! In: the bytes of a file in order. Out: rows with positions (row numbers), and a rejected row for
//! each block that cannot be read, after which reading goes on behind the next sync marker.

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_avro::reader::{ReaderBuilder, read_header_info};
use memchr::memmem;
use sluice_core::{Decoded, Error, Rejected, Result};

use crate::format::parquet::{Batches, Layout, Origin, learned};
use crate::format::{Decode, REJECTED_BYTES_MAX, cut};

/// What every file begins with.
const MAGIC: &[u8] = b"Obj\x01";

/// A header that is not complete after this many bytes is not one: schemas are far smaller.
pub const HEADER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A larger block is taken for a broken one. It bounds the memory that a wrong length can take;
/// writers make blocks of some 16 KiB to 2 MiB.
const BLOCK_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Rows per batch: what DataFusion works with.
const BATCH_ROWS: usize = 8_192;

/// Bytes of a sync marker.
const SYNC_BYTES: usize = 16;

/// What stands before the blocks of a file.
#[derive(Debug, Clone)]
pub struct Head {
    bytes: Vec<u8>,
    sync: [u8; SYNC_BYTES],
    schema: SchemaRef,
}

impl Head {
    /// Reads the header of the file that messages call `object`; none when `bytes` do not hold all
    /// of it, unless they are the whole file (`ended`). Errors: `Unreadable` when it is not one, `Data` when a type does not fit `layout`.
    pub fn read(bytes: &[u8], ended: bool, layout: &Layout, object: &str) -> Result<Option<Self>> {
        let broken = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::unreadable(format!("the file cannot be read as avro path={object}"))
                .hint("check that the file is whole, or leave it out of the path")
                .because(cause)
        };
        let more = !ended && bytes.len() < HEADER_BYTES_MAX;
        let begins = MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]);
        let info = match read_header_info(bytes) {
            Ok(info) => info,
            Err(_) if more && begins => return Ok(None),
            Err(cause) => return Err(broken(cause.into())),
        };
        let length = usize::try_from(info.header_len()).unwrap_or(bytes.len());
        let head = bytes[..length].to_vec();
        let reader = ReaderBuilder::new().build(Cursor::new(&head));
        let schema = reader.map_err(|e| broken(e.into()))?.schema();
        layout.check(&schema, object)?;
        Ok(Some(Self { bytes: head, sync: info.sync(), schema }))
    }

    /// The columns of the file.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// For each field the type that a schema would give it; none where it has no word for it.
    pub fn types(&self) -> Vec<Option<String>> {
        self.schema.fields().iter().map(|field| learned(field.data_type())).collect()
    }

    /// The fields of the file's records.
    pub fn names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }
}

/// The decoder of one file.
#[derive(Debug)]
pub struct Decoder {
    layout: Arc<Layout>,
    object: String,
    batches: Batches,
    head: Option<Head>,
    buffer: Vec<u8>,
    /// Bytes at the beginning of `buffer` that are done with.
    done: usize,
    /// Whether a sync marker is looked for.
    lost: bool,
    ready: VecDeque<Decoded>,
}

/// A block at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    /// Of so many rows, up to this byte, its sync marker included.
    Whole { rows: u64, end: usize },
    /// More bytes are needed.
    Cut,
    /// None, and why.
    Broken(&'static str),
}

impl Decoder {
    /// A decoder for the file numbered `file` of its intake, from its beginning.
    pub fn new(layout: Arc<Layout>, object: String, file: u32) -> Self {
        let origin = Origin { object: object.clone(), file, row: 0 };
        let batches = Batches::new(layout.clone(), origin);
        let (buffer, ready) = (Vec::new(), VecDeque::new());
        Self { layout, object, batches, head: None, buffer, done: 0, lost: false, ready }
    }

    /// Takes a block; false when more bytes are needed.
    fn advance(&mut self, ended: bool) -> Result<bool> {
        let bytes = &self.buffer[self.done..];
        let Some(head) = &self.head else {
            let head = Head::read(bytes, ended, &self.layout, &self.object)?;
            self.done += head.as_ref().map_or(0, |head| head.bytes.len());
            self.head = head;
            return Ok(self.head.is_some());
        };
        if bytes.is_empty() {
            return Ok(false);
        }
        if self.lost {
            return Ok(self.find_marker(ended));
        }
        match block(bytes, &head.sync) {
            Block::Whole { rows, end } => {
                match decode(&head.bytes, &bytes[..end]) {
                    Ok(found) => {
                        for batch in &found {
                            self.ready.push_back(self.batches.decode(batch)?);
                        }
                    }
                    Err(cause) => {
                        let reason = format!("a block of {rows} rows cannot be read: {cause}");
                        self.reject(end, reason)?;
                    }
                }
                self.done += end;
                Ok(true)
            }
            Block::Cut if ended => {
                self.reject(bytes.len(), "the file ends inside a block".to_string())?;
                self.done = self.buffer.len();
                Ok(true)
            }
            Block::Cut => Ok(false),
            // What is kept of it is the same whatever the pieces that it comes in.
            Block::Broken(_) if bytes.len() < REJECTED_BYTES_MAX && !ended => Ok(false),
            Block::Broken(why) => {
                self.reject(bytes.len(), format!("a block cannot be read: {why}"))?;
                self.lost = true;
                Ok(true)
            }
        }
    }

    /// Goes behind the next sync marker; false while there is none.
    fn find_marker(&mut self, ended: bool) -> bool {
        let Some(head) = &self.head else { return false };
        let bytes = &self.buffer[self.done..];
        match memmem::find(bytes, &head.sync) {
            Some(at) => {
                self.done += at + SYNC_BYTES;
                self.lost = false;
                true
            }
            None => {
                // A marker may have begun.
                let kept = if ended { 0 } else { bytes.len().min(SYNC_BYTES - 1) };
                self.done = self.buffer.len() - kept;
                false
            }
        }
    }

    /// Sets `length` bytes aside as one row.
    fn reject(&mut self, length: usize, reason: String) -> Result<()> {
        let bytes = cut(&self.buffer[self.done..self.done + length]);
        let position = self.batches.row();
        let rejected = Rejected { object: self.object.clone(), position, bytes, reason };
        self.batches.skip(1);
        let rows = RecordBatch::new_empty(self.layout.schema().clone());
        self.ready.push_back(Decoded::new(rows, vec![rejected]));
        Ok(())
    }
}

impl Decode for Decoder {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self, ended: bool) -> Result<Option<Decoded>> {
        loop {
            if let Some(decoded) = self.ready.pop_front() {
                return Ok(Some(decoded));
            }
            if !self.advance(ended)? {
                return Ok(None);
            }
        }
    }

    fn bytes(&self) -> usize {
        self.buffer.capacity()
    }
}

/// The block at the beginning of `bytes`.
fn block(bytes: &[u8], sync: &[u8]) -> Block {
    let Some((rows, after)) = long(bytes) else { return unfinished(bytes.len()) };
    let Some((size, at)) = long(&bytes[after..]) else { return unfinished(bytes.len() - after) };
    let start = after + at;
    let (Ok(rows), Ok(size)) = (u64::try_from(rows), usize::try_from(size)) else {
        return Block::Broken("its length is negative");
    };
    if size > BLOCK_BYTES_MAX {
        return Block::Broken("its length is beyond any block");
    }
    match bytes.get(start + size..start + size + SYNC_BYTES) {
        None => Block::Cut,
        Some(found) if found == sync => Block::Whole { rows, end: start + size + SYNC_BYTES },
        Some(_) => Block::Broken("no sync marker follows it"),
    }
}

/// A number that is not complete within `length` bytes.
fn unfinished(length: usize) -> Block {
    match length < LONG_BYTES_MAX {
        true => Block::Cut,
        false => Block::Broken("its length is no number"),
    }
}

/// Bytes of the longest number.
const LONG_BYTES_MAX: usize = 10;

/// A zigzag number of variable length, and the bytes it takes.
fn long(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(LONG_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * i as u32);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), i + 1));
        }
    }
    None
}

/// The rows of one block, read as a file of its own.
fn decode(head: &[u8], block: &[u8]) -> Result<Vec<RecordBatch>, arrow::error::ArrowError> {
    let file = Cursor::new([head, block].concat());
    ReaderBuilder::new().with_batch_size(BATCH_ROWS).build(file)?.collect()
}
