//! Stores that are slow, that fail, and one that breaks the promise everything rests on.

mod clouds;
mod containers;
mod deployment;
mod large;
mod outages;

use sluice_core::Step;

use crate::protocol::frozen;
use crate::protocol::ledger::Ledger;
use crate::support::place::Place;
use crate::support::store::{self, DIALECTS, Dialect, Faults, ObjectStore};

/// Nothing but one table: what can be asked of any store.
const FENCED: &str = r#"job: fenced
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  numbers: {connector: generate, rows: 60, columns: {id: {sequence: {start: 1}}}}
tables:
  kept: {sql: SELECT id FROM numbers}
epoch: {rows: 10}
"#;

/// A runner is overtaken and wakes up before its seal. Whether it was stopped by the seal, and
/// the lake is right: that is fencing.
fn fencing_holds(store: &ObjectStore, skip_probe: bool) -> bool {
    let place = Place::on(store);
    place.write("fenced.yaml", FENCED);
    let run = || match skip_probe {
        true => place.job("run", "fenced.yaml").env("SLUICE_SKIP_PROBE", "1"),
        false => place.job("run", "fenced.yaml"),
    };
    let zombie = frozen(run(), Step::SideFilesWritten, 2);
    run().arg("--take-over").ok();
    let output = zombie.thaw();
    let stopped =
        output.code == Some(1) && output.stderr.contains("another runner sealed this epoch");
    let parts = ["count(*) FROM kept", "count(DISTINCT id) FROM kept"];
    let audited = place.job("audit", "fenced.yaml").output().code == Some(0);
    stopped && audited && place.figures("fenced.yaml", &parts) == ["60", "60"]
}

fn refused_without_conditional_writes(dialect: Dialect) {
    let store = ObjectStore::unconditional(dialect);
    let mut ledger = Ledger::at(Place::on(&store));
    ledger.feed(1);
    let refused = ledger.run().expect(1);
    refused.says(&["two runners could both win", "hint: ", "conditional writes"]);
    assert!(!fencing_holds(&store, true), "the probe refuses a store that fences: {dialect:?}");
}

#[test]
fn a_store_without_conditional_writes_is_refused() {
    DIALECTS.into_iter().for_each(refused_without_conditional_writes);
}

#[test]
fn a_store_with_conditional_writes_fences() {
    for dialect in DIALECTS {
        assert!(fencing_holds(store::shared(dialect), false), "{dialect:?}");
    }
}

#[test]
fn answers_that_get_lost_cost_nothing() {
    DIALECTS.into_iter().for_each(lost_answers_cost_nothing);
}

fn lost_answers_cost_nothing(dialect: Dialect) {
    let store = ObjectStore::new(dialect, Faults { delay_ms: 0, refused: 20, lost: 20 });
    let mut ledger = Ledger::at(Place::on(&store));
    for _ in 0..3 {
        ledger.feed(4);
        ledger.run().ok();
    }
    ledger.complete();
}

const SLOW: &str = r#"job: slow
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  numbers: {connector: generate, rows: 50, columns: {id: {sequence: {start: 1}}}}
tables:
  kept: {sql: SELECT id FROM numbers}
views:
  total: {sql: "SELECT count(*) AS n, sum(id) AS s FROM kept"}
epoch: {rows: 1}
"#;

/// Seconds that 50 epochs take against a store that waits 200 ms before each answer.
fn fifty_epochs(arguments: &[&str]) -> f64 {
    let store = ObjectStore::new(Dialect::S3, Faults { delay_ms: 200, ..Faults::default() });
    let place = Place::on(&store);
    place.write("slow.yaml", SLOW);
    let mut run = place.job("run", "slow.yaml").arg("--json");
    for argument in arguments {
        run = run.arg(*argument);
    }
    let summary: serde_json::Value = serde_json::from_str(&run.ok().stdout).unwrap();
    let job = &summary["jobs"][0];
    assert!(job["epochs"].as_u64().unwrap() >= 50, "{summary}");
    assert_eq!(place.cell("slow.yaml", "SELECT n FROM total"), "50");
    job["seconds"].as_f64().unwrap()
}

#[test]
fn epochs_are_right_where_the_store_is_slow() {
    let (with, without) = std::thread::scope(|scope| {
        let with = scope.spawn(|| fifty_epochs(&[]));
        let without = scope.spawn(|| fifty_epochs(&["--no-overlap"]));
        (with.join().unwrap(), without.join().unwrap())
    });
    // Told, not asserted: benches/README.md says what to expect.
    println!("50 epochs at 200 ms per request: {with:.1} s, without overlap {without:.1} s");
}
