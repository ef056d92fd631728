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
use crate::parquet::{BatchStream, Layout, Read, read_file};

/// Files searched at once, each on a core of its own; more would only hold more row groups.
const FILES_AT_ONCE: usize = 2;

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
    let found: Vec<Option<Found>> = stream::iter(filter.candidates(files)?)
        .map(|file| {
            let search = search(layout.clone(), file, filter.clone());
            async {
                tokio::spawn(search).await.map_err(|e| Error::bug("a search ended").because(e))?
            }
        })
        .buffered(FILES_AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

async fn search(layout: Layout, file: DataFile, filter: Arc<KeyFilter>) -> Result<Option<Found>> {
    let mut batches = read_file(&layout, &file, Read::columns(filter.names())).await?;
    let mut rows = BooleanBufferBuilder::new(0);
    while let Some(batch) = batches.try_next().await? {
        rows.append_buffer(filter.contains(&batch)?.values());
    }
    let rows = rows.finish();
    Ok((rows.count_set_bits() > 0).then_some(Found { file, rows }))
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
        let rows = read_file(layout, &self.file, Read { projection: None, selection }).await?;
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

/// The rows of `file` without those whose bit is set in `gone`.
pub async fn rows_without(
    layout: &Layout,
    file: &DataFile,
    gone: BooleanBuffer,
) -> Result<BatchStream> {
    let rows = read_file(layout, file, Read::default()).await?;
    let mut at = 0;
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
