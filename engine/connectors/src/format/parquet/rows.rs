//! What a scan needs of some row groups of a file.
//!
//! In: a file, a layout, row groups, a scan. Out: chunks of rows. A row group that the scan rules
//! out comes as chunks without rows, so that chunks and positions are the same whatever the scan.
//! A column that is not wanted is left out only if it can reject no row; where another one rejects
//! a row, the rest of the row group is read with all of them, so that rejected rows are kept whole.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::Field;
use futures::StreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use parquet::file::metadata::RowGroupMetaData;
use sluice_core::{Decoded, RESCUED_COLUMN, Reservation, Result, Scan};

use super::decode::{Batches, Layout, Origin, error};
use super::{cast, prune};

/// Rows per batch: what DataFusion works with.
const BATCH_ROWS: usize = 8_192;

/// The rows of some row groups.
pub struct Rows<R> {
    file: R,
    metadata: ArrowReaderMetadata,
    layout: Arc<Layout>,
    scan: Scan,
    /// Row groups not begun yet.
    groups: Range<usize>,
    at: Option<Group<R>>,
    batches: Batches,
    /// What is held of the file.
    memory: Box<dyn Reservation>,
}

/// The row group at hand.
enum Group<R> {
    /// Ruled out, with this many rows still to be told.
    Pruned(u64),
    /// Being read.
    Open(Reading<R>),
}

struct Reading<R> {
    group: usize,
    stream: ParquetRecordBatchStream<R>,
    /// Chunks given of it.
    given: usize,
    /// Whether all columns are read.
    whole: bool,
}

impl<R: AsyncFileReader + Clone + Unpin + 'static> Rows<R> {
    /// Begins to read those of `groups` that the file has; the first row is the origin's. What is read
    /// of a row group is held in `memory` until all of it is decoded.
    pub async fn open(
        mut file: R,
        layout: Arc<Layout>,
        groups: Range<usize>,
        origin: Origin,
        scan: Scan,
        memory: Box<dyn Reservation>,
    ) -> Result<Self> {
        let metadata = ArrowReaderMetadata::load_async(&mut file, Default::default()).await;
        let metadata = metadata.map_err(|e| error(e, &origin.object))?;
        layout.check(metadata.schema(), &origin.object)?;
        let groups = groups.start..groups.end.min(metadata.metadata().num_row_groups());
        let batches = Batches::new(layout.clone(), origin);
        Ok(Self { file, metadata, layout, scan, groups, at: None, batches, memory })
    }

    /// The next chunk; none at the end.
    pub async fn next(&mut self) -> Result<Option<Decoded>> {
        loop {
            match &mut self.at {
                None => match self.groups.next() {
                    None => return Ok(None),
                    Some(group) => self.at = Some(self.begin(group)?),
                },
                Some(Group::Pruned(0)) => self.at = None,
                Some(Group::Pruned(left)) => {
                    let rows = (*left).min(BATCH_ROWS as u64);
                    *left -= rows;
                    self.batches.skip(rows);
                    return Ok(Some(Decoded::pruned(self.layout.schema().clone(), rows)));
                }
                Some(Group::Open(reading)) => match reading.stream.next().await {
                    None => self.at = None,
                    Some(read) => {
                        let read = read.map_err(|e| error(e, self.batches.object()))?;
                        let decoded = self.batches.rows(&read)?;
                        if decoded.rejected.is_empty() || reading.whole {
                            reading.given += 1;
                            self.batches.skip(read.num_rows() as u64);
                            return Ok(Some(decoded));
                        }
                        let (group, given) = (reading.group, reading.given);
                        // What was read of it is let go first.
                        self.at = None;
                        let mut again = self.again(group)?;
                        again.skip(given, self.batches.object()).await?;
                        self.at = Some(Group::Open(again));
                    }
                },
            }
        }
    }

    fn begin(&mut self, group: usize) -> Result<Group<R>> {
        if prune::ruled_out(&self.scan.bounds, &self.layout, &self.metadata, group) {
            let rows = self.metadata.metadata().row_group(group).num_rows();
            return Ok(Group::Pruned(u64::try_from(rows).unwrap_or(0)));
        }
        let whole = self.columns(|column| self.layout.reads(column.name()));
        let needed = self.columns(|column| needed(&self.layout, &self.scan, column));
        let stream = self.stream(group, &needed)?;
        Ok(Group::Open(Reading { group, stream, given: 0, whole: needed == whole }))
    }

    /// Reads a row group with all columns.
    fn again(&mut self, group: usize) -> Result<Reading<R>> {
        let all = self.columns(|column| self.layout.reads(column.name()));
        Ok(Reading { group, stream: self.stream(group, &all)?, given: 0, whole: true })
    }

    fn stream(&mut self, group: usize, columns: &[usize]) -> Result<ParquetRecordBatchStream<R>> {
        let (file, metadata) = (self.file.clone(), self.metadata.clone());
        let opened = ParquetRecordBatchStreamBuilder::new_with_metadata(file, metadata);
        let mask = ProjectionMask::roots(opened.parquet_schema(), columns.iter().copied());
        self.memory.insist(stored_bytes(self.metadata.metadata().row_group(group), &mask))?;
        let opened = opened.with_projection(mask).with_row_groups(vec![group]);
        let stream = opened.with_batch_size(BATCH_ROWS).build();
        stream.map_err(|e| error(e, self.batches.object()))
    }

    /// The places of those columns of the file that are to be read.
    fn columns(&self, read: impl Fn(&Field) -> bool) -> Vec<usize> {
        let columns = self.metadata.schema().fields().iter().enumerate();
        columns.filter(|(_, column)| read(column)).map(|(i, _)| i).collect()
    }
}

impl<R: AsyncFileReader + Unpin + 'static> Reading<R> {
    /// Passes over chunks that were given already.
    async fn skip(&mut self, given: usize, object: &str) -> Result<()> {
        while self.given < given {
            let passed = self.stream.next().await.transpose();
            passed.map_err(|e| error(e, object))?;
            self.given += 1;
        }
        Ok(())
    }
}

/// Bytes of the columns of a row group that are read, as stored.
fn stored_bytes(group: &RowGroupMetaData, read: &ProjectionMask) -> usize {
    let columns = group.columns().iter().enumerate();
    let read = columns.filter(|(i, _)| read.leaf_included(*i));
    read.map(|(_, column)| usize::try_from(column.compressed_size()).unwrap_or(0)).sum()
}

/// Whether a column of a file has to be read: its values are wanted, or may reject a row.
fn needed(layout: &Layout, scan: &Scan, column: &Field) -> bool {
    if !layout.wants(column.name()) {
        return layout.reads(column.name()) && scan.wants(RESCUED_COLUMN);
    }
    let mut fields = layout.columns().filter(|(field, _)| field.origin() == column.name());
    fields.any(|(field, wanted)| {
        let may_reject = field.required || cast::may_lose(column.data_type(), wanted);
        may_reject || scan.wants(&field.name)
    })
}

impl<R> std::fmt::Debug for Rows<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { groups, batches, scan, .. } = self;
        f.debug_struct("Rows")
            .field("groups", groups)
            .field("batches", batches)
            .field("scan", scan)
            .finish_non_exhaustive()
    }
}
