//! Old entries go behind a checkpoint, and other clients still read the table.

use super::super::*;
use super::*;

/// A keep that finds everything old.
fn nothing() -> KeepLog {
    KeepLog { now_ms: NOW, retention_ms: 0, since_version: None }
}

async fn versions_of(location: &Location) -> Vec<(i64, bool)> {
    let found = log_files(location).await.unwrap();
    found.iter().map(|f| (f.version, f.checkpoint)).collect()
}

#[tokio::test]
async fn old_entries_go_behind_a_checkpoint() {
    let (location, mut head) = made("expire", &["a"]).await;
    for n in 3..8 {
        put(&location, &mut head, &append(&[&format!("f{n}")]), n).await;
    }
    let before = versions_of(&location).await;
    assert_eq!(expire_log(&location, nothing(), 0).await.unwrap(), 0, "no checkpoint yet");
    let at = checkpoint(&location).await.unwrap();
    put(&location, &mut head, &swap(&["f3"], &["g3"], at), 8).await;
    let young = KeepLog { now_ms: 0, ..nothing() };
    assert_eq!(expire_log(&location, KeepLog { retention_ms: 1, ..young }, 0).await.unwrap(), 0);
    let read = KeepLog { since_version: Some(at - 1), ..nothing() };
    assert_eq!(expire_log(&location, read, 0).await.unwrap(), 0, "somebody reads before it");

    assert_eq!(expire_log(&location, nothing(), 0).await.unwrap(), at as u64);
    assert_eq!(expire_log(&location, nothing(), 0).await.unwrap(), 0, "idempotent");
    let left = versions_of(&location).await;
    assert_eq!(left, [(at, true), (at, false), (at + 1, false)], "before: {before:?}");

    // We, and the library, start from the checkpoint; both versions that are left can be read.
    same(&load(&location).await.unwrap().unwrap(), head.as_ref().unwrap());
    assert_eq!(load(&location).await.unwrap().unwrap().checkpoint, Some(at));
    assert_eq!(load_at(&location, at).await.unwrap().unwrap().files.len(), 6);
    let mut library = library_table(&location).unwrap();
    library.load().await.unwrap();
    assert_eq!(library.version().map(|v| v as i64), Some(at + 1));
    assert_eq!(library.snapshot().unwrap().log_data().num_files(), 6);
    put(&location, &mut head, &append(&["z"]), 9).await;
    same(&load(&location).await.unwrap().unwrap(), head.as_ref().unwrap());
}

#[tokio::test]
async fn a_cut_off_clean_up_leaves_a_table_that_reads() {
    let (location, mut head) = made("expire-cut", &["a"]).await;
    for n in 3..6 {
        put(&location, &mut head, &append(&[&format!("f{n}")]), n).await;
    }
    checkpoint(&location).await.unwrap();
    put(&location, &mut head, &append(&["last"]), 6).await;
    for version in 0..2 {
        location.store.delete(&log::entry_path(&location, version).unwrap()).await.unwrap();
        same(&load(&location).await.unwrap().unwrap(), head.as_ref().unwrap());
    }
    assert!(expire_log(&location, nothing(), 0).await.unwrap() > 0, "the rest goes later");
    same(&load(&location).await.unwrap().unwrap(), head.as_ref().unwrap());
}
