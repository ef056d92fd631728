//! The committer against real logs, faults of the store, and the delta-rs library.

mod expiring;
mod extending;
mod feeding;
mod loading;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use serde_json::{Value, json};

use sluice_core::{Kind, Secrets};

use super::library::library_table;
use super::*;
use crate::manifest::{DataFile, DeltaAction, TableMeta};
use crate::testing::{Fault, Faulty, Op};

/// Far ahead, so that no checkpoint finds our removals too old to keep.
const NOW: i64 = 4_000_000_000_000;

fn table(name: &str) -> Location {
    crate::store::open(&format!("memory://delta-{name}/lake/t"), &Secrets::default()).unwrap()
}

fn schema(columns: &[(&str, DataType)]) -> String {
    let field = |(name, of): &(&str, DataType)| Field::new(*name, of.clone(), true);
    schema_string(&Schema::new(columns.iter().map(field).collect::<Vec<_>>())).unwrap()
}

fn meta(id: &str, columns: &[(&str, DataType)]) -> TableMeta {
    TableMeta {
        schema: schema(columns),
        partition_by: vec!["p".into()],
        properties: [("sluice.job".to_string(), "j".to_string())].into(),
        id: id.into(),
        name: "t".into(),
        created_ms: NOW,
    }
}

fn columns() -> Vec<(&'static str, DataType)> {
    vec![("id", DataType::Int64), ("p", DataType::Utf8)]
}

