//! Compaction plans and their execution; which files go and which stay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;

use sluice_core::{Kind, Memory, Secrets, Unbounded};

use super::*;
use crate::delta::{Txn, commit, load, schema_string};
use crate::manifest::{DataFile, DeltaAction, TableMeta};
use crate::parquet::{FileNaming, Layout, PartitionedWriter, WriteOptions, footer_rows};
use crate::store::{Location, open};

fn file(path: &str, part: &str, bytes: u64) -> DataFile {
    let partition_values: BTreeMap<_, _> = [("p".to_string(), Some(part.to_string()))].into();
    DataFile { path: path.into(), partition_values, bytes, rows: 1, ..DataFile::default() }
}

#[test]
fn plans_pack_small_files_of_one_partition() {
    let options = CompactOptions { target_bytes: 100, files_min: 4 };
    let mut files: Vec<_> = (0..9).map(|n| file(&format!("a{n}"), "a", 30)).collect();
    files.push(file("big", "a", 50));
    files.extend((0..3).map(|n| file(&format!("b{n}"), "b", 1)));
    let groups = plan_compaction(&files, options);
    assert_eq!(groups.len(), 3);
    for group in &groups {
        assert_eq!(group.partition_values["p"].as_deref(), Some("a"));
        assert!(group.files.iter().map(|f| f.bytes).sum::<u64>() <= 100);
        assert!(group.files.windows(2).all(|pair| pair[0].path < pair[1].path));
    }
    let planned: BTreeSet<_> = groups.iter().flat_map(|g| &g.files).map(|f| &f.path).collect();
    assert_eq!(planned.len(), 9, "every small file once");
    assert!(plan_compaction(&files[..3], options).is_empty(), "too few files");
    let pairs: Vec<_> = (0..5).map(|n| file(&format!("n{n}"), "a", 49)).collect();
    let sizes: Vec<_> = plan_compaction(&pairs, options).iter().map(|g| g.files.len()).collect();
    assert_eq!(sizes, [2, 2], "a file that fits nowhere stays");
}

#[test]
fn every_reason_to_keep_a_file_counts() {
    let facts = FileFacts { needed: false, removed_ago_ms: None, written_ago_ms: ORPHAN_MS };
    let cases = [
        (facts, Verdict::Orphan),
        (FileFacts { written_ago_ms: ORPHAN_MS - 1, ..facts }, Verdict::Keep),
        (FileFacts { written_ago_ms: -5, ..facts }, Verdict::Keep),
        (FileFacts { needed: true, ..facts }, Verdict::Keep),
        (FileFacts { removed_ago_ms: Some(1000), ..facts }, Verdict::Removed),
        (FileFacts { removed_ago_ms: Some(999), ..facts }, Verdict::Keep),
        (FileFacts { removed_ago_ms: Some(-1), ..facts }, Verdict::Keep),
        (FileFacts { needed: true, removed_ago_ms: Some(9999), ..facts }, Verdict::Keep),
        (FileFacts { removed_ago_ms: Some(1000), written_ago_ms: 0, ..facts }, Verdict::Removed),
    ];
    for (facts, want) in cases {
        assert_eq!(decide_file(facts, 1000), want, "{facts:?}");
    }
}

fn layout(location: Location) -> Layout {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    Layout::new(location, schema, vec![]).unwrap()
}

fn writer(layout: &Layout, prefix: &str) -> PartitionedWriter {
    let naming = FileNaming { prefix: prefix.into(), modified_ms: 0 };
    let memory = Unbounded.reserve("test");
    PartitionedWriter::new(layout.clone(), WriteOptions::default(), naming, memory).unwrap()
}

async fn write(layout: &Layout, prefix: &str, ids: std::ops::Range<i64>) -> DataFile {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    let mut writer = writer(layout, prefix);
    writer.write(&RecordBatch::try_from_iter([("id", ids)]).unwrap()).await.unwrap();
    writer.finish().await.unwrap().remove(0)
}

#[tokio::test]
async fn a_group_becomes_one_file_with_its_rows() {
    let location = open("memory://maintain-compact/t", &Secrets::default()).unwrap();
    let layout = layout(location);
    let mut files = Vec::new();
    for n in 0..8 {
        files.push(write(&layout, &format!("f{n}"), n * 10..n * 10 + 10).await);
    }
    let groups = plan_compaction(&files, CompactOptions::default());
    assert_eq!(groups.len(), 1);
    let change = compact(&layout, &groups[0], writer(&layout, "big")).await.unwrap();
    assert_eq!((change.adds.len(), change.adds[0].rows), (1, 80));
    assert_eq!(footer_rows(&layout, &change.adds[0]).await.unwrap(), 80);
    assert_eq!(change.removes, files);
    let mut lying = groups[0].clone();
    lying.files[3].rows += 1;
    let error = compact(&layout, &lying, writer(&layout, "no")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.message().contains(&lying.files[3].path), "{error:?}");
}

