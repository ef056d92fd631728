//! Deliveries to rows.
//!
//! In: a split that names a piece of a log. Out: chunks of rows, read and decoded one after the
//! other, so that however much waits little of it is in memory; and the rows that could not be
//! decoded. Deliveries that came twice are passed over as the split says. `Again` decodes rejected
//! rows once more.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef, TimeUnit};
use futures::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_core::{
    Decoded, Error, REJECTED_FILE_COLUMN, Reader, Rejected, Result, RowStream, Scan, Split,
    with_position,
};

use super::config::columns;
use super::log::Log;
use super::log::record::Record;
use crate::format::cut;
use crate::format::message::MessageFormat;

/// A chunk of rows ends at this many bytes: its arrays then fit into a core's own cache.
const CHUNK_BYTES: usize = 1024 * 1024;

/// And at this many rows, however small they are; a batch may hold 64 Ki.
const CHUNK_ROWS: usize = 16 * 1024;

/// A column about a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// `_headers` (string): the text of a JSON object, names in lower case, without those that hold
    /// secrets and signatures.
    Headers,
    /// `_path` (string): as it was asked for.
    Path,
    /// `_query` (string): the text of a JSON object.
    Query,
    /// `_received_at` (timestamp): when the delivery came.
    ReceivedAt,
    /// `_event_id` (string): what tells it from others, see `idempotency`.
    EventId,
}

impl Metadata {
    /// The column's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Metadata::Headers => "_headers",
            Metadata::Path => "_path",
            Metadata::Query => "_query",
            Metadata::ReceivedAt => "_received_at",
            Metadata::EventId => "_event_id",
        }
    }

    /// The column.
    pub(super) fn field(self) -> Field {
        let data_type = match self {
            Metadata::ReceivedAt => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            _ => DataType::Utf8,
        };
        // Null of rows that are taken again: nothing but their bytes was kept.
        Field::new(self.name(), data_type, true)
    }

    /// The values of rows; null where nothing is known of a row.
    fn column(self, rows: &[Option<&Record>]) -> ArrayRef {
        let texts = |of: fn(&Record) -> Option<&str>| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.and_then(of)).collect::<StringArray>())
        };
        match self {
            Metadata::Headers => texts(|row| row.about.headers.as_deref()),
            Metadata::Path => texts(|row| row.about.path.as_deref()),
            Metadata::Query => texts(|row| row.about.query.as_deref()),
            Metadata::EventId => texts(|row| row.id.as_deref()),
            Metadata::ReceivedAt => {
                let micros = |row: &Record| row.about.received_ms.saturating_mul(1000);
                let times: TimestampMicrosecondArray =
                    rows.iter().map(|row| row.map(micros)).collect();
                Arc::new(times.with_timezone("UTC"))
            }
        }
    }
}

/// A piece of a log.
#[derive(Debug)]
pub(super) struct Piece {
    pub log: Arc<Log>,
    /// Ranges of rows that are passed over, in order, whole deliveries.
    pub holes: Vec<(u64, u64)>,
}

/// Whether a row is in one of `holes`.
fn is_hole(holes: &[(u64, u64)], row: u64) -> bool {
    let before = holes.partition_point(|(from, _)| *from <= row);
    before.checked_sub(1).is_some_and(|at| row < holes[at].1)
}

/// One row, as it comes out of a log.
struct Row {
    number: u64,
    record: Arc<Record>,
    /// Which of its delivery's rows it is.
    at: usize,
}

/// Where reading goes on: the delivery by its first row, and the row.
#[derive(Debug, Clone, Copy)]
struct Place {
    delivery: u64,
    row: u64,
}

/// Decodes the deliveries of one source.
#[derive(Debug, Clone)]
pub(super) struct DeliveryReader {
    pub format: Arc<dyn MessageFormat>,
    pub metadata: Vec<Metadata>,
}

impl Reader for DeliveryReader {
    fn schema(&self) -> SchemaRef {
        with_position(&columns(&self.format.schema(), &self.metadata))
    }

    fn open(&self, split: Split, _scan: &Scan) -> RowStream {
        let (from, to) = split.range;
        let begin = (from < to).then_some(Place { delivery: from, row: from });
        let reader = self.clone();
        let chunks = futures::stream::try_unfold(begin, move |place| {
            let (reader, split) = (reader.clone(), split.clone());
            async move {
                let Some(place) = place else { return Ok(None) };
                let read = tokio::task::spawn_blocking(move || reader.chunk(&split, place, to));
                let read = read.await.map_err(|e| Error::bug("reading broke off").because(e))?;
                read.map(Some)
            }
        });
        // What is passed over makes no chunk.
        let filled = |chunk: &Result<Decoded>| {
            let empty = |d: &Decoded| d.rows.num_rows() == 0 && d.rejected.is_empty();
            futures::future::ready(!chunk.as_ref().is_ok_and(empty))
        };
        chunks.filter(filled).boxed()
    }
}