fn file(name: &str) -> DataFile {
    DataFile {
        path: format!("p=a%2Fb é/{name}.parquet"),
        partition_values: [("p".to_string(), Some("a/b é".to_string()))].into(),
        bytes: 10,
        rows: 3,
        modified_ms: NOW,
        stats: Some(r#"{"numRecords":3}"#.into()),
    }
}

fn create(names: &[&str]) -> DeltaAction {
    DeltaAction { create: Some(meta("first", &columns())), base_version: None, ..append(names) }
}

fn append(names: &[&str]) -> DeltaAction {
    DeltaAction {
        location: "lake/t".into(),
        adds: names.iter().map(|n| file(n)).collect(),
        data_change: true,
        operation: "WRITE".into(),
        ..DeltaAction::default()
    }
}

fn swap(removes: &[&str], adds: &[&str], base: i64) -> DeltaAction {
    let removes = removes.iter().map(|n| file(n)).collect();
    DeltaAction { removes, base_version: Some(base), ..append(adds) }
}

fn txn(version: i64) -> Txn {
    Txn { app_id: "sluice/j/i/t".into(), version }
}

fn other(version: i64) -> Txn {
    Txn { app_id: "sluice/k/i/t".into(), version }
}

async fn put(
    location: &Location,
    head: &mut Option<Head>,
    action: &DeltaAction,
    n: i64,
) -> Committed {
    commit(location, head, action, &txn(n), NOW).await.unwrap()
}

/// A table with one file per name, each its own version.
async fn made(name: &str, names: &[&str]) -> (Location, Option<Head>) {
    let location = table(name);
    let mut head = None;
    put(&location, &mut head, &create(&names[..1]), 0).await;
    for (n, name) in names.iter().enumerate().skip(1) {
        put(&location, &mut head, &append(&[name]), n as i64).await;
    }
    (location, head)
}

fn names(head: &Head) -> Vec<String> {
    let name = |p: &String| p.rsplit('/').next().unwrap().trim_end_matches(".parquet").to_string();
    head.files.keys().map(name).collect()
}

async fn entry_text(location: &Location, version: i64) -> String {
    let path = log::entry_path(location, version).unwrap();
    String::from_utf8(location.store.get(&path).await.unwrap().unwrap().to_vec()).unwrap()
}

/// Writes an entry as another client would.
async fn foreign(location: &Location, version: i64, lines: &[Value]) {
    let path = log::entry_path(location, version).unwrap();
    let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
    location.store.put(&path, Bytes::from(text)).await.unwrap();
}

fn same(a: &Head, b: &Head) {
    assert_eq!((a.version, &a.files, &a.txns), (b.version, &b.files, &b.txns));
    assert_eq!((&a.metadata, &a.protocol, &a.schema), (&b.metadata, &b.protocol, &b.schema));
}

#[tokio::test]
async fn what_is_committed_is_loaded() {
    let (location, head) = made("load", &["a", "b", "c"]).await;
    let head = head.unwrap();
    assert_eq!((head.version, names(&head)), (2, vec!["a".into(), "b".into(), "c".into()]));
    same(&load(&location).await.unwrap().unwrap(), &head);
    assert_eq!(head.properties()["sluice.job"], "j");
    let first = load_at(&location, 0).await.unwrap().unwrap();
    assert_eq!(names(&first), ["a"]);
    assert_eq!(load_at(&location, 9).await.unwrap_err().kind(), Kind::Conflict);
    assert!(load(&table("nothing")).await.unwrap().is_none());
    let info: Value =
        serde_json::from_str(entry_text(&location, 1).await.lines().next().unwrap()).unwrap();
    assert_eq!(info["commitInfo"]["isBlindAppend"], true);
    assert!(info["commitInfo"]["engineInfo"].as_str().unwrap().starts_with("sluice/"));
}

#[tokio::test]
async fn the_library_reads_what_we_write() {
    let (location, head) = made("library", &["a", "b"]).await;
    let mut library = library_table(&location).unwrap();
    library.load().await.unwrap();
    assert_eq!(library.version(), Some(1));
    let files: Vec<String> =
        library.snapshot().unwrap().log_data().iter().map(|f| f.path().to_string()).collect();
    assert_eq!(files.len(), 2);
    let head = head.unwrap();
    assert!(files.iter().all(|f| head.files.contains_key(f)), "{files:?} {:?}", head.files.keys());
    let known = library.snapshot().unwrap();
    let version = known.transaction_version(library.log_store().as_ref(), "sluice/j/i/t").await;
    assert_eq!(version.unwrap(), Some(1));
}

#[tokio::test]
async fn a_commit_happens_once() {
    let (location, mut head) = made("once", &["a", "b"]).await;
    let again = put(&location, &mut head, &append(&["b"]), 1).await;
    assert_eq!(again, Committed::Already { version: 1 });
    let mut fresh = None;
    assert_eq!(put(&location, &mut fresh, &create(&["a"]), 0).await, again);
    same(&fresh.unwrap(), &head.unwrap());
}

#[tokio::test]
async fn appends_of_two_writers_both_survive() {
    let (location, mut one) = made("race", &["a"]).await;
    let mut two = one.clone();
    put(&location, &mut one, &append(&["b"]), 1).await;
    let late = commit(&location, &mut two, &append(&["c"]), &other(7), NOW).await.unwrap();
    assert_eq!(late, Committed::Done { version: 2 });
    refresh(&location, one.as_mut().unwrap()).await.unwrap();
    same(&one.unwrap(), &two.unwrap());
}

#[tokio::test]
async fn a_zombie_finds_its_transaction_done() {
    let (location, mut one) = made("zombie", &["a"]).await;
    let mut zombie = one.clone();
    put(&location, &mut one, &append(&["b"]), 1).await;
    put(&location, &mut one, &append(&["c"]), 2).await;
    let late = put(&location, &mut zombie, &append(&["b"]), 1).await;
    assert_eq!(late, Committed::Already { version: 2 });
}

#[tokio::test]
async fn removes_are_checked_at_the_version_they_reach() {
    let (location, mut one) = made("removes", &["a", "b", "c"]).await;
    let mut two = one.clone();
    put(&location, &mut one, &swap(&["a", "b"], &["ab"], 2), 3).await;
    let gone =
        commit(&location, &mut two, &swap(&["b", "c"], &["bc"], 2), &other(1), NOW).await.unwrap();
    assert_eq!(gone, Committed::RemovesGone { paths: vec![file("b").path], version: 3 });
    same(two.as_ref().unwrap(), one.as_ref().unwrap());
    let fine = commit(&location, &mut two, &swap(&["c"], &["d"], 2), &other(1), NOW).await.unwrap();
    assert_eq!(fine, Committed::Done { version: 4 });
    assert_eq!(names(&two.unwrap()), ["ab", "d"]);
    let removed = removed_after(&location, 3, 4).await.unwrap();
    assert_eq!(removed, [file("c").path]);
    let all = remembered(&location).await.unwrap().removed;
    assert_eq!((all.len(), all[&file("a").path]), (3, NOW));
}

#[tokio::test]
async fn a_replacement_is_one_commit() {
    let (location, mut head) = made("replace", &["a", "b"]).await;
    let wider = [("id", DataType::Utf8), ("p", DataType::Utf8), ("x", DataType::Int64)];
    let action =
        DeltaAction { create: Some(meta("second", &wider)), replace: true, ..append(&["n"]) };
    let life = Txn { app_id: "sluice/j/i2/t".into(), version: 0 };
    let mut zombie = head.clone();
    let done = commit(&location, &mut head, &action, &life, NOW).await.unwrap();
    assert_eq!(done, Committed::Done { version: 2 });
    let head = head.unwrap();
    assert_eq!((names(&head), head.schema.fields().len()), (vec!["n".into()], 3));
    assert_eq!(head.metadata.id, "second");
    same(&load(&location).await.unwrap().unwrap(), &head);
    let error =
        commit(&location, &mut zombie, &swap(&[], &["c"], 1), &txn(2), NOW).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.message().contains("replaced"), "{error:?}");
}

