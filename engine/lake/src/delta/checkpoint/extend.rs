//! A checkpoint made from the one before it and the entries since.
//!
//! In: a checkpoint of one file, with the columns that the library writes. Out: the next one. Its
//! rows pass through a batch at a time, without those of which the entries say something newer and
//! without files that were removed too long ago; what the entries say comes behind them. A table
//! that is written every second names half a million removed files for a week: but for the bytes of
//! the file that is written, they are never held at once. What other columns, entries or features mean is left to the library.

use std::io::Cursor;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StructArray};
use arrow::compute::{filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::json;

use sluice_core::{Error, Result};

use super::super::action::{self, Metadata};
use super::super::expire::Retention;
use super::super::log;
use super::news::News;
use crate::parquet::ObjectReader;
use crate::store::Location;

/// With more entries behind a checkpoint than this what they say is too much to hold.
const ENTRIES_MAX: i64 = 10_000;

/// Rows that pass through at a time.
const BATCH_ROWS: usize = 8192;

/// The columns of a checkpoint, as the library writes them, with what is in each.
const COLUMNS: &[(&str, &[&str])] = &[
    ("add", ADD),
    ("remove", REMOVE),
    (
        "metaData",
        &[
            "id",
            "name",
            "description",
            "format",
            "schemaString",
            "partitionColumns",
            "createdTime",
            "configuration",
        ],
    ),
    ("protocol", &["minReaderVersion", "minWriterVersion", "readerFeatures", "writerFeatures"]),
    ("txn", &["appId", "version", "lastUpdated"]),
    ("domainMetadata", &["domain", "configuration", "removed"]),
    ("sidecar", &["path", "sizeInBytes", "modificationTime", "tags"]),
];

const ADD: &[&str] = &[
    "path",
    "partitionValues",
    "size",
    "modificationTime",
    "dataChange",
    "stats",
    "tags",
    "deletionVector",
    "baseRowId",
    "defaultRowCommitVersion",
    "clusteringProvider",
];

const REMOVE: &[&str] = &[
    "path",
    "deletionTimestamp",
    "dataChange",
    "extendedFileMetadata",
    "partitionValues",
    "size",
    "stats",
    "tags",
    "deletionVector",
    "baseRowId",
    "defaultRowCommitVersion",
];

/// Writes the checkpoint of version `until` from that of an earlier version; false where the library
/// has to make it, and nothing was written.
pub(crate) async fn extend(
    location: &Location,
    (version, path): (i64, &Path),
    until: i64,
) -> Result<bool> {
    let classic = format!("{version:020}.checkpoint.parquet");
    if path.filename() != Some(classic.as_str()) || until - version > ENTRIES_MAX {
        return Ok(false);
    }
    let damaged = |e| Error::data(format!("a checkpoint cannot be read path={path}")).because(e);
    let gone = || Error::conflict(format!("a checkpoint is gone path={path}"));
    let size = location.store.head(path).await?.ok_or_else(gone)?.size;
    let before = ObjectReader::new(&location.store, path.clone(), size);
    let builder = ParquetRecordBatchStreamBuilder::new(before.clone()).await.map_err(damaged)?;
    let schema = builder.schema().clone();
    if !is_known(&schema) {
        return Ok(false);
    }
    let Some(news) = News::read(location, version, until).await? else { return Ok(false) };
    let Some(metadata) = metadata(before).await.map_err(damaged)? else { return Ok(false) };
    let retention = Retention::of(|key| metadata.configuration.get(key).map(String::as_str));
    let expired_ms = news.now_ms.saturating_sub(retention.files_ms);

    let mut next = Next::new(schema.clone())?;
    let mut rows = builder.with_batch_size(BATCH_ROWS).build().map_err(damaged)?;
    while let Some(batch) = rows.try_next().await.map_err(damaged)? {
        let Some(holds) = holds(&batch, &news, expired_ms) else { return Ok(false) };
        next.write(&filter_record_batch(&batch, &holds)?)?;
    }
    let lines: Vec<String> = news.lines(expired_ms).map(ToString::to_string).collect();
    let text = Cursor::new(lines.join("\n"));
    for batch in ReaderBuilder::new(schema).with_batch_size(BATCH_ROWS).build(text)? {
        // What does not fit into the columns is not ours.
        let Ok(batch) = batch else { return Ok(false) };
        next.write(&batch)?;
    }
    next.put(location, until).await?;
    Ok(true)
}

/// Whether these are the columns that we know, and no others.
fn is_known(schema: &Schema) -> bool {
    let is_one = |(name, inside): &(&str, &[&str])| match schema.field_with_name(name) {
        Ok(field) => match field.data_type() {
            DataType::Struct(fields) => {
                fields.len() == inside.len()
                    && inside.iter().all(|name| fields.find(name).is_some())
            }
            _ => false,
        },
        Err(_) => false,
    };
    schema.fields().len() == COLUMNS.len() && COLUMNS.iter().all(is_one)
}

/// What the table is.
async fn metadata(before: ObjectReader) -> std::result::Result<Option<Metadata>, ParquetError> {
    let builder = ParquetRecordBatchStreamBuilder::new(before).await?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["metaData"]);
    let mut rows = builder.with_projection(mask).build()?;
    while let Some(batch) = rows.try_next().await? {
        let there = is_not_null(batch.column(0))?;
        if there.true_count() > 0 {
            let mut writer = LineDelimitedWriter::new(Vec::new());
            writer.write(&filter_record_batch(&batch, &there)?)?;
            writer.finish()?;
            let lines = action::parse(&writer.into_inner(), "checkpoint").unwrap_or_default();
            return Ok(lines.into_iter().find_map(|line| line.meta_data));
        }
    }
    Ok(None)
}

