//! Apache Spark reads a keyed table while it is upserted into and compacted: every read is of one
//! version, whole, and the last one is right.

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

/// Rounds of files that change a part of the rows, while Spark reads.
const ROUNDS: u64 = 8;

/// How long Spark may take to read.
const SECONDS_MAX: u64 = 240;

/// One file of the input: all ids at first, every third later, with scores of their own.
fn feed(place: &Place, file: u64) {
    let step = if file == 0 { 1 } else { 3 };
    let ids = (file % step..IDS).step_by(step as usize);
    let rows: String = ids.map(|id| format!("{id},{}\n", file * IDS + id)).collect();
    place.write(&format!("input/{file:04}.csv"), &format!("id,score\n{rows}"));
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
        feed(&place, 2 * round + 1);
        feed(&place, 2 * round + 2);
        place.job("run", JOB).ok();
        place.job("maintain", JOB).arg("--compact").ok();
        // It reads all the while, and is not left behind.
        is_read(round);
    }
    drop(lifeline);
    listener.join().unwrap();
    assert!(spark.wait().unwrap().success());
    let reads = reads.lock().unwrap();
    for read in reads.iter() {
        let [rows, ids, _]: [u64; 3] = serde_json::from_str(read).unwrap();
        assert_eq!((rows, ids), (IDS, IDS), "of {reads:?}");
    }
    let [_, _, last]: [u64; 3] = serde_json::from_str(&reads[reads.len() - 1]).unwrap();
    let figures = place.figures(JOB, &["sum(score) FROM scores"]);
    assert_eq!(figures, [last.to_string()]);
    let expected: u64 = (0..IDS).map(|id| newest(id) * IDS + id).sum();
    assert_eq!(last, expected);
}

/// The last file that has a row for `id`.
fn newest(id: u64) -> u64 {
    (1..=2 * ROUNDS)
        .rev()
        .find(|file| id >= file % 3 && (id - file % 3).is_multiple_of(3))
        .unwrap_or(0)
}
