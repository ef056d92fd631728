//! Whatever is written is read back by Parquet's own reader, and says of itself what Parquet's own
//! writer would say.

use std::sync::Arc;

use arrow::array::RecordBatchReader;
use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int16Array, Int64Array, StringArray};
use arrow::array::{Float64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::Encoding;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use proptest::prelude::*;

use super::*;
use crate::parquet::WriteOptions;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

/// All kinds of columns that get a dictionary of ours, and one that does not.
fn rows(values: &[Option<u16>], modulo: u16) -> RecordBatch {
    let number = |v: &Option<u16>| v.map(|v| i64::from(v % modulo) - 7);
    let text = |v: &Option<u16>| {
        v.map(|v| "ab".repeat(usize::from(v % modulo % 30)) + &(v % modulo).to_string())
    };
    let decimal = |precision| {
        let values = values.iter().map(|v| number(v).map(i128::from));
        Decimal128Array::from_iter(values).with_precision_and_scale(precision, 2).unwrap()
    };
    let times = values.iter().map(|v| number(v).map(|v| v * 1_000_000_007));
    batch(vec![
        ("text", Arc::new(StringArray::from_iter(values.iter().map(text))) as ArrayRef),
        (
            "small",
            Arc::new(Int16Array::from_iter(values.iter().map(|v| number(v).map(|v| v as i16)))),
        ),
        ("wide", Arc::new(Int64Array::from_iter(values.iter().map(number)))),
        (
            "day",
            Arc::new(Date32Array::from_iter(values.iter().map(|v| number(v).map(|v| v as i32)))),
        ),
        ("time", Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))),
        ("short", Arc::new(decimal(9))),
        ("long", Arc::new(decimal(18))),
        (
            "float",
            Arc::new(Float64Array::from_iter(values.iter().map(|v| number(v).map(|v| v as f64)))),
        ),
    ])
}

fn written(batches: &[RecordBatch], options: &WriteOptions) -> (Bytes, ParquetMetaData) {
    let shared = Workshop::new(options).unwrap();
    let schema = batches[0].schema();
    let mut encoder = Encoder::new(schema, options, &shared, &batches[0]).unwrap().unwrap();
    for rows in batches {
        encoder.write(rows).unwrap();
    }
    let metadata = encoder.finish().unwrap();
    (Bytes::from(std::mem::take(encoder.bytes())), metadata)
}

fn read(bytes: &Bytes, selection: Option<RowSelection>) -> RecordBatch {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let mut reader =
        ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).unwrap();
    if let Some(selection) = selection {
        reader = reader.with_row_selection(selection);
    }
    let reader = reader.build().unwrap();
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.unwrap()).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// What a file says about a column: bounds and nulls, of chunks and of pages. Whether pages are in
/// order, and how many rows have which level, ours leave out.
fn said(metadata: &ParquetMetaData, column: usize) -> Vec<String> {
    let groups = metadata.row_groups().iter().enumerate();
    groups
        .map(|(i, group)| {
            let chunk = group.column(column);
            let pages = metadata.column_index().map(|index| &index[i][column]);
            let pages = format!("{pages:?}");
            let (before, after) = pages.split_once("boundary_order").unwrap();
            let (_, nulls) = after.split_once("null_counts").unwrap();
            let (nulls, bounds) = nulls.split_once("repetition_level_histograms").unwrap();
            let (_, bounds) = bounds.split_once(" }").unwrap();
            let said = (chunk.statistics(), chunk.num_values());
            format!("{said:?} {before} {nulls} {bounds}")
        })
        .collect()
}

/// The same file as Parquet's own writer makes it.
fn library(batches: &[RecordBatch], row_group_rows: usize) -> ParquetMetaData {
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(row_group_rows))
        .build();
    let schema = batches[0].schema();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties)).unwrap();
    batches.iter().for_each(|rows| writer.write(rows).unwrap());
    writer.finish().unwrap()
}

#[test]
fn files_say_what_those_of_parquets_own_writer_say() {
    let values = |from: u16| (from..from + 5000).map(|v| (v % 11 != 0).then_some(v));
    let batches: Vec<RecordBatch> =
        (0..9).map(|i| rows(&values(i * 5000).collect::<Vec<_>>(), 300)).collect();
    let options = WriteOptions { row_group_rows: 25_000, ..WriteOptions::default() };
    let (bytes, metadata) = written(&batches, &options);
    let expected = library(&batches, 25_000);
    assert_eq!(metadata.num_row_groups(), 2);
    for column in 0..batches[0].num_columns() {
        assert_eq!(said(&metadata, column), said(&expected, column), "column {column}");
    }
    assert_eq!(read(&bytes, None), concat_batches(&batches[0].schema(), &batches).unwrap());
}

