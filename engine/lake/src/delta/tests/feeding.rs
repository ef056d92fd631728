//! A table as a stream: what each kind of version means, and what cannot be read.

use serde_json::json;

use sluice_core::Kind;

use super::super::feed::{Extent, Feed, Rows};
use super::super::*;
use super::*;

fn add(name: &str, change: bool) -> Value {
    json!({"add": {"path": name, "partitionValues": {}, "size": 7, "modificationTime": 1,
        "dataChange": change, "stats": "{\"numRecords\":2}"}})
}

fn remove(name: &str, change: bool) -> Value {
    json!({"remove": {"path": name, "deletionTimestamp": 1, "dataChange": change,
        "partitionValues": {}, "size": 7}})
}

fn cdc(name: &str) -> Value {
    json!({"cdc": {"path": format!("_change_data/{name}"), "partitionValues": {}, "size": 5,
        "dataChange": false}})
}

fn info(operation: &str, engine: &str) -> Value {
    json!({"commitInfo": {"timestamp": 42, "operation": operation, "engineInfo": engine}})
}

fn definition(extra: Value) -> Value {
    let columns = schema(&[("id", DataType::Int64)]);
    let mut metadata = json!({"id": "t", "schemaString": columns, "partitionColumns": []});
    metadata.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    json!({ "metaData": metadata })
}

/// The changes of a version as `+file`, `-file` or `~file`.
async fn changes(name: &str, lines: &[Value]) -> (bool, Vec<String>) {
    let location = table(name);
    foreign(&location, 0, lines).await;
    let mut read = Feed::new(location).read(0, 5).await.unwrap();
    assert_eq!(read.len(), 1);
    let version = read.remove(0);
    let takes_away = version.takes_away();
    let shown = version.changes(false).unwrap().into_iter().map(|piece| {
        let sign = match piece.rows {
            Rows::Inserted => '+',
            Rows::Deleted => '-',
            Rows::Changed => '~',
        };
        format!("{sign}{}", piece.file.path)
    });
    (takes_away, shown.collect())
}

