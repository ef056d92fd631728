//! The chain: sealing under faults, finding the last epoch, side files, repairs, clean-up, leases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::StreamExt;

use sluice_core::{Advance, Clock, Error, Kind, ManualClock, Offset, Secrets};

use super::*;
use crate::store::{Location, Store, open};
use crate::testing::{Fault, Faulty, Op};

mod folding;
mod leasing;

/// A clock by which everything that memory stores write now is less than a minute old.
const LONG_AGO_MS: i64 = 1_000;

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(LONG_AGO_MS))
}

fn memory(name: &str) -> Location {
    open(&format!("memory://{name}/lake"), &Secrets::default()).unwrap()
}

fn local() -> (tempfile::TempDir, Location) {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path().join("lake").to_str().unwrap(), &Secrets::default()).unwrap();
    (folder, lake)
}

fn chain(lake: &Location) -> Chain {
    Chain::new(lake, "job", clock())
}

fn chain_on(lake: &Location, store: Store) -> Chain {
    chain(&Location { store, path: lake.path.clone() })
}

fn manifest(epoch: u64, run: &str, previous: Option<&str>) -> Manifest {
    let at = |n: u64| Offset::At(n * 10);
    let advance = Advance { partition: "p".into(), from: at(epoch), to: at(epoch + 1) };
    let rows = Counts { decoded: 9, rejected: 1, pruned: 2 };
    let counts = TableCounts { entering: 9, written: 9, ..TableCounts::default() };
    Manifest {
        format: FORMAT,
        job: "job".into(),
        epoch,
        incarnation: "life".into(),
        run: run.into(),
        previous: previous.map(str::to_string),
        definition: "definition".into(),
        opened_at_ms: 5,
        host: "host".into(),
        kind: EpochKind::Data,
        sources: BTreeMap::from([(
            "s".into(),
            SourcePart { advances: vec![advance], rows, ..SourcePart::default() },
        )]),
        offsets: BTreeMap::from([("s".into(), BTreeMap::from([("p".into(), at(epoch + 1))]))]),
        watermarks: BTreeMap::new(),
        state: BTreeMap::new(),
        tables: BTreeMap::from([("t".into(), TablePart { counts, action: Action::None })]),
        definitions: BTreeMap::new(),
        repairs: 0,
    }
}

/// Seals epochs `0..count` and returns the last hash.
async fn seal_many(chain: &Chain, count: u64) -> String {
    let mut previous = None;
    for n in 0..count {
        match chain.seal(&manifest(n, "a", previous.as_deref())).await.unwrap() {
            Sealed::Won { sha256 } => previous = Some(sha256),
            lost => panic!("{lost:?}"),
        }
    }
    previous.unwrap()
}

async fn overwrite(chain: &Chain, n: u64, content: &str) {
    let bytes = Bytes::copy_from_slice(content.as_bytes());
    chain.store().put(&chain.series().path(n), bytes).await.unwrap();
}

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> Kind {
    result.unwrap_err().kind()
}

