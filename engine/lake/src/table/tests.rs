//! Keyed changes against a naive model, change files, and datasets with their final names.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use futures::stream::TryStreamExt;
use object_store::path::Path;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use sluice_core::{Kind, Memory, Secrets, Unbounded};

use super::*;
use crate::manifest::{Copy, FilesAction};
use crate::parquet::{FileNaming, Layout, PartitionedWriter, Read, WriteOptions, read_file};
use crate::store::{Location, open};

fn root(name: &str) -> Location {
    open(&format!("memory://table-{name}/lake/t"), &Secrets::default()).unwrap()
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("part", DataType::Utf8, true),
        Field::new("value", DataType::Int64, true),
    ]))
}

type Row = (Option<i64>, Option<String>, i64);

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.1.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn keys_batch(keys: &[Option<i64>]) -> RecordBatch {
    let column: ArrayRef = Arc::new(keys.iter().copied().collect::<Int64Array>());
    RecordBatch::try_from_iter_with_nullable([("k", column, true)]).unwrap()
}

fn lines(batch: &RecordBatch) -> Vec<Row> {
    let (k, value) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(2));
    let (part, value) = (batch.column(1).as_string::<i32>(), value.as_primitive::<Int64Type>());
    let row = |((k, part), value): ((Option<i64>, Option<&str>), Option<i64>)| {
        (k, part.map(str::to_string), value.unwrap())
    };
    k.iter().zip(part.iter()).zip(value.iter()).map(row).collect()
}

fn writer(layout: &Layout, prefix: &str) -> PartitionedWriter {
    let naming = FileNaming { prefix: prefix.into(), modified_ms: 0 };
    let memory = Unbounded.reserve("test");
    PartitionedWriter::new(layout.clone(), WriteOptions::default(), naming, memory).unwrap()
}

async fn write(layout: &Layout, prefix: &str, rows: &[Row]) -> Vec<DataFile> {
    let mut writer = writer(layout, prefix);
    writer.write(&batch(rows)).await.unwrap();
    writer.finish().await.unwrap()
}

async fn all(layout: &Layout, files: &[DataFile]) -> Vec<Row> {
    let mut rows = Vec::new();
    for file in files {
        let stream = read_file(layout, file, Read::default()).await.unwrap();
        for part in stream.try_collect::<Vec<_>>().await.unwrap() {
            rows.extend(lines(&part));
        }
    }
    rows.sort();
    rows
}

fn apply(files: &mut Vec<DataFile>, change: Prepared) {
    files.retain(|f| !change.removes.contains(f));
    files.extend(change.adds);
}

fn layout(name: &str, partition_by: &[&str]) -> Layout {
    let by = partition_by.iter().map(|c| c.to_string()).collect();
    Layout::new(root(name), schema(), by).unwrap()
}

fn k() -> Vec<String> {
    keys(&["k"])
}

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| n.to_string()).collect()
}

/// The model: whole rows by key; keys may be null, and the empty partition reads as null.
fn random_rows(random: &mut StdRng, count: usize) -> BTreeMap<Option<i64>, Row> {
    let mut rows = BTreeMap::new();
    for _ in 0..count {
        let key = Some(random.random_range(0..60)).filter(|k| *k > 0);
        let part = Some(random.random_range(0..4)).filter(|p| *p > 0).map(|p| format!("p{p}"));
        rows.insert(key, (key, part, random.random_range(0..1000)));
    }
    rows
}

