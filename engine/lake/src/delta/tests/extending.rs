//! Checkpoints that are made from the one before say what the log says.

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::super::checkpoint::extend;
use super::super::log::{Listing, Replay};
use super::*;

/// Whether the checkpoint of the newest version could be made from the one before.
async fn extended(location: &Location) -> bool {
    let listing = Listing::read(location, i64::MAX).await.unwrap();
    let (version, parts) = listing.checkpoint.as_ref().unwrap();
    extend(location, (*version, &parts[0]), listing.last().unwrap()).await.unwrap()
}

async fn newest_checkpoint(location: &Location) -> i64 {
    Listing::read(location, i64::MAX).await.unwrap().checkpoint.unwrap().0
}

/// What all entries add up to, without checkpoints.
async fn told(location: &Location, last: i64) -> Replay {
    let mut state = Replay::default();
    for version in 0..=last {
        state.apply(log::entry(location, version).await.unwrap().unwrap()).unwrap();
    }
    state
}

/// What begins with the newest checkpoint is what the entries say, for us and for the library.
async fn agrees(location: &Location, last: i64) {
    let want = told(location, last).await;
    let found = log::replay(location, None).await.unwrap().unwrap();
    assert_eq!(found.checkpoint, Some(last), "it begins there");
    assert_eq!((&found.files, &found.tombstones), (&want.files, &want.tombstones));
    assert_eq!((&found.txns, &found.metadata), (&want.txns, &want.metadata));
    assert_eq!(found.protocol, want.protocol);
    let mut library = library_table(location).unwrap();
    library.load().await.unwrap();
    let version = library.version().and_then(|v| i64::try_from(v).ok());
    assert_eq!(version, Some(last));
    let mut paths: Vec<String> =
        library.snapshot().unwrap().log_data().iter().map(|f| f.path().to_string()).collect();
    paths.sort();
    let mut active: Vec<&String> = want.files.keys().collect();
    active.sort();
    assert_eq!(paths.iter().collect::<Vec<_>>(), active);
}

/// Some commit: files that come, go, or come back, of two applications.
fn some_action(chance: &mut StdRng, version: i64, state: &Replay) -> DeltaAction {
    let stem =
        |path: &String| path.rsplit('/').next().unwrap().trim_end_matches(".parquet").to_string();
    let active: Vec<String> = state.files.keys().map(stem).collect();
    let gone: Vec<String> = state.tombstones.keys().map(stem).collect();
    let fresh: Vec<String> =
        (0..chance.random_range(1..4)).map(|n| format!("{version}-{n}")).collect();
    let names = |some: &[String]| some.iter().map(|n| file(n)).collect::<Vec<_>>();
    match chance.random_range(0..4) {
        0 | 1 if !active.is_empty() => {
            let count = chance.random_range(1..=active.len().min(3));
            let removes: Vec<String> = active.choose_multiple(chance, count).cloned().collect();
            DeltaAction {
                removes: names(&removes),
                base_version: Some(version - 1),
                ..DeltaAction { adds: names(&fresh), ..append(&[]) }
            }
        }
        2 if !gone.is_empty() => DeltaAction { adds: names(&gone[..1]), ..append(&[]) },
        _ => DeltaAction { adds: names(&fresh), ..append(&[]) },
    }
}

#[tokio::test]
async fn checkpoints_of_checkpoints_say_what_the_log_says() {
    for seed in 0..6 {
        let mut chance = StdRng::seed_from_u64(seed);
        let (location, mut head) = made(&format!("chance-{seed}"), &["a", "b"]).await;
        checkpoint(&location).await.unwrap();
        agrees(&location, 1).await;
        for version in 2..50 {
            let action = some_action(&mut chance, version, &told(&location, version - 1).await);
            let by = if chance.random_bool(0.3) { other(version) } else { txn(version) };
            let done = commit(&location, &mut head, &action, &by, NOW).await.unwrap();
            assert!(matches!(done, Committed::Done { .. }), "{seed} {version}: {done:?}");
            if chance.random_bool(0.2) {
                assert!(extended(&location).await, "{seed} {version}");
                agrees(&location, version).await;
            }
        }
    }
}