const DAY: i64 = 24 * 60 * 60 * 1000;

/// A table with three versions: `a` and `b`, then `ab` for both, then `c` added and `ab` gone.
async fn table(location: &Location) -> (crate::delta::Head, i64) {
    let layout = layout(location.clone());
    let now = store_now_ms(location).await.unwrap();
    let mut files = BTreeMap::new();
    for name in ["a", "b", "ab", "c"] {
        files.insert(name, write(&layout, name, 0..3).await);
    }
    let of = |names: &[&str]| -> Vec<DataFile> { names.iter().map(|n| files[n].clone()).collect() };
    let meta = TableMeta { schema: schema_string(&layout.schema).unwrap(), ..TableMeta::default() };
    let steps: [(&[&str], &[&str]); 3] =
        [(&[], &["a", "b"]), (&["a", "b"], &["ab"]), (&["ab"], &["c"])];
    let mut head = None;
    for (n, (removes, adds)) in steps.into_iter().enumerate() {
        let action = DeltaAction {
            create: Some(meta.clone()).filter(|_| n == 0),
            removes: of(removes),
            adds: of(adds),
            data_change: true,
            ..DeltaAction::default()
        };
        let txn = Txn { app_id: "x".into(), version: n as i64 };
        // The first removal was two days ago, the second an hour.
        let at = now - if n < 2 { 2 * DAY } else { DAY / 24 };
        commit(location, &mut head, &action, &txn, at).await.unwrap();
    }
    (load(location).await.unwrap().unwrap(), now)
}

async fn vacuumed(location: &Location, head: &crate::delta::Head, keep: Keep) -> Vec<String> {
    let found = vacuum(location, head, &keep).await.unwrap();
    let name = |m: &object_store::ObjectMeta| m.location.filename().unwrap().to_string();
    found.iter().map(name).collect()
}

#[tokio::test]
async fn vacuum_takes_only_what_nobody_needs() {
    let location = open("memory://maintain-vacuum/t", &Secrets::default()).unwrap();
    let (head, now) = table(&location).await;
    for name in ["stray.parquet", "_hidden/x", "p=1/stray.parquet"] {
        let path = location.join(name).unwrap().path;
        location.store.put(&path, Bytes::from_static(b"x")).await.unwrap();
    }
    let keep = Keep { removed_ms: DAY, now_ms: now, ..Keep::default() };
    assert_eq!(vacuumed(&location, &head, keep.clone()).await, ["a-0.parquet", "b-0.parquet"]);
    let reader = Keep { since_version: Some(0), ..keep.clone() };
    assert!(vacuumed(&location, &head, reader).await.is_empty());
    let named = Keep { named: ["b-0.parquet".to_string()].into(), ..keep.clone() };
    assert_eq!(vacuumed(&location, &head, named).await, ["a-0.parquet"]);
    let late = Keep { now_ms: now + 2 * DAY, ..keep.clone() };
    let gone = vacuum(&location, &head, &late).await.unwrap();
    assert_eq!(gone.len(), 5, "removed files and strays");
    for _ in 0..2 {
        assert!(delete(&location.store, &gone).await.unwrap() > 2);
    }
    let layout = layout(location.clone());
    for file in head.files.values() {
        assert_eq!(footer_rows(&layout, file).await.unwrap(), 3);
    }
    assert!(location.store.get(&location.join("_hidden/x").unwrap().path).await.unwrap().is_some());
}

#[tokio::test]
async fn orphans_are_old_and_not_named() {
    let folder = open("memory://maintain-orphans/_sluice/j/staged", &Secrets::default()).unwrap();
    let path = |name: &str| folder.join(name).unwrap().path;
    for name in ["named", "stray"] {
        folder.store.put(&path(name), Bytes::from_static(b"x")).await.unwrap();
    }
    let now = store_now_ms(&folder).await.unwrap();
    let named: BTreeSet<String> = [path("named").to_string()].into();
    let found = orphans(&folder, &named, ORPHAN_MS, now + ORPHAN_MS + 1000).await.unwrap();
    let paths: Vec<_> = found.iter().map(|m| m.location.clone()).collect();
    assert_eq!(paths, [path("stray")]);
    assert!(orphans(&folder, &named, ORPHAN_MS, now).await.unwrap().is_empty());
}
