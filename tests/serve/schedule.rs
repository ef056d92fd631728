//! Schedules whose process is killed and reloaded in the middle: each run that was started has one
//! row in the history, no two runs of a job are at work at once, and the jobs go on.

use std::collections::BTreeSet;
use std::fs;

use crate::commands::sql;
use crate::support::cli::Running;
use crate::support::csv;
use crate::support::place::Place;
use crate::support::wait;

/// How often the process is killed.
const KILLS: u64 = 20;

const TICKS: &str = r#"job: ticks
lake: "${vars.lake}"
vars: {lake: ./lake}
schedule: {every: 1s, retry_delay: {base: 1s}}
sources:
  numbers: {connector: generate, rows: ROWS, columns: {id: {sequence: {}}}}
tables:
  ticked: {sql: SELECT id FROM numbers}
"#;

const BEHIND: &str = r#"job: behind
lake: "${vars.lake}"
vars: {lake: ./lake}
schedule: {after: [ticks]}
views:
  total: {sql: SELECT count(*) AS ids FROM ticked}
"#;

const FOLLOWS: &str = r#"job: follows
lake: "${vars.lake}"
vars: {lake: ./lake}
schedule: {continuous: true}
sources:
  lines: {connector: files, path: input/*.csv, schema: {fields: [{name: id, type: int64}]}}
tables:
  kept: {sql: SELECT id FROM lines}
epoch: {every: 100ms}
"#;

fn place() -> Place {
    let place = Place::local();
    place.write("jobs/1-ticks.yaml", &TICKS.replace("ROWS", "5"));
    place.write("jobs/2-behind.yaml", BEHIND);
    place.write("jobs/3-follows.yaml", FOLLOWS);
    place.write("input/0.csv", "id\n0\n");
    place
}

fn serve(place: &Place) -> Running {
    let serve = place.job("serve", "jobs").arg("--http").arg("127.0.0.1:0");
    let mut running = serve.arg("--state").arg("state").start();
    wait::until("the server", 60, || {
        let ended = running.ended();
        assert!(ended.is_none(), "it ended\n{}", running.said());
        running.said().contains("serving ").then_some(())
    });
    running
}

/// The runs that the state folder knows of.
fn records(place: &Place) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(place.path("state/runs")) else { return BTreeSet::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| Some(name.strip_suffix(".json")?.to_string())).collect()
}

/// The answer of a query over the history, as its only column.
fn history(place: &Place, query: &str) -> Vec<String> {
    let table = format!("runs={}", place.path("lake/_sluice/_runs").display());
    let sql = place.sluice(&["sql", "jobs/1-ticks.yaml", query, "--format", "csv"]);
    let output = sql.arg("--table").arg(table).ok();
    csv::parse(&output.stdout).into_iter().skip(1).map(|mut row| row.remove(0)).collect()
}

#[test]
fn kills_and_reloads_leave_a_consistent_history() {
    let place = place();
    let mut known = BTreeSet::new();
    for kill in 0..KILLS {
        let running = serve(&place);
        place.write(&format!("input/{}.csv", kill + 1), &format!("id\n{}\n", kill + 1));
        // At another moment of its work each time.
        wait::pause(kill * 397 % 1_500);
        if kill % 2 == 1 {
            let text = TICKS.replace("ROWS", &(5 + kill).to_string());
            place.write("jobs/1-ticks.yaml", &text);
            running.signal("HUP");
            wait::pause(kill * 211 % 500);
        }
        known.extend(records(&place));
        running.signal("KILL");
        drop(running.wait());
        known.extend(records(&place));
    }
    let running = serve(&place);
    let left = || records(&place).is_disjoint(&known).then_some(());
    wait::until("the records of killed processes to be in the history", 60, left);
    wait::pause(3_000);
    running.signal("TERM");
    let output = running.wait();
    assert_eq!(output.code, Some(0), "{}", output.text());
    assert!(records(&place).is_empty(), "{:?}", records(&place));

    let rows = history(&place, "SELECT run_id FROM runs");
    let unique: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(unique.len(), rows.len(), "a run has two rows");
    let lost: Vec<&String> = known.difference(&unique).collect();
    assert!(lost.is_empty(), "runs without a row: {lost:?}");
    let count = |condition: &str| -> u64 {
        let query = format!("SELECT count(*) FROM runs WHERE {condition}");
        history(&place, &query)[0].parse().unwrap()
    };
    assert_eq!(count("ended_at IS NULL OR outcome = 'running' OR started_at > ended_at"), 0);
    assert_eq!(count("outcome = 'failed'"), 0);
    assert!(count("outcome = 'interrupted'") > 0);
    for job in ["ticks", "behind", "follows"] {
        assert!(count(&format!("job = '{job}' AND outcome = 'done'")) > 0, "{job}");
    }
    let overlaps = history(
        &place,
        "SELECT a.run_id FROM runs a JOIN runs b ON a.job = b.job AND a.run_id <> b.run_id \
         WHERE a.started_at <= b.started_at AND b.started_at < a.ended_at \
         AND a.attempt > 0 AND b.attempt > 0",
    );
    assert!(overlaps.is_empty(), "two runs of a job at once: {overlaps:?}");

    // What the jobs did is right as well: each line once, and the sum of what ticked.
    let lines = place.sql("jobs", "SELECT count(*), count(DISTINCT id) FROM kept").remove(0);
    assert_eq!(lines, [(KILLS + 1).to_string(), (KILLS + 1).to_string()]);
    place.holds("jobs");
}

#[test]
fn a_last_time_survives_restarts() {
    let place = place();
    // It is not due again before the test ends.
    let text = TICKS.replace("ROWS", "5").replace("every: 1s", "every: 30d");
    place.write("jobs/1-ticks.yaml", &text);
    for _ in 0..3 {
        let running = serve(&place);
        wait::until("the first run to be in the history", 60, || {
            let table = place.path("lake/_sluice/_runs/_delta_log");
            (table.exists() && records(&place).len() <= 1).then_some(())
        });
        running.signal("TERM");
        assert_eq!(running.wait().code, Some(0));
    }
    let ticks = "SELECT trigger FROM runs WHERE job = 'ticks'";
    assert_eq!(history(&place, ticks), ["schedule"]);
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'runs'";
    let mut columns = history(&place, columns);
    columns.sort();
    let described = sql::described();
    let described = described.iter().filter_map(|column| column.strip_prefix("runs."));
    assert_eq!(columns, described.collect::<Vec<_>>());
}
