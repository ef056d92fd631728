//! Job files that change between runs: what `plan` says, what a run makes of it, what it refuses.

use crate::support::cli::Output;
use crate::support::place::Place;

/// The lines of `plan` about what a run would change.
fn changes(place: &Place, job: &str) -> Vec<String> {
    let output = place.job("plan", job).ok().stdout;
    output.lines().filter(|l| l.starts_with("  ")).map(|l| l.trim().to_string()).collect()
}

/// Fails unless `plan` says each of `parts` in its lines about changes.
fn plan_says(place: &Place, job: &str, parts: &[&str]) {
    let said = changes(place, job).join("\n");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not planned:\n{said}");
    }
}

fn refused(place: &Place, job: &str, parts: &[&str]) {
    let output = place.job("run", job).output();
    assert_eq!(output.code, Some(1), "{}", output.text());
    output.says(&["hint: "]);
    output.says(parts);
}

/// A job with a table and a view over it; `{more}` is what it has besides.
fn going(place: &Place, more: &str, rows: u32) -> Output {
    let text = format!(
        "job: going\nlake: \"${{vars.lake}}\"\nvars: {{lake: ./lake, rows: 0}}\nsources:\n  \
         numbers: {{connector: generate, rows: \"${{vars.rows}}\", columns: {{id: {{sequence: {{}}}}}}}}\n\
         tables:\n  kept: {{sql: SELECT id FROM numbers}}\n{more}"
    );
    place.write("going.yaml", &text);
    place.job("run", "going.yaml").arg("--set").arg(format!("rows={rows}")).output()
}

#[test]
fn a_view_that_was_away_is_built_afresh_and_a_table_is_refused() {
    let place = Place::local();
    let view = "views:\n  total: {sql: SELECT count(*) AS n FROM kept}\n";
    let table = "  other: {sql: SELECT id FROM numbers}\n";
    for (more, rows) in [(view, 3), ("", 5), (view, 7)] {
        let output = going(&place, more, rows);
        assert_eq!(output.code, Some(0), "{}", output.text());
    }
    assert_eq!(place.cell("going.yaml", "SELECT n FROM total"), "7");
    place.holds("going.yaml");

    for (more, rows) in [(table, 9), ("", 11)] {
        assert_eq!(going(&place, more, rows).code, Some(0));
    }
    let output = going(&place, table, 13);
    assert_eq!(output.code, Some(1), "{}", output.text());
    output.says(&["table=other", "hint: ", "--rebuild"]);
}

#[test]
fn a_table_that_becomes_a_dataset_is_refused() {
    let place = Place::local();
    place.write("dataset.yaml", &DATASET.replace(", format: parquet", ""));
    place.run("dataset.yaml");
    place.write("dataset.yaml", DATASET);
    let output = place.job("run", "dataset.yaml").output();
    assert_eq!(output.code, Some(1), "{}", output.text());
    output.says(&["table=kept", "hint: ", "--rebuild"]);
    place.write("dataset.yaml", &DATASET.replace(", format: parquet", ""));
    place.run("dataset.yaml");
    assert_eq!(place.cell("dataset.yaml", "SELECT count(*) FROM kept"), "10");
}

/// A dataset and nothing else.
const DATASET: &str = r#"job: dataset
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 10}
sources:
  numbers: {connector: generate, rows: "${vars.rows}", columns: {id: {sequence: {start: 1}}}}
tables:
  kept: {sql: SELECT id FROM numbers, format: parquet}
"#;

#[test]
fn a_new_dataset_is_planned_and_other_columns_are_refused() {
    let place = Place::local();
    place.write("dataset.yaml", DATASET);
    plan_says(&place, "dataset.yaml", &["kept: will be created"]);
    place.run("dataset.yaml");
    assert_eq!(changes(&place, "dataset.yaml"), [""; 0]);
    place.write(
        "dataset.yaml",
        &DATASET.replace("SELECT id FROM numbers", "'SELECT id, 1 AS one FROM numbers'"),
    );
    refused(&place, "dataset.yaml", &["other columns", "table=kept", "--rebuild"]);
    plan_says(&place, "dataset.yaml", &["other columns"]);
    place.job("run", "dataset.yaml").arg("--rebuild").ok();
    assert_eq!(place.cell("dataset.yaml", "SELECT sum(one) FROM kept"), "10");
    place.holds("dataset.yaml");
}