#[tokio::test]
async fn files_that_were_removed_long_ago_are_forgotten() {
    let (location, mut head) = made("forgotten", &["a", "b", "c", "d"]).await;
    put(&location, &mut head, &swap(&["a"], &["a2"], 3), 4).await;
    checkpoint(&location).await.unwrap();
    let removed = |name: &str, at: i64| action::remove_line(&file(name), true, at);
    let newest = location.store.head(&log::entry_path(&location, 4).unwrap()).await.unwrap();
    let now = newest.unwrap().last_modified.timestamp_millis();
    let day = 24 * 3_600_000;
    let lines = [removed("b", now - 8 * day), removed("c", now - 6 * day)];
    foreign(&location, 5, &lines).await;
    assert!(extended(&location).await);
    let kept = |all: &Remembered| -> Vec<String> { all.removed.keys().cloned().collect() };
    let remembered_now = remembered(&location).await.unwrap();
    assert_eq!(kept(&remembered_now), [file("a").path, file("c").path]);
    assert_eq!(remembered_now.active, [file("a2").path, file("d").path].into());
    // The table keeps them for less, from now on: what a table is goes through the library.
    let mut metadata =
        serde_json::to_value(&load(&location).await.unwrap().unwrap().metadata).unwrap();
    metadata["configuration"]["delta.deletedFileRetentionDuration"] = json!("interval 5 days");
    foreign(&location, 6, &[json!({"metaData": metadata})]).await;
    assert!(!extended(&location).await);
    assert_eq!(checkpoint(&location).await.unwrap(), 6);
    let mut head = load(&location).await.unwrap();
    put(&location, &mut head, &append(&["e"]), 7).await;
    assert!(extended(&location).await);
    assert_eq!(kept(&remembered(&location).await.unwrap()), [file("a").path]);
}

#[tokio::test]
async fn what_is_not_ours_is_left_to_the_library() {
    let add = json!({
        "path": "x.parquet", "partitionValues": {"p": null}, "size": 1, "modificationTime": 1,
        "dataChange": true,
    });
    let mut vector = add.clone();
    vector["deletionVector"] = json!({"storageType": "u", "pathOrInlineDv": "a", "sizeInBytes": 1});
    let mut outside = add.clone();
    outside["path"] = json!("s3://elsewhere/x.parquet");
    let mut short = add.clone();
    short.as_object_mut().unwrap().remove("dataChange");
    let domain = json!({"domain": "delta.rowTracking", "configuration": "{}", "removed": false});
    let cases = [
        ("whole", json!({ "add": add }), true),
        ("vector", json!({ "add": vector }), false),
        ("outside", json!({ "add": outside }), false),
        ("short", json!({ "add": short }), false),
        ("domain", json!({ "domainMetadata": domain }), false),
        ("protocol", json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 4}}), false),
        ("surprise", json!({"surprise": {}}), false),
    ];
    for (name, line, ours) in cases {
        let (location, _) = made(&format!("not-ours-{name}"), &["a"]).await;
        checkpoint(&location).await.unwrap();
        foreign(&location, 1, &[line]).await;
        assert_eq!(extended(&location).await, ours, "{name}");
        assert_eq!(newest_checkpoint(&location).await, i64::from(ours), "{name}");
    }
}

#[tokio::test]
async fn other_columns_are_the_librarys() {
    let (location, mut head) = made("columns", &["a"]).await;
    checkpoint(&location).await.unwrap();
    let path = location.join("_delta_log/00000000000000000000.checkpoint.parquet").unwrap().path;
    let bytes = location.store.get(&path).await.unwrap().unwrap();
    let mut rows = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let batch = rows.next().unwrap().unwrap();
    let more: ArrayRef = Arc::new(Int64Array::from(vec![None; batch.num_rows()]));
    let schema = batch.schema();
    let columns = schema.fields().iter().map(|f| f.name().clone());
    let columns = columns.zip(batch.columns().iter().cloned());
    let columns = columns.map(|(name, column)| (name, column, true));
    let wider = columns.chain([("more".to_string(), more, true)]);
    let batch = RecordBatch::try_from_iter_with_nullable(wider).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    location.store.put(&path, Bytes::from(writer.into_inner().unwrap())).await.unwrap();
    put(&location, &mut head, &append(&["b"]), 1).await;
    assert!(!extended(&location).await);
    assert_eq!(checkpoint(&location).await.unwrap(), 1);
    agrees(&location, 1).await;
    // The library's has its own columns again.
    put(&location, &mut head, &append(&["c"]), 2).await;
    assert!(extended(&location).await);
    agrees(&location, 2).await;
}

#[tokio::test]
async fn a_gap_in_the_log_is_told() {
    let (location, _) = made("gap", &["a", "b", "c"]).await;
    checkpoint(&location).await.unwrap();
    foreign(&location, 4, &[json!({"commitInfo": {}})]).await;
    let error = checkpoint(&location).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.message().contains("version=3"), "{error}");
    assert_eq!(newest_checkpoint(&location).await, 2);
}
