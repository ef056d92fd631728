//! Messages of one CSV record each.
//!
//! In: the bytes of one message after another. Out: columns. A message is checked cell by cell when
//! it is taken, so that a bad one is refused alone; values are made column by column at the end.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use sluice_core::{Error, Result};

use super::decode::{Columns, Layout, Mapping};
use super::record::{Index, Room};
use crate::format::message::{DecodeMessages, MessageFormat, Tombstones};

/// Bytes of the messages that are taken at once: places in them are 31 bits wide.
const BYTES_MAX: usize = 1 << 30;

/// CSV without a header: the fields of a message are the columns of the layout, in order.
#[derive(Debug)]
pub struct Messages {
    layout: Arc<Layout>,
    schema: SchemaRef,
}

impl Messages {
    /// Messages in this layout. Errors: `Bug`.
    pub fn new(layout: Layout) -> Result<Self> {
        let columns: Vec<usize> = (0..layout.columns().len()).collect();
        let schema = Arc::new(layout.schema().project(&columns)?);
        Ok(Self { layout: Arc::new(layout), schema })
    }
}

#[async_trait]
impl MessageFormat for Messages {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn tombstones(&self) -> Tombstones {
        Tombstones::Row
    }

    async fn prepare(&self, _messages: &[&[u8]]) -> Result<()> {
        Ok(())
    }

    fn decoder(&self) -> Box<dyn DecodeMessages> {
        let width = self.layout.columns().len();
        let fields = (0..width).map(Some).collect();
        Box::new(Rows {
            layout: self.layout.clone(),
            mapping: Mapping { width, fields, rescued: Vec::new() },
            one: Index::default(),
            all: Index::default(),
            bytes: Vec::new(),
        })
    }
}

/// The messages taken since the last call.
struct Rows {
    layout: Arc<Layout>,
    mapping: Mapping,
    /// The message at hand.
    one: Index,
    all: Index,
    bytes: Vec<u8>,
}

impl DecodeMessages for Rows {
    fn take(&mut self, message: &[u8]) -> Result<(), String> {
        if self.bytes.len() + message.len() > BYTES_MAX {
            return Err("too many bytes of messages at once".into());
        }
        let room = Room { rows: 2, bytes: message.len() };
        self.one.fill(self.layout.dialect(), self.mapping.width, message, true, room);
        if let Some(bad) = self.one.bad.first() {
            return Err(bad.reason.clone());
        }
        match self.one.rows.len() {
            1 => {}
            0 => return Err("no record in the message".into()),
            _ => return Err("more than one record in the message".into()),
        }
        for (field, column) in self.layout.columns().iter().enumerate() {
            let cell = self.one.cell(message, 0, field);
            if !column.accepts(cell) {
                let reason = column.complaint(cell);
                return Err(reason.unwrap_or_else(|| format!("column {}: no value", column.name())));
            }
        }
        self.all.append(&self.one, self.bytes.len() as u32);
        self.bytes.extend_from_slice(message);
        Ok(())
    }

    fn take_null(&mut self) -> Result<(), String> {
        let required = self.layout.columns().iter().find(|column| column.required());
        if let Some(column) = required {
            return Err(format!("column {}: required but empty", column.name()));
        }
        self.all.append_empty(self.mapping.width, self.bytes.len() as u32);
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let columns = Columns { layout: &self.layout, mapping: &self.mapping, bytes: &self.bytes };
        let arrays = columns.arrays(&self.all).map_err(|column| {
            let name = self.layout.columns()[column].name();
            Error::bug(format!("a column fails without a bad message column={name}"))
        })?;
        self.all = Index::default();
        self.bytes.clear();
        Ok(arrays)
    }
}