#[tokio::test]
async fn tables_that_are_not_ours_are_left_alone() {
    let (location, _) = made("foreign", &["a"]).await;
    let mut head = None;
    let error = commit(&location, &mut head, &create(&["x"]), &other(0), NOW).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.hint_text().unwrap().contains("--adopt"), "{error:?}");
    let mut none = None;
    let error =
        commit(&table("gone"), &mut none, &swap(&[], &["x"], 3), &txn(4), NOW).await.unwrap_err();
    assert!(error.message().contains("is gone"), "{error:?}");
    let mut head = None;
    let error =
        commit(&location, &mut head, &swap(&[], &["x"], 3), &txn(4), NOW).await.unwrap_err();
    assert!(error.message().contains("is older"), "{error:?}");
}

#[tokio::test]
async fn columns_and_properties_of_others_stay() {
    let (location, mut head) = made("evolve", &["a"]).await;
    let mut theirs = load(&location).await.unwrap().unwrap().metadata;
    theirs.schema_string =
        schema(&[("id", DataType::Int64), ("p", DataType::Utf8), ("z", DataType::Date32)]);
    theirs.configuration.insert("owner".into(), "them".into());
    foreign(&location, 1, &[json!({ "metaData": theirs })]).await;
    let ours = [("id", DataType::Int64), ("p", DataType::Utf8), ("y", DataType::Float64)];
    let mut evolve = meta("ignored", &ours);
    evolve.properties = [("sluice.note".to_string(), "1".to_string())].into();
    let action = DeltaAction { evolve: Some(evolve), ..swap(&[], &["b"], 0) };
    assert_eq!(put(&location, &mut head, &action, 1).await, Committed::Done { version: 2 });
    let head = head.unwrap();
    let columns: Vec<_> = head.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(columns, ["id", "p", "z", "y"]);
    assert_eq!((head.metadata.id.as_str(), head.properties().len()), ("first", 3));
    let mut head = Some(head);
    let same = DeltaAction { base_version: Some(2), ..action };
    put(&location, &mut head, &same, 2).await;
    assert!(!entry_text(&location, 3).await.contains("metaData"), "nothing new to define");
    let clash = meta("x", &[("y", DataType::Utf8)]);
    let action = DeltaAction { evolve: Some(clash), ..swap(&[], &[], 3) };
    let error = commit(&location, &mut head, &action, &txn(3), NOW).await.unwrap_err();
    assert!(error.message().contains("column=\"y\""), "{error:?}");
}

#[tokio::test]
async fn changes_of_others_that_hurt_stop_the_commit() {
    let (location, _) = made("hurt", &["a"]).await;
    let base = load(&location).await.unwrap().unwrap();
    let with = |schema: String, by: &[&str]| {
        let mut metadata = base.metadata.clone();
        metadata.schema_string = schema;
        metadata.partition_columns = by.iter().map(|c| c.to_string()).collect();
        json!({ "metaData": metadata })
    };
    let own = || schema(&columns());
    let not_null = own().replace("\"nullable\":true", "\"nullable\":false");
    let constraint = {
        let mut metadata = base.metadata.clone();
        metadata.configuration.insert("delta.constraints.c".into(), "id > 0".into());
        json!({ "metaData": metadata })
    };
    let cases = [
        (with(own(), &[]), "partitioned"),
        (with(schema(&[("id", DataType::Int64)]), &["p"]), "a column is gone"),
        (with(schema(&[("id", DataType::Utf8), ("p", DataType::Utf8)]), &["p"]), "another type"),
        (with(not_null, &["p"]), "must not be null"),
        (constraint, "checkConstraints"),
        (json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 3}}), "protocol"),
    ];
    for (line, word) in cases {
        foreign(&location, 1, std::slice::from_ref(&line)).await;
        // Seen as a lost race, and again by a process that loads the table afterwards.
        for mut head in [Some(base.clone()), None] {
            let error = commit(&location, &mut head, &swap(&[], &["b"], 0), &txn(1), NOW)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict);
            assert!(error.message().contains(word), "{word}: {error:?}");
        }
        assert!(
            location.store.get(&log::entry_path(&location, 2).unwrap()).await.unwrap().is_none()
        );
    }
}

