//! Shards of one job in several processes: added, killed, frozen, resumed and removed; nothing is
//! lost and nothing doubled. Who runs which is decided by the leases here; by a group of consumers
//! where the source has one.

use sluice_core::Step;

use super::{APPEND_STEPS, killed};
use crate::support::cli::{Running, Sluice};
use crate::support::place::{Kind, Place};
use crate::support::wait;

const JOB: &str = "lines.yaml";

/// Rows of the source: some seconds of work at its rate.
const ROWS: u64 = 60_000;

/// Seconds until all rows have to be there; far more than it takes on a busy machine.
const SECONDS_MAX: u64 = 300;

const TEXT: &str = r#"job: lines
lake: "${vars.lake}"
vars: {lake: ./lake}
shards: 4
sources:
  samples:
    connector: generate
    rows: 60000
    PACE
    columns:
      id: {sequence: {}}
      line: {choice: [a, b, c]}
      score: {uniform: {from: 0, to: 100}}
tables:
  facts:
    sql: SELECT id, line, score FROM samples
    partition_by: [line]
    expect: {good: {that: score >= 10, else: quarantine}}
  passed: {sql: "SELECT id, score FROM samples WHERE score >= 50"}
epoch: {every: 200ms, rows: 5000}
"#;

/// Figures that tell everything that could be lost or doubled.
const FIGURES: [&str; 3] = [
    "count(*) FROM (SELECT id FROM facts UNION ALL SELECT id FROM facts__quarantine)",
    "count(DISTINCT id) FROM (SELECT id FROM facts UNION ALL SELECT id FROM facts__quarantine)",
    "count(*) - count(DISTINCT id) FROM passed",
];

fn place(kind: Kind, pace: &str) -> Place {
    let place = Place::new(kind);
    place.write(JOB, &TEXT.replace("PACE", pace));
    place
}

fn run(place: &Place) -> Sluice {
    place.job("run", JOB)
}

fn follow(place: &Place) -> Sluice {
    run(place).arg("--follow")
}

fn complete(place: &Place) {
    let all = ROWS.to_string();
    assert_eq!(place.figures(JOB, &FIGURES), [all.clone(), all, "0".to_string()]);
    place.holds(JOB);
}

/// Waits until so many rows are there.
fn wait_for(place: &Place, rows: u64) {
    wait::until("rows of all shards", SECONDS_MAX, || {
        let output = place.job("sql", JOB).arg(format!("SELECT {}", FIGURES[0])).output();
        let found = output
            .stdout
            .lines()
            .find_map(|line| line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().ok());
        found.filter(|found| *found >= rows)
    });
}

/// Asks a runner to end; it must finish its epochs and succeed.
fn stops(runner: Running) {
    runner.signal("TERM");
    let output = runner.wait();
    assert_eq!(output.code, Some(0), "{}", output.text());
}

#[test]
fn one_process_runs_all_of_them() {
    let place = place(Kind::Local, "");
    run(&place).arg("--epochs").arg("2").ok();
    run(&place).ok();
    complete(&place);
    run(&place).ok();
    complete(&place);
    place.job("maintain", JOB).ok();
    complete(&place);
    let status = place.job("status", JOB).ok().stdout;
    for chain in ["lines@0of4", "lines@1of4", "lines@2of4", "lines@3of4"] {
        assert!(status.contains(chain), "{status}");
    }
    run(&place).arg("--rebuild").ok();
    complete(&place);
}

#[test]
fn killed_at_each_step() {
    for step in APPEND_STEPS {
        let place = place(Kind::Local, "");
        killed(run(&place), step, 1);
        killed(run(&place), step, if step == Step::LeaseTaken { 1 } else { 2 });
        run(&place).ok();
        complete(&place);
    }
}

/// A runner is added, the one that works is killed, another is added, the one that works then is
/// frozen and overtaken, wakes up, and is the last one left.
fn come_and_go(kind: Kind) {
    let place = place(kind, "rate: 6000");
    let first = follow(&place).start();
    wait_for(&place, 4_000);
    let second = follow(&place).start();
    first.signal("KILL");
    drop(first);
    wait_for(&place, 16_000);
    second.signal("STOP");
    let third = follow(&place).arg("--take-over").start();
    wait_for(&place, 36_000);
    second.signal("CONT");
    wait_for(&place, 44_000);
    // What was overtaken is no failure: it waits for its turn.
    stops(third);
    wait_for(&place, ROWS);
    stops(second);
    complete(&place);
    run(&place).ok();
    complete(&place);
}

#[test]
fn runners_come_and_go_on_local_disk() {
    come_and_go(Kind::Local);
}

#[test]
fn runners_come_and_go_on_s3() {
    come_and_go(Kind::S3);
}

#[test]
fn another_number_of_shards_is_refused() {
    let place = place(Kind::Local, "");
    run(&place).arg("--epochs").arg("1").ok();
    place.write(JOB, &TEXT.replace("PACE", "").replace("shards: 4", "shards: 3"));
    run(&place).expect(1).says(&["the number of shards changed", "before=4 now=3", "--rebuild"]);
    run(&place).arg("--rebuild").ok();
    complete(&place);
}
