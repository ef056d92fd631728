//! Delta tables as streams: tables of another writer whose every change arrives, row for row, however
//! often the run is killed; and tables that another job of the pack writes.

use sluice_core::Step;

use crate::protocol::killed;
use crate::support::clients;
use crate::support::place::{Kind, Place};

const JOB: &str = "copies.yaml";

const COLUMNS: [&str; 4] = ["id", "name", "score", "country"];

/// A keyed copy of a table that is updated and deleted from, and a note of every change.
const COPIES: &str = r#"job: copies
lake: "${vars.lake}"
vars: {lake: ./lake, people: ./people}
sources:
  people:
    connector: delta
    path: "${vars.people}"
    changes: feed
    metadata: [commit_version]
    schema:
      fields:
        - {name: id, type: int64, required: true}
        - {name: name, type: string}
        - {name: score, type: int64}
        - {name: country, type: string}
tables:
  copy:
    sql: SELECT id, name, score, country, _change_type IN ('delete', 'update_preimage') AS gone FROM people
    key: [id]
    delete_when: gone
  changes: {sql: "SELECT id, score, _change_type AS change, _commit_version AS version FROM people"}
epoch: {files: 2}
"#;

fn client(place: &Place, what: &str, table: &str, columns: &[&str]) -> String {
    let script = crate::support::root().join("tests/clients/feed.py");
    let args = [&[what, table], columns].concat();
    clients::python(&script, &args, place.env())
}

/// Where the other writer's table is, beside the lake.
fn people(place: &Place) -> String {
    format!("{}/others/people", place.lake())
}

fn run(place: &Place) -> crate::support::cli::Sluice {
    place.job("run", JOB).arg("--set").arg(format!("people={}", people(place)))
}

/// The copy has the rows of the original.
fn same(place: &Place, after: &str) {
    let copy = format!("{}/copy", place.lake());
    let ours = client(place, "rows", &copy, &COLUMNS);
    assert_eq!(ours, client(place, "rows", &people(place), &COLUMNS), "after {after}");
}

fn followed(kind: Kind) {
    let place = Place::new(kind);
    place.write(JOB, COPIES);
    let steps =
        ["create", "append", "update", "delete", "merge", "optimize", "append", "overwrite"];
    for step in steps {
        client(&place, step, &people(&place), &[]);
        run(&place).ok();
        same(&place, step);
    }
    // Inserts less deletes are the rows that are there.
    let sum =
        "sum(CASE WHEN change IN ('insert', 'update_postimage') THEN 1 ELSE -1 END) FROM changes";
    let rows = client(&place, "rows", &people(&place), &["id"]).lines().count();
    assert_eq!(place.figures(JOB, &[sum]), [rows.to_string()]);
    place.job("audit", JOB).arg("--set").arg(format!("people={}", people(&place))).ok();
}

#[test]
fn every_change_of_a_foreign_table_arrives() {
    followed(Kind::Local);
}

#[test]
fn every_change_of_a_foreign_table_in_a_bucket_arrives() {
    followed(Kind::S3);
}

#[test]
fn a_run_that_is_killed_takes_every_change_once() {
    for step in [Step::Polled, Step::FilesWritten, Step::Sealed, Step::TablePublished] {
        let place = Place::local();
        place
            .write(JOB, &COPIES.replace("changes: feed", "start: {version: 0}\n    changes: feed"));
        for what in ["create", "append", "update", "merge", "delete", "append"] {
            client(&place, what, &people(&place), &[]);
        }
        for epoch in 0..3 {
            killed(run(&place), step, epoch);
        }
        run(&place).ok();
        same(&place, step.name());
        let [changes, distinct] =
            ["count(*) FROM changes", "count(*) FROM (SELECT DISTINCT * FROM changes)"]
                .map(|figure| place.figures(JOB, &[figure]).remove(0));
        assert_eq!(changes, distinct, "{}", step.name());
    }
}

#[test]
fn appends_stop_where_rows_are_deleted() {
    let place = Place::local();
    place.write(
        JOB,
        &COPIES
            .replace("changes: feed", "")
            .replace("_change_type IN ('delete', 'update_preimage')", "false")
            .replace("_change_type AS change, ", ""),
    );
    client(&place, "create", &people(&place), &[]);
    run(&place).ok();
    client(&place, "append", &people(&place), &[]);
    client(&place, "delete", &people(&place), &[]);
    let output = run(&place).expect(1);
    output.says(&[
        "a version deletes or changes rows",
        "version=2",
        "operation=\"DELETE\"",
        "hint:",
    ]);
    // What came before it was taken.
    assert_eq!(place.figures(JOB, &["count(*) FROM copy"]), ["130"]);
    place.write(
        JOB,
        &std::fs::read_to_string(place.path(JOB))
            .unwrap()
            .replace("    metadata:", "    on_change: ignore\n    metadata:"),
    );
    client(&place, "append", &people(&place), &[]);
    run(&place).ok();
    assert_eq!(place.figures(JOB, &["count(*) FROM copy"]), ["160"]);
}

#[test]
fn tables_of_another_job_are_followed_through_their_compactions() {
    let place = Place::local();
    place.write("pack/numbers.yaml", r#"job: numbers
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 0}
sources:
  raw: {connector: generate, rows: "${vars.rows}", columns: {id: {sequence: {start: 1}}, x: {integer: {from: 0, to: 9}}}}
tables:
  numbers: {sql: "SELECT id, x FROM raw", target_file_size: 16KiB}
epoch: {rows: 500}
"#);
    place.write(
        "pack/sums.yaml",
        r#"job: sums
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 0}
sources:
  numbers_in:
    connector: delta
    path: "${vars.lake}/numbers"
    start: {version: 0}
    schema: {fields: [{name: id, type: int64}, {name: x, type: int64}]}
tables:
  taken: {sql: "SELECT id, x FROM numbers_in"}
epoch: {files: 3}
"#,
    );
    for rows in [2_000, 5_000, 6_000] {
        let set = format!("rows={rows}");
        place.job("run", "pack/numbers.yaml").arg("--set").arg(&set).ok();
        place.job("maintain", "pack/numbers.yaml").arg("--compact").ok();
        place.job("run", "pack/sums.yaml").ok();
        let figures =
            ["count(*) FROM taken", "count(DISTINCT id) FROM taken", "sum(id) FROM taken"];
        let sum = rows * (rows + 1) / 2;
        let want = [rows.to_string(), rows.to_string(), sum.to_string()];
        assert_eq!(place.figures("pack/sums.yaml", &figures), want);
    }
    place.holds("pack/sums.yaml");
}
