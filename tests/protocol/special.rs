//! Steps that need something to happen first: the lease, a lost race, a compaction, a fold, a
//! checkpoint, an old log.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use sluice_core::Step;

use super::ledger::{DELTA_TABLES, JOB, Ledger};
use super::zombies::{stops_fenced, take_over};
use super::{frozen, killed};
use crate::support::cli::Sluice;
use crate::support::clients::{self, StaleOptimizer};
use crate::support::place::{Kind, Place};

/// A step with its two cases.
pub struct Case {
    pub step: Step,
    killed: fn(Kind),
    frozen: fn(Kind),
}

/// A case of each kind for every step that a usual epoch does not pass.
pub const CASES: [Case; 6] = [
    Case { step: Step::LeaseTaken, killed: killed_with_the_lease, frozen: frozen_with_the_lease },
    Case {
        step: Step::RepairSealed,
        killed: killed_after_a_repair_was_sealed,
        frozen: frozen_after_a_repair_was_sealed,
    },
    Case {
        step: Step::CompactionWritten,
        killed: killed_with_a_compaction_written,
        frozen: frozen_with_a_compaction_written,
    },
    Case {
        step: Step::ManifestsFolded,
        killed: killed_between_folding_and_deleting,
        frozen: frozen_between_folding_and_deleting,
    },
    Case {
        step: Step::CheckpointWritten,
        killed: killed_with_a_checkpoint_written,
        frozen: frozen_with_a_checkpoint_written,
    },
    Case {
        step: Step::LogExpired,
        killed: killed_while_a_log_expires,
        frozen: frozen_while_a_log_expires,
    },
];

#[test]
fn local_killed() {
    CASES.iter().for_each(|case| (case.killed)(Kind::Local));
}

#[test]
fn local_frozen() {
    CASES.iter().for_each(|case| (case.frozen)(Kind::Local));
}

#[test]
fn s3_killed() {
    CASES.iter().for_each(|case| (case.killed)(Kind::S3));
}

#[test]
fn s3_frozen() {
    CASES.iter().for_each(|case| (case.frozen)(Kind::S3));
}

#[test]
fn gcs_killed() {
    CASES.iter().for_each(|case| (case.killed)(Kind::Gcs));
}

#[test]
fn gcs_frozen() {
    CASES.iter().for_each(|case| (case.frozen)(Kind::Gcs));
}

#[test]
fn azure_killed() {
    CASES.iter().for_each(|case| (case.killed)(Kind::Azure));
}

#[test]
fn azure_frozen() {
    CASES.iter().for_each(|case| (case.frozen)(Kind::Azure));
}

fn killed_with_the_lease(kind: Kind) {
    let mut ledger = Ledger::new(kind);
    ledger.feed(2);
    killed(ledger.run(), Step::LeaseTaken, 0);
    ledger.run().arg("--epochs").arg("1").ok();
    killed(ledger.run(), Step::LeaseTaken, ledger.next_epoch());
    ledger.run().ok();
    ledger.complete();
}