impl DeliveryReader {
    /// The rows from `place` on that make a chunk, and where the next one begins.
    fn chunk(&self, split: &Split, place: Place, to: u64) -> Result<(Decoded, Option<Place>)> {
        let strange = || Error::bug(format!("a split of another source object={}", split.object));
        let piece = split.held.get::<Piece>().ok_or_else(strange)?;
        let (mut rows, mut bytes, mut next) = (Vec::new(), 0, None);
        piece.log.read(place.delivery, to, |first, record| {
            let record = Arc::new(record);
            // A column repeats it with each row.
            let about = record.about.bytes();
            for at in 0..record.len() {
                let number = first + at as u64;
                if number < place.row || is_hole(&piece.holes, number) {
                    continue;
                }
                if rows.len() >= CHUNK_ROWS || bytes >= CHUNK_BYTES {
                    next = Some(Place { delivery: first, row: number });
                    return false;
                }
                bytes += record.row(at).len() + about;
                rows.push(Row { number, record: record.clone(), at });
            }
            true
        })?;
        Ok((self.decode(&split.object, split.range.0, &rows)?, next))
    }

    fn decode(&self, object: &str, start: u64, all: &[Row]) -> Result<Decoded> {
        let mut decoder = self.format.decoder();
        let mut rows = Vec::with_capacity(all.len());
        let mut rejected = Vec::new();
        for row in all {
            let bytes = row.record.row(row.at);
            match decoder.take(bytes) {
                Ok(()) => rows.push(row),
                Err(reason) => rejected.push(Rejected {
                    object: object.to_string(),
                    position: row.number,
                    bytes: cut(bytes),
                    reason,
                }),
            }
        }
        let mut arrays = decoder.finish()?;
        let records: Vec<_> = rows.iter().map(|row| Some(&*row.record)).collect();
        arrays.extend(self.metadata.iter().map(|column| column.column(&records)));
        let places = rows.iter().map(|row| signed(row.number - start));
        arrays.push(Arc::new(Int64Array::from_iter_values(places)));
        Ok(Decoded::new(RecordBatch::try_new(self.schema(), arrays)?, rejected))
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Decodes rejected rows again.
#[derive(Debug, Clone)]
pub(super) struct Again(pub DeliveryReader);

impl Reader for Again {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn open(&self, split: Split, _scan: &Scan) -> RowStream {
        let strange = || Error::bug("a split holds no rejected rows");
        let rows = split.held.get::<RecordBatch>().ok_or_else(strange);
        let decoded = rows.and_then(|rows| self.decode(&rows));
        futures::stream::once(futures::future::ready(decoded)).boxed()
    }
}

impl Again {
    fn decode(&self, rows: &RecordBatch) -> Result<Decoded> {
        let column = |name: &str| {
            let missing = || Error::bug(format!("rejected rows lack a column column={name}"));
            rows.column_by_name(name).ok_or_else(missing)
        };
        let objects = column(REJECTED_FILE_COLUMN)?.as_string::<i32>();
        let positions = column("position")?.as_primitive::<Int64Type>();
        let bytes = column("bytes")?.as_binary::<i32>();
        let mut decoder = self.0.format.decoder();
        let (mut places, mut rejected) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            match decoder.take(bytes.value(row)) {
                Ok(()) => places.push(row as i64),
                Err(reason) => rejected.push(Rejected {
                    object: objects.value(row).to_string(),
                    position: u64::try_from(positions.value(row)).unwrap_or(0),
                    bytes: cut(bytes.value(row)),
                    reason,
                }),
            }
        }
        let mut arrays = decoder.finish()?;
        let nothing = vec![None; places.len()];
        arrays.extend(self.0.metadata.iter().map(|column| column.column(&nothing)));
        arrays.push(Arc::new(Int64Array::from(places)));
        Ok(Decoded::new(RecordBatch::try_new(self.schema(), arrays)?, rejected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_found_by_row() {
        let holes = [(2, 4), (4, 5), (9, 10)];
        let found: Vec<u64> = (0..12).filter(|row| is_hole(&holes, *row)).collect();
        assert_eq!(found, [2, 3, 4, 9]);
    }
}
