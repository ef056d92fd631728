//! Rows of `__rejected` and `__quarantine` as rows of a source or table again.
//!
//! In: files of the place, a range of epochs. Out: decoded chunks, one per batch of a file. What
//! decodes rejected bytes is the connector's. Rows of which not all bytes were kept stay rejected,
//! and are counted.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{Int64Type, SchemaRef};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use sluice_core::{
    Decoded, Error, Held, REJECTED_FILE_COLUMN, Reader, Rejected, Result, RowStream, Scan, Split,
    with_position,
};
use sluice_lake::manifest::DataFile;
use sluice_lake::parquet::{Layout, Read, read_file};

use crate::catalog::EPOCH_COLUMN;

/// So much is kept of a rejected row; one that has as much was longer, or may have been.
const BYTES_MAX: usize = 64 * 1024;

/// Why a row of which not all bytes are there stays rejected.
const CUT: &str = "not all of its bytes were kept";

/// Where the rows stand.
#[derive(Debug, Clone)]
pub(super) enum Where {
    /// In `__rejected`; decoded by this.
    Rejected(Arc<dyn Reader>),
    /// In `__quarantine`, with these columns of their table.
    Quarantine(SchemaRef),
}

impl Where {
    /// The column that says in which epoch a row came.
    pub fn epoch_column(&self) -> &'static str {
        match self {
            Where::Rejected(_) => "epoch",
            Where::Quarantine(_) => EPOCH_COLUMN,
        }
    }
}

/// Reads stored rows again.
#[derive(Debug)]
pub(super) struct Stored(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    layout: Layout,
    files: Vec<DataFile>,
    rows: Where,
    epochs: Range<u64>,
    /// What each chunk had, by file and place in it: a file may be read several times.
    counts: Mutex<BTreeMap<(u32, u64), Counts>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    taken: u64,
    rejected: u64,
    cut: u64,
}

impl Stored {
    pub fn new(layout: Layout, files: Vec<DataFile>, rows: Where, epochs: Range<u64>) -> Self {
        Self(Arc::new(Inner { layout, files, rows, epochs, counts: Mutex::default() }))
    }

    /// Rows that were read.
    pub fn taken(&self) -> u64 {
        self.0.counts.lock().values().map(|c| c.taken).sum()
    }

    /// Rows that still cannot be decoded.
    pub fn rejected(&self) -> u64 {
        self.0.counts.lock().values().map(|c| c.rejected).sum()
    }

    /// Rows of which not all bytes are there.
    pub fn cut(&self) -> u64 {
        self.0.counts.lock().values().map(|c| c.cut).sum()
    }
}

impl Reader for Stored {
    fn schema(&self) -> SchemaRef {
        match &self.0.rows {
            Where::Rejected(reader) => reader.schema(),
            Where::Quarantine(schema) => with_position(schema),
        }
    }

    fn open(&self, split: Split, scan: &Scan) -> RowStream {
        let (inner, scan) = (self.0.clone(), scan.clone());
        let index = split.detail.as_u64().and_then(|index| usize::try_from(index).ok());
        let file = index.and_then(|index| inner.files.get(index)).cloned();
        let opened = async move {
            let file = file.ok_or_else(|| Error::bug("a split of another replay"))?;
            let (ordinal, layout) = (split.ordinal, inner.layout.clone());
            let batches = read_file(&layout, &file, Read::default()).await?;
            let chunks = batches.enumerate().then(move |(place, batch)| {
                let (inner, scan) = (inner.clone(), scan.clone());
                async move { inner.chunk(batch?, ordinal, place as u64, &scan).await }
            });
            Ok::<_, Error>(chunks)
        };
        let mut at = 0;
        stream::once(opened).try_flatten().map(move |chunk| numbered(chunk?, &mut at)).boxed()
    }
}

