//! Killed at moments nobody chose, while others maintain and compact the same tables.
//!
//! `SLUICE_KILLS` says how many kills in all; moments follow from a seed, so that a run of the
//! test differs from another only by what the machine does.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::ledger::{self, Ledger};
use crate::support::cli::Sluice;
use crate::support::clients::Optimizer;
use crate::support::place::{Kind, Place};
use crate::support::wait::pause;

/// Kills of all scenarios together, unless `SLUICE_KILLS` says otherwise.
const KILLS: u32 = 208;
const SCENARIOS: u32 = 4;
/// The latest moment of a kill: a run that was given two epochs has ended by then, mostly.
const MOMENT_MS_MAX: u64 = 900;

fn kills() -> u32 {
    let wanted = std::env::var("SLUICE_KILLS").ok();
    wanted.map_or(KILLS, |text| text.parse().unwrap()).div_ceil(SCENARIOS)
}

/// Starts calls until that many of them were killed under way. `next` gives the run with input it
/// has not seen; every fifth victim is `maintain`, and sometimes both are at it at once.
fn storm(seed: u64, mut next: impl FnMut() -> Sluice, maintain: Sluice) {
    let mut random = StdRng::seed_from_u64(seed);
    let wanted = kills();
    let (mut killed, mut ended) = (0, 0);
    while killed < wanted {
        let mut victims = match random.random_range(0..5) {
            0 => vec![maintain.start()],
            1 => vec![next().start(), maintain.start()],
            _ => vec![next().start()],
        };
        pause(random.random_range(0..MOMENT_MS_MAX));
        for victim in &mut victims {
            if victim.ended().is_none() {
                victim.signal("KILL");
                killed += 1;
            } else {
                assert!(!victim.said().contains("panicked"), "{}", victim.said());
                ended += 1;
            }
        }
        assert!(ended < 40 * (killed + 10), "runs end faster than they can be killed");
    }
}

fn files(kind: Kind, seed: u64) {
    let mut ledger = Ledger::new(kind);
    ledger.feed(1);
    ledger.run().ok();
    let optimizer = Optimizer::start(&ledger.place, &ledger::DELTA_TABLES);
    let maintain = ledger.place.job("maintain", ledger::JOB);
    storm(
        seed,
        || {
            ledger.feed(2);
            ledger.run()
        },
        maintain,
    );
    ledger.run().ok();
    drop(optimizer);
    ledger.complete();
}

#[test]
fn files_local() {
    files(Kind::Local, 1);
}

#[test]
fn files_s3() {
    files(Kind::S3, 2);
}

const STREAM: &str = r#"job: stream
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 0}
sources:
  movements:
    connector: generate
    seed: 7
    rows: "${vars.rows}"
    columns:
      id: {sequence: {start: 1}}
      account: {integer: {from: 1, to: 300, zipf: 0.8}}
      kind: {choice: {in: 3, out: 1}}
      amount: {uniform: {from: 1, to: 500, scale: 2}}
tables:
  facts: {sql: "SELECT id, account, kind, amount FROM movements", partition_by: [kind]}
  latest: {sql: "SELECT account, id, kind, amount FROM movements", key: [account], sequence_by: id}
views:
  totals: {sql: "SELECT kind, count(*) AS n, sum(amount) AS amount FROM facts GROUP BY kind"}
epoch: {rows: 500}
"#;

/// Each row once, and the keyed table is the last row per key, by the batch query.
fn stream_is_complete(place: &Place, rows: u64) {
    let last = "SELECT account, id, kind, amount FROM \
        (SELECT *, row_number() OVER (PARTITION BY account ORDER BY id DESC) AS k FROM facts) \
        WHERE k = 1";
    let own = "SELECT account, id, kind, amount FROM latest";
    let parts = [
        "count(*) FROM facts",
        "count(DISTINCT id) FROM facts",
        "max(id) FROM facts",
        "sum(n) FROM totals",
        &format!("count(*) FROM (({own}) EXCEPT ({last}))"),
        &format!("count(*) FROM (({last}) EXCEPT ({own}))"),
        "count(*) - count(DISTINCT account) FROM latest",
    ];
    let rows = rows.to_string();
    let expected = [&rows, &rows, &rows, &rows, "0", "0", "0"];
    assert_eq!(place.figures("stream.yaml", &parts), expected);
    place.holds("stream.yaml");
}

fn generate(kind: Kind, seed: u64) {
    let place = Place::new(kind);
    place.write("stream.yaml", STREAM);
    let mut rows = 1_000;
    let run = |rows: u64| place.job("run", "stream.yaml").arg("--set").arg(format!("rows={rows}"));
    run(rows).ok();
    let optimizer = Optimizer::start(&place, &ledger::DELTA_TABLES);
    let maintain = place.job("maintain", "stream.yaml");
    storm(
        seed,
        || {
            rows += 1_000;
            run(rows)
        },
        maintain,
    );
    run(rows).ok();
    drop(optimizer);
    stream_is_complete(&place, rows);
}

#[test]
fn generate_local() {
    generate(Kind::Local, 3);
}

#[test]
fn generate_s3() {
    generate(Kind::S3, 4);
}
