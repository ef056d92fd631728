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
    output.says(&["table=kept", "hint: ", "delete its folder"]);
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

/// A view that a table, a sink and another view go on from.
const FED: &str = r#"job: fed
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  lines: {connector: files, path: "./input/*.csv", schema: {fields: [{name: id, type: int64}]}}
tables:
  kept: {sql: SELECT id FROM lines}
  onward: {sql: SELECT id FROM some}
  further: {sql: SELECT id FROM more}
views:
  some: {sql: SELECT id FROM kept WHERE id > 1}
  more: {sql: SELECT id FROM same WHERE id > 2}
  same: {sql: SELECT id FROM some}
sinks:
  out: {connector: files, from: some, path: "${vars.lake}/out", format: csv, files: 1}
"#;

/// The numbers in the files of the sink, sorted.
fn given(place: &Place) -> Vec<u64> {
    let mut all = Vec::new();
    for (path, _) in crate::support::place::listing(&place.lake_folder().join("out")) {
        let text = std::fs::read_to_string(path).unwrap();
        all.extend(text.lines().skip(1).map(|line| line.parse::<u64>().unwrap()));
    }
    all.sort_unstable();
    all
}

#[test]
fn a_view_built_afresh_gives_its_rows_to_nobody_a_second_time() {
    let place = Place::local();
    place.write("fed.yaml", FED);
    place.write("input/1.csv", "id\n1\n2\n3\n4\n");
    place.run("fed.yaml");
    assert_eq!(given(&place), [2, 3, 4]);
    place.write("fed.yaml", &FED.replace("id > 1", "id > 3"));
    place.write("input/2.csv", "id\n3\n5\n");
    place.run("fed.yaml");
    assert_eq!(given(&place), [2, 3, 4, 5], "new rows, by the new statement");
    let sums = ["some", "more", "onward", "further"].map(|t| format!("sum(id) FROM {t}"));
    let sums: Vec<&str> = sums.iter().map(String::as_str).collect();
    assert_eq!(place.figures("fed.yaml", &sums), ["9", "9", "14", "12"]);
    place.holds("fed.yaml");

    // Without new rows a view may be built afresh too.
    place.write("fed.yaml", FED);
    place.run("fed.yaml");
    assert_eq!(given(&place), [2, 3, 4, 5]);
    assert_eq!(place.figures("fed.yaml", &sums), ["17", "15", "14", "12"]);

    let tables = "  onward: {sql: SELECT id FROM some}\n  further: {sql: SELECT id FROM more}\n";
    let less = FED.replace(tables, "");
    place.write("fed.yaml", &less[..less.find("views:").unwrap()]);
    place.write("input/3.csv", "id\n6\n");
    place.run("fed.yaml");
    place.write("fed.yaml", &less);
    place.write("input/4.csv", "id\n7\n");
    place.run("fed.yaml");
    assert_eq!(given(&place), [2, 3, 4, 5, 7], "what came while it was away was not given");
    assert_eq!(place.figures("fed.yaml", &sums[..2]), ["30", "28"]);
    place.holds("fed.yaml");
    place.job("run", "fed.yaml").arg("--rebuild").ok();
    assert_eq!(given(&place), [2, 3, 3, 4, 5, 6, 7]);
    place.holds("fed.yaml");
}

/// What changes in the job, what `plan` says of it, and what a run does: it goes on, or needs
/// `--rebuild`, or more than that.
const CHANGES: [(&str, &str, &str, &str); 11] = [
    ("format: '%d/%m/%Y'", "format: '%m/%d/%Y'", "lines: its schema changed", "goes on"),
    ("./input/*.csv", "./input/?.csv", "lines: its settings changed", "goes on"),
    (
        "path: \"${vars.lake}/out\"",
        "path: \"${vars.lake}/other\"",
        "out: its settings changed",
        "goes on",
    ),
    ("format: csv, files: 1", "format: parquet, files: 1", "out: its settings changed", "goes on"),
    (
        "connector: files, path: \"./input/*.csv\", schema: {fields: [{name: id, type: int64}, {name: on, type: date, format: '%d/%m/%Y'}]}",
        "connector: generate, rows: 3, columns: {id: {sequence: {}}, on: {date: {from: 2024-01-01, to: 2024-02-01}}}",
        "another connector",
        "--rebuild",
    ),
    ("key: [id]", "key: [id, on]", "key or sequence of the table changed", "--rebuild"),
    (", key: [id], sequence_by: on", "", "key or sequence of the table changed", "--rebuild"),
    ("sequence_by: on", "sequence_by: id", "key or sequence of the table changed", "--rebuild"),
    (
        "format: parquet, partition_by",
        "format: delta, partition_by",
        "kept as Parquet until now",
        "--rebuild",
    ),
    (
        "{sql: SELECT id FROM lines}",
        "{sql: SELECT id FROM lines, format: parquet}",
        "kept as Delta until now",
        "delete its folder",
    ),
    (
        "views:\n  small: {sql: SELECT id FROM kept WHERE id < 3}",
        "  small: {sql: SELECT id FROM lines}",
        "was a view until now",
        "--rebuild",
    ),
];

