//! The protocol under kills, freezes and strangers: nothing lost, nothing doubled, and whoever was
//! overtaken stops by itself.
//!
//! A debug build stops itself where `SLUICE_STOP=<step>@<epoch>=kill|freeze` says. Steps of
//! every epoch are gone through in `kills` and `zombies`, each of the others has a case of its own
//! for both in `special`, those of outboxes in `kafka::sink`; a step without fails a test here. `random` kills at moments nobody chose,
//! while others maintain and compact the same tables.

mod kills;
pub mod ledger;
mod random;
mod shards;
mod special;
mod zombies;

use sluice_core::Step;

use crate::support::cli::{Output, Running, Sluice};

/// The steps that every epoch of appends passes.
pub const APPEND_STEPS: [Step; 10] = [
    Step::LeaseTaken,
    Step::Polled,
    Step::FilesWritten,
    Step::StateWritten,
    Step::Sealed,
    Step::PublishStarted,
    Step::TablePublished,
    Step::TablesPublished,
    Step::RecordWritten,
    Step::Acknowledged,
];

/// Steps that every epoch of a run passes.
const OF_EVERY_EPOCH: [Step; 11] = [
    Step::Polled,
    Step::FilesWritten,
    Step::StateWritten,
    Step::SideFilesWritten,
    Step::Sealed,
    Step::PublishStarted,
    Step::TablePublished,
    Step::FileCopied,
    Step::TablesPublished,
    Step::RecordWritten,
    Step::Acknowledged,
];

/// Stops the call at a step of an epoch.
fn stopping(sluice: Sluice, step: Step, epoch: u64, how: &str) -> Sluice {
    sluice.env("SLUICE_STOP", format!("{}@{epoch}={how}", step.name()))
}

/// Runs a call that must be killed at a step of an epoch.
pub fn killed(sluice: Sluice, step: Step, epoch: u64) -> Output {
    let output = stopping(sluice, step, epoch, "kill").output();
    let place = format!("{}@{epoch}", step.name());
    assert_eq!(output.code, None, "was not killed at {place}\n{}", output.text());
    output
}

/// Starts a call and waits until it has frozen at a step of an epoch.
pub fn frozen(sluice: Sluice, step: Step, epoch: u64) -> Running {
    let mut running = stopping(sluice, step, epoch, "freeze").start();
    running.wait_frozen();
    running
}

#[test]
fn every_step_has_its_cases() {
    let special = special::CASES.iter().map(|case| case.step);
    let outboxes = crate::kafka::sink::STEPS;
    let mut cases: Vec<Step> = OF_EVERY_EPOCH.into_iter().chain(special).chain(outboxes).collect();
    cases.sort();
    let mut all = Step::ALL.to_vec();
    all.sort();
    assert_eq!(cases, all, "a step without a case, or a case without a step");
}