#[test]
fn counts_of_older_manifests_have_nothing_pruned() {
    let counts: Counts = serde_json::from_str(r#"{"decoded": 9, "rejected": 1}"#).unwrap();
    assert_eq!(counts, Counts { decoded: 9, rejected: 1, pruned: 0 });
    assert_eq!(counts.taken(), 10);
}

#[tokio::test]
async fn one_of_two_runs_wins_an_epoch() {
    let (_folder, lake) = local();
    for lake in [memory("two-runs"), lake] {
        let chain = chain(&lake);
        assert_eq!(chain.last().await.unwrap(), None);
        let first = chain.seal(&manifest(0, "a", None)).await.unwrap();
        let entry = chain.last().await.unwrap().unwrap();
        assert_eq!(first, Sealed::Won { sha256: entry.sha256.clone() });
        assert_eq!(entry.manifest, manifest(0, "a", None));
        let lost = Sealed::Lost { run: "a".into(), host: "host".into(), epoch: 0 };
        assert_eq!(chain.seal(&manifest(0, "b", None)).await.unwrap(), lost);
        assert_eq!(chain.seal(&manifest(0, "a", None)).await.unwrap(), first, "sealing repeats");
    }
}

#[tokio::test]
async fn every_answer_of_the_store_ends_in_what_is_true() {
    for (fault, times) in [
        (Fault::None, 0),
        (Fault::After, 1),
        (Fault::Echo, 1),
        (Fault::Before, 3),
        (Fault::Exists, 3),
    ] {
        let lake = memory(&format!("answers-{fault:?}"));
        let left = AtomicU32::new(times);
        let faulty = Faulty::wrap(&lake.store, move |op, _| {
            let spend =
                || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if op == Op::Create && spend().is_ok() { fault } else { Fault::None }
        });
        let won = chain_on(&lake, faulty).seal(&manifest(0, "a", None)).await.unwrap();
        let entry = chain(&lake).get(0).await.unwrap().unwrap();
        assert_eq!(won, Sealed::Won { sha256: entry.sha256 }, "{fault:?}");
    }
}

#[tokio::test]
async fn a_store_that_stays_away_is_an_error_and_seals_nothing() {
    let lake = memory("away");
    let faulty = Faulty::wrap(&lake.store, |op, _| match op {
        Op::Create => Fault::Before,
        _ => Fault::None,
    });
    let error = chain_on(&lake, faulty).seal(&manifest(0, "a", None)).await.unwrap_err();
    assert!(error.retry(), "{error:?}");
    assert_eq!(chain(&lake).last().await.unwrap(), None);
}

#[tokio::test]
async fn an_earlier_attempt_of_the_same_run_is_not_taken_for_this_one() {
    let chain = chain(&memory("earlier"));
    chain.seal(&manifest(0, "a", None)).await.unwrap();
    let again = Manifest { definition: "changed".into(), ..manifest(0, "a", None) };
    assert!(chain.seal(&again).await.unwrap_err().retry());
}

#[tokio::test]
async fn an_unreadable_last_manifest_counts_as_not_sealed() {
    let (_folder, lake) = local();
    for lake in [memory("cut"), lake] {
        let chain = chain(&lake);
        let previous = seal_many(&chain, 3).await;
        for content in ["", "{\"format\":1,\"job\":\"jo", "\0\0\0\0"] {
            overwrite(&chain, 3, content).await;
            assert_eq!(chain.last().await.unwrap().unwrap().manifest.epoch, 2);
            let blocked = chain.seal(&manifest(3, "b", Some(&previous))).await;
            assert!(blocked.unwrap_err().retry());
            assert!(chain.discard_unreadable(3).await.unwrap());
            assert!(!chain.discard_unreadable(3).await.unwrap());
        }
        chain.set_last(3).await.unwrap();
        chain.seal(&manifest(3, "b", Some(&previous))).await.unwrap();
        assert!(!chain.discard_unreadable(3).await.unwrap(), "a good manifest stays");
        assert_eq!(chain.last().await.unwrap().unwrap().manifest.run, "b");
    }
}

#[tokio::test]
async fn a_chain_whose_only_manifest_is_unreadable_is_empty() {
    let chain = chain(&memory("only"));
    overwrite(&chain, 0, "").await;
    assert_eq!(chain.last().await.unwrap(), None);
    assert!(chain.discard_unreadable(0).await.unwrap());
    seal_many(&chain, 1).await;
}

#[tokio::test]
async fn damage_before_the_last_manifest_is_named() {
    let chain = chain(&memory("damage"));
    seal_many(&chain, 4).await;
    overwrite(&chain, 3, "").await;
    overwrite(&chain, 2, "").await;
    let error = chain.last().await.unwrap_err();
    assert!(error.message().contains("00000000000000000002.json"), "{error}");
    assert_eq!(error.kind(), Kind::Conflict);
    chain.store().delete(&chain.series().path(1)).await.unwrap();
    assert_eq!(chain.numbers().await.unwrap(), [0, 2, 3]);
    let read: Vec<_> = chain.range(0..4).collect().await;
    let ok: Vec<bool> = read.iter().map(|entry| entry.is_ok()).collect();
    assert_eq!(ok, [true, false, false, false]);
    assert!(read[1].as_ref().unwrap_err().message().contains("epoch=1"));
}

#[tokio::test]
async fn manifests_that_are_not_ours_to_read_are_refused() {
    let chain = chain(&memory("refused"));
    seal_many(&chain, 2).await;
    let copied = chain.store().get(&chain.series().path(0)).await.unwrap().unwrap();
    chain.store().put(&chain.series().path(1), copied).await.unwrap();
    assert_eq!(kind(chain.get(1).await), Kind::Conflict);
    overwrite(&chain, 1, r#"{"format":99,"epoch":1,"run":"r","host":"h"}"#).await;
    assert_eq!(kind(chain.last().await), Kind::Config);
    overwrite(&chain, 1, r#"{"format":1,"epoch":1,"run":"r","host":"h"}"#).await;
    assert_eq!(kind(chain.last().await), Kind::Conflict);
    let later = chain.seal(&manifest(1, "b", None)).await.unwrap();
    assert!(matches!(later, Sealed::Lost { run, .. } if run == "r"));
}

fn with_files(epoch: u64, count: usize) -> Manifest {
    let file =
        |n: usize| DataFile { path: format!("part-{n}.parquet"), bytes: 7, ..DataFile::default() };
    let adds = (0..count).map(file).collect();
    let action =
        Action::Delta(DeltaAction { location: "t".into(), adds, ..DeltaAction::default() });
    let mut manifest = manifest(epoch, "a", None);
    manifest.tables.insert("big/name".into(), TablePart { counts: TableCounts::default(), action });
    manifest
}

#[tokio::test]
async fn large_actions_go_to_side_files_and_come_back() {
    let chain = chain(&memory("sides"));
    for (epoch, count, sides) in [(0, 10, 0), (1, 10_000, 1)] {
        let whole = with_files(epoch, count);
        chain.seal(&whole).await.unwrap();
        let listed = chain.series().listed().await.unwrap();
        let of_epoch: Vec<_> = listed.iter().filter(|(n, _, _)| *n == epoch).collect();
        assert_eq!(of_epoch.len(), 1 + sides);
        assert!(of_epoch.iter().all(|(_, rest, meta)| rest != ".json" || meta.size < 2_000_000));
        assert_eq!(chain.get(epoch).await.unwrap().unwrap().manifest, whole);
    }
    let small = chain.store().get(&chain.series().path(1)).await.unwrap().unwrap();
    assert!(small.len() < 2_000);
    damage_side_file(&chain).await;
}

async fn damage_side_file(chain: &Chain) {
    let listed = chain.series().listed().await.unwrap();
    let side = &listed.iter().find(|(_, rest, _)| rest != ".json").unwrap().2.location;
    let good = chain.store().get(side).await.unwrap().unwrap();
    let mut bad = good.to_vec();
    bad[100] ^= 1;
    for content in [good.slice(..good.len() - 1), Bytes::from(bad)] {
        chain.store().put(side, content).await.unwrap();
        let error = chain.last().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.message().contains("big%2Fname"), "{error}");
    }
    chain.store().delete(side).await.unwrap();
    assert!(chain.last().await.unwrap_err().message().contains("gone"));
}

#[tokio::test]
async fn a_side_file_is_durable_before_its_manifest() {
    let lake = memory("side-first");
    let faulty = Faulty::wrap(&lake.store, |op, _| match op {
        Op::Put => Fault::Before,
        _ => Fault::None,
    });
    assert!(chain_on(&lake, faulty).seal(&with_files(0, 10_000)).await.is_err());
    assert!(!chain(&lake).exists(0).await.unwrap());
}

#[tokio::test]
async fn repairs_are_sealed_beside_their_epoch() {
    let chain = chain(&memory("repairs"));
    seal_many(&chain, 1).await;
    assert_eq!(chain.latest_repair(0).await.unwrap(), None);
    for k in 1..=3 {
        let repair = Manifest { repairs: k, ..manifest(0, "b", None) };
        assert!(matches!(chain.seal_repair(&repair).await.unwrap(), Sealed::Won { .. }));
        let other = Manifest { repairs: k, ..manifest(0, "c", None) };
        assert!(matches!(chain.seal_repair(&other).await.unwrap(), Sealed::Lost { .. }));
    }
    assert_eq!(chain.latest_repair(0).await.unwrap().unwrap().manifest.repairs, 3);
    assert_eq!(chain.last().await.unwrap().unwrap().manifest.repairs, 0);
    assert_eq!(kind(chain.seal_repair(&manifest(0, "b", None)).await), Kind::Bug);
}

#[tokio::test]
async fn jobs_are_listed_by_their_folders() {
    let lake = memory("jobs");
    assert!(jobs(&lake).await.unwrap().is_empty());
    for job in ["b", "a@backfill"] {
        let sealed = Manifest { job: job.into(), ..manifest(0, "r", None) };
        Chain::new(&lake, job, clock()).seal(&sealed).await.unwrap();
    }
    assert_eq!(jobs(&lake).await.unwrap(), ["a@backfill", "b"]);
}