impl Inner {
    async fn chunk(
        &self,
        batch: RecordBatch,
        ordinal: u32,
        place: u64,
        scan: &Scan,
    ) -> Result<Decoded> {
        let batch = self.of_epochs(&batch)?;
        let mut counts = Counts { taken: batch.num_rows() as u64, ..Counts::default() };
        let decoded = match &self.rows {
            Where::Quarantine(schema) => Decoded::new(of_table(&batch, schema)?, Vec::new()),
            Where::Rejected(reader) => {
                let (whole, mut rejected) = whole(&batch)?;
                counts.cut = rejected.len() as u64;
                let mut chunks = Vec::new();
                if whole.num_rows() > 0 {
                    let held = Held::new(Arc::new(whole));
                    let object = self.layout.location.describe();
                    let split = Split {
                        ordinal,
                        object,
                        range: (0, counts.taken),
                        rows: counts.taken,
                        bytes: 0,
                        detail: serde_json::Value::Null,
                        held,
                    };
                    let plain = Scan { bounds: Vec::new(), ..scan.clone() };
                    let mut stream = reader.open(split, &plain);
                    while let Some(decoded) = stream.next().await {
                        let decoded = decoded?;
                        chunks.push(decoded.rows);
                        rejected.extend(decoded.rejected);
                    }
                }
                let rows = arrow::compute::concat_batches(&reader.schema(), &chunks)?;
                counts.rejected = rejected.len() as u64;
                Decoded::new(rows, rejected)
            }
        };
        self.counts.lock().insert((ordinal, place), counts);
        Ok(decoded)
    }

    /// The rows that came in the epochs that are taken.
    fn of_epochs(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let column = batch.column_by_name(self.rows.epoch_column());
        let column = column.and_then(|c| c.as_primitive_opt::<Int64Type>());
        let column =
            column.ok_or_else(|| Error::data("rows do not say in which epoch they came"))?;
        let taken = |epoch: Option<i64>| {
            let epoch = epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or(0);
            Some(self.epochs.contains(&epoch))
        };
        let taken: BooleanArray = column.iter().map(taken).collect();
        Ok(filter_record_batch(batch, &taken)?)
    }
}

/// Rows of which all bytes are there, and the others as they were.
fn whole(batch: &RecordBatch) -> Result<(RecordBatch, Vec<Rejected>)> {
    let strange = || Error::data("a table of rejected rows has other columns");
    let column = |name: &str| batch.column_by_name(name).ok_or_else(strange);
    let bytes = column("bytes")?.as_binary_opt::<i32>().ok_or_else(strange)?;
    let objects = column(REJECTED_FILE_COLUMN)?.as_string_opt::<i32>().ok_or_else(strange)?;
    let places = column("position")?.as_primitive_opt::<Int64Type>().ok_or_else(strange)?;
    // One without bytes may have had none: whether it is a row of its source is the connector's.
    let is_whole = |row: usize| !bytes.is_null(row) && bytes.value(row).len() < BYTES_MAX;
    let kept: BooleanArray = (0..batch.num_rows()).map(|row| Some(is_whole(row))).collect();
    let cut = (0..batch.num_rows()).filter(|row| !is_whole(*row)).map(|row| Rejected {
        object: objects.value(row).to_string(),
        position: places.value(row).unsigned_abs(),
        bytes: Vec::new(),
        reason: CUT.to_string(),
    });
    let cut = cut.collect();
    Ok((filter_record_batch(batch, &kept)?, cut))
}

/// The columns of a table of rows from its quarantine; what that does not have is null.
fn of_table(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len() + 1);
    for field in schema.fields() {
        columns.push(match batch.column_by_name(field.name()) {
            Some(column) => cast(column, field.data_type())?,
            None => arrow::array::new_null_array(field.data_type(), rows),
        });
    }
    columns.push(Arc::new(Int64Array::from(vec![0; rows])));
    Ok(RecordBatch::try_new(with_position(schema), columns)?)
}

/// Positions that count all rows of a split.
fn numbered(decoded: Decoded, at: &mut i64) -> Result<Decoded> {
    let Decoded { rows, rejected, .. } = decoded;
    let first = *at;
    *at += rows.num_rows() as i64;
    let mut columns = rows.columns().to_vec();
    columns.pop();
    columns.push(Arc::new(Int64Array::from_iter_values(first..*at)));
    Ok(Decoded::new(RecordBatch::try_new(rows.schema(), columns)?, rejected))
}
