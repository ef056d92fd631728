//! Curves: what is sorted when, and how narrow files become.

use arrow::array::{Float64Array, StringArray};
use arrow::compute::{concat_batches, sort_to_indices, take, take_record_batch};

use super::*;

fn sorted(path: &str, bytes: u64) -> DataFile {
    file(&format!("p=a/{}-{path}", zorder_mark(&["x".to_string()])), "a", bytes)
}

fn planned(files: &[DataFile], options: CompactOptions) -> Vec<Vec<String>> {
    let groups = plan_zorder(files, &zorder_mark(&["x".to_string()]), options);
    let names = |g: Group| g.files.into_iter().map(|f| f.path).collect();
    groups.into_iter().map(names).collect()
}

#[test]
fn what_is_sorted_already_is_left_alone() {
    let all = CompactOptions { target_bytes: 100, files_min: 1, ..CompactOptions::default() };
    let rounds = CompactOptions { files_min: 3, ..all };
    let loose = |n: usize| (0..n).map(|i| file(&format!("p=a/n{i}"), "a", 30)).collect::<Vec<_>>();
    assert!(planned(&[sorted("1", 100), sorted("2", 10)], all).is_empty(), "one small one stays");
    let two = planned(&[sorted("1", 1000), sorted("2", 10), sorted("3", 10)], all);
    assert_eq!(two[0].len(), 2, "two small ones are joined");
    assert_eq!(planned(&loose(1), all)[0].len(), 1, "whoever asks gets all sorted");
    assert!(planned(&loose(2), rounds).is_empty());
    assert_eq!(planned(&loose(3), rounds)[0].len(), 3);
    let much = CompactOptions { sort_bytes_min: 91, ..rounds };
    assert!(planned(&loose(3), much).is_empty(), "too little to be worth sorting");
    assert_eq!(planned(&loose(4), much)[0].len(), 4);
    // Half of the partition is new: all of it is sorted again. A little is sorted by itself.
    let mut files = loose(3);
    files.push(sorted("1", 90));
    assert_eq!(planned(&files, all)[0].len(), 4);
    files.push(sorted("2", 500));
    assert_eq!(planned(&files, all)[0].len(), 3);
    // Other columns from now on: everything is unsorted.
    let other = plan_zorder(&files, &zorder_mark(&["y".to_string()]), all);
    assert_eq!(other[0].files.len(), 5);
    // A budget is kept to, and the unsorted come first.
    let tight = CompactOptions { round_bytes: 70, ..all };
    assert_eq!(planned(&files[..4], tight), [["p=a/n0", "p=a/n1"]]);
}

fn table(name: &str) -> Layout {
    let location = open(&format!("memory://{name}/t"), &Secrets::default()).unwrap();
    let of = |name: &str, of| Field::new(name, of, true);
    let fields =
        vec![of("x", DataType::Int64), of("f", DataType::Float64), of("s", DataType::Utf8)];
    Layout::new(location, Arc::new(Schema::new(fields)), vec![]).unwrap()
}

async fn put(layout: &Layout, prefix: &str, rows: &RecordBatch) -> DataFile {
    let mut writer = writer(layout, prefix);
    writer.write(rows).await.unwrap();
    writer.finish().await.unwrap().remove(0)
}

/// Files of the table in which a value of a column may be, by their statistics.
fn may_hold(files: &[DataFile], column: &str, value: f64) -> usize {
    let holds = |file: &&DataFile| {
        let stats: serde_json::Value = serde_json::from_str(file.stats.as_ref().unwrap()).unwrap();
        let bound = |which: &str| stats[which][column].as_f64().unwrap();
        bound("minValues") <= value && value <= bound("maxValues")
    };
    files.iter().filter(holds).count()
}