/// Which rows hold on; none where there is one that is not ours.
fn holds(batch: &RecordBatch, news: &News, expired_ms: i64) -> Option<BooleanArray> {
    let part = |name: &str| batch.column_by_name(name)?.as_struct_opt();
    let (add, remove, txn) = (part("add")?, part("remove")?, part("txn")?);
    let (metadata, protocol) = (part("metaData")?, part("protocol")?);
    let (domains, sidecars) = (part("domainMetadata")?, part("sidecar")?);
    let vectors = [add, remove].map(|part| part.column_by_name("deletionVector"));
    if sidecars.null_count() < sidecars.len()
        || vectors.into_iter().any(|v| v.is_none_or(|v| v.null_count() < v.len()))
    {
        return None;
    }
    let text = |part: &StructArray, name: &str| part.column_by_name(name)?.as_string_opt().cloned();
    let (added, removed): (arrow::array::StringArray, arrow::array::StringArray) =
        (text(add, "path")?, text(remove, "path")?);
    let apps: arrow::array::StringArray = text(txn, "appId")?;
    let ages = remove.column_by_name("deletionTimestamp")?.as_primitive_opt::<Int64Type>()?;
    let one = |row: usize| {
        Some(if add.is_valid(row) {
            !news.has_file(added.value(row))?
        } else if remove.is_valid(row) {
            let at = if ages.is_valid(row) { ages.value(row) } else { 0 };
            at > expired_ms && !news.has_file(removed.value(row))?
        } else if txn.is_valid(row) {
            !news.has_txn(apps.value(row))
        } else {
            [metadata, protocol, domains].iter().any(|part| part.is_valid(row))
        })
    };
    (0..batch.num_rows()).map(one).collect::<Option<Vec<bool>>>().map(BooleanArray::from)
}

/// The checkpoint that is written.
struct Next {
    writer: ArrowWriter<Vec<u8>>,
    rows: usize,
    /// Of these, active files.
    files: usize,
}

impl Next {
    fn new(schema: SchemaRef) -> Result<Self> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer =
            ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(unwritten)?;
        Ok(Self { writer, rows: 0, files: 0 })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        self.files += batch.column_by_name("add").map_or(0, |add| add.len() - add.null_count());
        self.writer.write(batch).map_err(unwritten)
    }

    async fn put(self, location: &Location, version: i64) -> Result<()> {
        let (rows, files) = (self.rows, self.files);
        let bytes = self.writer.into_inner().map_err(unwritten)?;
        let hint = json!({
            "version": version,
            "size": rows,
            "sizeInBytes": bytes.len(),
            "numOfAddFiles": files,
        });
        let at = |name: &str| location.join(&format!("_delta_log/{name}"));
        let file = at(&format!("{version:020}.checkpoint.parquet"))?;
        location.store.put(&file.path, Bytes::from(bytes)).await?;
        if log::hinted(location).await?.is_some_and(|hinted| hinted > version) {
            return Ok(());
        }
        let path = at("_last_checkpoint")?.path;
        location.store.put_hint(&path, Bytes::from(hint.to_string())).await
    }
}

fn unwritten(error: ParquetError) -> Error {
    Error::bug("a checkpoint cannot be encoded").because(error)
}
