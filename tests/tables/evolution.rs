//! Columns that come later: in files, in statements; and what other readers see of the tables then.

use crate::support::clients;
use crate::support::place::Place;
use crate::support::root;

/// `{new}` is what the source does with new columns.
fn job(new: &str) -> String {
    format!(
        r#"job: wide
lake: "${{vars.lake}}"
vars: {{lake: ./lake}}
sources:
  lines:
    connector: files
    path: "./input/*.csv"
    on_new_column: {new}
    schema: {{fields: [{{name: id, type: int64}}, {{name: text, type: string}}]}}
tables:
  kept: {{sql: "SELECT *, id * 2 AS twice FROM lines"}}
  newest: {{sql: SELECT * FROM lines, key: [id]}}
  named: {{sql: "SELECT id, text FROM lines"}}
views:
  copy: {{sql: SELECT * FROM kept WHERE id > 0}}
  counted: {{sql: "SELECT text, count(*) AS n FROM kept GROUP BY text"}}
"#
    )
}

/// 40 files, of which the 37th has columns of its own.
fn forty(place: &Place) {
    for i in 1..=40 {
        let text = match i {
            37 => format!("extra,id,text,Unit Price\nnew,{i},x,4.50\n"),
            39 => format!("id,text,extra\n{i},x,late\n1,again,over\n"),
            _ => format!("id,text\n{i},x\n"),
        };
        place.write(&format!("input/{i:02}.csv"), &text);
    }
}

/// What a client that is not ours reads.
pub(super) fn read_by(client: &str, place: &Place, table: &str, columns: &[&str]) -> String {
    let script = root().join("tests/clients/columns.py");
    let url = place.lake_folder().join(table).display().to_string();
    let args: Vec<&str> =
        [client, url.as_str()].into_iter().chain(columns.iter().copied()).collect();
    clients::python(&script, &args, place.env()).trim().to_string()
}

#[test]
fn a_new_column_in_file_37_stops_is_passed_over_rescued_or_added() {
    let place = Place::local();
    forty(&place);
    place.write("wide.yaml", &job("fail"));
    let stopped = place.job("run", "wide.yaml").expect(1);
    stopped.says(&["a column of its own", "column=extra", "37.csv", "hint: "]);
    assert_eq!(place.cell("wide.yaml", "SELECT count(*) FROM kept"), "36");

    // The job goes on with the files that are left, by other rules.
    place.write("wide.yaml", &job("add"));
    place.run("wide.yaml");
    let rows = place.sql(
        "wide.yaml",
        "SELECT id, extra, unit_price, twice FROM kept WHERE extra <> '' ORDER BY id",
    );
    assert_eq!(
        rows,
        [["1", "over", "", "2"], ["37", "new", "4.50", "74"], ["39", "late", "", "78"]]
    );
    for table in ["kept", "copy"] {
        let all = format!("SELECT count(*), count(extra), sum(twice) FROM {table}");
        assert_eq!(place.sql("wide.yaml", &all), [["41", "3", "1642"]], "{table}");
    }
    let newest = "SELECT count(*), count(extra), max(extra) FROM newest";
    assert_eq!(place.sql("wide.yaml", newest), [["40", "3", "over"]]);
    assert_eq!(place.table("wide.yaml", "SELECT * FROM named LIMIT 0"), [["id", "text"]]);
    place.holds("wide.yaml");

    // What was learned outlives the run, and files without it are read.
    place.write("input/41.csv", "id,text\n41,x\n");
    place.write("input/42.csv", "extra,id,text\nlast,2,x\n");
    place.run("wide.yaml");
    assert_eq!(place.sql("wide.yaml", newest), [["41", "4", "over"]]);
    place.job("validate", "wide.yaml").ok();
    assert!(place.job("plan", "wide.yaml").ok().stdout.contains("no changes against the lake"));
    place.holds("wide.yaml");
    for table in ["kept", "newest", "copy"] {
        let rows = if table == "newest" { 41 } else { 43 };
        for client in ["deltalake", "polars", "duckdb"] {
            let read = read_by(client, &place, table, &["id", "extra", "unit_price"]);
            assert_eq!(read, format!("{rows} {rows} 4 1"), "{client} {table}");
        }
    }

    // A new life learns again.
    place.job("run", "wide.yaml").arg("--rebuild").ok();
    assert_eq!(place.sql("wide.yaml", newest), [["41", "4", "over"]]);
    place.holds("wide.yaml");
}

