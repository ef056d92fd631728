//! Statistics: true bounds for every type, and the same ones the delta-rs library writes.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema};
use deltalake::writer::{DeltaWriter, RecordBatchWriter};
use serde_json::{Value, json};

use sluice_core::{Memory, Secrets, Unbounded};

use super::*;
use crate::store::open;

fn decimals(values: Vec<Option<i128>>, precision: u8, scale: i8) -> ArrayRef {
    let array = Decimal128Array::from(values);
    Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
}

fn every_type() -> RecordBatch {
    let inner = Fields::from(vec![
        Field::new("x", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
    ]);
    let parts: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(3), None, Some(-3)])),
        Arc::new(StringArray::from(vec![Some("b"), Some("a"), None])),
    ];
    let time = TimestampMicrosecondArray::from(vec![Some(1_600_000_000_123_456), None, Some(-1)]);
    let lists = vec![Some(vec![Some(1), None]), None, Some(vec![])];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("i8", Arc::new(Int8Array::from(vec![Some(-1), None, Some(2)]))),
        ("i16", Arc::new(Int16Array::from(vec![Some(-300), Some(5), None]))),
        ("i32", Arc::new(Int32Array::from(vec![i32::MIN, 0, i32::MAX]))),
        ("i64", Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX]))),
        ("f32", Arc::new(Float32Array::from(vec![Some(-0.5), None, Some(1.25)]))),
        ("f64", Arc::new(Float64Array::from(vec![1e-9, 2.5, -1e300]))),
        ("d9", decimals(vec![Some(-1050), None, Some(5)], 9, 2)),
        ("d18", decimals(vec![Some(123_456_789_012_345_678), Some(1), None], 18, 3)),
        ("d38", decimals(vec![Some(-7), Some(8), None], 38, 0)),
        ("day", Arc::new(Date32Array::from(vec![Some(0), Some(20_000), None]))),
        ("at", Arc::new(time.with_timezone("UTC"))),
        ("text", Arc::new(StringArray::from(vec![Some("é\"\n"), Some("a"), None]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("raw", Arc::new(BinaryArray::from(vec![Some(b"x".as_ref()), None, None]))),
        ("none", Arc::new(Int64Array::from(vec![None, None, None]))),
        ("st", Arc::new(StructArray::new(inner, parts, None))),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
    ];
    let list = |c: &ArrayRef| match c.data_type() {
        DataType::List(item) => {
            DataType::List(Arc::new(item.as_ref().clone().with_name("element")))
        }
        other => other.clone(),
    };
    let field = |(name, c): &(&str, ArrayRef)| Field::new(*name, list(c), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let columns = columns.iter().map(|(n, c)| convert(c, &list(c), n).unwrap()).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

async fn stats_of(name: &str, batches: &[RecordBatch], options: WriteOptions) -> Value {
    let root = open(&format!("memory://stats-{name}/t"), &Secrets::default()).unwrap();
    let layout = Layout::new(root, batches[0].schema(), vec![]).unwrap();
    let naming = FileNaming { prefix: "p".into(), modified_ms: 0 };
    let memory = Unbounded.reserve("test");
    let mut writer = PartitionedWriter::new(layout, options, naming, memory).unwrap();
    for batch in batches {
        writer.write(batch).await.unwrap();
    }
    let files = writer.finish().await.unwrap();
    serde_json::from_str(files[0].stats.as_ref().unwrap()).unwrap()
}

#[tokio::test]
async fn every_type_has_true_bounds() {
    let stats = stats_of("types", &[every_type()], WriteOptions::default()).await;
    assert_eq!(stats["numRecords"], 3);
    let min = &stats["minValues"];
    let max = &stats["maxValues"];
    let cases = [
        ("i8", json!(-1), json!(2)),
        ("i16", json!(-300), json!(5)),
        ("i32", json!(i32::MIN), json!(i32::MAX)),
        ("i64", json!(i64::MIN), json!(i64::MAX)),
        ("f32", json!(-0.5), json!(1.25)),
        ("f64", json!(-1e300), json!(2.5)),
        ("d9", json!(-10.50), json!(0.05)),
        ("d38", json!(-7), json!(8)),
        ("day", json!("1970-01-01"), json!("2024-10-04")),
        ("at", json!("1969-12-31T23:59:59.999Z"), json!("2020-09-13T12:26:40.124Z")),
        ("text", json!("a"), json!("é\"\n")),
    ];
    for (name, low, high) in cases {
        assert_eq!((&min[name], &max[name]), (&low, &high), "{name}");
    }
    assert_eq!(min["st"], json!({"x": -3, "s": "a"}));
    for name in ["flag", "raw", "none", "list"] {
        assert!(min.get(name).is_none() && max.get(name).is_none(), "{name}");
    }
    let nulls = &stats["nullCount"];
    for (name, count) in [("i8", 1), ("i64", 0), ("flag", 1), ("raw", 2), ("none", 3)] {
        assert_eq!(nulls[name], count, "{name}");
    }
    assert_eq!(nulls["st"], json!({"x": 1, "s": 1}));
}

#[tokio::test]
async fn decimals_keep_every_digit() {
    let root = open("memory://stats-digits/t", &Secrets::default()).unwrap();
    let batch = every_type();
    let layout = Layout::new(root, batch.schema(), vec![]).unwrap();
    let naming = FileNaming { prefix: "p".into(), modified_ms: 0 };
    let memory = Unbounded.reserve("test");
    let mut writer = PartitionedWriter::new(layout, Default::default(), naming, memory).unwrap();
    writer.write(&batch).await.unwrap();
    let files = writer.finish().await.unwrap();
    let text = files[0].stats.clone().unwrap();
    assert!(text.contains("\"d18\":123456789012345.678"), "{text}");
    assert!(text.contains("\"d9\":-10.50"), "{text}");
}

#[tokio::test]
async fn what_has_no_safe_bound_has_none() {
    let nan: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN]));
    let infinite: ArrayRef = Arc::new(Float32Array::from(vec![f32::INFINITY, 2.0]));
    let long: ArrayRef = Arc::new(StringArray::from(vec!["é".repeat(200), "z".repeat(200)]));
    let columns = [("nan", nan), ("inf", infinite), ("long", long)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let stats = stats_of("unsafe", &[batch], WriteOptions::default()).await;
    let (min, max) = (&stats["minValues"], &stats["maxValues"]);
    assert!(min.get("nan").is_none() && max.get("nan").is_none());
    assert_eq!(min["inf"], 2.0);
    assert!(max.get("inf").is_none());
    let (low, high) = (min["long"].as_str().unwrap(), max["long"].as_str().unwrap());
    assert!(low <= "z".repeat(200).as_str() && high >= "é".repeat(200).as_str());
    assert!(low.len() <= 64 && high.len() <= 64);
}

#[tokio::test]
async fn bounds_span_row_groups() {
    let part = |range: std::ops::Range<i64>| {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("v", values)]).unwrap()
    };
    let batches = [part(50..60), part(-9..0), part(10..20)];
    let options = WriteOptions { row_group_rows: 7, ..WriteOptions::default() };
    let stats = stats_of("groups", &batches, options).await;
    assert_eq!((&stats["minValues"]["v"], &stats["maxValues"]["v"]), (&json!(-9), &json!(59)));
    assert_eq!(stats["nullCount"]["v"], 0);
}

