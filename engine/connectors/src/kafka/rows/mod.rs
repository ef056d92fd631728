//! Messages to rows.
//!
//! In: a split that holds the messages of one partition. Out: one chunk of rows, and the messages
//! that could not be decoded with their offsets and why.

mod again;
mod messages;
mod metadata;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::StreamExt;
use sluice_core::{
    Decoded, Error, Reader, Rejected, Result, RowStream, Scan, Split, with_position,
};

use crate::format::message::MessageFormat;
use crate::format::{BATCH_ROWS_MAX, cut};

pub(in crate::kafka) use again::Again;
pub(in crate::kafka) use messages::{Headers, Kept, Message, Messages, Room};
pub use metadata::Metadata;
pub(in crate::kafka) use metadata::kept;

/// Why a message without a value is rejected. Tables of rejected rows hold it, and tombstones are
/// known by it there: another wording would make them empty messages.
const NO_VALUE: &str = "the message has no value (a tombstone); `tombstones: row` makes it a row \
                        of nulls, `tombstones: skip` passes it over";

/// Decodes the messages of one source.
#[derive(Debug, Clone)]
pub(in crate::kafka) struct MessageReader {
    pub format: Arc<dyn MessageFormat>,
    pub metadata: Vec<Metadata>,
    /// Whether a message without a value is a row of nulls.
    pub null_rows: bool,
}

/// The columns of messages, then those about them.
pub(in crate::kafka) fn columns(values: &SchemaRef, metadata: &[Metadata]) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = values.fields().iter().cloned().collect();
    fields.extend(metadata.iter().map(|column| Arc::new(column.field())));
    Arc::new(Schema::new(fields))
}

impl Reader for MessageReader {
    fn schema(&self) -> SchemaRef {
        with_position(&columns(&self.format.schema(), &self.metadata))
    }

    fn open(&self, split: Split, _scan: &Scan) -> RowStream {
        let reader = self.clone();
        let decoded = async move {
            let held = split.held.get::<Messages>();
            let strange =
                || Error::bug(format!("a split of another source object={}", split.object));
            let held = held.ok_or_else(strange)?;
            reader.decode(&held).await
        };
        futures::stream::once(decoded).boxed()
    }
}

impl MessageReader {
    /// All messages of a chunk. Errors: those of [`MessageFormat::prepare`].
    pub(in crate::kafka) async fn decode(&self, messages: &Messages) -> Result<Decoded> {
        debug_assert!(messages.len() <= BATCH_ROWS_MAX);
        let values: Vec<&[u8]> =
            (0..messages.len()).filter_map(|i| messages.values.get(i)).collect();
        self.format.prepare(&values).await?;
        let mut decoder = self.format.decoder();
        let mut rows = Vec::with_capacity(messages.len());
        let mut rejected = Vec::new();
        for i in 0..messages.len() {
            let value = messages.values.get(i);
            let taken = match value {
                Some(value) => decoder.take(value),
                None if self.null_rows => decoder.take_null(),
                None => Err(NO_VALUE.to_string()),
            };
            match taken {
                Ok(()) => rows.push(i),
                Err(reason) => rejected.push(Rejected {
                    object: messages.partition.to_string(),
                    position: u64::try_from(messages.offsets[i]).unwrap_or(0),
                    bytes: value.map(cut).unwrap_or_default(),
                    reason,
                }),
            }
        }
        let mut arrays = decoder.finish()?;
        arrays.extend(self.metadata.iter().map(|column| column.column(messages, &rows)));
        let places = rows.iter().map(|row| i64::try_from(*row).unwrap_or(i64::MAX));
        arrays.push(Arc::new(Int64Array::from_iter_values(places)) as ArrayRef);
        Ok(Decoded::new(RecordBatch::try_new(self.schema(), arrays)?, rejected))
    }
}
