//! Stores: the conformance suite, opening, the probe, copies and the local disk's own promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use object_store::{ObjectStoreExt, WriteMultipart};

use sluice_core::{Kind, Secrets};

use super::*;
use crate::testing::{Fault, Faulty, Op, store_conformance};

fn opened(url: &str) -> Location {
    open(url, &Secrets::default()).unwrap()
}

fn local() -> (tempfile::TempDir, Location) {
    let folder = tempfile::tempdir().unwrap();
    let location = opened(folder.path().join("lake").to_str().unwrap());
    (folder, location)
}

#[tokio::test]
async fn memory_and_local_disk_keep_their_promises() {
    store_conformance(&opened("memory://conformance/some/folder")).await.unwrap();
    let (_folder, lake) = local();
    store_conformance(&lake).await.unwrap();
}

#[test]
fn urls_open_as_the_store_they_name() {
    let cases = [
        ("s3://bucket/a/b", Scheme::S3, "s3://bucket", "s3://bucket/a/b"),
        ("gs://bucket", Scheme::Gs, "gs://bucket", "gs://bucket"),
        ("s3a://bucket/a", Scheme::S3, "s3a://bucket", "s3a://bucket/a"),
        ("az://files/a", Scheme::Az, "az://files", "az://files/a"),
        ("azure://files/a", Scheme::Az, "azure://files", "azure://files/a"),
        (
            "abfss://files@acme.dfs.core.windows.net/a b",
            Scheme::Az,
            "abfss://files@acme.dfs.core.windows.net",
            "abfss://files@acme.dfs.core.windows.net/a%20b",
        ),
        ("memory://m/x y", Scheme::Memory, "memory://m", "memory://m/x%20y"),
        ("file:///no/such/a%20b", Scheme::Local, "file://", "file:///no/such/a%20b"),
        ("/no/such/./x/../a b", Scheme::Local, "file://", "file:///no/such/a%20b"),
    ];
    let secrets = [
        (
            "google_service_account_key",
            r#"{"private_key": "k", "client_email": "e",
            "private_key_id": "i", "gcs_base_url": "http://localhost:1", "disable_oauth": true}"#,
        ),
        ("azure_storage_account_name", "acme"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5"),
    ];
    let secrets = secrets.map(|(name, value)| (name.to_string(), value.to_string()));
    for (text, scheme, id, url) in cases {
        let location = open(text, &Secrets::new(secrets.clone().into())).unwrap();
        assert_eq!(location.store.scheme(), scheme, "{text}");
        assert_eq!(location.store.id(), id, "{text}");
        assert_eq!(location.url(), url, "{text}");
    }
    assert_eq!(opened("/no/such/a b").describe(), "/no/such/a b");
    assert_eq!(opened("s3://bucket/a b").describe(), "s3://bucket/a b");
}

#[test]
fn keys_of_a_bucket_are_settings_of_its_client() {
    let cases = [
        ("s3://b", "region", Some(Setting::Plain)),
        ("s3://b/deeper", "AWS_REGION", Some(Setting::Unknown)),
        ("s3://b", "aws_endpoint_url", Some(Setting::Plain)),
        ("s3://b", "secret_access_key", Some(Setting::Secret)),
        ("s3://b", "account_key", Some(Setting::Unknown)),
        ("gs://b", "service_account", Some(Setting::Plain)),
        ("gs://b", "service_account_key", Some(Setting::Secret)),
        ("az://c", "account_name", Some(Setting::Plain)),
        ("abfss://c@acme.dfs.core.windows.net", "sas_token", Some(Setting::Secret)),
        ("memory://m", "region", None),
        ("./lake", "region", None),
    ];
    for (url, key, expected) in cases {
        assert_eq!(setting(url, key), expected, "{url} {key}");
    }
}

#[test]
fn the_cause_that_a_client_tells_is_understood() {
    use advice::{Cause, cause};
    let told = |text: &str| object_store::Error::Generic { store: "S3", source: text.into() };
    let cases = [
        ("<Code>NoSuchBucket</Code>", false, Cause::NoBucket),
        ("<Code>ContainerNotFound</Code>", false, Cause::NoBucket),
        ("normally indicates an incorrectly configured region", false, Cause::Region),
        (
            "Error performing PUT http://169.254.169.254/latest/api/token",
            true,
            Cause::NoCredentials,
        ),
        ("Error performing PUT http://169.254.169.254/latest/api/token", false, Cause::Other),
        ("client error (Connect): dns error", false, Cause::NoServer),
        ("500 Internal Server Error", true, Cause::Other),
    ];
    for (text, unattended, expected) in cases {
        assert_eq!(cause(&told(text), unattended), expected, "{text}");
    }
}

#[test]
fn what_is_no_store_is_refused_with_a_hint() {
    for text in ["ftp://host/x", "s3://", "memory:///x"] {
        let error = open(text, &Secrets::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{text}");
        assert!(error.hint_text().is_some(), "{text}");
    }
    assert!(opened("memory://m").join("../other").is_err());
}

#[test]
fn links_and_dots_give_one_name_to_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("real");
    std::fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, folder.path().join("link")).unwrap();
    let direct = opened(real.join("lake").to_str().unwrap());
    let linked = opened(folder.path().join("link/../link/lake").to_str().unwrap());
    assert_eq!(direct.path, linked.path);
}

