//! Pieces of JSON to batches of rows, chunk by chunk.
//!
//! In: bytes in order, beginning at a line or at the beginning of the file. Out: rows with their
//! positions, and the rows that could not be decoded. Each row goes straight into the columns; one
//! that turns out bad is taken back from them. A record too large to be held is skipped over and
//! rejected.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use sluice_core::{DataSchema, Decoded, Rejected, Result, with_position};

use super::RECORD_BYTES_MAX;
use super::column::{Reading, Record, Rescued};
use super::keys::{Keys, LEARNED_MAX, Told};
use super::record::{Items, Step, Walk};
use super::scan::{Cursor, Wrong};
use crate::format::encoding::Encoding;
use crate::format::{BATCH_ROWS_MAX, Decode, cut, position, with_rescued};

/// A chunk takes about this much: its arrays then fit into a core's own cache.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What to do with a field that the schema does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Reject the row.
    #[default]
    Fail,
    /// Pass it over.
    Ignore,
    /// Keep it as JSON in a column for such fields, see [`sluice_core::RESCUED_COLUMN`].
    Rescue,
    /// The same, and take note of its key if it does not stand within another, see
    /// [`Layout::keys`].
    Add,
}

impl Unknown {
    pub(crate) fn is_rescued(self) -> bool {
        matches!(self, Unknown::Rescue | Unknown::Add)
    }
}

/// How the files of a source are decoded.
#[derive(Debug)]
pub struct Layout {
    record: Record,
    unknown: Unknown,
    encoding: Encoding,
    schema: SchemaRef,
    keys: Keys,
}

impl Layout {
    /// A layout for rows of `schema`. Errors: `Config` when a field is not well-formed.
    pub fn new(schema: &DataSchema, unknown: Unknown, encoding: Encoding) -> Result<Self> {
        let record = Record::new(&schema.fields)?;
        let rows = with_position(schema.arrow()?.as_ref());
        let learned = schema.fields.iter().filter(|field| field.learned).count();
        let keys = Keys::new(LEARNED_MAX.saturating_sub(learned));
        let schema = if unknown.is_rescued() { with_rescued(&rows) } else { rows };
        Ok(Self { record, unknown, encoding, schema, keys })
    }

    /// The keys that came with [`Unknown::Add`], as far as rows were decoded.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// How the files' characters are written.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The rows' schema, position last.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// What is read, for positions and for people.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The path, as shown.
    pub object: String,
    /// The file's number within its intake.
    pub file: u32,
    /// Where in the uncompressed file the first byte stands.
    pub start: u64,
    /// Whether the file is one list.
    pub list: bool,
}

/// The decoder of one split.
#[derive(Debug)]
pub struct Decoder {
    layout: Arc<Layout>,
    origin: Origin,
    record: Record,
    reading: Reading,
    told: Told,
    walk: Walk,
    buffer: Vec<u8>,
    /// Bytes at the beginning of `buffer` that are done with.
    done: usize,
    /// Where the record at hand begins, and its first bytes, when it is too large to be held.
    oversize: Option<(u64, Vec<u8>)>,
}

/// Rows of one chunk besides their values.
#[derive(Debug, Default)]
struct Found {
    positions: Vec<i64>,
    rescued: Vec<Option<String>>,
    rejected: Vec<Rejected>,
}

impl Found {
    fn rows(&self) -> usize {
        self.positions.len() + self.rejected.len()
    }
}

