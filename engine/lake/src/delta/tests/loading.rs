//! Loading: checkpoints of every kind, missing and damaged entries.

use bytes::Bytes;
use serde_json::json;

use sluice_core::{Kind, Secrets};

use super::super::*;
use super::*;

#[tokio::test]
async fn checkpoints_stand_for_the_entries_before_them() {
    let (location, mut head) = made("checkpoint", &["a", "b", "c"]).await;
    put(&location, &mut head, &swap(&["a"], &["a2"], 2), 3).await;
    assert_eq!(checkpoint(&location).await.unwrap(), 3);
    assert_eq!(checkpoint(&location).await.unwrap(), 3);
    put(&location, &mut head, &append(&["d"]), 4).await;
    for version in 0..=3 {
        location.store.delete(&log::entry_path(&location, version).unwrap()).await.unwrap();
    }
    let head = head.unwrap();
    same(&load(&location).await.unwrap().unwrap(), &head);
    assert_eq!(remembered(&location).await.unwrap().removed[&file("a").path], NOW);
    let hint = location.join("_delta_log/_last_checkpoint").unwrap().path;
    location.store.delete(&hint).await.unwrap();
    same(&load(&location).await.unwrap().unwrap(), &head);
    location.store.put(&hint, Bytes::from_static(b"{\"version\":4}")).await.unwrap();
    same(&load(&location).await.unwrap().unwrap(), &head);
    assert_eq!(load_at(&location, 2).await.unwrap_err().kind(), Kind::Conflict);
}

#[tokio::test]
async fn a_checkpoint_on_local_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my 100% lake/t");
    let location = crate::store::open(path.to_str().unwrap(), &Secrets::default()).unwrap();
    let mut head = None;
    put(&location, &mut head, &create(&["a"]), 0).await;
    assert_eq!(checkpoint(&location).await.unwrap(), 0);
    let file = "_delta_log/00000000000000000000.checkpoint.parquet";
    assert!(path.join(file).is_file());
    same(&load(&location).await.unwrap().unwrap(), &head.unwrap());
}

#[tokio::test]
async fn checkpoints_with_sidecars_are_read() {
    let (location, head) = made("sidecar", &["a", "b"]).await;
    checkpoint(&location).await.unwrap();
    let at = |name: &str| location.join(&format!("_delta_log/{name}")).unwrap().path;
    let classic = at("00000000000000000001.checkpoint.parquet");
    let rows = location.store.get(&classic).await.unwrap().unwrap();
    location.store.put(&at("_sidecars/x.parquet"), rows).await.unwrap();
    let lines =
        "{\"checkpointMetadata\":{\"version\":1}}\n{\"sidecar\":{\"path\":\"x.parquet\"}}\n";
    let top = at("00000000000000000001.checkpoint.0a-b.json");
    location.store.put(&top, Bytes::from_static(lines.as_bytes())).await.unwrap();
    location.store.delete(&classic).await.unwrap();
    location.store.delete(&at("00000000000000000000.json")).await.unwrap();
    same(&load(&location).await.unwrap().unwrap(), &head.unwrap());
}

#[tokio::test]
async fn damage_is_an_error_with_a_name() {
    let (location, _) = made("damage", &["a", "b", "c"]).await;
    location.store.delete(&log::entry_path(&location, 1).unwrap()).await.unwrap();
    let error = load(&location).await.unwrap_err();
    assert!(error.message().ends_with("version=1"), "{error:?}");
    foreign(&location, 1, &[json!("half")]).await;
    let error = load(&location).await.unwrap_err();
    assert!(error.message().contains("00000000000000000001.json"), "{error:?}");
    let vector = json!({"add": {"path": "x", "partitionValues": {}, "size": 1,
        "modificationTime": 0, "dataChange": true, "deletionVector": {"storageType": "u"}}});
    foreign(&location, 1, &[vector]).await;
    assert!(load(&location).await.unwrap_err().message().contains("deletionVectors"));
    foreign(&location, 1, &[json!({"add": {"path": "s3://b/x", "size": 1}})]).await;
    assert!(load(&location).await.unwrap_err().message().contains("outside"));
}
