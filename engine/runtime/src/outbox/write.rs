//! New rows of an epoch into files of an outbox.
//!
//! The files are durable when they are given back, and nothing names them yet.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use sluice_core::{Error, Memory, Result, Share};
use sluice_lake::manifest::OutboxFile;
use sluice_lake::parquet::{FileNaming, Layout, PartitionedWriter, WriteOptions, conform};
use tokio::task::JoinSet;

use super::Outbox;
use crate::catalog::sql_error;

/// A file is delivered in one piece: about what a broker takes in a few seconds, so that little is
/// delivered again after a failure, and no transaction stays open for long.
const FILE_BYTES: u64 = 32 * 1024 * 1024;

/// Where an epoch's rows for a sink go.
#[derive(Debug, Clone)]
pub struct Place {
    /// The outbox.
    pub outbox: Outbox,
    /// The columns.
    pub schema: SchemaRef,
    /// The epoch.
    pub epoch: u64,
    /// What keeps this attempt's names apart from any other's.
    pub unique: String,
    /// The memory pool, and the most that the open file of one stream takes of it.
    pub memory: (Arc<dyn Memory>, usize),
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

/// Writes rows, each stream into files of its own.
pub async fn write(
    streams: Vec<SendableRecordBatchStream>,
    place: &Place,
) -> Result<Vec<OutboxFile>> {
    let mut tasks = JoinSet::new();
    for (index, stream) in streams.into_iter().enumerate() {
        let place = place.clone();
        tasks.spawn(async move { Ok((index, write_stream(stream, index, &place).await?)) });
    }
    let mut written: Vec<(usize, Vec<OutboxFile>)> = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let ended: Result<_> =
            ended.map_err(|e| Error::bug("an outbox ended by itself").because(e))?;
        written.push(ended?);
    }
    written.sort_by_key(|(index, _)| *index);
    Ok(written.into_iter().flat_map(|(_, files)| files).collect())
}

async fn write_stream(
    mut rows: SendableRecordBatchStream,
    index: usize,
    place: &Place,
) -> Result<Vec<OutboxFile>> {
    let folder = place.outbox.files();
    let layout = Layout::new(folder.clone(), place.schema.clone(), Vec::new())?;
    let mut writer: Option<PartitionedWriter> = None;
    while let Some(batch) = rows.next().await {
        let batch = batch.map_err(|e| sql_error("a query failed", e))?;
        if batch.num_rows() == 0 {
            continue;
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(begin(&layout, index, place)?),
        };
        writer.write(&conform(&batch, &place.schema)?).await?;
    }
    let Some(writer) = writer else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for file in writer.finish().await? {
        let path = folder.join(&file.path)?.path.to_string();
        files.push(OutboxFile { path, bytes: file.bytes, rows: file.rows });
    }
    Ok(files)
}

fn begin(layout: &Layout, index: usize, place: &Place) -> Result<PartitionedWriter> {
    let options = WriteOptions { target_file_bytes: FILE_BYTES, ..WriteOptions::default() };
    let prefix = format!("{:020}-{}-{index}", place.epoch, place.unique);
    let owner = format!("outbox of sink {}", place.outbox.sink());
    let (memory, bytes_max) = &place.memory;
    let held = Share::of(memory.as_ref(), &owner, *bytes_max);
    let naming = FileNaming { prefix, modified_ms: place.now_ms };
    PartitionedWriter::new(layout.clone(), options, naming, held)
}
