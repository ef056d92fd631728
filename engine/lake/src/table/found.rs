//! Rows of a table by their place: where those with wanted keys are, those rows, and the others.
//!
//! In: files and a [`KeyFilter`]. Out: one bit per row of a file, and streams of rows; no more than
//! a few batches are in memory at once.

use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::RowSelection;

use sluice_core::{Error, Result};

use super::filter::KeyFilter;
use crate::manifest::DataFile;
use crate::parquet::{BatchStream, Layout, Part, Read, parts, read_file};

/// Files, or parts of one, searched at once, each on a core of its own; more would only hold more row
/// groups.
const SEARCHES_AT_ONCE: usize = 2;

/// A file with rows whose keys may be among those wanted.
#[derive(Debug, Clone)]
pub struct Found {
    /// The file.
    pub file: DataFile,
    /// One bit per row of it.
    rows: BooleanBuffer,
}

/// The rows of `files` that `filter` lets pass.
pub async fn find(
    layout: &Layout,
    files: &[DataFile],
    filter: &Arc<KeyFilter>,
) -> Result<Vec<Found>> {
    let candidates = filter.candidates(files)?;
    let count = SEARCHES_AT_ONCE.div_ceil(candidates.len().max(1));
    let parts: Vec<Vec<(DataFile, Part)>> = stream::iter(candidates)
        .map(|file| async move {
            let parts = parts(layout, &file, count).await?;
            Ok::<_, Error>(parts.into_iter().map(|part| (file.clone(), part)).collect())
        })
        .buffered(SEARCHES_AT_ONCE)
        .try_collect()
        .await?;
    let searched: Vec<(DataFile, BooleanBuffer)> = stream::iter(parts.into_iter().flatten())
        .map(|(file, part)| {
            let search = search(layout.clone(), file.clone(), part, filter.clone());
            async {
                let rows = tokio::spawn(search).await;
                let rows = rows.map_err(|e| Error::bug("a search ended").because(e))?;
                Ok::<_, Error>((file, rows?))
            }
        })
        .buffered(SEARCHES_AT_ONCE)
        .try_collect()
        .await?;
    let found = searched.chunk_by(|(file, _), (next, _)| file.path == next.path).filter_map(joined);
    Ok(found.collect())
}

/// What was found in the parts of one file; none where that is nothing.
fn joined(parts: &[(DataFile, BooleanBuffer)]) -> Option<Found> {
    let mut rows = BooleanBufferBuilder::new(0);
    parts.iter().for_each(|(_, part)| rows.append_buffer(part));
    let rows = rows.finish();
    let (file, _) = parts.first().filter(|_| rows.count_set_bits() > 0)?;
    Some(Found { file: file.clone(), rows })
}

async fn search(
    layout: Layout,
    file: DataFile,
    part: Part,
    filter: Arc<KeyFilter>,
) -> Result<BooleanBuffer> {
    let read = Read { groups: part.groups, ..Read::columns(filter.names()) };
    let mut batches = read_file(&layout, &file, read).await?;
    let mut rows = BooleanBufferBuilder::new(0);
    while let Some(batch) = batches.try_next().await? {
        rows.append_buffer(filter.contains(&batch)?.values());
    }
    Ok(rows.finish())
}

impl Found {
    /// How many rows the file has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the file has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The found rows, whole, in the file's order, each batch with its rows' places in the file.
    pub async fn rows(
        self,
        layout: &Layout,
    ) -> Result<BoxStream<'static, Result<(RecordBatch, Vec<u32>)>>> {
        let wanted = BooleanArray::new(self.rows.clone(), None);
        let selection = Some(RowSelection::from_filters(&[wanted]));
        let rows = read_file(layout, &self.file, Read { selection, ..Read::default() }).await?;
        let mut at = 0;
        let placed = rows.map_ok(move |batch| {
            let mut places = Vec::with_capacity(batch.num_rows());
            while places.len() < batch.num_rows() && at < self.rows.len() {
                if self.rows.value(at) {
                    places.push(at as u32);
                }
                at += 1;
            }
            (batch, places)
        });
        Ok(placed.boxed())
    }
}

/// The rows of a part of `file` without those whose bit is set in `gone`, which has one for each row
/// of the file.
pub async fn rows_without(
    layout: &Layout,
    file: &DataFile,
    part: Part,
    gone: BooleanBuffer,
) -> Result<BatchStream> {
    let read = Read { groups: part.groups, ..Read::default() };
    let rows = read_file(layout, file, read).await?;
    let mut at = part.rows.start;
    let kept = rows.map(move |batch| {
        let batch = batch?;
        let rows = batch.num_rows();
        if at + rows > gone.len() {
            return Err(Error::bug("a file has more rows than it had when it was searched"));
        }
        let gone = gone.slice(at, rows);
        at += rows;
        match gone.count_set_bits() {
            0 => Ok(batch),
            _ => Ok(filter_record_batch(&batch, &BooleanArray::new(!&gone, None))?),
        }
    });
    Ok(kept.boxed())
}