fn frozen_with_the_lease(kind: Kind) {
    let mut ledger = Ledger::new(kind);
    ledger.feed(2);
    ledger.run().ok();
    ledger.feed(1);
    let zombie = frozen(ledger.run(), Step::LeaseTaken, ledger.next_epoch());
    take_over(&mut ledger);
    stops_fenced(zombie, Step::LeaseTaken, kind);
    ledger.complete();
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

fn killed_after_a_repair_was_sealed(kind: Kind) {
    let (mut ledger, epoch) = race_lost(kind);
    killed(ledger.run(), Step::RepairSealed, epoch);
    // Another rewrite: the repair itself has lost its files and needs one of its own.
    clients::sort(&ledger.place, "latest");
    killed(ledger.run(), Step::RepairSealed, epoch);
    ledger.run().ok();
    ledger.complete();
    ledger.feed(2);
    ledger.run().ok();
    ledger.complete();
}

fn frozen_after_a_repair_was_sealed(kind: Kind) {
    let (mut ledger, epoch) = race_lost(kind);
    let zombie = frozen(ledger.run(), Step::RepairSealed, epoch);
    take_over(&mut ledger);
    stops_fenced(zombie, Step::RepairSealed, kind);
    ledger.complete();
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

fn killed_with_a_compaction_written(kind: Kind) {
    let (mut ledger, compact, epoch) = scattered(kind);
    killed(compact.clone(), Step::CompactionWritten, epoch);
    ledger.complete();
    killed(compact.clone(), Step::Sealed, epoch);
    ledger.feed(1);
    ledger.run().ok();
    let output = compact.ok();
    assert!(output.stdout.contains(" 1 compaction\n"), "{}", output.text());
    ledger.complete();
}

fn frozen_with_a_compaction_written(kind: Kind) {
    let (mut ledger, compact, epoch) = scattered(kind);
    let zombie = frozen(compact, Step::CompactionWritten, epoch);
    take_over(&mut ledger);
    stops_fenced(zombie, Step::CompactionWritten, kind);
    ledger.complete();
}

#[test]
fn a_stranger_compacts_what_was_compacted_already() {
    for kind in Kind::ALL {
        let (mut ledger, compact, _) = scattered(kind);
        let strangers = DELTA_TABLES.map(|table| StaleOptimizer::load(&ledger.place, table));
        compact.ok();
        let said = strangers.map(StaleOptimizer::compact);
        // What it saw is gone; the view's only file was no work for either.
        assert!(said[..2].iter().all(|text| text.starts_with("refused")), "{said:?}");
        ledger.complete();
        ledger.feed(1);
        ledger.run().ok();
        ledger.complete();
    }
}

const LONG: &str = "long.yaml";

const LONG_TEXT: &str = "job: long
lake: \"${vars.lake}\"
vars: {lake: ./lake, rows: 0}
sources:
  numbers: {connector: generate, rows: \"${vars.rows}\", columns: {id: {sequence: {start: 1}}}}
tables:
  kept: {sql: SELECT id FROM numbers}
views:
  total: {sql: \"SELECT count(*) AS n, sum(id) AS s, max(id) AS m FROM kept\"}
epoch: {rows: 1}
";

/// Rows of the long chain, an epoch each; compactions between them make it a seventh longer.
const ROWS: u64 = 900;

/// Where its manifests are, below the lake.
const LONG_EPOCHS: &str = "_sluice/long/epochs";

/// More epochs than are kept whatever their age, all of them years old. An object store is given
/// what was made on local disk, ages and all.
fn long_chain(kind: Kind) -> Place {
    let place = Place::local();
    place.write(LONG, LONG_TEXT);
    long_run(&place, ROWS).ok();
    age(&place, LONG_EPOCHS);
    place.moved_to(kind)
}

/// Makes everything in a folder of the lake years old.
fn age(place: &Place, folder: &str) {
    let old = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for entry in std::fs::read_dir(place.lake_folder().join(folder)).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(old).unwrap();
    }
}

fn fold(place: &Place) -> Sluice {
    place.job("maintain", LONG).arg("--fold")
}

fn manifests(place: &Place) -> usize {
    let names = place.names(LONG_EPOCHS);
    names.iter().filter(|name| name.len() == "00000000000000000000.json".len()).count()
}

fn newest(place: &Place) -> u64 {
    place.next_epoch(LONG) - 1
}

fn long_run(place: &Place, rows: u64) -> Sluice {
    place.job("run", LONG).arg("--set").arg(format!("rows={rows}"))
}

fn long_holds(place: &Place, rows: u64) {
    place.holds(LONG);
    let (n, sum) = (rows.to_string(), (rows * (rows + 1) / 2).to_string());
    assert_eq!(place.sql(LONG, "SELECT n, s, m FROM total"), [[n.as_str(), &sum, &n]]);
    assert_eq!(place.cell(LONG, "SELECT count(DISTINCT id) FROM kept"), n);
}

fn killed_between_folding_and_deleting(kind: Kind) {
    let place = long_chain(kind);
    let before = manifests(&place);
    killed(fold(&place), Step::ManifestsFolded, newest(&place));
    assert_eq!(manifests(&place), before);
    long_holds(&place, ROWS);
    fold(&place).ok();
    assert!(manifests(&place) < before, "nothing was deleted");
    long_run(&place, ROWS + 1).ok();
    long_holds(&place, ROWS + 1);
}

fn frozen_between_folding_and_deleting(kind: Kind) {
    let place = long_chain(kind);
    let before = manifests(&place);
    let zombie = frozen(fold(&place), Step::ManifestsFolded, newest(&place));
    long_run(&place, ROWS + 20).arg("--take-over").ok();
    fold(&place).ok();
    assert!(manifests(&place) < before, "nothing was deleted");
    // It seals nothing, so there is nothing to fence: what it still has to delete is folded into a
    // base that only grows, and a file that is gone already is no error.
    let output = zombie.thaw();
    assert_eq!(output.code, Some(0), "{}", output.text());
    long_run(&place, ROWS + 21).ok();
    long_holds(&place, ROWS + 21);
}

fn checkpoint(ledger: &Ledger) -> Sluice {
    ledger.place.job("maintain", JOB).arg("--checkpoint")
}

fn killed_with_a_checkpoint_written(kind: Kind) {
    let (mut ledger, _, epoch) = scattered(kind);
    killed(checkpoint(&ledger), Step::CheckpointWritten, epoch - 1);
    ledger.complete();
    ledger.feed(1);
    ledger.run().ok();
    ledger.complete();
    checkpoint(&ledger).ok();
    ledger.complete();
}

fn frozen_with_a_checkpoint_written(kind: Kind) {
    let (mut ledger, _, epoch) = scattered(kind);
    let zombie = frozen(checkpoint(&ledger), Step::CheckpointWritten, epoch - 1);
    take_over(&mut ledger);
    checkpoint(&ledger).ok();
    // It seals nothing either: what it writes late is a checkpoint of some true version.
    let output = zombie.thaw();
    assert_eq!(output.code, Some(0), "{}", output.text());
    ledger.complete();
    ledger.feed(1);
    ledger.run().ok();
    ledger.complete();
}

/// Epochs enough for a checkpoint of each table by itself, and logs that are years old.
const CHECKPOINTED: u64 = 110;

fn old_log(kind: Kind) -> Place {
    let place = Place::local();
    place.write(LONG, LONG_TEXT);
    long_run(&place, CHECKPOINTED).ok();
    for folder in ["kept/_delta_log", "total/_delta_log", "_sluice/long/published"] {
        age(&place, folder);
    }
    place.moved_to(kind)
}

fn expire(place: &Place) -> Sluice {
    place.job("maintain", LONG).arg("--checkpoint")
}

fn log_entries(place: &Place) -> usize {
    let of = |table: &str| place.names(&format!("{table}/_delta_log"));
    [of("kept"), of("total")].concat().iter().filter(|name| name.ends_with(".json")).count()
}

fn killed_while_a_log_expires(kind: Kind) {
    let place = old_log(kind);
    let before = log_entries(&place);
    killed(expire(&place), Step::LogExpired, newest(&place));
    assert_eq!(log_entries(&place), before - 1);
    long_holds(&place, CHECKPOINTED);
    long_run(&place, CHECKPOINTED + 1).ok();
    expire(&place).ok();
    assert!(log_entries(&place) < 50, "{} entries are left", log_entries(&place));
    long_run(&place, CHECKPOINTED + 2).ok();
    long_holds(&place, CHECKPOINTED + 2);
}

fn frozen_while_a_log_expires(kind: Kind) {
    let place = old_log(kind);
    let zombie = frozen(expire(&place), Step::LogExpired, newest(&place));
    long_run(&place, CHECKPOINTED + 20).arg("--take-over").ok();
    expire(&place).ok();
    let output = zombie.thaw();
    assert_eq!(output.code, Some(0), "{}", output.text());
    assert!(log_entries(&place) < 100, "{} entries are left", log_entries(&place));
    long_run(&place, CHECKPOINTED + 21).ok();
    long_holds(&place, CHECKPOINTED + 21);
}
