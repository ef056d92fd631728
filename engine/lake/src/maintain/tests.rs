//! Compaction plans and their execution; which files go and which stay.

mod zorder;

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
fn plans_join_neighbours_of_one_partition() {
    let options = CompactOptions { target_bytes: 100, files_min: 4, ..CompactOptions::default() };
    let mut files: Vec<_> = (0..9).rev().map(|n| file(&format!("a{n}"), "a", 30)).collect();
    files.push(file("big", "a", 50));
    files.extend((0..3).map(|n| file(&format!("b{n}"), "b", 1)));
    let groups = plan_compaction(&files, options);
    let names = |g: &Group| g.files.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
    let planned: Vec<_> = groups.iter().map(names).collect();
    assert_eq!(planned, [["a0", "a1", "a2"], ["a3", "a4", "a5"], ["a6", "a7", "a8"]]);
    assert!(plan_compaction(&files[..3], options).is_empty(), "too few files");
    let mut old = file("old", "a", 30);
    old.modified_ms = -1;
    files.push(old);
    assert_eq!(plan_compaction(&files, options)[0].files[0].path, "old", "oldest first");
}

#[test]
fn plans_keep_to_their_budget_and_come_to_an_end() {
    let all = CompactOptions { target_bytes: 1_000, files_min: 1, ..CompactOptions::default() };
    let budgets = [
        CompactOptions { round_bytes: 700, ..all },
        CompactOptions { round_bytes: 2_500, round_files: 7, ..all },
        CompactOptions { round_files: 2, ..all },
        all,
    ];
    for options in budgets {
        let mut seed = 7_u64;
        let mut draw = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            (seed >> 33) % n
        };
        let mut files: Vec<DataFile> = (0..500)
            .map(|n| file(&format!("f{n:03}"), ["a", "b", "c"][n % 3], 1 + draw(340)))
            .collect();
        let bytes: u64 = files.iter().map(|f| f.bytes).sum();
        for round in 0.. {
            assert!(round < 1_000, "does not end {options:?}");
            let groups = plan_compaction(&files, options);
            if groups.is_empty() {
                break;
            }
            assert!(groups.iter().map(Group::bytes).sum::<u64>() <= options.round_bytes);
            assert!(groups.iter().map(|g| g.files.len()).sum::<usize>() <= options.round_files);
            for (nth, group) in groups.iter().enumerate() {
                assert!(group.bytes() <= options.target_bytes && group.files.len() > 1);
                files.retain(|f| !group.files.contains(f));
                let mut joined = file(&format!("g{round:03}-{nth:03}"), "", group.bytes());
                joined.partition_values = group.partition_values.clone();
                files.push(joined);
            }
        }
        assert_eq!(files.iter().map(|f| f.bytes).sum::<u64>(), bytes);
        for part in ["a", "b", "c"] {
            let of = |f: &&DataFile| f.partition_values["p"].as_deref() == Some(part);
            let small = files.iter().filter(of).filter(|f| options.is_small(f)).count();
            // With less than a file's size to read, pairs of larger ones cannot be joined.
            let left = if options.round_bytes < 1_000 { 100 } else { 1 };
            assert!(small <= left, "{small} small files left {options:?}");
        }
    }
}

#[test]
fn a_table_that_grows_by_small_files_rewrites_its_bytes_a_few_times() {
    const MIB: u64 = 1024 * 1024;
    let options = CompactOptions::default();
    for bytes in [10 * 1024, MIB] {
        let (mut files, mut rewritten, epochs) = (Vec::new(), 0, 20_000);
        for n in 0..epochs {
            files.push(file(&format!("f{n:05}"), "a", bytes));
            for group in plan_compaction(&files, options) {
                rewritten += group.bytes();
                files.retain(|f| !group.files.contains(f));
                files.push(file(&format!("g{n:05}"), "a", group.bytes()));
            }
        }
        let times = rewritten / (epochs * bytes);
        let small = files.iter().filter(|f| options.is_small(f)).count();
        assert!(times <= 5, "{times} times");
        assert!(small <= 7 * 6, "{small} small files");
    }
}

#[test]
fn facts_count_what_compaction_would_join() {
    let options = CompactOptions { target_bytes: 100, ..CompactOptions::default() };
    assert_eq!(table_facts(&[], options), TableFacts::default());
    let mut files = vec![file("a1", "a", 10), file("a2", "a", 20), file("b1", "b", 5)];
    files.push(file("a3", "a", 90));
    files[1].modified_ms = 7;
    files[2].modified_ms = 9;
    let want = TableFacts {
        files: 4,
        bytes: 125,
        bytes_min: 5,
        bytes_max: 90,
        oldest_ms: Some(7),
        newest_ms: Some(9),
        small_files: 2,
        small_bytes: 30,
    };
    assert_eq!(table_facts(&files, options), want);
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
async fn versions(location: &Location) -> (crate::delta::Head, i64) {
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

async fn vacuumed(location: &Location, keep: Keep) -> Vec<String> {
    let found = vacuum(location, &keep).await.unwrap();
    let name = |m: &object_store::ObjectMeta| m.location.filename().unwrap().to_string();
    found.iter().map(name).collect()
}

#[tokio::test]
async fn vacuum_takes_only_what_nobody_needs() {
    let location = open("memory://maintain-vacuum/t", &Secrets::default()).unwrap();
    let (head, now) = versions(&location).await;
    for name in ["stray.parquet", "_hidden/x", "p=1/stray.parquet"] {
        let path = location.join(name).unwrap().path;
        location.store.put(&path, Bytes::from_static(b"x")).await.unwrap();
    }
    let keep = Keep { removed_ms: DAY, now_ms: now, ..Keep::default() };
    assert_eq!(vacuumed(&location, keep.clone()).await, ["a-0.parquet", "b-0.parquet"]);
    let reader = Keep { since_version: Some(0), ..keep.clone() };
    assert!(vacuumed(&location, reader).await.is_empty());
    let named = Keep { named: ["b-0.parquet".to_string()].into(), ..keep.clone() };
    assert_eq!(vacuumed(&location, named).await, ["a-0.parquet"]);
    let late = Keep { now_ms: now + 2 * DAY, ..keep.clone() };
    let gone = vacuum(&location, &late).await.unwrap();
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
