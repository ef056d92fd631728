//! Apache Spark reads a keyed table while it is upserted into and compacted: every read is of one
//! version, whole, none is older than the one before, and the last one is right.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::place::{Kind, Place};
use crate::support::{installed, root, wait};

const JOB: &str = "scores.yaml";

const TEXT: &str = r#"job: scores
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  changes:
    connector: files
    path: ./input/*.csv
    schema:
      fields: [{name: id, type: int64}, {name: score, type: int64}]
tables:
  scores: {sql: "SELECT id, score FROM changes", key: [id]}
epoch: {files: 1}
"#;

const IDS: u64 = 2_000;

/// Ids that every third file adds. They change no row that is there: the file that holds them comes
/// beside those that there are, so that there is something to compact in every round.
const NEW_IDS: u64 = 100;

/// Rounds of three files, two of which change a part of the rows, while Spark reads.
const ROUNDS: u64 = 8;

/// How long Spark may take to read.
const SECONDS_MAX: u64 = 240;

/// The ids of one file of the input: all at first, then every third, or new ones.
fn ids(file: u64) -> Vec<u64> {
    match file {
        0 => (0..IDS).collect(),
        _ if file.is_multiple_of(3) => {
            let from = IDS + (file / 3 - 1) * NEW_IDS;
            (from..from + NEW_IDS).collect()
        }
        _ => (file % 3..IDS).step_by(3).collect(),
    }
}

/// What an id scores in a file.
fn score(file: u64, id: u64) -> u64 {
    file * IDS + id
}

/// Writes one file of the input.
fn feed(place: &Place, file: u64) {
    let rows: String = ids(file).iter().map(|id| format!("{id},{}\n", score(file, *id))).collect();
    place.write(&format!("input/{file:04}.csv"), &format!("id,score\n{rows}"));
}

/// What a whole read may be, version by version: rows, ids, the sum of scores.
fn versions() -> Vec<[u64; 3]> {
    let mut scores = BTreeMap::new();
    let version = |file: u64| {
        scores.extend(ids(file).into_iter().map(|id| (id, score(file, id))));
        let rows = scores.len() as u64;
        [rows, rows, scores.values().sum()]
    };
    (0..=3 * ROUNDS).map(version).collect()
}

/// How many commits in the table's log are compactions, which take files out of it.
fn compactions(place: &Place) -> u64 {
    let log = place.lake_folder().join("scores/_delta_log");
    let names = place.names("scores/_delta_log").into_iter();
    let commits = names.filter(|name| name.ends_with(".json"));
    let is_one = |name: &String| {
        let text = std::fs::read_to_string(log.join(name)).unwrap();
        let actions = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let actions: Vec<serde_json::Value> = actions.collect();
        actions.iter().any(|action| action["commitInfo"]["operation"] == "OPTIMIZE")
            && actions.iter().any(|action| action["remove"].is_object())
    };
    commits.filter(is_one).count() as u64
}

#[test]
fn every_read_of_another_engine_is_whole() {
    let place = Place::new(Kind::Local);
    place.write(JOB, TEXT);
    feed(&place, 0);
    place.job("run", JOB).ok();
    let mut spark = Command::new(installed(".venv/bin/python"))
        .arg(root().join("tests/clients/spark.py"))
        .arg(format!("{}/scores", place.lake()))
        .arg(installed(".spark"))
        // It leaves an empty folder where it runs.
        .current_dir(place.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lifeline = spark.stdin.take().unwrap();
    let mut said = BufReader::new(spark.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(said.next().as_deref(), Some("ready"), "Spark does not start");
    let reads = Arc::new(Mutex::new(Vec::new()));
    let kept = reads.clone();
    let listener =
        std::thread::spawn(move || said.for_each(|read| kept.lock().unwrap().push(read)));
    let is_read = |times: u64| {
        wait::until("Spark to read", SECONDS_MAX, || {
            (reads.lock().unwrap().len() as u64 >= times).then_some(())
        });
    };
    for round in 0..ROUNDS {
        (1..=3).for_each(|n| feed(&place, 3 * round + n));
        place.job("run", JOB).ok();
        place.job("maintain", JOB).arg("--compact").ok();
        assert_eq!(compactions(&place), round + 1, "compactions in the log");
        // Spark is not left behind: a read ends after each.
        let before = reads.lock().unwrap().len() as u64;
        is_read(before + 1);
    }
    drop(lifeline);
    listener.join().unwrap();
    assert!(spark.wait().unwrap().success());
    let (reads, versions) = (reads.lock().unwrap(), versions());
    let mut newest = 0;
    for read in reads.iter() {
        let read: [u64; 3] = serde_json::from_str(read).unwrap();
        let version = versions.iter().position(|version| *version == read);
        let version = version.unwrap_or_else(|| panic!("{read:?} is no version: {reads:?}"));
        assert!(version >= newest, "version {version} after {newest}: {reads:?}");
        newest = version;
    }
    assert_eq!(newest, versions.len() - 1, "the last read: {reads:?}");
    let last = versions[newest].map(|figure| figure.to_string());
    let figures =
        ["count(*) FROM scores", "count(DISTINCT id) FROM scores", "sum(score) FROM scores"];
    assert_eq!(place.figures(JOB, &figures), last);
}
