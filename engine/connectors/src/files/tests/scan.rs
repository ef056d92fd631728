//! What a scan changes: how much of Parquet files is read, and nothing of what is in them.

use std::collections::BTreeSet;

use ::parquet::arrow::ArrowWriter;
use ::parquet::file::properties::WriterProperties;
use arrow::array::{
    ArrayRef, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray,
    TimestampNanosecondArray,
};
use arrow::compute::concat_batches;
use sluice_core::testing::{read_chunks, scan_conformance};
use sluice_core::{Bound, Comparison, Scan};

use super::*;

/// `id`, `at` in nanoseconds, `text`, `amount`, `price`: read as another type but the texts.
type Row = (i64, Option<i64>, Option<String>, Option<i64>, Option<f64>);

const COLUMNS: [&str; 6] = ["id", "at", "text", "amount", "price", "_rescued"];

fn write_rows(folder: &Path, rows: &[Row], group_rows: usize) -> String {
    let columns: [(&str, ArrayRef); 6] = [
        ("id", Arc::new(rows.iter().map(|r| Some(r.0 as i32)).collect::<Int32Array>())),
        ("at", Arc::new(rows.iter().map(|r| r.1).collect::<TimestampNanosecondArray>())),
        ("text", Arc::new(rows.iter().map(|r| r.2.clone()).collect::<StringArray>())),
        ("amount", Arc::new(rows.iter().map(|r| r.3).collect::<Int64Array>())),
        ("price", Arc::new(rows.iter().map(|r| r.4).collect::<Float64Array>())),
        ("more", Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>())),
    ];
    let columns = columns.map(|(name, column)| (name, column, true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let groups = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows));
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(groups.build())).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    write(folder, "a.parquet", bytes);
    folder.join("a.parquet").display().to_string()
}

async fn source(path: &str, split_bytes: u64, rescues: bool) -> Box<dyn Source> {
    let new = if rescues { "rescue" } else { "ignore" };
    let value = json!({"path": path, "split_bytes": split_bytes, "on_new_column": new});
    let fields = json!({"fields": [
        {"name": "id", "type": "int64"},
        {"name": "at", "type": "timestamp"},
        {"name": "text", "type": "string"},
        {"name": "amount", "type": "int32"},
        {"name": "price", "type": "float64"},
    ]});
    let schema = Some(serde_json::from_value(fields).unwrap());
    let config = Config { schema, ..config(value) };
    let mut source = SourceFactory::build(&Factory, &config, &context()).await.unwrap();
    source.seek(Start::default()).await.unwrap();
    source
}

fn bound(column: usize, comparison: Comparison, value: i64) -> Bound {
    let value: ArrayRef = match column {
        0 => Arc::new(Int64Array::from(vec![value])),
        1 => Arc::new(TimestampMicrosecondArray::from(vec![value]).with_timezone("UTC")),
        2 => Arc::new(StringArray::from(vec![format!("t{value:02}")])),
        3 => Arc::new(Int32Array::from(vec![value as i32])),
        _ => Arc::new(Float64Array::from(vec![value as f64])),
    };
    Bound { column: COLUMNS[column].into(), comparison, value }
}

/// Values of small numbers, of which some are null and few are rejected or not numbers.
fn row() -> impl Strategy<Value = Row> {
    let value = || prop::option::weighted(0.9, 0_i64..40);
    let odd = |share| prop::bool::weighted(share);
    (0_i64..40, value(), value(), value(), value(), odd(0.02), odd(0.02), odd(0.1)).prop_map(
        |(id, at, text, amount, price, cut, large, not_a_number)| {
            let at = at.map(|at| at * 1000 + i64::from(cut));
            let amount = amount.map(|amount| if large { i64::MAX } else { amount });
            let price = price.map(|p| if not_a_number { f64::NAN } else { p as f64 });
            (id, at, text.map(|text| format!("t{text:02}")), amount, price)
        },
    )
}

fn comparison() -> impl Strategy<Value = Comparison> {
    use Comparison::{AtLeast, AtMost, Equal, Greater, Less};
    prop::sample::select(vec![Less, AtMost, Equal, AtLeast, Greater])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_scan_gives_the_rows_that_are_there(
        rows in prop::collection::vec(row(), 1..120),
        sorted_by in 0_usize..6,
        group_rows in 1_usize..30,
        split_bytes in prop::sample::select(vec![1_u64, 2000, 1 << 20]),
        wanted in prop::option::of(prop::collection::vec(0_usize..6, 0..4)),
        bounds in prop::collection::vec((0_usize..5, comparison(), -2_i64..42), 0..3),
        rescues in any::<bool>(),
    ) {
        let mut rows = rows;
        match sorted_by {
            0 => rows.sort_by_key(|r| r.0),
            1 => rows.sort_by_key(|r| r.1),
            2 => rows.sort_by_key(|r| r.2.clone()),
            3 => rows.sort_by_key(|r| r.3),
            4 => rows.sort_by_key(|r| r.4.map(f64::to_bits)),
            _ => {}
        }
        let columns = wanted.map(|w| w.iter().map(|i| COLUMNS[*i].to_string()).collect());
        let bounds = bounds.into_iter().map(|(at, how, value)| bound(at, how, value)).collect();
        let scan = Scan { columns, bounds };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = write_rows(folder.path(), &rows, group_rows);
            let mut source = source(&path, split_bytes, rescues).await;
            let intake = source.poll(EVERYTHING).await.unwrap();
            scan_conformance(source.as_ref(), &intake, &scan).await.unwrap();
        });
    }
}

