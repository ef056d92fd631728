//! `sluice reset`: what a job owns goes and nothing else does, a crash in the middle is noticed, and
//! what the next run makes is what was there.

use std::fs;
use std::path::Path;

use crate::support::cli::Sluice;
use crate::support::place::{Kind, Place, listing};
use crate::support::wait;

const PACK: &str = "pack";

/// A table, a dataset, a keyed table, views in a chain and a file sink; beside it another job that
/// reads a table of the first.
const FIRST: &str = r#"job: first
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 40}
sources:
  numbers:
    connector: generate
    rows: "${vars.rows}"
    columns: {id: {sequence: {start: 1}}, region: {choice: [north, south, west]}}
tables:
  kept: {sql: "SELECT id, region FROM numbers"}
  archive: {sql: "SELECT id, region FROM numbers", format: parquet, partition_by: [region]}
  newest: {sql: "SELECT region, id FROM numbers", key: [region]}
views:
  by_region: {sql: "SELECT region, count(*) AS n, sum(id) AS total FROM kept GROUP BY region"}
  big: {sql: "SELECT region FROM by_region WHERE n > 5"}
sinks:
  out: {connector: files, from: kept, path: "${vars.lake}/out", format: csv}
"#;

const SECOND: &str = r#"job: second
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  more: {connector: generate, rows: 3, columns: {id: {sequence: {start: 1}}}}
tables:
  both: {sql: "SELECT m.id, k.region FROM more m JOIN kept k ON m.id = k.id"}
"#;

const FIGURES: &[&str] = &[
    "count(*) FROM kept",
    "sum(id) FROM archive",
    "count(*) FROM newest",
    "sum(total) FROM by_region",
    "count(*) FROM big",
];

fn place(kind: Kind) -> Place {
    let place = Place::new(kind);
    place.write("pack/1.yaml", FIRST);
    place.write("pack/2.yaml", SECOND);
    run(&place, "40");
    run(&place, "60");
    place
}

fn run(place: &Place, rows: &str) {
    place.job("run", PACK).arg("--set").arg(format!("rows={rows}")).ok();
}

fn reset(place: &Place, name: &str) -> Sluice {
    place.job("reset", PACK).arg(name)
}

fn figures(place: &Place) -> Vec<String> {
    place.figures(PACK, FIGURES)
}

#[test]
fn a_job_goes_whole_and_nothing_else_does() {
    for kind in Kind::ALL {
        let place = place(kind);
        let before = figures(&place);
        assert_eq!(before[0], "60");
        // A stranger's file in a table's folder stays.
        if kind == Kind::Local {
            place.write("lake/kept/notes.txt", "mine");
        }
        let json = reset(&place, "first").arg("--yes").arg("--json").ok();
        assert!(json.stderr.contains("job second reads tables of it"), "{}", json.text());
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!((json["ok"].as_bool(), json["job"].as_str()), (Some(true), Some("first")));
        let gone: Vec<&str> =
            json["gone"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
        for name in ["kept", "archive", "newest", "by_region", "big", "out", "first"] {
            assert!(gone.contains(&name), "{name}: {json}");
        }
        if kind == Kind::Local {
            let other =
                |file: &String| file.starts_with("both/") || file.contains("_sluice/second/");
            let left = files(place.lake_folder());
            let left: Vec<&String> = left.iter().filter(|file| !other(file)).collect();
            assert_eq!(left, ["_sluice/first/lock", "kept/notes.txt"]);
        } else {
            assert!(place.names("kept").is_empty(), "{kind:?}");
            assert_eq!(place.names("_sluice/first"), ["lease.json"], "{kind:?}");
        }
        assert_eq!(place.cell(PACK, "SELECT count(*) FROM both"), "3", "another job's table");
        let status = place.job("status", PACK).ok().stdout;
        assert!(status.contains("job first: never run"), "{status}");
        assert_eq!(
            reset(&place, "first").arg("--yes").ok().stdout,
            "there is nothing of job first to reset\n"
        );
        run(&place, "60");
        assert_eq!(figures(&place), before);
        place.holds(PACK);
    }
}

/// The files below a folder, relative to it, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    all.sort();
    all
}

