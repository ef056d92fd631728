//! Killed at moments nobody chose, while others maintain and compact the same tables.
//!
//! A kill counts when it hit a run that had opened an epoch and was still at work. Each scenario
//! has tables that are appended to and tables whose rows are replaced. `SLUICE_KILLS` asks for
//! more kills; moments follow from a seed, so that a run of the test differs from another only by
//! what the machine does.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::ledger::{self, Ledger};
use crate::support::cli::{Output, Running, Sluice};
use crate::support::clients::Optimizer;
use crate::support::place::{Kind, Place};
use crate::support::wait::{pause, until};

/// Kills of all scenarios together, unless `SLUICE_KILLS` asks for more.
const KILLS: u32 = 320;
const SCENARIOS: u32 = 8;
/// Input of one round, in epochs.
const EPOCHS: u64 = 2;
/// The latest moment of a kill after a process was started: about when it has done its work.
const FROM_START_MS_MAX: u64 = 700;
/// The latest moment of a kill after an epoch was opened: longer than most epochs take.
const FROM_OPENING_MS_MAX: u64 = 250;
/// How often the others are given something to do until each has done some of it.
const ATTEMPTS_MAX: u32 = 60;
/// How long a foreign OPTIMIZE is left alone with the tables each time.
const ALONE_MS: u64 = 1_000;
/// What a run logs when it begins to work.
const OPENED: &str = "epoch opened";
/// The log that says so.
const LOG: &str = "warn,sluice_runtime=info";
/// How long a run may take to open its first epochs; far more than it does on a busy machine.
const SECONDS_MAX: u64 = 300;

/// Kills of one scenario.
fn kills() -> u32 {
    let wanted = std::env::var("SLUICE_KILLS").ok();
    let wanted = wanted.map_or(KILLS, |text| text.parse().unwrap());
    assert!(wanted >= KILLS, "SLUICE_KILLS={wanted}: {KILLS} are the least that show anything");
    wanted.div_ceil(SCENARIOS)
}

/// One scenario: a job that is killed, and who works beside it.
struct Storm<N> {
    random: StdRng,
    /// Adds input and gives the run that has not seen it.
    next: N,
    maintain: Sluice,
    optimizer: Optimizer,
    /// Runs that were killed at work.
    killed: u32,
}

impl<N: FnMut() -> Sluice> Storm<N> {
    fn new(seed: u64, maintain: Sluice, optimizer: Optimizer, next: N) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { random, next, maintain, optimizer, killed: 0 }
    }

    /// Kills until enough runs were killed at work, then lets one come to its end.
    fn blow(mut self) {
        let wanted = kills();
        self.kill_until(wanted / 2);
        self.let_others_work();
        self.kill_until(wanted);
        (self.next)().ok();
        assert!(self.optimizer.stop() > 0, "no foreign OPTIMIZE has committed");
    }

    fn kill_until(&mut self, wanted: u32) {
        let mut rounds = 0;
        while self.killed < wanted {
            rounds += 1;
            assert!(rounds < 10 * wanted, "runs end faster than they can be killed");
            self.round();
        }
    }

    /// A run with new input is killed, nine times of ten after it has opened an epoch or two. In two
    /// rounds of ten `maintain` is killed too, instead of the run or beside it; one of two that
    /// start at once is told that the other has the lease.
    fn round(&mut self) {
        let drawn = self.random.random_range(0..10);
        let mut run = (drawn > 0).then(|| (self.next)().arg("--log").arg(LOG).start());
        let maintain = (drawn < 2).then(|| self.maintain.start());
        let from_start = drawn < 3;
        match &mut run {
            Some(run) if !from_start => {
                let epochs = self.random.random_range(1..=EPOCHS as usize);
                until("an epoch to open", SECONDS_MAX, || {
                    let opened = run.said().matches(OPENED).count();
                    (opened >= epochs || run.ended().is_some()).then_some(())
                });
                pause(self.random.random_range(0..FROM_OPENING_MS_MAX));
            }
            _ => pause(self.random.random_range(0..FROM_START_MS_MAX)),
        }
        if let Some(run) = run.map(kill) {
            self.killed += u32::from(run.code.is_none() && run.stderr.contains(OPENED));
        }
        maintain.map(kill);
    }

    /// Goes on in peace until a foreign OPTIMIZE has committed and a `maintain` has compacted, so
    /// that the kills after this meet what both leave behind.
    fn let_others_work(&mut self) {
        let mut attempts = 0;
        while self.optimizer.committed() == 0 {
            attempts += 1;
            assert!(attempts < ATTEMPTS_MAX, "no foreign OPTIMIZE commits");
            (self.next)().ok();
            pause(ALONE_MS);
        }
        // The foreign one is faster where both are at it, and the first run may have folded all.
        let maintained = self.optimizer.aside(|| {
            (0..2).any(|_| {
                (self.next)().ok();
                self.maintain.ok().stdout.contains(" 1 compaction\n")
            })
        });
        assert!(maintained, "`maintain` compacts nothing");
    }
}

/// Kills a process that has not ended. One that has must have done its work, or have been told
/// that another runner has the lease.
fn kill(mut victim: Running) -> Output {
    if victim.ended().is_none() {
        victim.signal("KILL");
    }
    let output = victim.wait();
    output.says(if output.code == Some(1) { &["another runner works this job"] } else { &[] });
    assert!(matches!(output.code, None | Some(0 | 1)), "{}", output.text());
    output
}

fn files(kind: Kind, seed: u64) {
    let mut ledger = Ledger::new(kind);
    ledger.feed(1);
    ledger.run().ok();
    let maintain = ledger.place.job("maintain", ledger::JOB);
    let optimizer = Optimizer::start(&ledger.place, &ledger::DELTA_TABLES);
    let next = || {
        ledger.feed(EPOCHS);
        ledger.run()
    };
    Storm::new(seed, maintain, optimizer, next).blow();
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

#[test]
fn files_gcs() {
    files(Kind::Gcs, 5);
}

#[test]
fn files_azure() {
    files(Kind::Azure, 7);
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
    let mut rows = 500;
    let run = |rows: u64| place.job("run", "stream.yaml").arg("--set").arg(format!("rows={rows}"));
    run(rows).ok();
    let maintain = place.job("maintain", "stream.yaml");
    let optimizer = Optimizer::start(&place, &ledger::DELTA_TABLES);
    let next = || {
        rows += 500 * EPOCHS;
        run(rows)
    };
    Storm::new(seed, maintain, optimizer, next).blow();
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

#[test]
fn generate_gcs() {
    generate(Kind::Gcs, 8);
}

#[test]
fn generate_azure() {
    generate(Kind::Azure, 6);
}
