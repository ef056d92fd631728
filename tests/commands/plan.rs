//! What `plan` says of joins, before there are rows and after, and that runs do what it said.

use serde_json::Value;

use crate::support::place::{Place, listing};

const JOB: &str = "joins.yaml";

/// A table that joins new rows with a table, and a view that joins all rows.
const TEXT: &str = r#"job: joins
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 1000}
sources:
  numbers:
    connector: generate
    rows: "${vars.rows}"
    columns: {id: {sequence: {start: 1}}, amount: {integer: {from: 0, to: 1000}}}
tables:
  kept: {sql: SELECT * FROM numbers}
  looked_up: {sql: "SELECT n.id, k.amount FROM numbers n JOIN kept k ON n.id = k.id"}
views:
  joined: {sql: "SELECT count(*) AS n FROM kept a JOIN kept b ON a.id = b.id AND a.amount <= b.amount"}
  crossed: {sql: "SELECT count(*) AS n FROM kept a JOIN kept b ON a.id < b.id WHERE a.amount > 2000"}
"#;

/// What is said of the joins of `relation`, within so much memory.
fn joins(place: &Place, relation: &str, memory: &str) -> Value {
    let plan = place.job("plan", JOB).arg("--json").arg("--memory").arg(memory).ok().stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let relations = plan["jobs"][0]["relations"].as_array().unwrap();
    relations.iter().find(|r| r["name"] == relation).unwrap()["joins"].clone()
}

fn runs(place: &Place, relation: &str, memory: &str) -> String {
    joins(place, relation, memory)["joins"][0]["runs"].as_str().unwrap().to_string()
}

#[test]
fn joins_are_told_as_runs_plan_them() {
    let place = Place::local();
    place.write(JOB, TEXT);
    let run = |rows: &str| {
        let run = place.job("run", JOB).arg("--set").arg(format!("rows={rows}"));
        run.arg("--memory").arg("16MiB").arg("--log").arg("info").ok().stderr
    };
    let told = "joins are sort-merge";

    // Nothing is there: that depends on what comes.
    for relation in ["looked_up", "joined"] {
        assert_eq!(runs(&place, relation, "16MiB"), "hash or sort-merge", "{relation}");
    }
    assert_eq!(joins(&place, "kept", "16MiB"), Value::Null);
    assert!(listing(place.lake_folder()).is_empty(), "a plan writes nothing");

    // A small table is hashed, however many rows are joined with it.
    assert!(!run("1000").contains(told));
    let small = joins(&place, "looked_up", "16MiB");
    assert_eq!(small["joins"][0]["runs"], "hash", "{small}");
    assert_eq!(small["joins"][0]["on"], "n.id = k.id", "{small}");
    assert!(small["reason"].as_str().unwrap().contains("however many rows of numbers"), "{small}");
    assert_eq!(runs(&place, "joined", "16MiB"), "hash");

    // A large one is not, unless there is memory for it.
    run("200000");
    let large = joins(&place, "joined", "16MiB");
    assert_eq!(large["joins"][0]["runs"], "sort-merge", "{large}");
    assert_eq!(large["build_bytes_max"], 4 << 20, "{large}");
    assert!(large["build_bytes"].as_u64() > large["build_bytes_max"].as_u64(), "{large}");
    assert_eq!(runs(&place, "joined", "1GiB"), "hash");
    assert_eq!(runs(&place, "looked_up", "1GiB"), "hash or sort-merge");
    assert_eq!(runs(&place, "crossed", "16MiB"), "nested loop");
    let text = place.job("plan", JOB).arg("--memory").arg("16MiB").ok().stdout;
    let line = text.lines().find(|line| line.starts_with("  joined: ")).unwrap();
    assert!(line.contains("joined: sort-merge join on a.id = b.id AND "), "{text}");
    assert!(line.ends_with("are more than 4.0 MiB, a quarter of the memory"), "{text}");
    assert!(run("200001").contains(told), "the run does what was said");
    place.holds(JOB);
}