#[tokio::test]
async fn upserts_and_deletes_agree_with_a_map() {
    for (seed, by) in [(1, vec![]), (2, vec!["part"]), (3, vec!["part"])] {
        let mut random = StdRng::seed_from_u64(seed);
        let layout = layout(&format!("model{seed}"), &by);
        let (key, mut spared) = (k(), 0);
        let (mut files, mut model) = (Vec::new(), BTreeMap::<Option<i64>, Row>::new());
        for round in 0..30 {
            let upserts = random_rows(&mut random, 8);
            let deletes: Vec<_> = random_rows(&mut random, 3)
                .into_keys()
                .filter(|k| !upserts.contains_key(k))
                .collect();
            let touched: Vec<_> = upserts.keys().chain(&deletes).copied().collect();
            let old: Vec<Row> = touched.iter().filter_map(|k| model.get(k).cloned()).collect();

            let key_rows = keys_batch(&touched);
            let found = lookup(&layout, &files, &key, &key_rows).await.unwrap();
            let mut seen = lines(&found.rows);
            seen.sort();
            let mut expected = old.clone();
            expected.sort();
            assert_eq!(seen, expected, "seed={seed} round={round}");
            let untouched = files.iter().filter(|f| !found.files.contains(f)).count();
            assert_eq!(untouched + found.files.len(), files.len());
            spared += untouched;

            let new = [batch(&upserts.values().cloned().collect::<Vec<_>>())];
            let by_change = Changes { upserts: new.to_vec(), deletes: vec![keys_batch(&deletes)] };
            let prefix = format!("c{round}");
            let repaired =
                apply_change_file(&layout, &files, &key, &by_change, writer(&layout, &prefix));
            let repaired = repaired.await.unwrap();
            let change =
                Rewrite { matched: &found.files, keys: &key, key_rows: &key_rows, new_rows: &new };
            let change =
                rewrite(&layout, change, writer(&layout, &format!("r{round}"))).await.unwrap();
            assert_eq!(all(&layout, &repaired.adds).await, all(&layout, &change.adds).await);
            assert_eq!(repaired.removes, change.removes);
            apply(&mut files, change);

            deletes.iter().for_each(|k| drop(model.remove(k)));
            model.extend(upserts);
            let mut whole: Vec<Row> = model.values().cloned().collect();
            whole.sort();
            assert_eq!(all(&layout, &files).await, whole, "seed={seed} round={round}");
        }
        assert!(by.is_empty() || spared > 0, "some files were left untouched at times");
    }
}

#[tokio::test]
async fn files_are_ruled_out_without_being_read() {
    let layout = layout("prune", &["part"]);
    let part = |n: i64| -> Vec<Row> {
        (n * 10..n * 10 + 10).map(|k| (Some(k), Some(format!("p{n}")), k)).collect()
    };
    let mut files = Vec::new();
    for n in 0..5 {
        files.extend(write(&layout, &format!("f{n}"), &part(n)).await);
    }
    // Reading any file but the third would fail.
    for (n, file) in files.iter().enumerate().filter(|(n, _)| *n != 2) {
        let path = layout.object(&file.path).unwrap();
        layout.location.store.delete(&path).await.unwrap();
        assert!(n != 2);
    }
    let found = lookup(&layout, &files, &k(), &keys_batch(&[Some(23), Some(99)])).await.unwrap();
    assert_eq!(lines(&found.rows), [(Some(23), Some("p2".to_string()), 23)]);
    let by_part: ArrayRef = Arc::new(StringArray::from(vec!["p2"]));
    let by_part = RecordBatch::try_from_iter([("part", by_part)]).unwrap();
    let found = lookup(&layout, &files, &keys(&["part"]), &by_part).await.unwrap();
    assert_eq!(found.rows.num_rows(), 10);
    assert!(lookup(&layout, &files, &k(), &keys_batch(&[])).await.unwrap().files.is_empty());
    let gone = lookup(&layout, &files, &k(), &keys_batch(&[Some(3)])).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::Data);
}

#[tokio::test]
async fn null_keys_are_found_and_equal() {
    let layout = layout("nulls", &[]);
    let mut files = write(&layout, "a", &[(None, None, 1), (Some(1), None, 2)]).await;
    files.extend(write(&layout, "b", &[(Some(5), None, 3)]).await);
    files.extend(write(&layout, "c", &[(None, None, 4)]).await);
    let found = lookup(&layout, &files, &k(), &keys_batch(&[None])).await.unwrap();
    assert_eq!(lines(&found.rows).len(), 2);
    assert_eq!(found.files, [files[0].clone(), files[2].clone()]);
}

