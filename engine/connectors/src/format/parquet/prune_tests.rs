//! What statistics of a row group rule out, case by case.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::{FileMetaData, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use sluice_core::{Bound, Comparison, DataSchema, FieldSpec};

use super::Layout;
use super::prune::ruled_out;

use Comparison::{AtLeast, AtMost, Equal, Greater, Less};

/// The footer of a file with `column` as its only one, in one row group.
fn footer(column: ArrayRef, properties: WriterProperties) -> ArrowReaderMetadata {
    let nullable = RecordBatch::try_from_iter_with_nullable([("Column", column, true)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, nullable.schema(), Some(properties)).unwrap();
    writer.write(&nullable).unwrap();
    writer.close().unwrap();
    ArrowReaderMetadata::load(&Bytes::from(bytes), ArrowReaderOptions::default()).unwrap()
}

fn layout(from: &str, data_type: &str) -> Layout {
    let field = FieldSpec {
        name: "column".into(),
        from: Some(from.into()),
        data_type: data_type.into(),
        ..FieldSpec::default()
    };
    Layout::new(&DataSchema { schema: None, doc: None, fields: vec![field] }).unwrap()
}

/// Whether `column comparison value` rules the file out, the column read as `data_type`.
fn rules_out(
    file: &ArrowReaderMetadata,
    data_type: &str,
    comparison: Comparison,
    value: ArrayRef,
) -> bool {
    let bound = Bound { column: "column".into(), comparison, value };
    ruled_out(&[bound], &layout("Column", data_type), file, 0)
}

fn plain(column: ArrayRef) -> ArrowReaderMetadata {
    footer(column, WriterProperties::default())
}

fn int(value: i64) -> ArrayRef {
    Arc::new(Int64Array::from(vec![value]))
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

fn instant(micros: i64) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"))
}

/// Each comparison with values below, at and above the ends of `2..=5`.
const ENDS: [(Comparison, &[i64]); 5] =
    [(Less, &[1, 2]), (AtMost, &[1]), (Equal, &[1, 6]), (AtLeast, &[6]), (Greater, &[5, 6])];

#[test]
fn a_comparison_rules_out_what_lies_beyond_it() {
    let columns: [(ArrayRef, &str); 4] = [
        (Arc::new(Int64Array::from(vec![Some(5), None, Some(2)])), "int64"),
        (Arc::new(Int32Array::from(vec![5, 3, 2])), "int64"),
        (Arc::new(UInt64Array::from(vec![5, 3, 2])), "int64"),
        (
            Arc::new(Decimal128Array::from(vec![500, 200]).with_precision_and_scale(9, 2).unwrap()),
            "int64",
        ),
    ];
    for (column, data_type) in columns {
        let shown = format!("{:?}", column.data_type());
        let file = plain(column);
        for (comparison, out) in ENDS {
            for value in 0..=7 {
                let ruled = rules_out(&file, data_type, comparison, int(value));
                let beyond = out.contains(&value)
                    || value == 0 && out.contains(&1)
                    || value == 7 && out.contains(&6);
                assert_eq!(ruled, beyond, "{shown} {comparison:?} {value}");
            }
        }
    }
}

#[test]
fn values_are_compared_as_what_they_are_read_as() {
    let times = plain(Arc::new(TimestampNanosecondArray::from(vec![2_000, 5_000])));
    let naive = plain(Arc::new(TimestampMicrosecondArray::from(vec![2, 5])));
    for file in [times, naive] {
        assert!(rules_out(&file, "timestamp", Greater, instant(5)));
        assert!(!rules_out(&file, "timestamp", Greater, instant(4)));
    }
    let days = plain(Arc::new(Date32Array::from(vec![0, 1])));
    assert!(rules_out(&days, "timestamp", Greater, instant(86_400_000_000)));
    assert!(!rules_out(&days, "timestamp", Greater, instant(86_399_999_999)));

    let words: DictionaryArray<Int32Type> = ["b", "c", "b"].into_iter().collect();
    let words = plain(Arc::new(words));
    assert!(rules_out(&words, "string", Less, text("b")));
    assert!(!rules_out(&words, "string", Equal, text("bb")));
    // 10 is before 9 as text.
    let numbers = plain(Arc::new(Int64Array::from(vec![9, 10])));
    assert!(!rules_out(&numbers, "string", Less, text("5")));
    // Read as what they are not, they are rejected one by one: the ends say nothing.
    let wide = plain(Arc::new(Int64Array::from(vec![1, 1 << 40])));
    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![0]));
    assert!(!rules_out(&wide, "int32", Less, narrow));
    let finer = plain(Arc::new(TimestampNanosecondArray::from(vec![2_000, 5_001])));
    assert!(!rules_out(&finer, "timestamp", Greater, instant(5)));
    // A value of another type than the column's is none of ours.
    let one = plain(Arc::new(Int64Array::from(vec![1])));
    assert!(!rules_out(&one, "int64", Greater, instant(5)));
}

