//! What is deleted, swapped, changed or cut behind the engine's back: refused with the facts and
//! the ways out, or handled, and never silently wrong.

use std::fs;
use std::path::PathBuf;

use sluice_core::Step;

use crate::protocol::killed;
use crate::protocol::ledger::Ledger;
use crate::support::cli::Output;
use crate::support::place::{Kind, Place, listing};
use crate::support::wait;

/// A ledger after four epochs, all of them checked.
fn ledger() -> Ledger {
    let mut ledger = Ledger::new(Kind::Local);
    ledger.feed(4);
    ledger.run().ok();
    ledger.complete();
    ledger
}

fn refused(output: &Output, facts: &[&str]) {
    assert_eq!(output.code, Some(1), "{facts:?}\n{}", output.text());
    output.says(facts);
    output.says(&["hint: ", "--rebuild", "--adopt"]);
}

/// The way out that reads everything again.
fn rebuild(ledger: &mut Ledger) {
    ledger.run().arg("--rebuild").ok();
    ledger.complete();
    ledger.feed(1);
    ledger.run().ok();
    ledger.complete();
}

#[test]
fn the_engines_own_folder_is_deleted() {
    let mut ledger = ledger();
    fs::remove_dir_all(ledger.place.lake_folder().join("_sluice")).unwrap();
    refused(&ledger.run().output(), &["no epoch of this job knows", "table="]);
    // What was there counts as taken; what comes afterwards is added.
    ledger.run().arg("--adopt").ok();
    ledger.complete();
    ledger.feed(2);
    ledger.run().ok();
    ledger.complete();

    fs::remove_dir_all(ledger.place.lake_folder().join("_sluice")).unwrap();
    refused(&ledger.run().output(), &["no epoch of this job knows"]);
    rebuild(&mut ledger);
}

#[test]
fn a_table_is_deleted() {
    for table in ["facts", "latest", "archive", "facts__quarantine", "events__rejected"] {
        let mut ledger = ledger();
        fs::remove_dir_all(ledger.place.lake_folder().join(table)).unwrap();
        refused(&ledger.run().output(), &["gone", &format!("table={table}")]);
        ledger.feed(1);
        refused(&ledger.run().output(), &["gone", &format!("table={table}")]);
        rebuild(&mut ledger);
    }
}

#[test]
fn a_table_is_deleted_that_the_last_epoch_did_not_touch() {
    let place = Place::local();
    place.write("twins.yaml", TWINS);
    place.write("input/1.csv", "id\n1\n2\n3\n");
    place.run("twins.yaml");
    place.write("input/2.csv", "id\n5\n7\n");
    place.run("twins.yaml");
    fs::remove_dir_all(place.lake_folder().join("even")).unwrap();
    refused(&place.job("run", "twins.yaml").output(), &["gone", "table=even"]);
}

#[test]
fn a_view_is_deleted() {
    for view in ["totals", "largest"] {
        let mut ledger = ledger();
        fs::remove_dir_all(ledger.place.lake_folder().join(view)).unwrap();
        ledger.feed(1);
        let output = ledger.run().output();
        if output.code == Some(0) {
            ledger.complete();
        } else {
            refused(&output, &["gone", &format!("table={view}")]);
            rebuild(&mut ledger);
        }
    }
}