fn plain(id: i64) -> Row {
    (id, Some(id * 1000), Some(format!("t{id:02}")), Some(id), Some(id as f64))
}

#[tokio::test]
async fn row_groups_that_no_row_is_wanted_of_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    // The second row group is of three chunks.
    let rows: Vec<Row> = (0..40_000).map(plain).collect();
    let path = write_rows(folder.path(), &rows, 20_000);
    let mut source = source(&path, 1 << 30, false).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let scan = |how, value| Scan { bounds: vec![bound(1, how, value)], ..Scan::default() };
    for (scan, pruned) in [
        (scan(Comparison::Less, 20_000), 20_000),
        (scan(Comparison::AtMost, 20_000), 0),
        (scan(Comparison::Equal, 40_000), 40_000),
    ] {
        let counted = scan_conformance(source.as_ref(), &intake, &scan).await.unwrap();
        assert_eq!(counted, pruned, "{scan:?}");
    }
}

#[tokio::test]
async fn what_is_not_read_may_be_broken() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_rows(folder.path(), &(0..40).map(plain).collect::<Vec<_>>(), 20);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4..40].fill(0xFF);
    write(folder.path(), "a.parquet", bytes);
    let mut source = source(&path, 1 << 30, false).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let read = async |scan| read_chunks(source.as_ref(), &intake, &scan).await;
    let late = Scan { bounds: vec![bound(0, Comparison::AtLeast, 20)], ..Scan::default() };
    let late = read(late).await.unwrap();
    assert_eq!(
        late[0].iter().map(|c| (c.rows.num_rows(), c.pruned)).collect::<Vec<_>>(),
        [(0, 20), (20, 0)]
    );
    let other = Scan { columns: Some(vec!["text".into()]), ..Scan::default() };
    assert_eq!(read(other).await.unwrap().len(), 1);
    assert_eq!(read(Scan::default()).await.unwrap_err().kind(), Kind::Unreadable);
}

#[tokio::test]
async fn columns_that_are_not_wanted_are_read_only_if_they_can_reject_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Row> = (0..30).map(plain).collect();
    let path = write_rows(folder.path(), &rows, 10);
    let mut source = source(&path, 1 << 30, true).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let read = async |wanted: &[&str]| {
        let columns = Some(wanted.iter().map(|name| (*name).to_string()).collect());
        let scan = Scan { columns, ..Scan::default() };
        let mut chunks = read_chunks(source.as_ref(), &intake, &scan).await.unwrap();
        let rows: Vec<RecordBatch> = chunks.remove(0).into_iter().map(|c| c.rows).collect();
        let rows = concat_batches(&rows[0].schema(), &rows).unwrap();
        let valued = |name: &&str| rows.column_by_name(name).unwrap().null_count() == 0;
        COLUMNS.into_iter().filter(valued).collect::<BTreeSet<_>>()
    };
    // From nanoseconds to microseconds, and from int64 to int32, something may be lost.
    assert_eq!(read(&[]).await, ["amount", "at"].into());
    assert_eq!(read(&["text"]).await, ["amount", "at", "text"].into());
    assert_eq!(read(&["_rescued"]).await, ["_rescued", "amount", "at"].into());
    assert_eq!(read(&COLUMNS).await, COLUMNS.into());
}

#[tokio::test]
async fn a_rejected_row_is_kept_whole_whatever_is_read() {
    let folder = tempfile::tempdir().unwrap();
    // The row group has four chunks; the third and the fourth have a bad row each.
    let rows = (0..30_000).map(|id| match id {
        20_000 | 29_999 => (id, None, Some("bad".into()), Some(i64::MAX), None),
        id => plain(id),
    });
    let path = write_rows(folder.path(), &rows.collect::<Vec<_>>(), 30_000);
    let mut source = source(&path, 1 << 30, false).await;
    let intake = source.poll(EVERYTHING).await.unwrap();
    let scan = Scan { columns: Some(vec!["id".into()]), ..Scan::default() };
    scan_conformance(source.as_ref(), &intake, &scan).await.unwrap();
    let chunks = read_chunks(source.as_ref(), &intake, &scan).await.unwrap();
    let rejected = chunks[0].iter().map(|c| c.rejected.len()).collect::<Vec<_>>();
    assert_eq!(rejected, [0, 0, 1, 1]);
    let bytes = &chunks[0][2].rejected[0].bytes;
    let expected = format!("{{\"id\":20000,\"text\":\"bad\",\"amount\":{}}}", i64::MAX);
    assert_eq!(String::from_utf8_lossy(bytes), expected);
    // Of the first chunks no more was read than was needed.
    let nulls = |at: usize| chunks[0][at].rows.column_by_name("text").unwrap().null_count();
    assert_eq!([nulls(0), nulls(1), nulls(2)], [8_192, 8_192, 0]);
}