/// Statistics of other writers cut a time's maximum to milliseconds.
#[tokio::test]
async fn times_are_not_ruled_out_by_a_cut_maximum() {
    let at: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![1_600_000_000_123_456]).with_timezone("UTC"));
    let rows =
        RecordBatch::try_from_iter([("at", at), ("v", keys_batch(&[Some(1)]).column(0).clone())]);
    let rows = rows.unwrap();
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    assert_eq!(rows.schema().field(0).data_type(), &utc);
    let layout = Layout::new(root("times"), rows.schema(), vec![]).unwrap();
    let mut writer = writer(&layout, "a");
    writer.write(&rows).await.unwrap();
    let mut files = writer.finish().await.unwrap();
    files[0].stats = files[0].stats.as_ref().map(|s| s.replace(".124Z", ".123Z"));
    assert!(files[0].stats.as_ref().unwrap().matches(".123Z").count() == 2);
    let found = lookup(&layout, &files, &keys(&["at"]), &rows).await.unwrap();
    assert_eq!(found.rows.num_rows(), 1);
}

#[tokio::test]
async fn change_files_read_back() {
    let at = root("changes").child("change.parquet");
    let changes = Changes {
        upserts: vec![batch(&[(Some(1), Some("a".into()), 10), (None, None, 11)])],
        deletes: vec![keys_batch(&[Some(2), Some(3)])],
    };
    let file = write_change_file(&at, &schema(), &changes).await.unwrap();
    let mut memory = Unbounded.reserve("test");
    let read = read_change_file(&at.store, &file, &schema(), memory.as_mut()).await.unwrap();
    assert_eq!(read.upserts, changes.upserts);
    assert!(memory.bytes() > 0);
    let deleted: Vec<_> = read.deletes[0].column(0).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(deleted, [Some(2), Some(3)]);
    let none = write_change_file(&at, &schema(), &Changes::default()).await.unwrap();
    let read = read_change_file(&at.store, &none, &schema(), memory.as_mut()).await.unwrap();
    assert!(read.upserts.is_empty() && read.deletes.is_empty());
    at.store.delete(&at.path).await.unwrap();
    let error = read_change_file(&at.store, &file, &schema(), memory.as_mut()).await.unwrap_err();
    assert!(error.message().contains("gone"), "{error:?}");
}

fn copies(files: &[DataFile], staged: &Location, target: &Location) -> FilesAction {
    let copy = |f: &DataFile| Copy {
        from: staged.join(&f.path).unwrap().path.to_string(),
        to: target.join(&f.path).unwrap().path.to_string(),
        bytes: f.bytes,
        rows: f.rows,
        partition_values: f.partition_values.clone(),
    };
    FilesAction {
        location: target.path.to_string(),
        copies: files.iter().map(copy).collect(),
        ..FilesAction::default()
    }
}

async fn publishes_once(target: Location) {
    let staged = Location { path: Path::from("staged"), ..target.clone() };
    let staged = match target.store.local_path(&target.path) {
        Some(_) => target.child("_staged"),
        None => staged,
    };
    let layout = Layout::new(staged.clone(), schema(), keys(&["part"])).unwrap();
    let incarnation = "0123456789ab";
    let rows: Vec<Row> = vec![(Some(1), Some("x y".into()), 1), (Some(2), None, 2)];
    let files = write(&layout, &dataset_prefix(incarnation, 4), &rows).await;
    let action = copies(&files, &staged, &target);
    for _ in 0..2 {
        publish_files(&target.store, &action, 4, "").await.unwrap();
    }
    target.store.delete(&layout.object(&files[0].path).unwrap()).await.unwrap();
    publish_files(&target.store, &action, 4, "").await.unwrap();
    let by = keys(&["part"]);
    let wanted = |epoch| Dataset { incarnation, epoch, partition_by: &by };
    let seen = list_dataset(&target, wanted(4)).await.unwrap();
    assert_eq!(seen.len(), 2);
    let published = Layout { location: target.clone(), ..layout.clone() };
    let mut rows = rows;
    rows.sort();
    assert_eq!(all(&published, &seen).await, rows);
    assert!(list_dataset(&target, wanted(3)).await.unwrap().is_empty());
    target.store.delete(&published.object(&files[0].path).unwrap()).await.unwrap();
    let error = publish_files(&target.store, &action, 4, "").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
}

#[tokio::test]
async fn datasets_are_published_once_on_a_remote_store() {
    publishes_once(root("dataset")).await;
}

#[tokio::test]
async fn datasets_are_published_once_on_local_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lake/data");
    publishes_once(open(path.to_str().unwrap(), &Secrets::default()).unwrap()).await;
}