#[tokio::test]
async fn only_the_first_columns_have_statistics() {
    let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let names: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
    let columns = names.iter().map(|name| (name.as_str(), one.clone()));
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let stats = stats_of("wide", &[batch], WriteOptions::default()).await;
    assert_eq!(stats["minValues"].as_object().unwrap().len(), 32);
    assert!(stats["nullCount"].get("c31").is_some() && stats["nullCount"].get("c32").is_none());
}

#[tokio::test]
async fn the_delta_library_writes_the_same() {
    let batch = every_type();
    let ours = stats_of("ours", std::slice::from_ref(&batch), WriteOptions::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let url = url::Url::from_directory_path(folder.path()).unwrap();
    let mut writer = RecordBatchWriter::try_new(url, batch.schema(), None, None).unwrap();
    writer.write(batch).await.unwrap();
    let adds = writer.flush().await.unwrap();
    let theirs: Value = serde_json::from_str(adds[0].stats.as_ref().unwrap()).unwrap();
    assert_eq!(ours["numRecords"], theirs["numRecords"]);
    let mut compared = 0;
    for part in ["minValues", "maxValues", "nullCount"] {
        for (name, value) in ours[part].as_object().unwrap() {
            // Theirs counts no nulls of binary columns and cuts the maximum of a time downwards.
            if (part, name.as_str()) == ("maxValues", "at") || name == "raw" {
                continue;
            }
            // Theirs computes decimals as doubles: of 18 digits the last may be another.
            let near = |a: f64, b: f64| name == "d18" && (a.next_up() == b || a.next_down() == b);
            let near =
                value.as_f64().zip(theirs[part][name].as_f64()).is_some_and(|(a, b)| near(a, b));
            assert!(
                near || same(value, &theirs[part][name]),
                "{part} {name}: {value} {}",
                theirs[part][name]
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 40);
}

/// Equal but for the library's rounding of decimals to doubles.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