#[test]
fn what_is_rescued_is_a_column_of_json() {
    let place = Place::local();
    forty(&place);
    place.write("wide.yaml", &job("rescue"));
    place.run("wide.yaml");
    let rows = place
        .sql("wide.yaml", "SELECT id, _rescued FROM kept WHERE _rescued IS NOT NULL ORDER BY id");
    let price = r#"{"extra":"new","Unit Price":"4.50"}"#;
    let expected = [["1", r#"{"extra":"over"}"#], ["37", price], ["39", r#"{"extra":"late"}"#]];
    assert_eq!(rows, expected);
    place.holds("wide.yaml");

    place.write("wide.yaml", &job("ignore"));
    let refused = place.job("run", "wide.yaml").expect(1);
    refused.says(&["does not give any more", "column=_rescued", "table=", "hint: ", "--rebuild"]);
}

#[test]
fn a_dataset_whose_files_would_differ_refuses_a_new_column() {
    let place = Place::local();
    let text = job("add").replace("FROM lines\"}", "FROM lines\", format: parquet}");
    place.write("wide.yaml", &text);
    place.write("input/1.csv", "id,text\n1,x\n");
    place.run("wide.yaml");
    place.write("input/2.csv", "id,text,extra\n2,x,y\n");
    let refused = place.job("run", "wide.yaml").expect(1);
    refused.says(&[
        "the dataset has other columns",
        "table=kept",
        "extra",
        "hint: ",
        "format: delta",
    ]);
    assert_eq!(place.cell("wide.yaml", "SELECT count(*) FROM kept"), "1");
}

const SHOP: &str = r#"job: shop
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  lines: {connector: files, path: "./input/*.csv", schema: {fields: [{name: id, type: int64}, {name: v, type: int32}]}}
tables:
  kept: {sql: "SELECT id, v FROM lines"}
  newest: {sql: "SELECT id, v FROM lines", key: [id]}
  parted: {sql: "SELECT id, v, id % 2 AS even FROM lines", partition_by: [even]}
views:
  top: {sql: "SELECT * FROM kept WHERE id > 1"}
"#;

fn shop() -> Place {
    let place = Place::local();
    place.write("shop.yaml", SHOP);
    place.write("input/1.csv", "id,v\n1,10\n2,20\n");
    place.run("shop.yaml");
    place
}

#[test]
fn a_statement_that_gives_more_columns_widens_its_table() {
    let place = shop();
    let wider = SHOP.replace("SELECT id, v", "SELECT id, v + 1 AS more, v");
    place.write("shop.yaml", &wider);
    let plan = place.job("plan", "shop.yaml").ok().stdout;
    assert!(plan.contains("kept: gets new columns"), "{plan}");
    assert!(plan.contains("columns=more"), "{plan}");
    assert!(plan.contains("top: changed: will be built afresh"), "{plan}");
    place.write("input/2.csv", "id,v\n2,200\n3,30\n");
    place.run("shop.yaml");
    for (table, row) in [
        ("kept", ["4", "2", "232"]),
        ("newest", ["3", "2", "232"]),
        ("parted", ["4", "2", "232"]),
        ("top", ["3", "2", "232"]),
    ] {
        let figures = format!("SELECT count(*), count(more), sum(more) FROM {table}");
        assert_eq!(place.sql("shop.yaml", &figures), [row], "{table}");
        for client in ["deltalake", "polars", "duckdb"] {
            let read = read_by(client, &place, table, &["id", "v", "more"]);
            assert_eq!(read, format!("{0} {0} {0} {1}", row[0], row[1]), "{client} {table}");
        }
    }
    place.holds("shop.yaml");
    // Old and new files are folded into one.
    place.job("maintain", "shop.yaml").ok();
    assert_eq!(place.sql("shop.yaml", "SELECT count(*), count(more) FROM kept"), [["4", "2"]]);
    place.holds("shop.yaml");
    let plan = place.job("plan", "shop.yaml").ok().stdout;
    assert!(plan.contains("no changes"), "{plan}");
}

#[test]
fn every_other_change_of_a_column_is_refused_and_named() {
    let place = shop();
    for (before, after, facts) in [
        (
            "SELECT id, v FROM lines\"}",
            "SELECT id FROM lines\"}",
            ["does not give any more", "column=v", "type=int32", "CAST(NULL AS INT) AS v"],
        ),
        (
            "SELECT id, v FROM lines\"}",
            "SELECT id, CAST(v AS SMALLINT) AS v FROM lines\"}",
            ["another type", "column=v", "before=int32 now=int16", "CAST(… AS INT) AS v"],
        ),
        (
            "SELECT id, v FROM lines\"}",
            "SELECT id, CAST(v AS VARCHAR) AS v FROM lines\"}",
            ["another type", "column=v", "before=int32 now=string", "--rebuild"],
        ),
        (
            "partition_by: [even]",
            "partition_by: [even, v]",
            ["partitioned by other columns", "table=parted", "before=[\"even\"]", "--rebuild"],
        ),
    ] {
        place.write("shop.yaml", &SHOP.replacen(before, after, 1));
        let plan = place.job("plan", "shop.yaml").ok().stdout;
        let run = place.job("run", "shop.yaml").expect(1);
        run.says(&facts);
        run.says(&["hint: "]);
        assert!(plan.contains("a run will be refused") && plan.contains(facts[1]), "{plan}");
    }
    place.job("run", "shop.yaml").arg("--rebuild").ok();
    place.holds("shop.yaml");
}

#[test]
fn an_integer_gets_wider_with_old_and_new_files_mixed() {
    let place = Place::local();
    let views =
        "views:\n  figures: {sql: 'SELECT count(DISTINCT v) AS n, max(v) AS most FROM kept'}\n";
    let before = SHOP.replace("views:\n", views);
    place.write("shop.yaml", &before);
    place.write("input/1.csv", "id,v\n1,10\n2,20\n");
    place.run("shop.yaml");
    place.write("shop.yaml", &before.replace("name: v, type: int32", "name: v, type: int64"));
    let plan = place.job("plan", "shop.yaml").ok().stdout;
    assert!(plan.contains("kept: gets wider types"), "{plan}");
    place.write("input/2.csv", "id,v\n2,3000000000\n3,20\n");
    place.run("shop.yaml");
    let kept = "SELECT count(*), sum(v), max(arrow_typeof(v)) FROM kept";
    assert_eq!(place.sql("shop.yaml", kept), [["4", "3000000050", "Int64"]]);
    assert_eq!(place.sql("shop.yaml", "SELECT sum(v) FROM newest"), [["3000000030"]]);
    assert_eq!(place.sql("shop.yaml", "SELECT n, most FROM figures"), [["3", "3000000000"]]);
    for (table, rows) in [("kept", 4), ("newest", 3), ("parted", 4)] {
        for client in ["deltalake", "polars", "duckdb"] {
            let read = read_by(client, &place, table, &["id", "v"]);
            assert_eq!(read, format!("{rows} {rows} {rows}"), "{client} {table}");
        }
    }
    place.holds("shop.yaml");
    place.job("maintain", "shop.yaml").ok();
    assert_eq!(place.sql("shop.yaml", kept), [["4", "3000000050", "Int64"]]);
    place.write("input/3.csv", "id,v\n4,5\n");
    place.run("shop.yaml");
    assert_eq!(place.sql("shop.yaml", "SELECT n, most FROM figures"), [["4", "3000000000"]]);
    place.holds("shop.yaml");
}
