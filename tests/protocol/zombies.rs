//! Frozen at every step; a second runner takes over, works twenty epochs and maintains; then the
//! first wakes up. It must stop by itself, and nothing may be doubled.

use sluice_core::Step;

use super::ledger::{JOB, Ledger};
use super::{OF_EVERY_EPOCH, frozen};
use crate::support::cli::Running;
use crate::support::place::Kind;

/// Epochs of the second runner.
pub const OVERTAKEN_BY: u64 = 20;

/// A second runner takes over and works on; then maintenance.
pub fn take_over(ledger: &mut Ledger) {
    ledger.feed(OVERTAKEN_BY);
    ledger.run().arg("--take-over").ok();
    ledger.place.job("maintain", JOB).arg("--vacuum").arg("--compact").ok();
    ledger.complete();
}

/// The first runner wakes up. It must stop by itself and say who has overtaken it: another run, on
/// this machine. Where it slept through the time that a request to a store in a cloud may take, it
/// has gone through recovery like after any lost answer: that finds all done, and nobody is left to
/// be fenced from.
pub fn stops_fenced(zombie: Running, step: Step, kind: Kind) {
    let output = zombie.thaw();
    let name = step.name();
    let overslept = output.stderr.contains("operation timed out; trying again");
    if kind != Kind::Local && output.code == Some(0) && overslept {
        return;
    }
    assert_eq!(output.code, Some(1), "frozen at {name}: {}", output.text());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    output.says(&["another runner sealed this epoch", "run=", &format!("host={}", host.trim())]);
}

fn frozen_at(step: Step, kind: Kind) {
    let mut ledger = Ledger::new(kind);
    ledger.feed(4);
    let zombie = frozen(ledger.run(), step, 2);
    take_over(&mut ledger);
    stops_fenced(zombie, step, kind);
    ledger.complete();
    ledger.feed(1);
    ledger.run().ok();
    ledger.complete();
}

#[test]
fn local_before_the_seal() {
    OF_EVERY_EPOCH[..4].iter().for_each(|step| frozen_at(*step, Kind::Local));
}

#[test]
fn local_from_the_seal_on() {
    OF_EVERY_EPOCH[4..].iter().for_each(|step| frozen_at(*step, Kind::Local));
}

#[test]
fn s3_before_the_seal() {
    OF_EVERY_EPOCH[..4].iter().for_each(|step| frozen_at(*step, Kind::S3));
}

#[test]
fn s3_from_the_seal_on() {
    OF_EVERY_EPOCH[4..].iter().for_each(|step| frozen_at(*step, Kind::S3));
}

#[test]
fn gcs_before_the_seal() {
    OF_EVERY_EPOCH[..4].iter().for_each(|step| frozen_at(*step, Kind::Gcs));
}

#[test]
fn gcs_from_the_seal_on() {
    OF_EVERY_EPOCH[4..].iter().for_each(|step| frozen_at(*step, Kind::Gcs));
}

#[test]
fn azure_before_the_seal() {
    OF_EVERY_EPOCH[..4].iter().for_each(|step| frozen_at(*step, Kind::Azure));
}

#[test]
fn azure_from_the_seal_on() {
    OF_EVERY_EPOCH[4..].iter().for_each(|step| frozen_at(*step, Kind::Azure));
}

#[test]
fn a_live_runner_is_named_and_waited_for() {
    for kind in Kind::ALL {
        let mut ledger = Ledger::new(kind);
        ledger.feed(4);
        let zombie = frozen(ledger.run(), Step::Polled, 2);
        let refused = ledger.run().expect(1);
        let pid = format!("pid={}", zombie.id());
        refused.says(&["another runner works this job", &pid, "host=", "age=", "--take-over"]);
        // Nobody has overtaken it: the other one stopped before it sealed anything.
        assert_eq!(zombie.thaw().code, Some(0));
        ledger.complete();
    }
}
