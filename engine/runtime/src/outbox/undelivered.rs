//! Rows that a sink refused for good: kept beside the outbox, with the reason, before what was
//! handed over with them is committed.
//!
//! In: numbers of rows in a file of the outbox. Out: a Parquet file for each of those, which queries
//! see as `<sink>__undelivered` once its epoch is recorded as delivered.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt;
use sluice_core::{Memory, OutboxPosition, OutboxRows, Refused, Result};
use sluice_lake::manifest::DataFile;
use sluice_lake::parquet::{Layout, footer_rows};
use sluice_lake::store::{Location, Series};

use super::Outbox;
use crate::catalog::{EPOCH_COLUMN, SnapshotTable};
use crate::state::encode;

/// The column that says why a row was refused.
const REASON_COLUMN: &str = "_reason";

/// The columns of refused rows: those of the sink's rows, then why and when.
pub fn undelivered_schema(rows: &Schema) -> SchemaRef {
    let columns = rows.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    let mut fields: Vec<Field> = columns.collect();
    fields.push(Field::new(REASON_COLUMN, DataType::Utf8, true));
    fields.push(Field::new(EPOCH_COLUMN, DataType::Int64, true));
    Arc::new(Schema::new(fields))
}

fn place(outbox: &Outbox, at: OutboxPosition) -> Location {
    outbox.undelivered().child(&format!("{:020}-{:06}.parquet", at.epoch, at.file))
}

/// Keeps the rows of the file at `at` that were refused. An earlier attempt may have kept others.
pub(super) async fn keep(
    outbox: &Outbox,
    at: OutboxPosition,
    rows: OutboxRows,
    refused: &[Refused],
    memory: &dyn Memory,
) -> Result<()> {
    let place = place(outbox, at);
    if refused.is_empty() {
        return place.store.delete(&place.path).await;
    }
    let owner = format!("undelivered rows of sink {}", outbox.sink());
    let mut held = memory.reserve(&owner);
    let (mut kept, mut first, mut left) = (Vec::new(), 0_u64, refused);
    let mut rows = rows;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let end = first + batch.num_rows() as u64;
        let (here, later) = left.split_at(left.partition_point(|r| r.row < end));
        if !here.is_empty() {
            let batch = refused_rows(&batch, first, here, at.epoch)?;
            held.resize(held.bytes() + batch.get_array_memory_size())?;
            kept.push(batch);
        }
        (first, left) = (end, later);
    }
    let Some(schema) = kept.first().map(RecordBatch::schema) else { return Ok(()) };
    place.store.put(&place.path, encode(schema, &kept)?).await
}

/// The rows of `batch`, whose first has the number `first`, that were refused.
fn refused_rows(
    batch: &RecordBatch,
    first: u64,
    refused: &[Refused],
    epoch: u64,
) -> Result<RecordBatch> {
    let numbers = UInt64Array::from_iter_values(refused.iter().map(|r| r.row - first));
    let taken = take_record_batch(batch, &numbers)?;
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let mut columns: Vec<ArrayRef> = taken.columns().to_vec();
    let reasons = refused.iter().map(|r| r.reason.as_str());
    columns.push(Arc::new(StringArray::from_iter_values(reasons)));
    columns.push(Arc::new(Int64Array::from(vec![epoch; taken.num_rows()])));
    Ok(RecordBatch::try_new(undelivered_schema(&batch.schema()), columns)?)
}

/// The files of refused rows of epochs up to `epoch`, by epoch.
async fn files(outbox: &Outbox, epoch: u64) -> Result<Vec<(u64, DataFile)>> {
    let folder = outbox.undelivered();
    let mut files = Vec::new();
    for meta in folder.store.list(&folder.path).await? {
        let Some((of, _)) = Series::parse(&meta.location).filter(|(of, _)| *of <= epoch) else {
            continue;
        };
        let path = meta.location.filename().unwrap_or_default().to_string();
        let modified_ms = meta.last_modified.timestamp_millis();
        files.push((of, DataFile { path, bytes: meta.size, modified_ms, ..DataFile::default() }));
    }
    Ok(files)
}

/// Rows refused in epochs `from..=to`, by the footers of their files.
pub async fn undelivered_rows(
    outbox: &Outbox,
    schema: &SchemaRef,
    (from, to): (u64, u64),
) -> Result<u64> {
    let layout = layout(outbox, schema);
    let mut rows = 0;
    for (_, file) in files(outbox, to).await?.iter().filter(|(of, _)| *of >= from) {
        rows += footer_rows(&layout, file).await?;
    }
    Ok(rows)
}

fn layout(outbox: &Outbox, schema: &SchemaRef) -> Layout {
    let (location, schema) = (outbox.undelivered(), undelivered_schema(schema));
    Layout { location, schema, partition_by: Vec::new() }
}

/// The rows that a sink refused, as a table; `schema` is that of the sink's rows.
pub async fn undelivered_table(outbox: &Outbox, schema: &SchemaRef) -> Result<SnapshotTable> {
    let record = outbox.record().await?;
    let found = match record {
        Some(record) => files(outbox, record.epoch).await?,
        None => Vec::new(),
    };
    let layout = layout(outbox, schema);
    Ok(SnapshotTable {
        location: layout.location,
        schema: layout.schema,
        partition_by: Vec::new(),
        files: found.into_iter().map(|(_, file)| file).collect(),
        version: None,
    })
}
