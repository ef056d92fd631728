//! The job that is killed: appends, upserts, a dataset, kept views, rejected and quarantined rows;
//! its input, and what must lie in the lake afterwards, counted here and not by the engine.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::support::place::{Kind, Place};

/// The job file in the place's folder.
pub const JOB: &str = "ledger.yaml";

/// Tables that a foreign OPTIMIZE may rewrite.
pub const DELTA_TABLES: [&str; 3] = ["facts", "latest", "totals"];

/// Rows of one input file that can be decoded.
const ROWS: u64 = 120;
/// Accounts that a file brings in for the first time.
const ACCOUNTS: u64 = 20;

const TEXT: &str = r#"job: ledger
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  events:
    connector: files
    path: ./input/*.csv
    schema:
      fields:
        - {name: id, type: int64, required: true}
        - {name: account, type: int64}
        - {name: region, type: string}
        - {name: amount, type: "decimal(18, 2)"}
tables:
  facts:
    sql: SELECT id, account, region, amount FROM events
    partition_by: [region]
    expect: {not_negative: {that: amount >= 0, else: quarantine}}
  latest: {sql: "SELECT account, id, amount FROM events", key: [account], sequence_by: id}
  archive: {sql: "SELECT id, region, amount FROM events", format: parquet, partition_by: [region]}
views:
  totals: {sql: "SELECT region, count(*) AS n, sum(amount) AS amount FROM facts GROUP BY region"}
  largest: {sql: "SELECT id, amount FROM facts ORDER BY amount DESC, id LIMIT 3"}
epoch: {files: 1}
"#;

/// Figures that tell everything that could be lost or doubled.
const FIGURES: [&str; 16] = [
    "count(*) FROM facts",
    "count(DISTINCT id) FROM facts",
    "sum(amount) FROM facts",
    "count(*) FROM facts__quarantine",
    "count(*) FROM events__rejected",
    "count(*) FROM latest",
    "sum(id) FROM latest",
    "sum(amount) FROM latest",
    "count(*) FROM archive",
    "sum(id) FROM archive",
    "sum(amount) FROM archive",
    "sum(n) FROM totals",
    "sum(amount) FROM totals",
    "count(*) FROM totals",
    "sum(id) FROM largest",
    "sum(amount) FROM largest",
];

/// A lake under test and how many input files it was given.
pub struct Ledger {
    pub place: Place,
    files: u64,
}

struct Row {
    id: u64,
    account: u64,
    region: &'static str,
    cents: i64,
}

/// The rows of file `k`: new accounts, and some of file `k - 2`, so that an upsert rewrites an
/// older file of the keyed table and leaves the newest alone.
fn rows(k: u64) -> impl Iterator<Item = Row> {
    (0..ROWS).map(move |i| {
        let id = k * ROWS + i;
        let older = k >= 2 && i % 12 == 0;
        let block = if older { k - 2 } else { k };
        let mixed = (id * 2_654_435_761) % 20_011;
        Row {
            id,
            account: block * ACCOUNTS + i % ACCOUNTS,
            region: ["north", "south & east", "west"][(id % 3) as usize],
            cents: mixed as i64 - 500,
        }
    })
}

impl Ledger {
    /// An empty lake and no input yet.
    pub fn new(kind: Kind) -> Self {
        Self::at(Place::new(kind))
    }

    pub fn at(place: Place) -> Self {
        place.write(JOB, TEXT);
        Self { place, files: 0 }
    }

    /// Adds input files; each is an epoch.
    pub fn feed(&mut self, files: u64) {
        for k in self.files..self.files + files {
            let mut text = String::from("id,account,region,amount\n");
            for row in rows(k) {
                let (sign, cents) = (if row.cents < 0 { "-" } else { "" }, row.cents.abs());
                let Row { id, account, region, .. } = row;
                let _ = writeln!(
                    text,
                    "{id},{account},{region},{sign}{}.{:02}",
                    cents / 100,
                    cents % 100
                );
            }
            let _ = writeln!(text, "not a number,{k},north,1.00");
            self.place.write(&format!("input/{k:05}.csv"), &text);
        }
        self.files += files;
    }

    /// A run of the job, not started.
    pub fn run(&self) -> crate::support::cli::Sluice {
        self.place.job("run", JOB)
    }

    /// The number of the epoch that a run would open.
    pub fn next_epoch(&self) -> u64 {
        self.place.next_epoch(JOB)
    }

    /// Everything fed so far is there exactly once, and audit and verify agree.
    pub fn complete(&self) {
        assert_eq!(self.place.figures(JOB, &FIGURES), self.truth(), "after {} files", self.files);
        self.place.holds(JOB);
    }

    /// What [`FIGURES`] has to answer.
    fn truth(&self) -> Vec<String> {
        let all: Vec<Row> = (0..self.files).flat_map(rows).collect();
        let good: Vec<&Row> = all.iter().filter(|row| row.cents >= 0).collect();
        let latest: BTreeMap<u64, &Row> = all.iter().map(|row| (row.account, row)).collect();
        let sum = |rows: &[&Row]| money(rows.iter().map(|row| row.cents).sum());
        let last: Vec<&Row> = latest.values().copied().collect();
        let mut largest = good.clone();
        largest.sort_by_key(|row| (-row.cents, row.id));
        largest.truncate(3);
        let regions: BTreeMap<&str, ()> = good.iter().map(|row| (row.region, ())).collect();
        vec![
            good.len().to_string(),
            good.len().to_string(),
            sum(&good),
            (all.len() - good.len()).to_string(),
            self.files.to_string(),
            last.len().to_string(),
            last.iter().map(|row| row.id).sum::<u64>().to_string(),
            sum(&last),
            all.len().to_string(),
            all.iter().map(|row| row.id).sum::<u64>().to_string(),
            money(all.iter().map(|row| row.cents).sum()),
            good.len().to_string(),
            sum(&good),
            regions.len().to_string(),
            largest.iter().map(|row| row.id).sum::<u64>().to_string(),
            sum(&largest),
        ]
    }
}

/// Cents as a decimal with two digits.
fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}