const JOB: &str = r#"job: shop
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  lines: {connector: files, path: "./input/*.csv", schema: {fields: [{name: id, type: int64}]}}
tables:
  kept: {sql: SELECT id FROM lines}
views:
  total: {sql: SELECT count(*) AS n FROM kept}
"#;

fn shop() -> Place {
    let place = Place::local();
    place.write("shop.yaml", JOB);
    place.write("input/1.csv", "id\n1\n2\n");
    plan_says(&place, "shop.yaml", &["kept: will be created", "total: will be created"]);
    place.run("shop.yaml");
    assert_eq!(changes(&place, "shop.yaml"), [""; 0]);
    place
}

#[test]
fn a_renamed_source_is_refused_and_a_new_one_is_read() {
    let place = shop();
    place.write("shop.yaml", &JOB.replace("lines", "rows"));
    let facts = ["renamed", "source=rows", "before=lines", "--rebuild"];
    plan_says(&place, "shop.yaml", &facts);
    refused(&place, "shop.yaml", &facts);
    assert_eq!(place.cell("shop.yaml", "SELECT n FROM total"), "2");

    place.write("more/1.csv", "id\n7\n");
    place.write("shop.yaml", &JOB.replace("lines", "rows").replace("./input", "./more"));
    plan_says(&place, "shop.yaml", &["rows: is a new source", "lines: is not in the job any more"]);
    place.run("shop.yaml");
    place.write("input/2.csv", "id\n3\n");
    place.write("shop.yaml", JOB);
    place.run("shop.yaml");
    assert_eq!(place.cell("shop.yaml", "SELECT sum(id) FROM kept"), "13");
    place.holds("shop.yaml");
}

#[test]
fn a_table_of_another_folder_is_refused_and_told() {
    for format in ["delta", "parquet"] {
        let place = Place::local();
        let job = JOB.replace("FROM lines}", &format!("FROM lines, format: {format}}}"));
        place.write("shop.yaml", &job);
        place.write("input/1.csv", "id\n1\n2\n");
        place.run("shop.yaml");
        place.write("shop.yaml", &job.replace("format:", "folder: deep, format:"));
        let facts = ["another folder", "table=kept", "set the folder back", "--rebuild"];
        plan_says(&place, "shop.yaml", &facts);
        refused(&place, "shop.yaml", &facts);
        place.job("run", "shop.yaml").arg("--rebuild").ok();
        assert_eq!(place.cell("shop.yaml", "SELECT n FROM total"), "2");
        place.holds("shop.yaml");
    }
}

#[test]
fn tables_that_come_and_go_are_planned() {
    let place = shop();
    let more = "views:\n  other: {sql: SELECT max(id) AS m FROM kept}\n";
    let table = "  late: {sql: SELECT id FROM lines}\n";
    place.write("shop.yaml", &JOB.replace("views:\n", &format!("{table}{more}")));
    plan_says(
        &place,
        "shop.yaml",
        &["late: will be created, with rows from epoch ", "--rebuild", "other: will be created"],
    );
    place.write("input/2.csv", "id\n5\n");
    let output = place.run("shop.yaml");
    output.says(&["late", "--rebuild"]);
    assert_eq!(place.cell("shop.yaml", "SELECT count(*) FROM late"), "1");
    assert_eq!(place.cell("shop.yaml", "SELECT n FROM total"), "3");

    place.write("shop.yaml", &JOB[..JOB.find("views:").unwrap()]);
    plan_says(&place, "shop.yaml", &["total: is not in the job any more", "late: is not in"]);
    place.write("shop.yaml", &JOB.replace("count(*)", "count(id)"));
    plan_says(&place, "shop.yaml", &["total: changed: will be built afresh"]);
    place.write("shop.yaml", &JOB.replace("count(*)", "count(*) + 1"));
    let verified = place.job("verify", "shop.yaml").expect(1).stdout;
    assert!(verified.contains("its definition changed"), "{verified}");
    place.run("shop.yaml");
    place.holds("shop.yaml");
}

#[test]
fn a_lake_without_its_manifests_is_told_by_plan() {
    let place = shop();
    std::fs::remove_dir_all(place.lake_folder().join("_sluice")).unwrap();
    plan_says(
        &place,
        "shop.yaml",
        &["kept: is there, but the manifests of the job are gone", "--adopt"],
    );
}