/// A crash at any moment leaves the mark: nobody runs the job before the reset is repeated.
#[test]
fn a_reset_that_was_cut_off_is_noticed_and_finished() {
    let place = place(Kind::Local);
    let before = figures(&place);
    let lake = place.lake_folder();
    place.write("lake/_sluice/first/reset.json", r#"{"reset":"job"}"#);
    // As far as it came: files of one table and the newest entry of its log.
    for file in files(&lake.join("kept")) {
        if file.ends_with(".parquet") || file.ends_with("1.json") {
            fs::remove_file(lake.join("kept").join(file)).unwrap();
        }
    }
    let refused = place.job("run", PACK).arg("--only").arg("first").expect(1);
    refused.says(&["a reset of this job was begun and not finished", "hint: ", "sluice reset"]);
    for command in ["audit", "plan"] {
        let output = place.job(command, PACK).output();
        assert!(output.text().contains("a reset of th"), "{command}: {}", output.text());
    }
    reset(&place, "first").arg("--yes").ok();
    assert!(!lake.join("_sluice/first/reset.json").exists());
    run(&place, "60");
    assert_eq!(figures(&place), before);
    place.holds(PACK);
}

#[test]
fn a_view_is_built_afresh_once_and_its_job_goes_on() {
    let place = place(Kind::Local);
    let incarnations =
        "SELECT count(DISTINCT incarnation), max(epoch) FROM _sluice.epochs WHERE job = 'first'";
    let version = "SELECT version FROM _sluice.tables WHERE table_name = 'by_region'";
    let (before, epochs) = (figures(&place), place.sql(PACK, incarnations));
    let old = place.cell(PACK, version);
    let said = reset(&place, "by_region").arg("--yes").ok();
    assert!(said.stdout.contains("builds it afresh"), "{}", said.text());
    assert_eq!(figures(&place), before, "until the next run readers see what was there");
    let plan = place.job("plan", PACK).ok().stdout;
    assert!(plan.contains("was reset: will be built afresh"), "{plan}");
    run(&place, "60");
    assert_eq!(figures(&place), before);
    assert_ne!(place.cell(PACK, version), old, "it was made again without any new row");
    let now = place.cell(PACK, version);
    assert_eq!(epochs[0][0], place.sql(PACK, incarnations)[0][0], "the same life of the job");
    run(&place, "60");
    assert_eq!(place.cell(PACK, version), now, "once is enough");
    assert!(!place.lake_folder().join("_sluice/first/reset.json").exists());
    place.holds(PACK);
}

#[test]
fn a_table_is_made_again_from_the_sources() {
    Kind::ALL.into_iter().for_each(made_again_from_the_sources);
}

fn made_again_from_the_sources(kind: Kind) {
    let place = place(kind);
    let before = figures(&place);
    let said = reset(&place, "kept").arg("--yes").ok();
    said.says(&["reads all its sources again", "by_region"]);
    let lives = "SELECT count(DISTINCT incarnation) FROM _sluice.epochs WHERE job = 'first'";
    assert_eq!(place.cell(PACK, lives), "1");
    run(&place, "60");
    assert_eq!(figures(&place), before);
    assert_eq!(place.cell(PACK, lives), "2");
    run(&place, "60");
    assert_eq!(place.cell(PACK, lives), "2", "once is enough");
    place.holds(PACK);
}

#[test]
fn nothing_is_reset_that_nobody_agreed_to_or_somebody_runs() {
    let place = place(Kind::Local);
    let before = listing(place.lake_folder());
    let silent = reset(&place, "first").expect(2);
    silent.says(&["nobody is there to agree", "hint: ", "--yes", "archive"]);
    reset(&place, "nope").arg("--yes").expect(2).says(&["name=nope", "jobs: first, second"]);
    assert_eq!(listing(place.lake_folder()), before);
    let runner = place.job("run", PACK).arg("--follow").start();
    let held = place.lake_folder().join("_sluice/first/lease.json");
    wait::until("a runner", 120, || held.exists().then_some(()));
    for name in ["first", "kept", "by_region"] {
        let output = reset(&place, name).arg("--yes").expect(1);
        output.says(&["another runner works this job", "hint: "]);
    }
    runner.signal("TERM");
    assert_eq!(runner.wait().code, Some(0));
    place.holds(PACK);
}
