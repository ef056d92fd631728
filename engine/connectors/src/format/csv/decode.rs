//! Pieces of CSV to batches of rows, chunk by chunk.
//!
//! In: bytes in order, beginning at a record. Out: rows with their positions, and the rows that
//! could not be decoded. A chunk is decoded column by column; only when a column has a value that
//! is none, that column is gone through cell by cell, the bad rows are set aside, and the rest is
//! decoded again. A record too large to be held is skipped over and rejected.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use sluice_core::{DataSchema, Decoded, Error, Rejected, Result, with_position};

use super::border::{State, run};
use super::record::{Fault, Index, Room};
use super::rescue::{complaints, rescued};
use super::{Column, Dialect, RECORD_BYTES_MAX, Spelling};
use crate::format::{BATCH_ROWS_MAX, Decode, REJECTED_BYTES_MAX, cut, position, with_rescued};

/// A chunk takes about this much: its places and arrays then fit into a core's own cache.
const CHUNK_BYTES: usize = 1024 * 1024;

/// How the files of a source are decoded.
#[derive(Debug)]
pub struct Layout {
    dialect: Dialect,
    columns: Vec<Column>,
    /// Whether fields that the schema does not have are kept in [`sluice_core::RESCUED_COLUMN`].
    rescues: bool,
    schema: SchemaRef,
}

impl Layout {
    /// A layout for rows of `schema`. Errors: `Config` when a field is not well-formed.
    pub fn new(dialect: Dialect, schema: &DataSchema) -> Result<Self> {
        let columns = schema.fields.iter().map(Column::new).collect::<Result<_>>()?;
        let schema = with_position(schema.arrow()?.as_ref());
        Ok(Self { dialect, columns, rescues: false, schema })
    }

    /// The same, with the fields that the schema does not have in [`sluice_core::RESCUED_COLUMN`].
    #[must_use]
    pub fn rescuing(self) -> Self {
        Self { rescues: true, schema: with_rescued(&self.schema), ..self }
    }

    /// The same for files in which values are spelled like this.
    #[must_use]
    pub fn spelled(self, spelling: Spelling) -> Self {
        let spelling = Arc::new(spelling);
        let columns = self.columns.into_iter().map(|column| column.spelled(&spelling)).collect();
        Self { columns, ..self }
    }

    /// What the files differ in from others.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The columns of the schema, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// For each column the name in the data, and whether a row without it is rejected.
    pub fn origins(&self) -> impl Iterator<Item = (&str, bool)> {
        self.columns.iter().map(|c| (c.origin(), c.required()))
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
}

/// Where the columns stand in a file.
#[derive(Debug, Clone, Default)]
pub struct Mapping {
    /// Fields per record.
    pub width: usize,
    /// For each column of the schema its field; none when the file does not have it.
    pub fields: Vec<Option<usize>>,
    /// Fields that the schema does not have, by name; kept when the layout rescues.
    pub rescued: Vec<(usize, String)>,
}

/// The decoder of one split.
#[derive(Debug)]
pub struct Decoder {
    layout: Arc<Layout>,
    origin: Origin,
    mapping: Mapping,
    index: Index,
    buffer: Vec<u8>,
    /// Bytes at the beginning of `buffer` that are done with.
    done: usize,
    oversize: Option<Oversize>,
    /// Whether more of the file follows behind the last byte.
    followed: bool,
}

/// A record that is too large, while its end is looked for.
#[derive(Debug)]
struct Oversize {
    position: u64,
    head: Vec<u8>,
    state: State,
}

impl Decoder {
    /// A decoder for bytes that begin at `origin`, where a record begins.
    pub fn new(layout: Arc<Layout>, mapping: Mapping, origin: Origin) -> Self {
        let index = Index::default();
        Self {
            layout,
            origin,
            mapping,
            index,
            buffer: Vec::new(),
            done: 0,
            oversize: None,
            followed: false,
        }
    }

    /// The same for bytes that more of the file follows: a record has to end where they end, else
    /// the file was cut where no record begins.
    #[must_use]
    pub fn followed(self, followed: bool) -> Self {
        Self { followed, ..self }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.done);
        self.origin.start += self.done as u64;
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes taken and not decoded yet.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.done
    }

    /// The next chunk; none when more bytes are needed, or when `ended` says that there are none
    /// and all are decoded. Errors: `Unreadable` when they end within a record and should not.
    pub fn next(&mut self, ended: bool) -> Result<Option<Decoded>> {
        if self.oversize.is_some() {
            let Some(rejected) = self.skip(ended)? else { return Ok(None) };
            let rows = RecordBatch::new_empty(self.layout.schema.clone());
            return Ok(Some(Decoded::new(rows, vec![rejected])));
        }
        let room = Room { rows: BATCH_ROWS_MAX, bytes: CHUNK_BYTES };
        let bytes = &self.buffer[self.done..];
        self.index.fill(self.layout.dialect, self.mapping.width, bytes, ended, room);
        let consumed = self.index.consumed;
        if self.index.open && self.followed {
            return Err(self.miscut());
        }
        if self.index.rows.is_empty() && self.index.bad.is_empty() {
            self.done += consumed;
            if !ended && self.pending() > RECORD_BYTES_MAX {
                self.give_up_on_record();
                return self.next(ended);
            }
            return Ok(None);
        }
        let decoded = self.decode()?;
        self.done += consumed;
        Ok(Some(decoded))
    }