#[test]
fn floats_are_never_ruled_out() {
    for column in [vec![1.0, 2.0], vec![f64::NAN, 1.0], vec![-0.0, 0.0]] {
        let file = plain(Arc::new(Float64Array::from(column)));
        for comparison in [Less, AtMost, Equal, AtLeast, Greater] {
            for value in [-9.0, -0.0, 0.0, 9.0, f64::NAN] {
                let value = Arc::new(Float64Array::from(vec![value]));
                assert!(!rules_out(&file, "float64", comparison, value));
            }
        }
    }
}

#[test]
fn nulls_fulfil_nothing() {
    let nulls = plain(Arc::new(Int64Array::from(vec![None, None])));
    let (lacking, value) = (plain(Arc::new(Int64Array::from(vec![1]))), int(1));
    for comparison in [Less, AtMost, Equal, AtLeast, Greater] {
        assert!(rules_out(&nulls, "int64", comparison, value.clone()));
        let bound = Bound { column: "column".into(), comparison, value: value.clone() };
        assert!(ruled_out(&[bound], &layout("Another", "int64"), &lacking, 0));
        let bound = Bound { column: "rescued".into(), comparison, value: value.clone() };
        assert!(!ruled_out(&[bound], &layout("Column", "int64"), &lacking, 0));
    }
}

#[test]
fn long_texts_are_cut_to_what_is_beyond_them() {
    let properties = WriterProperties::builder().set_statistics_truncate_length(Some(2)).build();
    let file = footer(Arc::new(StringArray::from(vec!["abb", "cdd"])), properties);
    let statistics = file.metadata().row_group(0).column(0).statistics().unwrap();
    assert_eq!(statistics.max_bytes_opt(), Some("ce".as_bytes()), "this test is about cut ones");
    assert!(!rules_out(&file, "string", Equal, text("cdd")));
    assert!(!rules_out(&file, "string", Equal, text("abb")));
    assert!(!rules_out(&file, "string", Less, text("abb")), "only `ab` is known of the smallest");
    assert!(rules_out(&file, "string", Less, text("ab")));
    assert!(rules_out(&file, "string", Greater, text("ce")));
}

/// `file` with other statistics, or without an order of its columns.
fn changed(
    file: &ArrowReaderMetadata,
    statistics: Option<Statistics>,
    ordered: bool,
) -> ArrowReaderMetadata {
    let whole = file.metadata().file_metadata();
    let orders = whole.column_orders().cloned().filter(|_| ordered);
    let (columns, kept) = (whole.schema_descr_ptr(), whole.key_value_metadata().cloned());
    let whole = FileMetaData::new(whole.version(), whole.num_rows(), None, kept, columns, orders);
    let group = file.metadata().row_group(0).clone();
    let column = group.column(0).clone().into_builder();
    let column = match statistics {
        Some(statistics) => column.set_statistics(statistics),
        None => column,
    };
    let group = group.into_builder().set_column_metadata(vec![column.build().unwrap()]);
    let metadata = ParquetMetaData::new(whole, vec![group.build().unwrap()]);
    ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::default()).unwrap()
}

#[test]
fn statistics_that_are_missing_or_old_rule_nothing_out() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![2, 5]));
    let file = plain(column.clone());
    let out = |file: &ArrowReaderMetadata, comparison, value| {
        rules_out(file, "int64", comparison, int(value))
    };
    assert!(out(&file, Greater, 5) && out(&changed(&file, None, true), Greater, 5));
    assert!(!out(&changed(&file, None, false), Greater, 5));
    let old = Statistics::int64(Some(2), Some(5), None, Some(0), true);
    assert!(!out(&changed(&file, Some(old), true), Greater, 5));
    let upper = Statistics::int64(None, Some(5), None, None, false);
    let upper = changed(&file, Some(upper), true);
    assert!(out(&upper, Greater, 5) && out(&upper, Equal, 6) && !out(&upper, Less, 0));
    let none = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
    assert!(!out(&footer(column, none), Greater, 5));
}

#[test]
fn fields_within_fields_are_let_alone() {
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![2, 5]));
    let field = Arc::new(Field::new("column", DataType::Int64, true));
    let outer: ArrayRef = Arc::new(StructArray::from(vec![(field, inner)]));
    let file = plain(outer);
    assert!(!rules_out(&file, "int64", Greater, int(9)));
}
