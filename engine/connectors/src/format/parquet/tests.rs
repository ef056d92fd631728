//! Parquet from end to end, through files in memory.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use sluice_core::{
    DataSchema, FieldSpec, FileEncoder, Kind, Memory as _, Rejected, Scan, Unbounded,
};

use super::*;

#[derive(Clone)]
struct Memory(Bytes);

impl AsyncFileReader for Memory {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let bytes = self.0.slice(range.start as usize..range.end as usize);
        async move { Ok(bytes) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let read = ParquetMetaDataReader::new().parse_and_finish(&self.0).map(Arc::new);
        async move { read }.boxed()
    }
}

fn file(columns: Vec<(&str, ArrayRef)>) -> Memory {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let mut encoder = Encoder::new(rows.schema()).unwrap();
    encoder.write(&rows).unwrap();
    let mut bytes = encoder.take();
    assert!(encoder.memory_bytes() > 0);
    bytes.extend(Box::new(encoder).finish().unwrap());
    Memory(bytes.into())
}

fn layout(fields: &[(&str, &str, bool)]) -> Arc<Layout> {
    let fields = fields.iter().map(|(name, data_type, required)| FieldSpec {
        name: name.to_lowercase(),
        from: Some(name.to_string()),
        data_type: data_type.to_string(),
        required: *required,
        ..FieldSpec::default()
    });
    let schema = DataSchema { schema: None, doc: None, fields: fields.collect() };
    Arc::new(Layout::new(&schema).unwrap())
}

async fn read(file: &Memory, layout: &Arc<Layout>) -> Result<(RecordBatch, Vec<Rejected>)> {
    let footer = Footer::read(file.clone(), layout, "a.parquet").await?;
    let groups = 0..footer.groups.len();
    let origin = Origin { object: "a.parquet".into(), file: 1, row: 10 };
    let (scan, memory) = (Scan::default(), Unbounded.reserve("test"));
    let mut rows = Rows::open(file.clone(), layout.clone(), groups, origin, scan, memory).await?;
    let (mut batches, mut rejected) = (Vec::new(), Vec::new());
    while let Some(decoded) = rows.next().await? {
        batches.push(decoded.rows);
        rejected.extend(decoded.rejected);
    }
    Ok((concat_batches(layout.schema(), &batches)?, rejected))
}

use sluice_core::Result;

#[tokio::test]
async fn columns_are_found_by_name_and_widened() {
    let file = file(vec![
        ("Extra", Arc::new(StringArray::from(vec!["x", "y"]))),
        ("Name", Arc::new(StringArray::from(vec![Some("a"), None]))),
        ("Count", Arc::new(UInt32Array::from(vec![1, u32::MAX]))),
        ("Price", Arc::new(Float64Array::from(vec![2.55, -0.5]))),
        ("At", Arc::new(TimestampNanosecondArray::from(vec![1_000, 2_000]))),
    ]);
    let layout = layout(&[
        ("Price", "decimal(18, 3)", false),
        ("Count", "int64", true),
        ("Name", "string", false),
        ("At", "timestamp", false),
        ("Absent", "date", false),
    ]);
    let (rows, rejected) = read(&file, &layout).await.unwrap();
    assert_eq!(rejected, []);
    assert_eq!(rows.column(0).as_primitive::<Decimal128Type>().values(), &[2_550, -500]);
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[1, i64::from(u32::MAX)]);
    assert_eq!(rows.column(2).null_count(), 1);
    assert_eq!(rows.column(3).as_primitive::<TimestampMicrosecondType>().values(), &[1, 2]);
    assert_eq!(rows.column(4).null_count(), 2);
    let first = (1 << 40) | 10;
    assert_eq!(rows.column(5).as_primitive::<Int64Type>().values(), &[first, first + 1]);
}

#[tokio::test]
async fn a_value_that_does_not_fit_rejects_its_row_only() {
    let file = file(vec![
        ("Id", Arc::new(Int64Array::from(vec![Some(1), Some(1 << 40), None, Some(4)]))),
        ("Price", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0, 4.0001]))),
    ]);
    let layout = layout(&[("Id", "int32", true), ("Price", "decimal(9, 2)", false)]);
    let (rows, rejected) = read(&file, &layout).await.unwrap();
    assert_eq!(rows.num_rows(), 1);
    let found: Vec<(u64, &str)> =
        rejected.iter().map(|r| (r.position, r.reason.as_str())).collect();
    let expected = [
        (11, "column id: not a int32 without loss"),
        (12, "column id: required but empty"),
        (13, "column price: not a decimal(9, 2) without loss"),
    ];
    assert_eq!(found, expected);
    assert_eq!(rejected[0].bytes, br#"{"Id":1099511627776,"Price":2.0}"#);
}

#[tokio::test]
async fn files_and_columns_that_cannot_be_read_are_named() {
    let broken = Memory(Bytes::from_static(b"PAR1 this is no parquet file PAR1"));
    let error = read(&broken, &layout(&[("a", "string", false)])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreadable);
    assert!(error.message().contains("path=a.parquet"), "{error}");

    let numbers = file(vec![("when", Arc::new(Int32Array::from(vec![1])))]);
    let error = read(&numbers, &layout(&[("when", "timestamp", false)])).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("a column is of another type column=when wanted=timestamp found=Int32"),
        "{error}"
    );
}