const TWINS: &str = r#"job: twins
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  numbers:
    connector: files
    path: ./input/*.csv
    schema: {fields: [{name: id, type: int64}]}
tables:
  even: {sql: SELECT id FROM numbers WHERE id % 2 = 0}
  odd: {sql: SELECT id FROM numbers WHERE id % 2 = 1}
"#;

#[test]
fn two_tables_of_one_job_are_swapped() {
    let place = Place::local();
    place.write("twins.yaml", TWINS);
    place.write("input/1.csv", "id\n1\n2\n3\n");
    place.run("twins.yaml");
    let (even, odd) = (place.lake_folder().join("even"), place.lake_folder().join("odd"));
    fs::rename(&even, place.path("aside")).unwrap();
    fs::rename(&odd, &even).unwrap();
    fs::rename(place.path("aside"), &odd).unwrap();
    place.write("input/2.csv", "id\n4\n5\n");
    refused(&place.job("run", "twins.yaml").output(), &["table=even"]);
    place.job("run", "twins.yaml").arg("--rebuild").ok();
    assert_eq!(place.cell("twins.yaml", "SELECT sum(id) FROM even"), "6");
    assert_eq!(place.cell("twins.yaml", "SELECT sum(id) FROM odd"), "9");
    place.holds("twins.yaml");
}

#[test]
fn a_table_is_swapped_with_that_of_another_life() {
    let (mut ledger, other) = (ledger(), ledger());
    let own = ledger.place.lake_folder().join("facts");
    fs::remove_dir_all(&own).unwrap();
    fs::rename(other.place.lake_folder().join("facts"), &own).unwrap();
    let facts = ["belongs to another", "table=facts", "incarnation=", "expected="];
    refused(&ledger.run().output(), &facts);
    rebuild(&mut ledger);
}

/// The newest manifest and its number.
fn last_manifest(ledger: &Ledger) -> (PathBuf, u64) {
    let files = listing(&ledger.place.lake_folder().join("_sluice/ledger/epochs"));
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok();
    files
        .into_iter()
        .filter_map(|(path, _)| Some((number(&path)?, path)))
        .max()
        .map(|(n, p)| (p, n))
        .unwrap()
}

#[test]
fn the_last_manifest_is_cut_before_it_was_published() {
    let mut ledger = Ledger::new(Kind::Local);
    ledger.feed(4);
    killed(ledger.run(), Step::Sealed, 2);
    let (manifest, epoch) = last_manifest(&ledger);
    assert_eq!(epoch, 2);
    fs::write(manifest, "").unwrap();
    // Not sealed, then: the epoch is worked again.
    ledger.run().ok();
    ledger.complete();
}

#[test]
fn the_last_manifest_is_cut_after_it_was_published() {
    let mut ledger = ledger();
    let (manifest, epoch) = last_manifest(&ledger);
    fs::write(manifest, "").unwrap();
    let facts = [format!("table_epoch={epoch}"), format!("last_sealed={}", epoch - 1)];
    refused(&ledger.run().output(), &["ahead", &facts[0], &facts[1]]);
    rebuild(&mut ledger);
}

#[test]
fn the_hint_of_the_last_manifest_is_wrong() {
    for text in ["", "0", "999", "{}"] {
        let mut ledger = ledger();
        fs::write(ledger.place.lake_folder().join("_sluice/ledger/epochs/_last"), text).unwrap();
        ledger.feed(1);
        ledger.run().ok();
        ledger.complete();
    }
}

const CHANGED: &str = r#"job: changed
lake: "${vars.lake}"
vars: {lake: ./lake, policy: warn}
sources:
  lines:
    connector: files
    path: ./input/*.csv
    on_changed_file: "${vars.policy}"
    schema: {fields: [{name: id, type: int64}, {name: note, type: string}]}
tables:
  kept:
    sql: "SELECT id, note FROM lines"
    expect: {positive: {that: id > 0, else: quarantine}}
views:
  notes: {sql: "SELECT note, count(*) AS n FROM kept GROUP BY note"}
"#;

/// Two files are taken; then the first is there again with other rows, and a third one.
fn uploaded_again(policy: &str, again: &str) -> (Place, Output) {
    let place = Place::local();
    place.write("changed.yaml", CHANGED);
    place.write("input/1.csv", "id,note\n1,a\n2,b\n");
    place.write("input/2.csv", "id,note\n3,c\n");
    let run = || place.job("run", "changed.yaml").arg("--set").arg(format!("policy={policy}"));
    run().ok();
    place.write("input/1.csv", again);
    place.write("input/3.csv", "id,note\n4,d\n");
    let output = run().output();
    (place, output)
}

fn kept(place: &Place) -> String {
    place.cell("changed.yaml", "SELECT string_agg(note, '' ORDER BY note) FROM kept")
}

#[test]
fn a_changed_file_is_told_once_and_not_taken_again() {
    let (place, output) = uploaded_again("warn", "id,note\n1,x\n2,longer\n");
    assert_eq!(output.code, Some(0), "{}", output.text());
    output.says(&["1.csv"]);
    assert_eq!(kept(&place), "abcd");
    let again = place.run("changed.yaml");
    assert!(!again.stderr.contains("1.csv"), "told again: {}", again.text());
    place.holds("changed.yaml");
}

#[test]
fn a_changed_file_stops_the_job_if_it_shall() {
    let (place, output) = uploaded_again("fail", "id,note\n1,x\n2,longer\n");
    assert_eq!(output.code, Some(1), "{}", output.text());
    output.says(&["1.csv", "hint: "]);
    assert_eq!(kept(&place), "abc");
    place.holds("changed.yaml");
}

#[test]
fn a_changed_file_replaces_its_rows_if_it_shall() {
    let (place, output) = uploaded_again("replace", "id,note\n1,x\n5,longer\n6,y\n");
    assert_eq!(output.code, Some(0), "{}", output.text());
    assert_eq!(kept(&place), "cdlongerxy");
    place.holds("changed.yaml");

    // Rows that went elsewhere are taken back from there.
    let parts = [
        "string_agg(note, '' ORDER BY note) FROM kept__quarantine",
        "string_agg(arrow_cast(bytes, 'Utf8'), ';' ORDER BY position) FROM lines__rejected",
        "string_agg(note, '' ORDER BY note) FROM kept",
    ];
    for (text, expected) in [
        ("id,note\n-1,p\n-2,q\nten,r\neleven,s\n7,t\n", ["pq", "ten,r;eleven,s", "cdt"]),
        ("id,note\n-3,u\ntwelve,v\n", ["u", "twelve,v", "cd"]),
        ("id,note\n8,w\n", ["", "", "cdw"]),
    ] {
        place.write("input/1.csv", text);
        place.job("run", "changed.yaml").arg("--set").arg("policy=replace").ok();
        assert_eq!(place.figures("changed.yaml", &parts), expected, "{text}");
        place.holds("changed.yaml");
    }
}

#[test]
fn a_grown_file_gives_its_new_rows_if_it_shall() {
    let (place, output) = uploaded_again("append_tail", "id,note\n1,a\n2,b\n7,g\n8,h\n");
    assert_eq!(output.code, Some(0), "{}", output.text());
    assert_eq!(kept(&place), "abcdgh");
    place.holds("changed.yaml");
}

/// Two sources, the first of which meets a file it does not know the columns of.
const MISFIT: &str = r#"job: misfit
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  left: {connector: files, path: input/*.csv, schema: one.yaml, format: csv}
  right: {connector: generate, rows: 7, columns: {id: {sequence: {start: 1}}}}
tables:
  known: {sql: SELECT id FROM left}
  counted: {sql: SELECT id FROM right}
epoch: {every: 1s}
"#;

#[test]
fn a_file_with_a_new_column_stops_the_job_after_what_came_before_it() {
    let place = Place::local();
    place.write("misfit.yaml", MISFIT);
    place.write("one.yaml", "fields: [{name: id, type: int64}]\n");
    place.write("input/1.csv", "id\n1\n2\n");
    place.write("input/2.csv", "id,extra\n3,x\n");
    place.write("input/3.csv", "id\n4\n");
    let run = || place.job("run", "misfit.yaml").output();
    for _ in 0..2 {
        let stopped = run();
        assert_eq!(stopped.code, Some(1), "{}", stopped.text());
        stopped.says(&["column=extra", "2.csv", "hint: ", "on_new_column"]);
        let parts = ["sum(id) FROM known", "count(*) FROM counted"];
        assert_eq!(place.figures("misfit.yaml", &parts), ["3", "7"]);
    }
    place.write("input/2.csv", "id\n3\n");
    place.run("misfit.yaml");
    assert_eq!(place.cell("misfit.yaml", "SELECT sum(id) FROM known"), "10");
    place.holds("misfit.yaml");
}

/// A job that writes files and a dataset, and no Delta table.
const WRITER: &str = r#"job: writer
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 10}
sources:
  numbers: {connector: generate, rows: "${vars.rows}", columns: {id: {sequence: {start: 1}}}}
tables:
  kept: {sql: SELECT id FROM numbers, format: parquet}
sinks:
  out: {connector: files, from: numbers, path: "${vars.lake}/out", format: csv, files: 1}
"#;

/// Rows in all CSV files of the sink, and files of the dataset, whoever wrote them.
fn written(place: &Place) -> (usize, usize) {
    let files = |folder: &str| {
        let all = listing(&place.lake_folder().join(folder)).into_iter().map(|(path, _)| path);
        all.filter(|path| path.extension().is_some()).collect::<Vec<_>>()
    };
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count() - 1;
    (files("out").iter().map(lines).sum(), files("kept").len())
}

#[test]
fn files_of_an_earlier_life_are_not_read_twice() {
    let place = Place::local();
    place.write("writer.yaml", WRITER);
    place.run("writer.yaml");
    assert_eq!(written(&place).0, 10);
    place.job("run", "writer.yaml").arg("--rebuild").ok();
    assert_eq!(written(&place).0, 10, "a rebuild leaves the old files of a sink");
    let dataset = written(&place).1;
    place.job("run", "writer.yaml").arg("--rebuild").ok();
    assert_eq!(written(&place), (10, dataset), "a rebuild leaves the old files of a dataset");
    place.holds("writer.yaml");

    fs::remove_dir_all(place.lake_folder().join("_sluice")).unwrap();
    refused(&place.job("run", "writer.yaml").output(), &["no epoch of this job knows"]);
    assert_eq!(written(&place), (10, dataset), "a refused run touches nothing");
    place.job("run", "writer.yaml").arg("--rebuild").ok();
    assert_eq!(written(&place), (10, dataset));
    place.holds("writer.yaml");
}

#[test]
fn a_run_that_is_asked_to_end_finishes_its_epoch_and_ends() {
    let place = Place::local();
    place.write("writer.yaml", &WRITER.replace("sinks:", "epoch: {rows: 10}\nsinks:"));
    for signal in ["INT", "TERM"] {
        let rows = "rows=100000000";
        let run = place.job("run", "writer.yaml").arg("--set").arg(rows).arg("--follow").start();
        let before = place.next_epoch("writer.yaml");
        wait::until("some epochs", 120, || {
            (place.next_epoch("writer.yaml") > before + 2).then_some(())
        });
        run.signal(signal);
        let output = run.wait();
        assert_eq!(output.code, Some(0), "{}", output.text());
        place.holds("writer.yaml");
    }
}

/// A job whose every epoch replaces state: of a view, of a keyed table, of expectations.
const STATEFUL: &str = r#"job: stateful
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  numbers: {connector: generate, rows: 600, columns: {id: {sequence: {start: 1}}}}
tables:
  kept: {sql: SELECT id FROM numbers, expect: {small: {that: id < 590, else: quarantine, fail_above: 50%}}}
  latest: {sql: "SELECT id % 7 AS k, id, id % 5 = 0 AS gone FROM numbers", key: [k], sequence_by: id, delete_when: gone}
  copies: {sql: SELECT id FROM numbers, format: parquet}
views:
  groups: {sql: "SELECT id % 3 AS g, count(DISTINCT id) AS n FROM kept GROUP BY 1"}
epoch: {rows: 10}
"#;

#[test]
fn epochs_leave_no_state_behind_that_nobody_needs() {
    let place = Place::local();
    place.write("stateful.yaml", STATEFUL);
    place.run("stateful.yaml");
    let own = place.lake_folder().join("_sluice/stateful");
    let last = own.join(format!("epochs/{:020}.json", place.next_epoch("stateful.yaml") - 1));
    let last: serde_json::Value = serde_json::from_slice(&fs::read(last).unwrap()).unwrap();
    let owners = last["state"].as_object().unwrap();
    assert!(owners.len() >= 3, "{owners:?}");
    let named: usize = owners.values().map(|files| files.as_array().unwrap().len()).sum();
    assert_eq!(listing(&own.join("state")).len(), named);
    assert_eq!(listing(&own.join("staged")).len(), 0);
    place.holds("stateful.yaml");
}