#[tokio::test]
async fn a_version_says_which_rows_came_and_went() {
    let spark = || info("OPTIMIZE", "Apache-Spark/4");
    let ours = || info("OPTIMIZE", "sluice/0.1.0");
    let cases: Vec<(Vec<Value>, bool, Vec<&str>)> = vec![
        (vec![add("a", true), add("b", true)], false, vec!["+a", "+b"]),
        (vec![remove("a", true), add("b", true)], true, vec!["-a", "+b"]),
        (vec![add("b", true), remove("a", true)], true, vec!["-a", "+b"]),
        (vec![remove("a", true), add("b", true), cdc("c")], true, vec!["~_change_data/c"]),
        (vec![spark(), remove("a", false), add("b", false)], false, vec![]),
        (vec![spark(), remove("a", true), add("b", false)], true, vec!["-a"]),
        (vec![ours(), remove("a", true), add("b", false)], false, vec![]),
        (vec![ours(), remove("a", true), add("b", true)], true, vec!["-a", "+b"]),
        (vec![json!({"txn": {"appId": "x", "version": 1}})], false, vec![]),
    ];
    for (n, (lines, takes_away, want)) in cases.into_iter().enumerate() {
        let found = changes(&format!("feed-{n}"), &lines).await;
        assert_eq!(found, (takes_away, want.iter().map(|s| s.to_string()).collect()), "{lines:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_name() {
    let vector =
        json!({"storageType": "u", "pathOrInlineDv": "x", "sizeInBytes": 1, "cardinality": 1});
    let mut marked = add("a", true);
    marked["add"]["deletionVector"] = vector;
    let protocol = |features: Value| {
        json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7,
        "readerFeatures": features, "writerFeatures": features}})
    };
    let mapped = json!({"configuration": {"delta.columnMapping.mode": "name"}});
    let cases = [
        (marked, "deletionVectors"),
        (protocol(json!(["typeWidening"])), "typeWidening"),
        (protocol(json!(["variantType"])), "variantType"),
        (definition(mapped), "columnMapping"),
    ];
    for (n, (line, feature)) in cases.into_iter().enumerate() {
        let location = table(&format!("feed-refused-{n}"));
        foreign(&location, 0, &[definition(json!({}))]).await;
        foreign(&location, 1, &[line]).await;
        let feed = Feed::new(location);
        // What comes before it can be read.
        assert_eq!(feed.read(0, 9).await.unwrap().len(), 1, "{feature}");
        let error = feed.read(1, 9).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.message().contains(&format!("feature={feature}")), "{error}");
        assert!(error.message().ends_with("version=1"), "{error}");
        assert!(error.hint_text().is_some());
    }
    // Features of writers only are none of a reader's business.
    let location = table("feed-writers");
    let tracked = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7,
        "writerFeatures": ["rowTracking", "domainMetadata", "changeDataFeed"]}});
    foreign(&location, 0, &[tracked]).await;
    assert_eq!(Feed::new(location).read(0, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn versions_of_our_own_tables_are_read_and_their_compactions_are_none() {
    let (location, mut head) = made("feed-own", &["a", "b"]).await;
    let compaction = DeltaAction {
        data_change: false,
        operation: "OPTIMIZE".into(),
        ..swap(&["a", "b"], &["c"], 1)
    };
    put(&location, &mut head, &compaction, 2).await;
    put(&location, &mut head, &append(&["d"]), 3).await;
    let feed = Feed::new(location.clone());
    let read = feed.read(0, 99).await.unwrap();
    let inserts: Vec<usize> = read.iter().map(|version| version.inserts.len()).collect();
    assert_eq!(inserts, [1, 1, 0, 1]);
    assert!(read.iter().all(|version| !version.takes_away() && version.committed_ms == NOW));
    assert_eq!(read[0].definition.as_ref().unwrap().0.id, "first");
    assert_eq!(feed.read(4, 1).await.unwrap().len(), 0);

    let snapshot = feed.snapshot(3).await.unwrap().unwrap();
    assert_eq!((snapshot.files.len(), snapshot.partitioned), (2, true));
    assert_eq!(snapshot.entry, Some(read[3].entry.clone()));
    assert_eq!(feed.is_still(3, &read[3].entry).await.unwrap(), Some(true));
    assert_eq!(feed.is_still(3, &read[2].entry).await.unwrap(), Some(false));
    assert_eq!(feed.is_still(4, &read[3].entry).await.unwrap(), None);
}

#[tokio::test]
async fn a_log_behind_a_checkpoint_has_a_later_beginning() {
    let (location, mut head) = made("feed-extent", &["a", "b", "c"]).await;
    let feed = Feed::new(location.clone());
    assert_eq!(feed.extent().await.unwrap(), Some(Extent { first: 0, newest: 2 }));
    checkpoint(&location).await.unwrap();
    put(&location, &mut head, &append(&["d"]), 3).await;
    for version in 0..=2 {
        location.store.delete(&log::entry_path(&location, version).unwrap()).await.unwrap();
    }
    assert_eq!(feed.extent().await.unwrap(), Some(Extent { first: 3, newest: 3 }));
    assert_eq!(feed.snapshot(2).await.unwrap().unwrap().entry, None);
    assert_eq!(feed.snapshot(2).await.unwrap().unwrap().files.len(), 3);
    assert_eq!(feed.snapshot(1).await.unwrap_err().kind(), Kind::Conflict);
    location.store.delete(&log::entry_path(&location, 3).unwrap()).await.unwrap();
    assert_eq!(feed.extent().await.unwrap(), Some(Extent { first: 3, newest: 2 }));
    assert_eq!(Feed::new(table("feed-none")).extent().await.unwrap(), None);
}

#[tokio::test]
async fn versions_are_found_by_their_time() {
    let location = table("feed-time");
    for version in 0..6 {
        let info = json!({"commitInfo": {"timestamp": 100 * version}});
        foreign(&location, version, &[info]).await;
    }
    let feed = Feed::new(location);
    let extent = feed.extent().await.unwrap().unwrap();
    for (ms, want) in [(-5, 0), (0, 0), (1, 1), (300, 3), (301, 4), (500, 5), (501, 6)] {
        assert_eq!(feed.version_at(extent, ms).await.unwrap(), want, "{ms}");
    }
    let later = Extent { first: 2, ..extent };
    assert_eq!(feed.version_at(later, 100).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(feed.version_at(later, 300).await.unwrap(), 3);
}
