//! Messages into columns, whatever they are written in.
//!
//! In: a [`Body`], which reads one message into a [`Record`], and where its schema is found. Out:
//! the [`MessageFormat`] of it. A message that turns out bad is taken back from all columns here,
//! so that no body has to. It knows no format.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use sluice_core::{DataSchema, RESCUED_COLUMN, Result};

use super::wire::Lookup;
use crate::format::json::{Reading, Record, Unknown, Wrong, object};
use crate::format::message::{DecodeMessages, MessageFormat, Tombstones};

/// The column that says what a change did to its row: `c`, `r`, `u` or `d`.
pub const OP_COLUMN: &str = "_op";

/// The column that says when the database made the change.
pub const SOURCE_TS_COLUMN: &str = "_source_ts";

/// What one message is written in.
pub(super) trait Body: Send + Sync + std::fmt::Debug {
    /// Reads a message as row `row` of the columns. After an error they are cut back.
    fn read(
        &self,
        message: &[u8],
        row: usize,
        record: &mut Record,
        reading: &mut Reading,
    ) -> Result<Option<Change>, Wrong>;
}

/// What a message says besides the columns of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) op: &'static str,
    /// Microseconds since 1970.
    pub(super) at_us: Option<i64>,
}

/// The columns that a format reads.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    record: Record,
    unknown: Unknown,
    /// Whether rows are changes.
    changes: bool,
    schema: SchemaRef,
}

impl Columns {
    /// For rows of `schema`. Errors: `Config` when a field is not well-formed.
    pub(super) fn new(schema: &DataSchema, unknown: Unknown, changes: bool) -> Result<Self> {
        let record = Record::new(&schema.fields)?;
        let mut fields: Vec<Arc<Field>> = schema.arrow()?.fields().iter().cloned().collect();
        if changes {
            let at = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            fields.push(Arc::new(Field::new(OP_COLUMN, DataType::Utf8, true)));
            fields.push(Arc::new(Field::new(SOURCE_TS_COLUMN, at, true)));
        }
        if unknown.is_rescued() {
            fields.push(Arc::new(Field::new(RESCUED_COLUMN, DataType::Utf8, true)));
        }
        Ok(Self { record, unknown, changes, schema: Arc::new(Schema::new(fields)) })
    }

    /// The schema of the rows.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns of the data schema, empty.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// What becomes of fields without a column.
    pub(super) fn unknown(&self) -> Unknown {
        self.unknown
    }
}

/// A format whose messages are read by a [`Body`].
#[derive(Debug)]
pub(super) struct Format {
    pub(super) columns: Columns,
    pub(super) lookup: Lookup,
    pub(super) tombstones: Tombstones,
}

#[async_trait]
impl MessageFormat for Format {
    fn schema(&self) -> SchemaRef {
        self.columns.schema.clone()
    }

    fn tombstones(&self) -> Tombstones {
        self.tombstones
    }

    async fn prepare(&self, messages: &[&[u8]]) -> Result<()> {
        self.lookup.prepare(messages).await
    }

    fn decoder(&self) -> Box<dyn DecodeMessages> {
        let Columns { record, unknown, changes, .. } = &self.columns;
        Box::new(Rows {
            lookup: self.lookup.clone(),
            record: record.clone(),
            reading: Reading::new(*unknown),
            rows: 0,
            rescued: unknown.is_rescued().then(Vec::new),
            changes: changes.then(Vec::new),
        })
    }
}

/// The rows taken since the last call.
struct Rows {
    lookup: Lookup,
    record: Record,
    reading: Reading,
    rows: usize,
    rescued: Option<Vec<Option<String>>>,
    changes: Option<Vec<Option<Change>>>,
}

impl Rows {
    /// Keeps a row that was read, or takes it back.
    fn end(&mut self, read: Result<Option<Change>, Wrong>) -> Result<(), String> {
        match read {
            Ok(change) => {
                if let Some(rescued) = &mut self.rescued {
                    rescued.push(object(&self.reading.rescued));
                }
                if let Some(changes) = &mut self.changes {
                    changes.push(change);
                }
                self.rows += 1;
                Ok(())
            }
            Err(wrong) => {
                self.record.truncate(self.rows);
                Err(wrong.reason())
            }
        }
    }
}

impl DecodeMessages for Rows {
    fn take(&mut self, message: &[u8]) -> Result<(), String> {
        self.reading.rescued.clear();
        let read = match self.lookup.find(message) {
            Ok((body, rest)) => body.read(rest, self.rows, &mut self.record, &mut self.reading),
            Err(reason) => return Err(reason),
        };
        self.end(read)
    }

    fn take_null(&mut self) -> Result<(), String> {
        self.reading.rescued.clear();
        let read = self.record.fill(self.rows);
        self.end(read.map(|()| None))
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        let mut arrays = self.record.finish()?;
        if let Some(changes) = self.changes.as_mut().map(std::mem::take) {
            let ops = changes.iter().map(|change| change.map(|c| c.op));
            arrays.push(Arc::new(ops.collect::<StringArray>()));
            let times = changes.iter().map(|change| change.and_then(|c| c.at_us));
            let times: TimestampMicrosecondArray = times.collect();
            arrays.push(Arc::new(times.with_timezone("UTC")));
        }
        if let Some(rescued) = self.rescued.as_mut().map(std::mem::take) {
            arrays.push(Arc::new(StringArray::from(rescued)));
        }
        Ok(arrays)
    }
}
