//! Files written and read back: partitions, bounds on open files and memory, other schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use futures::stream::TryStreamExt;

use sluice_core::testing::Pool;
use sluice_core::{Kind, Memory, Secrets, Unbounded};

use super::*;

fn memory(name: &str) -> Location {
    crate::store::open(&format!("memory://parquet-{name}/table"), &Secrets::default()).unwrap()
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("country", DataType::Utf8, true),
        Field::new("day", DataType::Date32, true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

fn layout(location: Location, partition_by: &[&str]) -> Layout {
    let by = partition_by.iter().map(|c| c.to_string()).collect();
    Layout::new(location, schema(), by).unwrap()
}

/// `rows` rows from id `start`, spread over `countries` countries and three days.
fn rows(start: i64, rows: i64, countries: i64) -> RecordBatch {
    let ids = start..start + rows;
    let country = |id: i64| match id % countries {
        0 => None,
        1 => Some(String::new()),
        n => Some(format!("c/{n} é")),
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(StringArray::from_iter(ids.clone().map(country))),
        Arc::new(Date32Array::from_iter_values(ids.clone().map(|id| 20_000 + (id % 3) as i32))),
        Arc::new(StringArray::from_iter_values(ids.map(|id| format!("note {}", id * 7919)))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn writer(layout: &Layout, options: WriteOptions, memory: &dyn Memory) -> PartitionedWriter {
    let naming = FileNaming { prefix: "part-x".into(), modified_ms: 5 };
    PartitionedWriter::new(layout.clone(), options, naming, memory.reserve("test")).unwrap()
}

async fn write(layout: &Layout, options: WriteOptions, batches: &[RecordBatch]) -> Vec<DataFile> {
    let mut writer = writer(layout, options, &Unbounded);
    for batch in batches {
        writer.write(batch).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn read(layout: &Layout, files: &[DataFile]) -> RecordBatch {
    let mut batches = Vec::new();
    for file in files {
        let stream = read_file(layout, file, Read::default()).await.unwrap();
        let part: Vec<RecordBatch> = stream.try_collect().await.unwrap();
        assert_eq!(rows_in(&part), file.rows, "{}", file.path);
        assert_eq!(footer_rows(layout, file).await.unwrap(), file.rows);
        batches.extend(part);
    }
    concat_batches(&layout.schema, &batches).unwrap()
}

fn rows_in(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|b| b.num_rows() as u64).sum()
}

fn by_id(batch: &RecordBatch) -> BTreeMap<i64, String> {
    let ids = batch.column(0).as_primitive::<Int64Type>();
    let line = |at: usize| format!("{:?}", batch.slice(at, 1).columns());
    ids.values().iter().enumerate().map(|(at, id)| (*id, line(at))).collect()
}

/// What reading back gives: an empty partition value is null.
fn expected(batches: &[RecordBatch]) -> BTreeMap<i64, String> {
    let whole = concat_batches(&schema(), batches).unwrap();
    let country: StringArray =
        whole.column(1).as_string::<i32>().iter().map(|c| c.filter(|t| !t.is_empty())).collect();
    let mut columns = whole.columns().to_vec();
    columns[1] = Arc::new(country);
    by_id(&RecordBatch::try_new(schema(), columns).unwrap())
}

#[tokio::test]
async fn rows_come_back_by_partition() {
    let layout = layout(memory("plain"), &["country", "day"]);
    let batches = [rows(0, 500, 4), rows(500, 300, 7)];
    let files = write(&layout, WriteOptions::default(), &batches).await;
    assert_eq!(by_id(&read(&layout, &files).await), expected(&batches));
    let folders = files.iter().filter(|f| f.path.starts_with("country=c%2F2%20%C3%A9/day=2024-"));
    assert_eq!(folders.count(), 3);
    for file in &files {
        let from_path = values_of_path(&file.path, &layout.partition_by).unwrap();
        assert_eq!(from_path, file.partition_values, "{}", file.path);
        let object = layout.location.store.head(&layout.object(&file.path).unwrap()).await.unwrap();
        assert_eq!(object.unwrap().size, file.bytes);
        let stats: serde_json::Value = serde_json::from_str(file.stats.as_ref().unwrap()).unwrap();
        assert_eq!(stats["numRecords"], file.rows);
        assert!(stats["minValues"].get("country").is_none());
    }
}

#[tokio::test]
async fn local_disk_keeps_escaped_folders_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("100% lake");
    let location = crate::store::open(path.to_str().unwrap(), &Secrets::default()).unwrap();
    let layout = layout(location, &["country"]);
    let batches = [rows(0, 100, 5)];
    let files = write(&layout, WriteOptions::default(), &batches).await;
    assert!(path.join("country=c%2F2%20%C3%A9").is_dir());
    assert_eq!(by_id(&read(&layout, &files).await), expected(&batches));
}

#[tokio::test]
async fn more_partitions_than_open_files() {
    let layout = layout(memory("many"), &["country"]);
    let options = WriteOptions { open_max: 8, ..WriteOptions::default() };
    let batches: Vec<_> = (0..10).map(|n| rows(n * 400, 400, 50)).collect();
    let files = write(&layout, options, &batches).await;
    assert!(files.len() > 49, "{}", files.len());
    assert_eq!(by_id(&read(&layout, &files).await), expected(&batches));
    let mut paths: Vec<_> = files.iter().map(|f| f.path.clone()).collect();
    paths.dedup();
    assert_eq!(paths.len(), files.len());
}

#[tokio::test]
async fn files_end_at_the_wanted_size_and_stream_in_parts() {
    let layout = layout(memory("cut"), &[]);
    let noise = |n: i64| {
        let mix = |i: i64| (i as u128 + 1).wrapping_pow(5).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C);
        let text = |i: i64| format!("{:x}{:x}", mix(i * 2), mix(i * 2 + 1));
        let base = rows(n * 8000, 8000, 3);
        let ids = n * 8000..(n + 1) * 8000;
        let mut columns = base.columns().to_vec();
        columns[3] = Arc::new(StringArray::from_iter_values(ids.map(text)));
        RecordBatch::try_new(schema(), columns).unwrap()
    };
    let batches: Vec<_> = (0..60).map(noise).collect();
    let options = WriteOptions {
        target_file_bytes: 12 << 20,
        row_group_rows: 64 * 1024,
        ..WriteOptions::default()
    };
    let files = write(&layout, options, &batches).await;
    assert!(files.len() > 1, "{}", files.len());
    assert!(files.iter().any(|f| f.bytes > 11 << 20), "a file goes up in parts");
    assert!(files.iter().all(|f| f.bytes < 16 << 20));
    assert_eq!(read(&layout, &files).await.num_rows(), 480_000);
}

#[tokio::test]
async fn a_tight_pool_makes_more_files_and_loses_nothing() {
    let layout = layout(memory("tight"), &["country"]);
    let pool = Pool::of(1 << 20);
    let mut writer = writer(&layout, WriteOptions::default(), &pool);
    let batches: Vec<_> = (0..20).map(|n| rows(n * 4000, 4000, 30)).collect();
    for batch in &batches {
        writer.write(batch).await.unwrap();
    }
    let files = writer.finish().await.unwrap();
    assert!(files.len() > 30, "{}", files.len());
    let (left, most) = pool.told();
    assert!(left == 0 && most > 0);
    assert_eq!(by_id(&read(&layout, &files).await), expected(&batches));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_works_on_a_threaded_runtime() {
    let layout = layout(memory("threads"), &["day"]);
    let batches = [rows(0, 5000, 4)];
    let files =
        write(&layout, WriteOptions { codec: Codec::Snappy, ..Default::default() }, &batches);
    assert_eq!(read(&layout, &files.await).await.num_rows(), 5000);
}

#[tokio::test]
async fn a_wider_schema_reads_old_files() {
    let old = layout(memory("evolve"), &["country"]);
    let files = write(&old, WriteOptions::default(), &[rows(0, 10, 3)]).await;
    let mut fields: Vec<Field> = schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields[0] = Field::new("id", DataType::Int32, true);
    fields.insert(1, Field::new("price", DataType::Decimal128(9, 2), true));
    let new = Layout { schema: Arc::new(Schema::new(fields)), ..old };
    let read = read(&new, &files).await;
    assert_eq!(read.num_rows(), 10);
    assert_eq!(read.column(0).data_type(), &DataType::Int32);
    assert_eq!(read.column(1).null_count(), 10);
}

#[tokio::test]
async fn projections_may_have_only_partition_columns() {
    let layout = layout(memory("projection"), &["country", "day"]);
    let files = write(&layout, WriteOptions::default(), &[rows(0, 100, 3)]).await;
    let want = Read::columns(&["day".into(), "country".into()]);
    let mut total = 0;
    for file in &files {
        let stream = read_file(&layout, file, want.clone()).await.unwrap();
        for batch in stream.try_collect::<Vec<_>>().await.unwrap() {
            assert_eq!(batch.schema().field(0).name(), "day");
            total += batch.num_rows();
        }
    }
    assert_eq!(total, 100);
}

#[tokio::test]
async fn partition_columns_stay_in_the_file_when_asked() {
    let layout = layout(memory("keep"), &["country"]);
    let options = WriteOptions { keep_partition_columns: true, ..WriteOptions::default() };
    let files = write(&layout, options, &[rows(0, 9, 3)]).await;
    let bare = Layout::new(layout.location.clone(), schema(), vec![]).unwrap();
    let countries: usize = read(&bare, &files).await.column(1).null_count();
    assert_eq!(countries, 3);
}

#[tokio::test]
async fn every_partition_type_reads_back() {
    let types: Vec<(DataType, ArrayRef)> = vec![
        (DataType::Int32, Arc::new(Int32Array::from(vec![-5, 7]))),
        (DataType::Boolean, Arc::new(arrow::array::BooleanArray::from(vec![true, false]))),
        (DataType::Float64, Arc::new(arrow::array::Float64Array::from(vec![0.1, 1e300]))),
        (
            DataType::Decimal128(10, 3),
            Arc::new(
                arrow::array::Decimal128Array::from(vec![-1050, 5])
                    .with_precision_and_scale(10, 3)
                    .unwrap(),
            ),
        ),
        (
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Arc::new(
                TimestampMicrosecondArray::from(vec![1_600_000_000_000_001, -1])
                    .with_timezone("UTC"),
            ),
        ),
    ];
    for (at, (data_type, values)) in types.into_iter().enumerate() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("p", data_type, true),
        ]));
        let ids = Arc::new(Int64Array::from(vec![0, 1]));
        let batch = RecordBatch::try_new(schema.clone(), vec![ids, values]).unwrap();
        let layout = Layout::new(memory(&format!("type{at}")), schema, vec!["p".into()]).unwrap();
        let files = write(&layout, WriteOptions::default(), std::slice::from_ref(&batch)).await;
        assert_eq!(files.len(), 2);
        assert_eq!(by_id(&read(&layout, &files).await), by_id(&batch));
    }
}

#[tokio::test]
async fn files_that_are_gone_or_damaged_are_named() {
    let layout = layout(memory("damage"), &[]);
    let files = write(&layout, WriteOptions::default(), &[rows(0, 10, 3)]).await;
    let path = layout.object(&files[0].path).unwrap();
    layout.location.store.put(&path, bytes::Bytes::from_static(b"not parquet")).await.unwrap();
    let error = read_file(&layout, &files[0], Read::default()).await.err().unwrap();
    assert!(error.message().contains(&files[0].path), "{error:?}");
    layout.location.store.delete(&path).await.unwrap();
    let error = read_file(&layout, &files[0], Read::default()).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.message().starts_with("a data file is gone"), "{error:?}");
}

#[tokio::test]
async fn rows_that_do_not_fit_are_refused() {
    let layout = layout(memory("refuse"), &[]);
    let mut writer = writer(&layout, WriteOptions::default(), &Unbounded);
    let extra = RecordBatch::try_from_iter([("other", rows(0, 1, 3).column(0).clone())]).unwrap();
    assert_eq!(writer.write(&extra).await.unwrap_err().kind(), Kind::Bug);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["twelve"]));
    let wrong = RecordBatch::try_from_iter([("id", text)]).unwrap();
    let error = writer.write(&wrong).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.message().contains("column=\"id\""), "{error:?}");
    assert!(Layout::new(memory("x"), schema(), vec!["nope".into()]).is_err());
}
