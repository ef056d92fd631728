//! Tables that look after themselves: files of the wanted size and order, short logs, and rows that
//! stay what they are, whoever else works on the same tables.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::support::clients;
use crate::support::place::{Place, listing};

const JOB: &str = "kept.yaml";

/// Two hundred epochs by rows of one file each; files of at most 64 KiB.
const SORTED: &str = r#"job: kept
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 0}
sources:
  numbers:
    connector: generate
    seed: 5
    rows: "${vars.rows}"
    columns:
      id: {sequence: {start: 1}}
      region: {choice: {north: 3, south: 1}}
      x: {integer: {from: -100000, to: 100000}}
      y: {uniform: {from: -1, to: 1}}
tables:
  facts:
    sql: SELECT id, region, x, y FROM numbers
    partition_by: [region]
    target_file_size: 48KiB
    zorder_by: [x, y]
  plain:
    sql: SELECT id, x FROM numbers
    target_file_size: 48KiB
views:
  totals: {sql: "SELECT region, count(*) AS n, sum(x) AS x FROM facts GROUP BY region"}
epoch: {rows: 1000}
"#;

fn run(place: &Place, rows: u32) {
    place.job("run", JOB).arg("--set").arg(format!("rows={rows}")).ok();
}

/// The active files of a table as delta-rs sees them: partition, bytes, bounds of `x` and `y`.
fn files(place: &Place, table: &str) -> Vec<Value> {
    let script = crate::support::root().join("tests/clients/files.py");
    let url = format!("{}/{table}", place.lake());
    let printed = clients::python(&script, &[&url], place.env());
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Files in which a value of a column may be.
fn may_hold(files: &[Value], column: &str, value: f64) -> usize {
    let bound = |file: &Value, which: &str| file[format!("{which}.{column}")].as_f64().unwrap();
    let holds = |f: &&Value| bound(f, "min") <= value && value <= bound(f, "max");
    files.iter().filter(holds).count()
}

fn sizes(files: &[Value]) -> Vec<u64> {
    files.iter().map(|f| f["size_bytes"].as_u64().unwrap()).collect()
}

#[test]
fn maintenance_joins_and_sorts_files_until_nothing_is_left_to_do() {
    let place = Place::local();
    place.write(JOB, SORTED);
    run(&place, 60_000);
    let figures = ["count(*) FROM facts", "sum(x) FROM facts", "count(DISTINCT id) FROM plain"];
    let before = place.figures(JOB, &figures);
    let scattered = files(&place, "facts");
    let compact = place.job("maintain", JOB).arg("--compact");
    let done = compact.ok();
    assert!(!done.stdout.contains(" 0 compactions"), "{}", done.text());
    let sorted = files(&place, "facts");
    // Bounds were those of all rows, and are those of a piece of the curve. The seven files of a
    // partition do not end where its quadrants do, which alternate in y: up to 4 of 7 reach into a
    // half of x, 5 of 7 into a half of y.
    let cases = [("x", 12_345.0, 4), ("x", -90_000.0, 4), ("y", 0.25, 5), ("y", -0.9, 5)];
    for (column, value, of_seven) in cases {
        let (was, is) = (may_hold(&scattered, column, value), may_hold(&sorted, column, value));
        let few = is * 7 <= of_seven * sorted.len();
        assert!(
            was * 10 >= scattered.len() * 9 && few,
            "{column}={value}: {was} of {} files, then {is} of {}",
            scattered.len(),
            sorted.len()
        );
    }
    for table in ["facts", "plain"] {
        let found = files(&place, table);
        let sizes = sizes(&found);
        let partitions = if table == "facts" { 2 } else { 1 };
        let small = sizes.iter().filter(|bytes| **bytes < 24 * 1024).count();
        assert!(small <= partitions && found.len() >= 3, "{table}: {sizes:?}");
        assert!(sizes.iter().all(|bytes| *bytes < 150 * 1024), "{table}: {sizes:?}");
    }
    let again = compact.ok();
    assert!(again.stdout.contains(" 0 compactions"), "{}", again.text());
    assert_eq!(place.figures(JOB, &figures), before);
    place.holds(JOB);
    let columns = ["id", "x"];
    let ours =
        place.figures(JOB, &["count(*) FROM facts", "sum(id) FROM facts", "sum(x) FROM facts"]);
    for client in ["deltalake", "polars", "duckdb"] {
        assert_eq!(clients::totals(&place, client, "facts", &columns), ours, "{client}");
    }
    // A little more is sorted by itself, and what was sorted stays.
    run(&place, 63_000);
    compact.ok();
    let after = files(&place, "facts");
    let path = |f: &Value| f["path"].as_str().unwrap().to_string();
    let stayed = sorted.iter().filter(|f| after.iter().any(|o| path(o) == path(f))).count();
    assert!(stayed * 2 > sorted.len(), "{stayed} of {} stayed", sorted.len());
    place.holds(JOB);
}

#[test]
fn sorting_spills_where_memory_is_short() {
    let place = Place::local();
    place.write(JOB, SORTED);
    run(&place, 200_000);
    let before = place.figures(JOB, &["count(*) FROM facts", "sum(x) FROM facts"]);
    place.job("maintain", JOB).arg("--compact").arg("--memory").arg("48MiB").ok();
    assert_eq!(place.figures(JOB, &["count(*) FROM facts", "sum(x) FROM facts"]), before);
    place.holds(JOB);
}

/// Makes everything below a folder as old as can be, removals of Delta logs too.
fn age(folder: &Path) {
    let old = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for (path, _) in listing(folder) {
        let in_log = path.parent().is_some_and(|p| p.ends_with("_delta_log"));
        if in_log && path.extension().is_some_and(|e| e == "json") {
            let text = fs::read_to_string(&path).unwrap();
            let aged = text.lines().map(|line| format!("{}\n", aged(line)));
            fs::write(&path, aged.collect::<String>()).unwrap();
        }
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    }
}

/// A line of a log whose removal was long ago.
fn aged(line: &str) -> String {
    let mut line: Value = serde_json::from_str(line).unwrap();
    if let Some(at) = line.pointer_mut("/remove/deletionTimestamp") {
        *at = Value::from(1_600_000_000_000_i64);
    }
    line.to_string()
}

fn log(place: &Place, table: &str) -> (usize, usize) {
    let names = place.names(&format!("{table}/_delta_log"));
    let of = |end: &str| names.iter().filter(|n| n.len() > 24 && n.ends_with(end)).count();
    (of(".json"), of(".checkpoint.parquet"))
}

#[test]
fn runs_write_checkpoints_and_maintenance_takes_what_lies_behind_them() {
    let place = Place::local();
    let text = SORTED.replace("rows: 1000}", "rows: 1}").replace("    zorder_by: [x, y]\n", "");
    place.write(JOB, &text);
    run(&place, 130);
    let (entries, checkpoints) = log(&place, "facts");
    assert!(entries > 130 && checkpoints == 1, "{entries} entries, {checkpoints} checkpoints");
    let hint = place.lake_folder().join("facts/_delta_log/_last_checkpoint");
    let hint: Value = serde_json::from_slice(&fs::read(hint).unwrap()).unwrap();
    // At the interval, or at a later version that the log had when it was written behind the run.
    assert!((99..=131).contains(&hint["version"].as_i64().unwrap()), "{hint}");

    // Young files stay, whatever somebody asks for.
    let vacuum = place.job("maintain", JOB).arg("--vacuum").arg("--retention").arg("1h");
    let young = vacuum.clone().arg("--dry-run").ok();
    assert!(young.stdout.contains("nothing would be deleted"), "{}", young.text());
    age(place.lake_folder());
    let before = listing(place.lake_folder());
    let told = vacuum.clone().arg("--dry-run").ok();
    assert!(told.stdout.contains("plain: ") && told.stdout.contains("would be deleted"));
    assert_eq!(listing(place.lake_folder()).len(), before.len(), "a dry run deletes nothing");

    place.job("maintain", JOB).arg("--checkpoint").arg("--vacuum").ok();
    let (left, _) = log(&place, "facts");
    assert!(left < 10, "{left} entries of the log are left");
    let ours =
        place.figures(JOB, &["count(*) FROM facts", "sum(id) FROM facts", "sum(x) FROM facts"]);
    assert_eq!(ours[0], "130");
    for client in ["deltalake", "polars", "duckdb"] {
        assert_eq!(clients::totals(&place, client, "facts", &["id", "x"]), ours, "{client}");
    }
    let data = |listed: &[(PathBuf, u64)]| {
        let is_data = |p: &Path| {
            let text = p.to_string_lossy();
            text.ends_with(".parquet") && text.contains("/facts/region=")
        };
        listed.iter().filter(|(p, _)| is_data(p)).count()
    };
    let (had, has) = (data(&before), data(&listing(place.lake_folder())));
    assert!(has + 20 < had, "{had} data files, then {has}");
    place.holds(JOB);
    run(&place, 140);
    place.holds(JOB);
}

const LONG: &str = r#"job: long
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  events:
    connector: files
    path: ./input/*.csv
    schema: {fields: [{name: id, type: int64}, {name: k, type: int64}, {name: p, type: string}, {name: v, type: int64}]}
tables:
  facts: {sql: "SELECT id, p, v FROM events", partition_by: [p], target_file_size: 16KiB, zorder_by: [v]}
  latest: {sql: "SELECT k, id, v FROM events", key: [k], sequence_by: id, delete_when: v < 5, target_file_size: 16KiB}
views:
  sums: {sql: "SELECT p, count(*) AS n, sum(v) AS v FROM facts GROUP BY p"}
epoch: {files: 1}
"#;

/// Epochs of the long run, and rounds they are worked in.
const EPOCHS: usize = 240;
const ROUNDS: usize = 8;

/// What the tables have to hold.
#[derive(Default)]
struct Oracle {
    rows: u64,
    sum: i64,
    latest: BTreeMap<u64, (u64, i64)>,
}

impl Oracle {
    /// One input file with its rows, taken in.
    fn file(&mut self, random: &mut StdRng) -> String {
        let mut text = String::from("id,k,p,v\n");
        for _ in 0..random.random_range(1..30) {
            let (id, k, v) = (self.rows, random.random_range(0..400), random.random_range(0..1000));
            let p = ["a", "b", "c"][random.random_range(0..3)];
            text.push_str(&format!("{id},{k},{p},{v}\n"));
            self.rows += 1;
            self.sum += v;
            self.latest.insert(k, (id, v));
        }
        text
    }

    fn figures(&self) -> Vec<String> {
        let alive = self.latest.values().filter(|(_, v)| *v >= 5);
        let sum = |of: fn(&(u64, i64)) -> i64| alive.clone().map(of).sum::<i64>().to_string();
        let (rows, total) = (self.rows.to_string(), self.sum.to_string());
        let alive_rows = alive.clone().count().to_string();
        vec![rows.clone(), total, rows, alive_rows, sum(|r| r.0 as i64), sum(|r| r.1)]
    }
}

const FIGURES: [&str; 6] = [
    "count(*) FROM facts",
    "sum(v) FROM facts",
    "sum(n) FROM sums",
    "count(*) FROM latest",
    "sum(id) FROM latest",
    "sum(v) FROM latest",
];

#[test]
fn hundreds_of_epochs_beside_a_foreign_optimize_leave_small_tables_and_right_rows() {
    let place = Place::local();
    place.write("long.yaml", LONG);
    let (mut random, mut oracle) = (StdRng::seed_from_u64(20), Oracle::default());
    for round in 0..ROUNDS {
        for n in 0..EPOCHS / ROUNDS {
            let text = oracle.file(&mut random);
            place.write(&format!("input/{round:02}-{n:03}.csv"), &text);
        }
        place.run("long.yaml");
        if random.random_bool(0.5) {
            clients::sort(&place, ["facts", "latest"][round % 2]);
        }
        if round % 3 == 2 {
            place.job("maintain", "long.yaml").ok();
        }
        assert_eq!(place.figures("long.yaml", &FIGURES), oracle.figures(), "round {round}");
        for (table, partitions) in [("facts", 3), ("latest", 1)] {
            // Fewer than eight small files of a partition stay, and large ones hold most rows.
            let found = files(&place, table).len();
            assert!(found <= partitions * 12 + 8, "{table} has {found} files in round {round}");
        }
        // Nothing is old yet; from now on it is.
        age(place.lake_folder());
    }
    place.job("maintain", "long.yaml").ok();
    age(place.lake_folder());
    place.job("maintain", "long.yaml").ok();
    place.holds("long.yaml");
    for table in ["facts", "latest"] {
        let (entries, checkpoints) = log(&place, table);
        assert!(entries < 50 && checkpoints > 0, "{table}: {entries} entries in the log");
    }
    let records = place.names("_sluice/long/published").len();
    assert!(records < 60, "{records} published records");
    let state = listing(&place.lake_folder().join("_sluice/long/state")).len();
    assert!(state < 60, "{state} state files");
    let ours = place.figures(
        "long.yaml",
        &["count(*) FROM latest", "sum(id) FROM latest", "sum(v) FROM latest"],
    );
    for client in ["deltalake", "polars"] {
        assert_eq!(clients::totals(&place, client, "latest", &["id", "v"]), ours, "{client}");
    }
}
