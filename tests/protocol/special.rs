//! Steps that need something to happen first: the lease, a lost race, a compaction, a fold.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use sluice_core::Step;

use super::ledger::{JOB, Ledger};
use super::zombies::{take_over, wake};
use super::{frozen, killed};
use crate::support::cli::Sluice;
use crate::support::clients::{self, StaleOptimizer};
use crate::support::place::{Kind, Place};

const KINDS: [Kind; 2] = [Kind::Local, Kind::S3];

#[test]
fn killed_with_the_lease() {
    for kind in KINDS {
        let mut ledger = Ledger::new(kind);
        ledger.feed(2);
        killed(ledger.run(), Step::LeaseTaken, 0);
        ledger.run().arg("--epochs").arg("1").ok();
        killed(ledger.run(), Step::LeaseTaken, ledger.next_epoch());
        ledger.run().ok();
        ledger.complete();
    }
}

#[test]
fn frozen_with_the_lease() {
    for kind in KINDS {
        let mut ledger = Ledger::new(kind);
        ledger.feed(2);
        ledger.run().ok();
        ledger.feed(1);
        let zombie = frozen(ledger.run(), Step::LeaseTaken, ledger.next_epoch());
        take_over(&mut ledger);
        assert_eq!(wake(zombie).code, Some(1));
        ledger.complete();
    }
}

/// An epoch is sealed, not published; then a stranger rewrites the files that it removes.
fn race_lost(kind: Kind) -> (Ledger, u64) {
    let mut ledger = Ledger::new(kind);
    ledger.feed(2);
    ledger.run().ok();
    let epoch = ledger.next_epoch();
    ledger.feed(1);
    killed(ledger.run(), Step::PublishStarted, epoch);
    clients::optimize(&ledger.place, "latest");
    (ledger, epoch)
}

#[test]
fn killed_after_a_repair_was_sealed() {
    for kind in KINDS {
        let (mut ledger, epoch) = race_lost(kind);
        killed(ledger.run(), Step::RepairSealed, epoch);
        // Another rewrite: the repair itself has lost its files and needs one of its own.
        clients::optimize(&ledger.place, "latest");
        ledger.run().ok();
        ledger.complete();
        ledger.feed(2);
        ledger.run().ok();
        ledger.complete();
    }
}

#[test]
fn frozen_after_a_repair_was_sealed() {
    for kind in KINDS {
        let (mut ledger, epoch) = race_lost(kind);
        let zombie = frozen(ledger.run(), Step::RepairSealed, epoch);
        take_over(&mut ledger);
        assert_eq!(wake(zombie).code, Some(1));
        ledger.complete();
    }
}

/// Three epochs whose small files `maintain` then folds, as the next one.
fn scattered(kind: Kind) -> (Ledger, Sluice, u64) {
    let mut ledger = Ledger::new(kind);
    ledger.feed(3);
    ledger.run().ok();
    let compact = ledger.place.job("maintain", JOB).arg("--compact");
    let epoch = ledger.next_epoch();
    (ledger, compact, epoch)
}

#[test]
fn killed_with_a_compaction_written() {
    for kind in KINDS {
        let (mut ledger, compact, epoch) = scattered(kind);
        killed(compact.clone(), Step::CompactionWritten, epoch);
        ledger.complete();
        killed(compact.clone(), Step::Sealed, epoch);
        ledger.feed(1);
        ledger.run().ok();
        compact.ok();
        ledger.complete();
    }
}

#[test]
fn frozen_with_a_compaction_written() {
    for kind in KINDS {
        let (mut ledger, compact, epoch) = scattered(kind);
        let zombie = frozen(compact, Step::CompactionWritten, epoch);
        take_over(&mut ledger);
        assert_eq!(wake(zombie).code, Some(1));
        ledger.complete();
    }
}

#[test]
fn a_stranger_compacts_what_was_compacted_already() {
    for kind in KINDS {
        let (mut ledger, compact, _) = scattered(kind);
        let tables = ["facts", "latest", "totals"];
        let strangers = tables.map(|table| StaleOptimizer::load(&ledger.place, table));
        compact.ok();
        // Whether it is refused is its affair; that no row is there twice is ours.
        let said = strangers.map(StaleOptimizer::compact);
        assert!(said.iter().all(|text| !text.is_empty()), "{said:?}");
        ledger.complete();
        ledger.feed(1);
        ledger.run().ok();
        ledger.complete();
    }
}

const LONG: &str = "job: long
lake: \"${vars.lake}\"
vars: {lake: ./lake, rows: 1030}
sources:
  numbers: {connector: generate, rows: \"${vars.rows}\", columns: {id: {sequence: {start: 1}}}}
tables:
  kept: {sql: SELECT id FROM numbers}
views:
  total: {sql: \"SELECT count(*) AS n, sum(id) AS s, max(id) AS m FROM kept\"}
epoch: {rows: 1}
";

/// More epochs than are kept whatever their age, all of them years old.
fn long_chain() -> Place {
    let place = Place::local();
    place.write("long.yaml", LONG);
    place.run("long.yaml");
    age_manifests(&place);
    place
}

fn age_manifests(place: &Place) {
    let old = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let folder = place.lake_folder().join("_sluice/long/epochs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(old).unwrap();
    }
}

fn manifests(place: &Place) -> usize {
    let names = std::fs::read_dir(place.lake_folder().join("_sluice/long/epochs")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.len() == "00000000000000000000.json".len()).count()
}

fn newest(place: &Place) -> u64 {
    place.next_epoch("long.yaml") - 1
}

#[test]
fn killed_and_frozen_between_folding_and_deleting() {
    let place = long_chain();
    let before = manifests(&place);
    let fold = || place.job("maintain", "long.yaml").arg("--fold");
    killed(fold(), Step::ManifestsFolded, newest(&place));
    assert_eq!(manifests(&place), before);
    place.holds("long.yaml");

    let zombie = frozen(fold(), Step::ManifestsFolded, newest(&place));
    let more = |rows: u32| place.job("run", "long.yaml").arg("--set").arg(format!("rows={rows}"));
    more(1050).arg("--take-over").ok();
    fold().ok();
    assert!(manifests(&place) < before, "nothing was folded");
    wake(zombie);
    more(1051).ok();
    place.holds("long.yaml");
    let total = place.sql("long.yaml", "SELECT n, s, m FROM total");
    assert_eq!(total, [["1051", "552826", "1051"]]);
    assert_eq!(place.cell("long.yaml", "SELECT count(DISTINCT id) FROM kept"), "1051");
}