impl Decoder {
    /// A decoder for bytes that begin at `origin`.
    pub fn new(layout: Arc<Layout>, origin: Origin) -> Self {
        let walk = match origin.list {
            true => Walk::Items(Items::default()),
            false => Walk::Lines,
        };
        let reading = Reading::new(layout.unknown);
        let record = layout.record.clone();
        let (buffer, done, oversize, told) = (Vec::new(), 0, None, Told::default());
        Self { layout, origin, record, reading, told, walk, buffer, done, oversize }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.origin.start += self.done as u64;
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next chunk; none when more bytes are needed, or when `ended` says that there are none
    /// and all are decoded. Errors: `Bug` only.
    pub fn next(&mut self, ended: bool) -> Result<Option<Decoded>> {
        let mut found = Found::default();
        if self.oversize.is_some() && !self.skip(ended, &mut found) {
            return Ok(None);
        }
        // Checked once for all rows of the chunk; only if that fails, row by row.
        let window = self.buffer.len().min(self.done + CHUNK_BYTES);
        let clean = match std::str::from_utf8(&self.buffer[self.done..window]) {
            Ok(_) => window,
            Err(error) => self.done + error.valid_up_to(),
        };
        let from = self.done;
        while self.done - from < CHUNK_BYTES && found.rows() < BATCH_ROWS_MAX {
            match self.walk.next(&self.buffer[self.done..], ended) {
                Step::Record { start, end, next } => {
                    self.row((self.done + start, self.done + end), clean, &mut found);
                    self.done += next;
                }
                Step::Broken { start, end, next, what } => {
                    self.reject((self.done + start, self.done + end), what.into(), &mut found);
                    self.done += next;
                }
                Step::More { done } => {
                    self.done += done;
                    self.give_up_on_record();
                    break;
                }
                Step::End => {
                    self.done = self.buffer.len();
                    break;
                }
            }
        }
        match found.rows() {
            0 => Ok(None),
            _ => self.decoded(found).map(Some),
        }
    }

    /// Takes the record between two places of the buffer.
    fn row(&mut self, (start, end): (usize, usize), clean: usize, found: &mut Found) {
        let row = found.positions.len();
        if end - start > RECORD_BYTES_MAX {
            self.reject((start, end), too_large(), found);
            return;
        }
        let bytes = &self.buffer[start..end];
        let read = match text(self.layout.encoding, bytes, end <= clean) {
            Some(text) => {
                self.reading.rescued.clear();
                let mut cursor = Cursor::new(&text);
                match cursor.peek() {
                    Some(b'{') => self
                        .record
                        .read(row, &mut cursor, &mut self.reading)
                        .and_then(|()| cursor.end()),
                    _ => Err(Wrong::new("not a JSON object")),
                }
            }
            None => Err(Wrong::new("not valid UTF-8")),
        };
        match read {
            Ok(()) => {
                let at = position(self.origin.file, self.origin.start + start as u64);
                found.positions.push(at);
                let rescued = &self.reading.rescued;
                if self.layout.unknown.is_rescued() {
                    found.rescued.push(object(rescued));
                }
                if self.layout.unknown == Unknown::Add {
                    let keys = rescued.iter().filter(|field| !field.nested).enumerate();
                    keys.for_each(|(i, key)| {
                        self.told.meet(&self.layout.keys, &key.path, (at, i));
                    });
                }
            }
            Err(wrong) => {
                self.record.truncate(row);
                self.reject((start, end), wrong.reason(), found);
            }
        }
    }

    fn reject(&self, (start, end): (usize, usize), reason: String, found: &mut Found) {
        let position = self.origin.start + start as u64;
        let (object, bytes) = (self.origin.object.clone(), cut(&self.buffer[start..end]));
        found.rejected.push(Rejected { object, position, bytes, reason });
    }

    /// Keeps the head of a record that is too large and looks only for its end from now on.
    fn give_up_on_record(&mut self) {
        let pending = &self.buffer[self.done..];
        if pending.len() > RECORD_BYTES_MAX {
            self.oversize = Some((self.origin.start + self.done as u64, cut(pending)));
            self.done = self.buffer.len();
        }
    }

    /// Goes on in a record that is too large; false while its end is not found.
    fn skip(&mut self, ended: bool, found: &mut Found) -> bool {
        let next = self.walk.skip(&self.buffer[self.done..], ended);
        self.done = next.map_or(self.buffer.len(), |next| self.done + next);
        if next.is_some()
            && let Some((position, bytes)) = self.oversize.take()
        {
            let (object, reason) = (self.origin.object.clone(), too_large());
            found.rejected.push(Rejected { object, position, bytes, reason });
        }
        next.is_some()
    }

    fn decoded(&mut self, found: Found) -> Result<Decoded> {
        let mut arrays = self.record.finish()?;
        if self.layout.unknown.is_rescued() {
            arrays.push(Arc::new(StringArray::from(found.rescued)) as ArrayRef);
        }
        arrays.push(Arc::new(Int64Array::from(found.positions)));
        let rows = RecordBatch::try_new(self.layout.schema.clone(), arrays)?;
        Ok(Decoded::new(rows, found.rejected))
    }
}

fn too_large() -> String {
    let max = sluice_core::format_bytes(RECORD_BYTES_MAX as u64);
    format!("the record is larger than {max}")
}

/// The UTF-8 text of a record; none if it is none. `clean` says that the bytes are known to be.
fn text(encoding: Encoding, bytes: &[u8], clean: bool) -> Option<Cow<'_, [u8]>> {
    if encoding.is_single_byte() {
        return Some(encoding.text(bytes));
    }
    (clean || std::str::from_utf8(bytes).is_ok()).then_some(Cow::Borrowed(bytes))
}

/// Fields as the text of a JSON object; none without any.
pub(crate) fn object(fields: &[Rescued]) -> Option<String> {
    if fields.is_empty() {
        return None;
    }
    let members: Vec<String> = fields
        .iter()
        .map(|field| format!("{}:{}", serde_json::Value::from(field.path.as_str()), field.value))
        .collect();
    Some(format!("{{{}}}", members.join(",")))
}

impl Decode for Decoder {
    fn push(&mut self, bytes: &[u8]) {
        Decoder::push(self, bytes);
    }

    fn next(&mut self, ended: bool) -> Result<Option<Decoded>> {
        Decoder::next(self, ended)
    }

    fn bytes(&self) -> usize {
        self.buffer.capacity()
    }
}