#[tokio::test]
async fn tables_that_take_appends_only() {
    let location = table("append-only");
    let mut action = create(&["a"]);
    if let Some(create) = &mut action.create {
        create.properties.insert("delta.appendOnly".into(), "true".into());
    }
    let mut head = None;
    put(&location, &mut head, &action, 0).await;
    let error =
        commit(&location, &mut head, &swap(&["a"], &["b"], 0), &txn(1), NOW).await.unwrap_err();
    assert!(error.message().contains("appends only"), "{error:?}");
    let compaction = DeltaAction { data_change: false, ..swap(&["a"], &["b"], 0) };
    assert_eq!(put(&location, &mut head, &compaction, 1).await, Committed::Done { version: 1 });
    assert!(!entry_text(&location, 1).await.contains("\"dataChange\":true"));
}

#[tokio::test]
async fn a_compaction_removes_for_everybody_to_see_and_adds_nothing_new() {
    let (location, mut head) = made("compacted", &["a", "b"]).await;
    let compaction = DeltaAction { data_change: false, ..swap(&["a", "b"], &["c"], 1) };
    put(&location, &mut head, &compaction, 2).await;
    let text = entry_text(&location, 2).await;
    let flags = |action: &str| {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of = lines.filter_map(|line| line.get(action).map(|a| a["dataChange"].clone()));
        of.collect::<Vec<_>>()
    };
    assert_eq!(flags("remove"), [true, true]);
    assert_eq!(flags("add"), [false]);
}

/// The first create of an entry meets `fault`; returns how the commit ended and the table.
async fn with_fault(name: &str, fault: Fault, creates: bool) -> (Committed, Head) {
    let (plain, head) = if creates { (table(name), None) } else { made(name, &["a"]).await };
    let seen = Arc::new(AtomicUsize::new(0));
    let store = Faulty::wrap(&plain.store, move |op, _| {
        let first = op == Op::Create && seen.fetch_add(1, Ordering::SeqCst) == 0;
        if first { fault } else { Fault::None }
    });
    let location = Location { store, path: plain.path.clone() };
    let (action, version) = if creates { (create(&["a"]), 0) } else { (append(&["b"]), 1) };
    let mut head = head;
    let done = put(&location, &mut head, &action, version).await;
    same(&load(&plain).await.unwrap().unwrap(), head.as_ref().unwrap());
    (done, head.unwrap())
}

#[tokio::test]
async fn every_answer_of_the_store_leads_to_one_commit() {
    let cases =
        [(Fault::Before, true), (Fault::After, false), (Fault::Echo, false), (Fault::Exists, true)];
    for (n, (fault, writes)) in cases.into_iter().enumerate() {
        for creates in [false, true] {
            let version = if creates { 0 } else { 1 };
            let (done, head) = with_fault(&format!("fault-{n}-{creates}"), fault, creates).await;
            let want = match writes {
                true => Committed::Done { version },
                false => Committed::Already { version },
            };
            assert_eq!((done, head.version), (want, version), "{fault:?}");
            assert_eq!(head.files.len() as i64, version + 1);
        }
    }
}

#[tokio::test]
async fn a_store_that_never_answers_ends_the_commit() {
    let (plain, mut head) = made("silent", &["a"]).await;
    let store = Faulty::wrap(&plain.store, |op, _| match op {
        Op::Create => Fault::Before,
        _ => Fault::None,
    });
    let location = Location { store, path: plain.path.clone() };
    let error = commit(&location, &mut head, &append(&["b"]), &txn(1), NOW).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Unavailable, true));
    assert_eq!(load(&plain).await.unwrap().unwrap().version, 0);
}

#[tokio::test]
async fn the_library_may_change_the_table_between_our_commits() {
    let (location, mut head) = made("between", &["a"]).await;
    let mut library = library_table(&location).unwrap();
    library.load().await.unwrap();
    let properties = [("delta.logRetentionDuration".to_string(), "interval 9 days".to_string())];
    let changed = library.set_tbl_properties().with_properties(properties.into()).await;
    let mut library = changed.unwrap();
    assert_eq!(library.version(), Some(1));
    assert_eq!(
        put(&location, &mut head, &swap(&[], &["b"], 0), 1).await,
        Committed::Done { version: 2 }
    );
    assert!(head.unwrap().properties().contains_key("delta.logRetentionDuration"));
    library.load().await.unwrap();
    assert_eq!(library.version(), Some(2));
}