const SHOP: &str = r#"job: shop
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  lines: {connector: files, path: "./input/*.csv", schema: {fields: [{name: id, type: int64}, {name: on, type: date, format: '%d/%m/%Y'}]}}
sinks:
  out: {connector: files, from: lines, path: "${vars.lake}/out", format: csv, files: 1}
tables:
  kept: {sql: SELECT id FROM lines}
  newest: {sql: 'SELECT id, "on" FROM lines', key: [id], sequence_by: on}
  parted: {sql: "SELECT id, id % 2 AS even FROM lines", format: parquet, partition_by: [even]}
views:
  small: {sql: SELECT id FROM kept WHERE id < 3}
"#;

#[test]
fn what_changes_is_planned_and_refused_where_rows_would_mix() {
    for (before, after, said, then) in CHANGES {
        let place = Place::local();
        place.write("shop.yaml", SHOP);
        place.write("input/1.csv", "id,on\n1,01/02/2024\n2,03/04/2024\n");
        place.run("shop.yaml");
        assert!(SHOP.contains(before), "{before}");
        place.write("shop.yaml", &SHOP.replace(before, after));
        plan_says(&place, "shop.yaml", &[said]);
        // Readers see what is there, whatever the job says meanwhile.
        assert_eq!(place.cell("shop.yaml", "SELECT count(*) FROM parted"), "2", "{after}");
        place.write("input/2.csv", "id,on\n3,01/02/2024\n");
        if then == "goes on" {
            place.run("shop.yaml");
        } else {
            refused(&place, "shop.yaml", &[said, then]);
            if then != "--rebuild" {
                let rebuilt = place.job("run", "shop.yaml").arg("--rebuild").expect(1);
                rebuilt.says(&[said, then]);
                std::fs::remove_dir_all(place.lake_folder().join("kept")).unwrap();
            }
            place.job("run", "shop.yaml").arg("--rebuild").ok();
        }
        place.holds("shop.yaml");
    }
}

#[test]
fn a_table_that_was_a_view_for_a_while_is_refused() {
    let place = shop();
    let view = JOB.replace("views:\n", "views:\n  small: {sql: SELECT id FROM kept}\n");
    let table = JOB.replace("views:\n", "  small: {sql: SELECT id FROM lines}\nviews:\n");
    for (k, text) in [&table, &view, &view].iter().enumerate() {
        place.write("shop.yaml", text);
        place.write(&format!("input/{}.csv", k + 2), "id\n9\n");
        place.run("shop.yaml");
    }
    place.write("shop.yaml", &table);
    refused(&place, "shop.yaml", &["was a view until now", "table=small"]);
}

#[test]
fn what_is_adopted_lies_where_it_was() {
    let place = shop();
    for (before, after, said) in [
        ("FROM lines}", "FROM lines, folder: deep}", "another folder"),
        ("FROM lines}", "FROM lines, key: [id]}", "key or sequence"),
        ("FROM lines}", "FROM lines, format: parquet}", "kept as Delta until now"),
    ] {
        place.write("shop.yaml", &JOB.replace(before, after));
        place.job("run", "shop.yaml").arg("--adopt").expect(1).says(&[said, "hint: "]);
    }
    place.write("shop.yaml", JOB);
    place.job("run", "shop.yaml").arg("--adopt").ok();
    assert_eq!(place.cell("shop.yaml", "SELECT n FROM total"), "2");
    place.holds("shop.yaml");
}
