//! Killed at every step of several epochs in a row, then run to the end.

use sluice_core::Step;

use super::ledger::Ledger;
use super::{OF_EVERY_EPOCH, killed};
use crate::support::place::Kind;

/// Killed at `step` of epochs 1 to 4; each run goes on where the last one died.
fn killed_at(step: Step, kind: Kind) {
    let mut ledger = Ledger::new(kind);
    ledger.feed(5);
    for epoch in 1..=4 {
        killed(ledger.run(), step, epoch);
    }
    ledger.run().ok();
    ledger.complete();
}

/// Killed twice at the same step of the same epoch: recovery itself can be killed.
fn killed_again_at(step: Step, kind: Kind) {
    let mut ledger = Ledger::new(kind);
    ledger.feed(3);
    for _ in 0..3 {
        killed(ledger.run(), step, 1);
    }
    ledger.run().ok();
    ledger.complete();
}

#[test]
fn local_before_the_seal() {
    OF_EVERY_EPOCH[..4].iter().for_each(|step| killed_at(*step, Kind::Local));
}

#[test]
fn local_from_the_seal_on() {
    OF_EVERY_EPOCH[4..].iter().for_each(|step| killed_at(*step, Kind::Local));
}

#[test]
fn s3_before_the_seal() {
    OF_EVERY_EPOCH[..4].iter().for_each(|step| killed_at(*step, Kind::S3));
}

#[test]
fn s3_from_the_seal_on() {
    OF_EVERY_EPOCH[4..].iter().for_each(|step| killed_at(*step, Kind::S3));
}

#[test]
fn gcs_before_the_seal() {
    OF_EVERY_EPOCH[..4].iter().for_each(|step| killed_at(*step, Kind::Gcs));
}

#[test]
fn gcs_from_the_seal_on() {
    OF_EVERY_EPOCH[4..].iter().for_each(|step| killed_at(*step, Kind::Gcs));
}

#[test]
fn azure_before_the_seal() {
    OF_EVERY_EPOCH[..4].iter().for_each(|step| killed_at(*step, Kind::Azure));
}

#[test]
fn azure_from_the_seal_on() {
    OF_EVERY_EPOCH[4..].iter().for_each(|step| killed_at(*step, Kind::Azure));
}

#[test]
fn recovery_is_killed_too() {
    let published =
        [Step::PublishStarted, Step::TablePublished, Step::FileCopied, Step::TablesPublished];
    for step in published {
        Kind::ALL.into_iter().for_each(|kind| killed_again_at(step, kind));
    }
}