#[test]
fn a_column_with_too_many_values_goes_on_without_a_dictionary() {
    let few: Vec<i64> = (0..5000).map(|i| i % 10).collect();
    let many: Vec<i64> = (0..50_000).collect();
    let column =
        |values: Vec<i64>| batch(vec![("n", Arc::new(Int64Array::from(values)) as ArrayRef)]);
    let long =
        batch(vec![("n", Arc::new(StringArray::from(vec!["x".repeat(100); 70])) as ArrayRef)]);
    let short = batch(vec![("n", Arc::new(StringArray::from(vec!["x"; 70])) as ArrayRef)]);
    for batches in [vec![column(few), column(many)], vec![short, long]] {
        let (bytes, metadata) = written(&batches, &WriteOptions::default());
        assert_eq!(metadata.num_row_groups(), 2);
        let rows: Vec<i64> = metadata.row_groups().iter().map(|g| g.num_rows()).collect();
        assert_eq!(rows, batches.iter().map(|b| b.num_rows() as i64).collect::<Vec<_>>());
        let dictionaries = metadata.row_groups().iter();
        let dictionaries: Vec<bool> =
            dictionaries.map(|g| g.column(0).dictionary_page_offset().is_some()).collect();
        assert_eq!(dictionaries, [true, false]);
        assert_eq!(read(&bytes, None), concat_batches(&batches[0].schema(), &batches).unwrap());
    }
}

/// 81,000 rows in groups of 25,000 are read as they were, also from places at and around the ends of
/// pages and groups on.
fn come_back(batches: &[RecordBatch], bytes: &Bytes) {
    let all = concat_batches(&batches[0].schema(), batches).unwrap();
    assert_eq!(read(bytes, None), all);
    for skip in [1, 20_000, 24_999, 25_000, 80_999] {
        let rest = all.num_rows() - skip;
        let selection = vec![RowSelector::skip(skip), RowSelector::select(rest)];
        assert_eq!(read(bytes, Some(selection.into())), all.slice(skip, rest), "{skip}");
    }
}

#[test]
fn texts_written_without_their_beginnings_come_back() {
    let texts = |from: u64| (from..from + 9000).map(|v| (v % 7 != 3).then(|| format!("M{v:07}")));
    let column =
        |from| batch(vec![("id", Arc::new(StringArray::from_iter(texts(from))) as ArrayRef)]);
    let batches: Vec<RecordBatch> = (0..9).map(|i| column(i * 9000)).collect();
    let options = WriteOptions { row_group_rows: 25_000, ..WriteOptions::default() };
    let (bytes, metadata) = written(&batches, &options);
    assert_eq!(metadata.num_row_groups(), 4);
    for group in metadata.row_groups() {
        let encodings: Vec<Encoding> = group.column(0).encodings().collect();
        assert!(encodings.contains(&Encoding::DELTA_BYTE_ARRAY), "{encodings:?}");
    }
    come_back(&batches, &bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rows_come_back(
        pieces in prop::collection::vec(
            prop::collection::vec(prop::option::weighted(0.9, any::<u16>()), 1..400), 1..8),
        modulo in 1_u16..2000,
        repeat in 1_usize..120,
        spool in prop::option::of(0_usize..5000),
        skip in 0_usize..3000,
    ) {
        let options = WriteOptions {
            row_group_rows: 30_000,
            spool_bytes: spool.unwrap_or(usize::MAX),
            ..WriteOptions::default()
        };
        let pieces: Vec<RecordBatch> = pieces.iter().map(|p| rows(&p.repeat(repeat), modulo)).collect();
        let (bytes, _) = written(&pieces, &options);
        let all = concat_batches(&pieces[0].schema(), &pieces).unwrap();
        prop_assert_eq!(&read(&bytes, None), &all);
        // By way of the page index.
        let skip = skip.min(all.num_rows() - 1);
        let selection = vec![RowSelector::skip(skip), RowSelector::select(all.num_rows() - skip)];
        let rest = read(&bytes, Some(selection.into()));
        prop_assert_eq!(rest, all.slice(skip, all.num_rows() - skip));
    }
}

#[test]
fn numbers_written_as_distances_come_back() {
    let spread = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) >> 20;
    let some = |row: i64| (row % 7 != 3).then(|| spread(row));
    let part = |from: i64| {
        let rows = from..from + 9000;
        let running: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone()));
        let far: ArrayRef = Arc::new(Int64Array::from_iter(rows.clone().map(some)));
        let days = rows.clone().map(|row| some(row).map(|n| (n % 9000) as i32));
        let cents = Decimal128Array::from_iter(rows.map(|row| some(row).map(i128::from)));
        let cents = cents.with_precision_and_scale(18, 2).unwrap();
        batch(vec![
            ("running", running),
            ("far", far),
            ("days", Arc::new(Date32Array::from_iter(days)) as ArrayRef),
            ("cents", Arc::new(cents) as ArrayRef),
        ])
    };
    let batches: Vec<RecordBatch> = (0..9).map(|i| part(i * 9000)).collect();
    let options = WriteOptions { row_group_rows: 25_000, ..WriteOptions::default() };
    let (bytes, metadata) = written(&batches, &options);
    for (group, column) in (0..4).flat_map(|group| (0..4).map(move |column| (group, column))) {
        let column = metadata.row_group(group).column(column);
        let encodings: Vec<Encoding> = column.encodings().collect();
        assert!(encodings.contains(&Encoding::DELTA_BINARY_PACKED), "{column:?}");
    }
    come_back(&batches, &bytes);
}
