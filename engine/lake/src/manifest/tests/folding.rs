//! Clean-up: what is folded, what is deleted, and what is refused.

use super::*;

/// Later than anything a test writes.
const FAR_MS: i64 = i64::MAX / 2;

async fn fold(chain: &Chain, keep: u64) -> Folded {
    chain.fold(FAR_MS, keep, KEEP_MS).await.unwrap()
}

#[tokio::test]
async fn old_manifests_are_summed_and_deleted() {
    let (_folder, lake) = local();
    for lake in [memory("fold"), lake] {
        let chain = chain(&lake);
        seal_many(&chain, 12).await;
        assert_eq!(fold(&chain, 20).await, Folded::default());
        assert_eq!(fold(&chain, 5).await, Folded { folded: 6, deleted: 6 });
        assert_eq!(chain.numbers().await.unwrap(), [0, 7, 8, 9, 10, 11]);
        assert_eq!(fold(&chain, 3).await, Folded { folded: 2, deleted: 2 });
        let base = chain.base().await.unwrap().unwrap();
        assert_eq!((base.from, base.to, base.since), (1, 9, 1));
        let covered = &base.sources["s"].covered["p"];
        assert_eq!((&covered.from, &covered.to), (&Offset::At(10), &Offset::At(90)));
        let rows = Counts { decoded: 72, rejected: 8, pruned: 16 };
        assert_eq!(base.sources["s"].rows, rows);
        assert_eq!(base.tables["t"].written, 72);
        let next = chain.get(9).await.unwrap().unwrap();
        assert_eq!(next.manifest.previous, Some(base.sha256));
        assert_eq!(chain.last().await.unwrap().unwrap().manifest.epoch, 11);
    }
}

#[tokio::test]
async fn young_manifests_stay_whatever_their_number() {
    let chain = chain(&memory("fold-young"));
    seal_many(&chain, 6).await;
    assert_eq!(chain.fold(LONG_AGO_MS, 1, KEEP_MS).await.unwrap(), Folded::default());
    assert_eq!(chain.numbers().await.unwrap().len(), 6);
}

#[tokio::test]
async fn what_a_crash_left_is_deleted_and_not_counted_again() {
    let lake = memory("fold-crash");
    seal_many(&chain(&lake), 8).await;
    let faulty = Faulty::wrap(&lake.store, |op, path| match op {
        Op::Delete if path.as_ref().contains("003.json") => Fault::Before,
        _ => Fault::None,
    });
    assert!(chain_on(&lake, faulty).fold(FAR_MS, 2, KEEP_MS).await.is_err());
    let chain = chain(&lake);
    assert_eq!(chain.numbers().await.unwrap(), [0, 3, 4, 5, 6, 7]);
    assert_eq!(fold(&chain, 2).await, Folded { folded: 0, deleted: 3 });
    let base = chain.base().await.unwrap().unwrap();
    assert_eq!((base.to, base.tables["t"].written), (6, 45));
}

#[tokio::test]
async fn side_files_and_repairs_go_with_their_epoch() {
    let chain = chain(&memory("fold-sides"));
    let mut previous = None;
    for n in 0..4 {
        let sealed = Manifest { previous: previous.clone(), ..with_files(n, 10_000) };
        let Sealed::Won { sha256 } = chain.seal(&sealed).await.unwrap() else { panic!() };
        previous = Some(sha256);
    }
    chain.seal_repair(&Manifest { repairs: 1, ..manifest(1, "b", None) }).await.unwrap();
    assert_eq!(fold(&chain, 2).await, Folded { folded: 1, deleted: 3 });
    let listed = chain.series().listed().await.unwrap();
    assert!(listed.iter().all(|(n, _, _)| *n != 1));
}

#[tokio::test]
async fn folding_never_hides_what_does_not_join() {
    for gone in [1u64, 3] {
        let chain = chain(&memory(&format!("fold-gap-{gone}")));
        seal_many(&chain, 8).await;
        chain.store().delete(&chain.series().path(gone)).await.unwrap();
        let error = chain.fold(FAR_MS, 2, KEEP_MS).await.unwrap_err();
        assert!(error.message().contains(&format!("epoch={gone}")), "{error}");
        assert_eq!(chain.numbers().await.unwrap().len(), 7, "nothing is deleted");
    }
    let chain = chain(&memory("fold-overlap"));
    let mut previous = seal_many(&chain, 2).await;
    for (n, offsets_of) in [(2, 2), (3, 2), (4, 3)] {
        let sources = manifest(offsets_of, "a", None).sources;
        let sealed = Manifest { sources, ..manifest(n, "a", Some(&previous)) };
        let Sealed::Won { sha256 } = chain.seal(&sealed).await.unwrap() else { panic!() };
        previous = sha256;
    }
    let error = chain.fold(FAR_MS, 0, KEEP_MS).await.unwrap_err();
    assert!(error.message().contains("epoch=3 source=s partition=p"), "{error}");
}

#[tokio::test]
async fn a_new_life_starts_the_sums_anew() {
    let chain = chain(&memory("fold-life"));
    let mut previous = seal_many(&chain, 4).await;
    for n in 4..8 {
        let sources = manifest(n - 4, "a", None).sources;
        let incarnation = "second".to_string();
        let sealed = Manifest { sources, incarnation, ..manifest(n, "a", Some(&previous)) };
        let Sealed::Won { sha256 } = chain.seal(&sealed).await.unwrap() else { panic!() };
        previous = sha256;
    }
    fold(&chain, 2).await;
    let base = chain.base().await.unwrap().unwrap();
    assert_eq!((base.incarnation.as_str(), base.since, base.to), ("second", 4, 6));
    assert_eq!(base.sources["s"].covered["p"].to, Offset::At(20));
}

#[tokio::test]
async fn a_runner_that_wins_a_cleaned_up_number_was_fenced() {
    let chain = chain(&memory("fold-fenced"));
    let previous = seal_many(&chain, 8).await;
    for n in 0..=8 {
        assert!(chain.continues(n).await.unwrap(), "{n}");
    }
    fold(&chain, 2).await;
    for n in [1, 2, 4] {
        let late = manifest(n, "zombie", Some(&previous));
        assert!(matches!(chain.seal(&late).await.unwrap(), Sealed::Won { .. }));
        assert!(!chain.continues(n).await.unwrap(), "{n}");
        chain.store().delete(&chain.series().path(n)).await.unwrap();
    }
    assert!(chain.continues(8).await.unwrap());
}
