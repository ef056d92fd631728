//! Published records: idempotent, found again, kept as long as somebody may read them.

use sluice_core::Secrets;

use super::*;
use crate::store::open;
use crate::testing::{Fault, Faulty, Op};

fn lake(name: &str) -> Location {
    open(&format!("memory://snapshot-{name}/lake"), &Secrets::default()).unwrap()
}

fn record(epoch: u64) -> Published {
    let delta = PublishedTable::Delta { location: "t".into(), version: epoch as i64 };
    let files = PublishedTable::Files {
        location: "f".into(),
        incarnation: "i".into(),
        epoch,
        files: 2,
        partition_by: None,
    };
    let tables = BTreeMap::from([("t".to_string(), delta), ("f".to_string(), files)]);
    Published { epoch, incarnation: "i".into(), job: "job".into(), published_at_ms: 1_000, tables }
}

#[tokio::test]
async fn readers_see_the_newest_record() {
    let snapshots = Snapshots::new(&lake("newest"), "job");
    assert_eq!(snapshots.latest().await.unwrap(), None);
    for epoch in 0..5 {
        snapshots.write(&record(epoch)).await.unwrap();
        assert_eq!(snapshots.latest().await.unwrap(), Some(record(epoch)));
    }
    let late = Published { published_at_ms: 2_000, ..record(3) };
    snapshots.write(&late).await.unwrap();
    assert_eq!(snapshots.get(3).await.unwrap(), Some(record(3)), "the first one stays");
    assert_eq!(snapshots.latest().await.unwrap(), Some(record(4)));
}

#[tokio::test]
async fn a_record_is_written_whatever_the_store_answers() {
    for fault in [Fault::Before, Fault::After, Fault::Echo] {
        let lake = lake(&format!("{fault:?}"));
        let faulty = Faulty::wrap(&lake.store, move |op, _| match op {
            Op::Create => fault,
            _ => Fault::None,
        });
        let place = Location { store: faulty, path: lake.path.clone() };
        Snapshots::new(&place, "job").write(&record(0)).await.unwrap();
        let found = Snapshots::new(&lake, "job").latest().await.unwrap();
        assert_eq!(found, Some(record(0)), "{fault:?}");
    }
}

#[tokio::test]
async fn an_unreadable_record_is_written_again() {
    let lake = lake("unreadable");
    let snapshots = Snapshots::new(&lake, "job");
    snapshots.write(&record(0)).await.unwrap();
    lake.store.put(&snapshots.series.path(0), Bytes::new()).await.unwrap();
    assert!(snapshots.latest().await.is_err());
    snapshots.write(&record(0)).await.unwrap();
    assert_eq!(snapshots.latest().await.unwrap(), Some(record(0)));
}

#[tokio::test]
async fn a_late_writer_does_not_lead_readers_back() {
    let snapshots = Snapshots::new(&lake("late"), "job");
    for epoch in 0..9 {
        snapshots.write(&record(epoch)).await.unwrap();
    }
    assert_eq!(snapshots.clean(i64::MAX, 0).await.unwrap(), 8);
    snapshots.write(&record(2)).await.unwrap();
    assert_eq!(snapshots.latest().await.unwrap(), Some(record(8)));
}

#[tokio::test]
async fn the_newest_record_is_always_needed() {
    let snapshots = Snapshots::new(&lake("needed"), "job");
    assert_eq!(snapshots.clean(i64::MAX, 0).await.unwrap(), 0);
    for epoch in 0..3 {
        snapshots.write(&record(epoch)).await.unwrap();
    }
    assert_eq!(snapshots.needed(0, KEEP_MS).await.unwrap().len(), 3, "the clock jumped back");
    assert_eq!(snapshots.needed(i64::MAX, KEEP_MS).await.unwrap(), [record(2)]);
    assert_eq!(snapshots.clean(i64::MAX, KEEP_MS).await.unwrap(), 2);
    assert_eq!(snapshots.latest().await.unwrap(), Some(record(2)));
}

#[test]
fn a_record_is_needed_until_its_successor_is_old() {
    let cases: [(&[i64], i64, usize); 6] = [
        (&[], 100, 0),
        (&[0], 1_000, 0),
        (&[0, 50, 80], 100, 2),
        (&[0, 50, 95], 100, 1),
        (&[0, 95, 96], 100, 0),
        (&[0, 200, 300], 100, 0),
    ];
    for (written, now, expected) in cases {
        let records: Vec<(u64, i64)> =
            written.iter().enumerate().map(|(n, ms)| (n as u64, *ms)).collect();
        assert_eq!(first_needed(&records, now, 10), expected, "{written:?}");
    }
}
