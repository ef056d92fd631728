//! Messages that could not be decoded when they were taken, for another try.
//!
//! In: rows of a `__rejected` table. Out: rows as the source gives them. What is not kept of a
//! rejected message, its time, key and headers, is null. A tombstone is told from an empty message
//! by the reason it was rejected for.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, SchemaRef};
use futures::StreamExt;
use sluice_core::{Decoded, Error, REJECTED_FILE_COLUMN, Reader, Result, RowStream, Scan, Split};

use super::super::partitions::parse_key;
use super::{Kept, Message, MessageReader, Messages, NO_VALUE, Room};

/// Decodes rejected messages again.
#[derive(Debug, Clone)]
pub(in crate::kafka) struct Again(pub MessageReader);

impl Reader for Again {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn open(&self, split: Split, _scan: &Scan) -> RowStream {
        let again = self.clone();
        let decoded = async move {
            let strange = || Error::bug("a split holds no rejected rows");
            let rows = split.held.get::<RecordBatch>().ok_or_else(strange)?;
            again.decode(&rows).await
        };
        futures::stream::once(decoded).boxed()
    }
}

impl Again {
    async fn decode(&self, rows: &RecordBatch) -> Result<Decoded> {
        let mut batches = Vec::new();
        let mut rejected = Vec::new();
        let mut positions = Vec::new();
        for (first, messages) in runs(rows)? {
            let decoded = self.0.decode(&messages).await?;
            let last = decoded.rows.num_columns().saturating_sub(1);
            let places = decoded.rows.column(last).as_primitive::<Int64Type>();
            positions.extend(places.values().iter().map(|place| first + place));
            rejected.extend(decoded.rejected);
            batches.push(decoded.rows);
        }
        let rows = concat_batches(&self.schema(), &batches)?;
        let mut columns = rows.columns().to_vec();
        if let Some(last) = columns.last_mut() {
            *last = Arc::new(Int64Array::from(positions));
        }
        Ok(Decoded::new(RecordBatch::try_new(self.schema(), columns)?, rejected))
    }
}

/// Neighbours of one partition as messages, with the number of the first row.
fn runs(rows: &RecordBatch) -> Result<Vec<(i64, Messages)>> {
    let column = |name: &str| {
        let missing = || Error::bug(format!("rejected rows lack a column column={name}"));
        rows.column_by_name(name).ok_or_else(missing)
    };
    let objects = column(REJECTED_FILE_COLUMN)?.as_string::<i32>();
    let offsets = column("position")?.as_primitive::<Int64Type>();
    let bytes = column("bytes")?.as_binary::<i32>();
    let reasons = column("reason")?.as_string::<i32>();
    let room = Room::new(usize::MAX);
    let mut runs: Vec<(i64, Messages)> = Vec::new();
    for row in 0..rows.num_rows() {
        let object = objects.value(row);
        let other = runs.last().is_none_or(|(_, run)| *run.partition != *object || run.is_full());
        if other {
            let (topic, number) = parse_key(object).unwrap_or((object, 0));
            let kept = Kept { keys: true, headers: true };
            let run = Messages::new(&object.into(), &topic.into(), number, kept, &room);
            runs.push((i64::try_from(row).unwrap_or(i64::MAX), run));
        }
        if let Some((_, run)) = runs.last_mut() {
            let is_tombstone = bytes.value(row).is_empty() && reasons.value(row) == NO_VALUE;
            let value = (!is_tombstone).then(|| bytes.value(row));
            let (offset, headers) = (offsets.value(row), Vec::new());
            run.push(Message { offset, timestamp: None, value, key: None, headers });
        }
    }
    Ok(runs)
}