#[tokio::test]
async fn a_store_without_conditional_writes_is_refused() {
    let lake = opened("memory://probe/lake");
    let careless = Faulty::wrap(&lake.store, |op, _| match op {
        Op::Create => Fault::Overwrite,
        _ => Fault::None,
    });
    let refused = careless.probe(&lake.path).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Config);
    assert!(refused.message().contains("creates a name twice"), "{refused}");
    assert!(careless.list(&lake.path).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_probe_sees_through_retries_and_lies() {
    let lake = opened("memory://probe-lies/lake");
    let echo = Faulty::wrap(&lake.store, |op, _| match op {
        Op::Create => Fault::Echo,
        _ => Fault::None,
    });
    echo.probe(&lake.path).await.unwrap();
    let liar = Faulty::wrap(&lake.store, |op, _| match op {
        Op::Create => Fault::Exists,
        _ => Fault::None,
    });
    assert_eq!(liar.probe(&lake.path).await.unwrap_err().kind(), Kind::Config);
    let away = Faulty::wrap(&lake.store, |_, _| Fault::Before);
    assert!(away.probe(&lake.path).await.unwrap_err().retry());
}

#[tokio::test]
async fn a_create_that_may_have_happened_is_unknown() {
    let lake = opened("memory://unknown");
    let path = lake.child("object").path;
    let faulty = Faulty::wrap(&lake.store, |op, _| match op {
        Op::Create | Op::Update => Fault::After,
        _ => Fault::None,
    });
    let created = faulty.create(&path, Bytes::from("x")).await.unwrap();
    assert!(matches!(created, Create::Unknown(e) if e.retry()));
    let read = faulty.get_versioned(&path).await.unwrap().unwrap();
    let updated = faulty.update_if(&path, Bytes::from("y"), read.version).await.unwrap();
    assert!(matches!(updated, Updated::Unknown(_)));
    assert_eq!(lake.store.get(&path).await.unwrap().unwrap(), "y");
}

#[tokio::test]
async fn concurrent_creates_have_one_winner() {
    let (_folder, lake) = local();
    let won = Arc::new(AtomicUsize::new(0));
    let runners = (0..16).map(|n| {
        let (lake, won) = (lake.clone(), won.clone());
        tokio::spawn(async move {
            let path = lake.join("deep/er/object").unwrap().path;
            let bytes = Bytes::from(format!("runner {n}"));
            if let Create::Done = lake.store.create(&path, bytes).await.unwrap() {
                won.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    futures::future::join_all(runners).await.into_iter().for_each(|end| end.unwrap());
    assert_eq!(won.load(Ordering::SeqCst), 1);
    let found = lake.store.list(&lake.path).await.unwrap();
    assert_eq!(found.len(), 1);
    let folder = lake.store.local_path(&lake.join("deep/er").unwrap().path).unwrap();
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "no staged files are left");
}

#[tokio::test]
async fn uploads_of_many_parts_arrive_whole_on_local_disk() {
    let (_folder, lake) = local();
    let path = lake.join("new/folder/big.bin").unwrap().path;
    let upload = lake.store.object_store().put_multipart(&path).await.unwrap();
    let mut upload = WriteMultipart::new_with_chunk_size(upload, 1_000);
    let bytes: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    upload.write(&bytes);
    upload.finish().await.unwrap();
    assert_eq!(lake.store.get(&path).await.unwrap().unwrap(), bytes);
    lake.store.settle(&path).await.unwrap();
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_is_a_settings_error() {
    let (folder, lake) = local();
    std::fs::write(folder.path().join("lake"), "a file, not a folder").unwrap();
    let error = lake.store.put(&lake.child("x").path, Bytes::from("x")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error:?}");
    assert!(error.hint_text().is_some());
}

#[tokio::test]
async fn the_newest_of_a_series_is_found_from_any_hint() {
    for (name, count) in [("few", 3u64), ("many", 100)] {
        let series = Series::new(opened(&format!("memory://series-{name}/f")));
        assert_eq!(series.newest().await.unwrap(), None);
        for n in 0..count {
            let (store, bytes) = (&series.folder().store, Bytes::from("{}"));
            store.put(&series.path(n), bytes.clone()).await.unwrap();
            store.put(&series.companion(n, "-side.json"), bytes).await.unwrap();
        }
        let hint = series.folder().child("_last").path;
        for text in ["", "0", "1", "2", "99", "7777", "not a number", "18446744073709551615"] {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            series.folder().store.put(&hint, bytes).await.unwrap();
            assert_eq!(series.newest().await.unwrap(), Some(count - 1), "{text}");
        }
    }
}

#[tokio::test]
async fn a_hint_never_goes_back() {
    let series = Series::new(opened("memory://hint/f"));
    for n in [5u64, 3, 6, 6, 0] {
        series.set_hint(n).await.unwrap();
    }
    let hint = series.folder().store.get(&series.folder().child("_last").path).await.unwrap();
    assert_eq!(hint.unwrap(), "6");
}