#[tokio::test]
async fn files_become_narrow_in_every_column_and_rows_stay() {
    let layout = table("zorder-narrow");
    let mut group = Group { partition_values: BTreeMap::new(), files: Vec::new() };
    // Two columns that have nothing to do with each other, one of them skewed and negative too.
    let mut seed = 1_u64;
    let mut draw = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as i64
    };
    let mut rows = Vec::new();
    for n in 0..64 {
        let x = Int64Array::from_iter_values((0..500).map(|_| draw() % 1_000 - 500));
        let f = Float64Array::from_iter_values((0..500).map(|_| ((draw() % 1_000) as f64).powi(3)));
        let s = StringArray::from_iter((0..500).map(|i| (i % 9 > 0).then(|| format!("s{i}"))));
        let columns: Vec<ArrayRef> = vec![Arc::new(x), Arc::new(f), Arc::new(s)];
        let batch = RecordBatch::try_new(layout.schema.clone(), columns).unwrap();
        group.files.push(put(&layout, &format!("n{n:02}"), &batch).await);
        rows.push(batch);
    }
    let by = ["x".to_string(), "f".to_string()];
    let (curve, seen) = survey(&layout, &group, &by).await.unwrap();
    assert_eq!(seen, 32_000);

    let all = concat_batches(&layout.schema, &rows).unwrap();
    let keys = curve.keys(&all.columns()[..2]).unwrap();
    let order = sort_to_indices(&keys, None, None).unwrap();
    let sorted = take_record_batch(&all, &order).unwrap();
    let mut after = Vec::new();
    for n in 0..64 {
        after.push(put(&layout, &format!("z{n:02}"), &sorted.slice(n * 500, 500)).await);
    }
    for (column, value) in [("x", 17.0), ("x", -490.0), ("f", 8_000.0), ("f", 512_000_000.0)] {
        assert!(may_hold(&group.files, column, value) >= 60, "{column} before");
        assert!(may_hold(&after, column, value) <= 16, "{column} after");
    }
    let total = |files: &[DataFile]| files.iter().map(|f| f.rows).sum::<u64>();
    assert_eq!(total(&after), total(&group.files));
}

#[tokio::test]
async fn the_order_along_one_column_is_the_columns_own() {
    let layout = table("zorder-order");
    let x = vec![None, Some(i64::MIN), Some(-3), Some(-2), Some(0), Some(7), Some(i64::MAX)];
    let f = [
        None,
        Some(f64::NEG_INFINITY),
        Some(-1e300),
        Some(-0.5),
        Some(0.5),
        Some(f64::INFINITY),
        Some(f64::NAN),
    ];
    let s = vec![None, Some(""), Some("a"), Some("a\u{0}"), Some("b"), Some("ba"), Some("é")];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(x)),
        Arc::new(Float64Array::from(f.to_vec())),
        Arc::new(StringArray::from(s)),
    ];
    let rows = RecordBatch::try_new(layout.schema.clone(), columns).unwrap();
    let files = vec![put(&layout, "one", &rows).await];
    let group = Group { partition_values: BTreeMap::new(), files };
    for name in ["x", "f", "s"] {
        let by = [name.to_string()];
        let (curve, _) = survey(&layout, &group, &by).await.unwrap();
        let column = rows.column_by_name(name).unwrap();
        let keys = curve.keys(std::slice::from_ref(column)).unwrap();
        assert!(keys.values().windows(2).all(|pair| pair[0] < pair[1]), "{name}: {keys:?}");
        let back = take(column, &sort_to_indices(&keys, None, None).unwrap(), None).unwrap();
        assert_eq!(&back, column);
    }
    // A value that the survey did not see stands between those it saw.
    let (curve, _) = survey(&layout, &group, &["x".to_string()]).await.unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![-2, -1, 0]));
    let keys = curve.keys(&[column]).unwrap();
    assert!(keys.value(0) < keys.value(1) && keys.value(1) <= keys.value(2), "{keys:?}");
}

#[tokio::test]
async fn long_texts_cost_no_more_than_short_ones() {
    let layout = table("zorder-long");
    let long =
        StringArray::from_iter_values((0..40_000).map(|i| format!("{i:05}{}", "x".repeat(200))));
    let rows = 40_000_usize;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..rows as i64)),
        Arc::new(Float64Array::from_iter_values((0..rows).map(|i| i as f64))),
        Arc::new(long),
    ];
    let batch = RecordBatch::try_new(layout.schema.clone(), columns).unwrap();
    let files = vec![put(&layout, "one", &batch).await];
    let group = Group { partition_values: BTreeMap::new(), files };
    let (curve, seen) = survey(&layout, &group, &["s".to_string()]).await.unwrap();
    assert_eq!(seen, 40_000);
    let keys = curve.keys(&[batch.column(2).clone()]).unwrap();
    assert!(keys.values().is_sorted());
    let distinct: BTreeSet<u64> = keys.values().iter().copied().collect();
    assert!(distinct.len() > 8_000, "{} ranks", distinct.len());
}