    /// The rows of the index.
    fn decode(&mut self) -> Result<Decoded> {
        let bytes = &self.buffer[self.done..];
        let encoding = self.layout.dialect.encoding;
        if self.layout.rescues {
            let mut bad = complaints(&self.index, bytes, &self.mapping.rescued, encoding);
            self.index.retain(&mut bad);
        }
        let columns = Columns { layout: &self.layout, mapping: &self.mapping, bytes };
        let mut arrays = match columns.arrays(&self.index) {
            Ok(arrays) => arrays,
            Err(first) => {
                let mut bad = columns.complaints(&self.index, first);
                self.index.retain(&mut bad);
                // A row that still fails would be a difference between one cell and many.
                columns.arrays(&self.index).map_err(|column| {
                    let name = self.layout.columns[column].name();
                    Error::bug(format!("a column fails without a bad row column={name}"))
                })?
            }
        };
        if self.layout.rescues {
            arrays.push(rescued(&self.index, bytes, &self.mapping.rescued, encoding));
        }
        let Origin { object, file, start } = &self.origin;
        let start = start + self.done as u64;
        let positions = self.index.rows.iter().map(|row| position(*file, start + u64::from(row.0)));
        arrays.push(Arc::new(Int64Array::from_iter_values(positions)));
        let rejected = self.index.bad.iter().map(|bad| Rejected {
            object: object.clone(),
            position: start + u64::from(bad.place.0),
            bytes: cut(&bytes[bad.place.0 as usize..bad.place.1 as usize]),
            reason: bad.reason.clone(),
        });
        let rejected = rejected.collect();
        let rows = RecordBatch::try_new(self.layout.schema.clone(), arrays)?;
        Ok(Decoded::new(rows, rejected))
    }

    /// Keeps the head of the record at hand and looks only for its end from now on.
    fn give_up_on_record(&mut self) {
        let bytes = &self.buffer[self.done..];
        self.oversize = Some(Oversize {
            position: self.origin.start + self.done as u64,
            head: bytes[..bytes.len().min(REJECTED_BYTES_MAX)].to_vec(),
            state: State::Field,
        });
    }

    /// Goes on in a record that is too large; gives it when its end is found.
    fn skip(&mut self, ended: bool) -> Result<Option<Rejected>> {
        let Some(oversize) = self.oversize.as_mut() else { return Ok(None) };
        let (state, border) = run(self.layout.dialect, oversize.state, &self.buffer[self.done..]);
        oversize.state = state;
        self.done = border.map_or(self.buffer.len(), |end| self.done + end);
        if border.is_none() && !ended {
            return Ok(None);
        }
        if border.is_none() && self.followed {
            return Err(self.miscut());
        }
        let Some(Oversize { position, head, .. }) = self.oversize.take() else { return Ok(None) };
        let object = self.origin.object.clone();
        Ok(Some(Rejected { object, position, bytes: head, reason: Fault::Large.reason() }))
    }

    /// The file was cut by a guess, and wrongly. Reading it carefully cuts it by all its quotes.
    fn miscut(&self) -> Error {
        let path = &self.origin.object;
        Error::unreadable(format!("quotes do not end where a piece of the file does path={path}"))
    }
}

/// The columns of one chunk.
pub(super) struct Columns<'a> {
    pub(super) layout: &'a Layout,
    pub(super) mapping: &'a Mapping,
    pub(super) bytes: &'a [u8],
}

impl Columns<'_> {
    /// All columns; or the first that has a cell that is not a value.
    pub(super) fn arrays(&self, index: &Index) -> Result<Vec<ArrayRef>, usize> {
        let rows = index.rows.len();
        let mut arrays = Vec::with_capacity(self.layout.columns.len() + 1);
        for (i, column) in self.layout.columns.iter().enumerate() {
            arrays.push(match self.mapping.fields[i] {
                None => column.nulls(rows),
                Some(field) => {
                    let cells = (0..rows).map(|row| index.cell(self.bytes, row, field));
                    column.array(cells, rows).ok_or(i)?
                }
            });
        }
        Ok(arrays)
    }

    /// For each row why it is bad, if it is; columns before `first` are known to be good.
    fn complaints(&self, index: &Index, first: usize) -> Vec<Option<String>> {
        let rows = index.rows.len();
        let mut bad = vec![None; rows];
        for (i, column) in self.layout.columns.iter().enumerate().skip(first) {
            let Some(field) = self.mapping.fields[i] else { continue };
            let cells = (0..rows).map(|row| index.cell(self.bytes, row, field));
            if i > first && column.array(cells.clone(), rows).is_some() {
                continue;
            }
            for (reason, cell) in bad.iter_mut().zip(cells) {
                if reason.is_none() {
                    *reason = column.complaint(cell);
                }
            }
        }
        bad
    }
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
