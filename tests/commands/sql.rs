//! `sluice sql` over what others wrote, the system tables, and `status`: each against somebody who
//! counts for himself.

use std::fs;

use crate::support::cli::Output;
use crate::support::clients::{python, totals};
use crate::support::place::{Kind, Place};
use crate::support::{csv, root};

/// A table of somebody else at `name` in the place's lake.
fn foreign(place: &Place, what: &str, name: &str) -> String {
    let url = format!("{}/{name}", place.lake());
    if let (Some((above, _)), false) = (url.rsplit_once('/'), url.contains("://")) {
        fs::create_dir_all(above).unwrap();
    }
    python(&root().join("tests/clients/foreign.py"), &[what, &url], place.env());
    url
}

/// What a query over other people's tables says, as CSV.
fn ask(place: &Place, tables: &[(&str, &str)], query: &str) -> Output {
    let mut call = place.sluice(&["sql"]);
    for (name, url) in tables {
        call = call.arg("--table").arg(format!("{name}={url}"));
    }
    call.arg(query).arg("--format").arg("csv").output()
}

fn answer(place: &Place, tables: &[(&str, &str)], query: &str) -> String {
    let output = ask(place, tables, query);
    assert_eq!(output.code, Some(0), "{}", output.text());
    output.stdout
}

#[test]
fn a_delta_table_of_others_is_read_as_they_read_it() {
    for kind in Kind::ALL {
        let place = Place::new(kind);
        let url = foreign(&place, "delta", "theirs/sales");
        let query = "SELECT count(*) AS n, sum(id) AS ids, sum(\"Amount\") AS amount FROM t";
        let told = answer(&place, &[("t", &url)], query);
        let expected = totals(&place, "polars", "theirs/sales", &["id", "Amount"]);
        assert_eq!(told, format!("n,ids,amount\n{}\n", expected.join(",")));
        // The partition column is text like any other, and NULL is none of its values.
        let query = "SELECT country || '!' AS c, day FROM t WHERE country <> 'CH' ORDER BY id";
        assert_eq!(
            answer(&place, &[("t", &url)], query),
            "c,day\nFR!,2026-01-01\nFR!,2026-01-03\n"
        );
        // As it was, beside as it is.
        let both = [("now", url.as_str()), ("then", &format!("{url}@0"))];
        let query = "SELECT (SELECT count(*) FROM now) AS now, (SELECT count(*) FROM then) AS old";
        assert_eq!(answer(&place, &both, query), "now,old\n4,2\n");
        let output = ask(&place, &[("t", &format!("{url}@9"))], "SELECT * FROM t");
        output.says(&["version=9", "hint: "]);
        assert_eq!(output.code, Some(2), "{}", output.text());
    }
}

#[test]
fn features_of_delta_are_read_or_named() {
    let place = Place::local();
    let deleted = foreign(&place, "deleted", "deleted");
    let query = "SELECT id FROM t ORDER BY id";
    assert_eq!(answer(&place, &[("t", &deleted)], query), "id\n1\n3\n");
    let mapped = foreign(&place, "mapped", "mapped");
    let query = "SELECT land, sum(id) AS n FROM t WHERE id > 1 GROUP BY land ORDER BY 2";
    assert_eq!(answer(&place, &[("t", &mapped)], query), "land,n\nCH,2\nFR,3\n,4\n");
    let unknown = foreign(&place, "unknown", "unknown");
    let output = ask(&place, &[("t", &unknown)], "SELECT * FROM t");
    output.says(&["timeTravelToTheFuture", "hint: ", "switch it off"]);
    assert_eq!(output.code, Some(2), "{}", output.text());
}

#[test]
fn parquet_of_others_is_a_file_a_folder_or_partition_folders() {
    let place = Place::local();
    let file = foreign(&place, "file", "one.parquet");
    let query = "SELECT country, count(*) AS n FROM t GROUP BY 1 ORDER BY 1";
    assert_eq!(answer(&place, &[("t", &file)], query), "country,n\nCH,1\nFR,2\n,1\n");
    let hive = foreign(&place, "hive", "hive");
    assert_eq!(answer(&place, &[("t", &hive)], query), "country,n\nCH,1\nFR,2\n,1\n");
    let query = "SELECT sum(id) AS ids, sum(month + year) AS m FROM t WHERE month = 1";
    assert_eq!(answer(&place, &[("t", &hive)], query), "ids,m\n10,8108\n");
    let others = totals(&place, "parquet", "hive/year=2026", &["id"]);
    assert_eq!(others, ["4", "10"]);
    // A column that a file lacks is NULL in its rows.
    let mixed = foreign(&place, "mixed", "mixed");
    let query = "SELECT count(*) AS n, count(country) AS c, count(\"Amount\") AS a FROM t";
    assert_eq!(answer(&place, &[("t", &mixed)], query), "n,c,a\n8,3,3\n");
    let all = [("a", file.as_str()), ("b", &hive), ("c", &mixed)];
    let query = "SELECT count(*) AS n FROM a JOIN b USING (id) JOIN c ON a.id = c.id";
    assert_eq!(answer(&place, &all, query), "n\n8\n");
}

#[test]
fn what_cannot_be_a_table_is_refused_with_a_way_out() {
    let place = Place::local();
    let misfits = foreign(&place, "misfits", "misfits");
    let output = ask(&place, &[("t", &misfits)], "SELECT * FROM t");
    output.says(&["cannot be read as one table", "hint: "]);
    assert_eq!(output.code, Some(1), "{}", output.text());
    place.write("text/a.csv", "a\n1\n");
    let text = place.path("text").display().to_string();
    let gone = place.path("gone").display().to_string();
    let versioned = format!("{misfits}@3");
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: [Case<'_>; 5] = [
        (&[("t", &gone)], "SELECT * FROM t", "no Delta table and no Parquet file"),
        (&[("t", &text)], "SELECT * FROM t", "CSV and JSON are read by jobs"),
        (&[("t", &versioned)], "SELECT * FROM t", "only Delta tables have versions"),
        (&[("t", "ftp://x/y")], "SELECT * FROM t", "not a store"),
        (&[("1t", &text)], "SELECT * FROM t", "letters, digits and _ only"),
    ];
    for (tables, query, said) in cases {
        let output = ask(&place, tables, query);
        output.says(&[said]);
        assert_eq!(output.code, Some(2), "{}", output.text());
    }
}

#[test]
fn queries_only_read() {
    let place = Place::local();
    let file = foreign(&place, "file", "one.parquet");
    let copy = place.path("copy").display().to_string();
    let statements = [
        "INSERT INTO t SELECT * FROM t".to_string(),
        "DELETE FROM t WHERE 1 = 1".to_string(),
        "UPDATE t SET id = 1".to_string(),
        "DROP TABLE t".to_string(),
        "CREATE TABLE u AS SELECT * FROM t".to_string(),
        "CREATE EXTERNAL TABLE u STORED AS PARQUET LOCATION '/'".to_string(),
        format!("COPY t TO '{copy}' STORED AS PARQUET"),
        "SET datafusion.execution.batch_size = 1".to_string(),
        format!("SELECT * FROM '{file}'"),
        format!("SELECT * FROM read_parquet('{file}')"),
    ];
    for statement in &statements {
        let output = ask(&place, &[("t", &file)], statement);
        assert_eq!(output.code, Some(2), "{statement}: {}", output.text());
        output.says(&["hint: "]);
    }
    assert!(!place.path("copy").exists());
    assert_eq!(answer(&place, &[("t", &file)], "SELECT sum(id) AS s FROM t"), "s\n10\n");
}

const JOB: &str = "bought.yaml";

/// A partitioned dataset, a Delta table with an expectation, rows that cannot be decoded, a view.
const TEXT: &str = r#"job: bought
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  lines:
    connector: files
    path: input/*.csv
    schema: {fields: [{name: id, type: int64}, {name: country, type: string}, {name: price, type: "decimal(10,2)"}, {name: day, type: date}]}
tables:
  bought:
    sql: SELECT id, country, price, day FROM lines
    expect: {cheap: {that: price IS NULL OR price < 100, else: quarantine}}
  archive: {sql: "SELECT id, country FROM lines", format: parquet, partition_by: [country]}
views:
  by_country: {sql: "SELECT country, count(*) AS n FROM bought GROUP BY country"}
"#;

const INPUTS: [&str; 2] = [
    "id,country,price,day\n1,FR,1.50,2026-01-01\n2,CH,2.50,2026-01-02\nx,FR,1,2026-01-01\n3,,500,2026-01-03\n",
    "id,country,price,day\n4,FR,,2026-01-17\n5,DE,9.99,2026-01-17\n",
];

fn place(kind: Kind) -> Place {
    let place = Place::new(kind);
    place.write(JOB, TEXT);
    for (n, input) in INPUTS.iter().enumerate() {
        place.write(&format!("input/{n}.csv"), input);
        place.run(JOB);
    }
    place
}

/// Figures of system tables come from manifests, logs and footers; the same ones from the rows.
#[test]
fn the_system_tables_add_up() {
    for kind in Kind::ALL {
        let place = place(kind);
        let row = |query: &str| place.sql(JOB, query).remove(0);
        let query = "SELECT count(*), sum(epochs), sum(rows_taken), sum(rows_rejected), \
                     sum(rows_quarantined), count(published_at), min(kind), count(DISTINCT \
                     incarnation) FROM _sluice.epochs WHERE job = 'bought'";
        // The first epoch makes the view, before there are rows.
        assert_eq!(row(query), ["3", "3", "6", "1", "1", "3", "data", "1"]);
        let query = "SELECT bool_and(published_at >= opened_at) FROM _sluice.epochs";
        assert_eq!(row(query), ["true"]);
        for table in ["bought", "archive", "by_country", "lines__rejected", "bought__quarantine"] {
            let counted = place.cell(JOB, &format!("SELECT count(*) FROM {table}"));
            for from in ["tables", "files"] {
                let query =
                    format!("SELECT sum(rows) FROM _sluice.{from} WHERE table_name = '{table}'");
                assert_eq!(place.cell(JOB, &query), counted, "{table} {from}");
            }
        }
        let query = "SELECT table_name, kind, format, files FROM _sluice.tables WHERE kind IN \
                     ('table', 'view') ORDER BY 1";
        let names: Vec<String> =
            place.sql(JOB, query).into_iter().map(|row| row[..3].join(" ")).collect();
        assert_eq!(names, ["archive table parquet", "bought table delta", "by_country view delta"]);
        let query = "SELECT t.bytes = sum(f.bytes), t.files = count(*), min(f.modified_at) = \
                     t.oldest_file_at FROM _sluice.tables t JOIN _sluice.files f ON t.table_name = \
                     f.table_name GROUP BY t.table_name, t.bytes, t.files, t.oldest_file_at";
        for row in place.sql(JOB, query) {
            assert_eq!(row, ["true", "true", "true"]);
        }
        let query = "SELECT DISTINCT partition_values FROM _sluice.files WHERE table_name = 'archive' ORDER BY 1";
        let partitions = place.sql(JOB, query).concat();
        assert_eq!(partitions, ["country=CH", "country=DE", "country=FR", "country=NULL"]);
        let query = "SELECT source, connector, rows_taken, rows_decoded, rows_rejected, last_epoch \
                     FROM _sluice.sources";
        assert_eq!(row(query), ["lines", "files", "6", "5", "1", "2"]);
    }
}

/// Whoever does not have the job file reads its tables like those of anybody else.
#[test]
fn tables_of_a_job_are_read_without_it() {
    for kind in Kind::ALL {
        let place = place(kind);
        let [bought, archive] =
            ["bought", "archive"].map(|name| format!("{}/{name}", place.lake()));
        let query = "SELECT (SELECT count(*) FROM b) AS n, (SELECT sum(id) FROM a) AS ids, \
                     (SELECT count(*) FROM a WHERE country = 'FR') AS french";
        let told = answer(&place, &[("b", &bought), ("a", &archive)], query);
        assert_eq!(told, "n,ids,french\n4,15,2\n", "{kind:?}");
    }
}

/// The README has a line per column of every system table, and none besides.
#[test]
fn the_columns_of_system_tables_are_described() {
    let place = place(Kind::Local);
    let query = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE \
                 table_schema = '_sluice' ORDER BY 1";
    let columns = place.sql(JOB, query).concat();
    let described = described();
    // A server's alone: see the tests of schedules.
    let here = described.iter().filter(|column| !column.starts_with("runs."));
    assert_eq!(here.collect::<Vec<_>>(), columns.iter().collect::<Vec<_>>());
}

/// The columns of system tables that the app's page describes, sorted.
pub fn described() -> Vec<String> {
    let readme = fs::read_to_string(root().join("engine/app/README.md")).unwrap();
    let mut described = Vec::new();
    let mut table = "";
    for line in readme.lines() {
        if let Some(name) = line.strip_prefix("`_sluice.") {
            table = name.split('`').next().unwrap();
        } else if let (Some(rest), false) = (line.strip_prefix("| `"), table.is_empty()) {
            described.push(format!("{table}.{}", rest.split('`').next().unwrap()));
        } else if line.starts_with('#') {
            table = "";
        }
    }
    described.sort();
    described
}

#[test]
fn a_folded_chain_still_adds_up() {
    let place = place(Kind::Local);
    let query = "SELECT sum(epochs), sum(rows_taken), sum(rows_written) FROM _sluice.epochs";
    let before = place.sql(JOB, query);
    place.job("maintain", JOB).arg("--fold").ok();
    assert_eq!(place.sql(JOB, query), before);
}

/// Tables of a job and of others in one query, by one name each.
#[test]
fn tables_of_jobs_and_of_others_join() {
    let place = place(Kind::Local);
    let url = foreign(&place, "delta", "theirs/sales");
    let call = |name: &str, query: &str| {
        place.job("sql", JOB).arg("--table").arg(format!("{name}={url}")).arg(query)
    };
    let query = "SELECT count(*) AS n FROM bought JOIN theirs ON bought.id = theirs.id";
    let output = call("theirs", query).arg("--format").arg("csv").ok();
    assert_eq!(csv::parse(&output.stdout), [["n"], ["3"]]);
    call("bought", query).expect(2).says(&["two tables have the same name", "hint: "]);
}

#[test]
fn the_figures_of_columns_are_those_of_the_rows() {
    let place = place(Kind::Local);
    let status = |args: &[&str]| {
        let mut call = place.job("status", JOB).arg("--json");
        for arg in args {
            call = call.arg(*arg);
        }
        serde_json::from_str::<serde_json::Value>(&call.ok().stdout).unwrap()
    };
    let json = status(&["--stats", "--table", "bought"]);
    let table = &json["jobs"][0]["tables"][0];
    assert_eq!((table["name"].as_str(), table["rows"].as_u64()), (Some("bought"), Some(4)));
    let columns = table["columns"].as_array().unwrap();
    let figure = |n: usize| {
        let c = &columns[n];
        let text = |key: &str| c[key].as_str().unwrap_or("-").to_string();
        let number = |key: &str| c[key].as_u64().unwrap();
        (text("name"), number("nulls"), number("distinct"), text("min"), text("max"))
    };
    let of = |name: &str, nulls, distinct, min: &str, max: &str| {
        (name.to_string(), nulls, distinct, min.to_string(), max.to_string())
    };
    assert_eq!(figure(0), of("id", 0, 4, "1", "5"));
    assert_eq!(figure(1), of("country", 0, 3, "CH", "FR"));
    assert_eq!(figure(2), of("price", 1, 3, "1.50", "9.99"));
    assert_eq!(figure(3), of("day", 0, 3, "2026-01-01", "2026-01-17"));
    let rows = |n: usize| -> Vec<u64> {
        let bars = columns[n]["histogram"].as_array().unwrap();
        bars.iter().map(|bar| bar["rows"].as_u64().unwrap()).collect()
    };
    assert_eq!(rows(1), [2, 1, 1], "the most frequent value first");
    assert_eq!(rows(3), [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], "a day has a bar");
    assert_eq!(rows(2).iter().sum::<u64>(), 3);
    let all = status(&["--stats"]);
    assert_eq!(all["jobs"][0]["tables"].as_array().unwrap().len(), 5);
    let text = place.job("status", JOB).arg("--stats").ok().stdout;
    for part in ["by_country: 3 rows", "≈ 3", "FR 2, CH 1, DE 1", "▄▄             █"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let wrong = place.job("status", JOB).arg("--stats").arg("--table").arg("nope").expect(2);
    wrong.says(&["table=nope", "hint: "]);
    let plain = status(&[]);
    let table = &plain["jobs"][0]["tables"][0];
    assert!(table["oldest_file_ms"].as_i64() <= table["newest_file_ms"].as_i64(), "{plain}");
    assert_eq!((table["kind"].as_str(), table["files"].as_u64()), (Some("table"), Some(2)));
}
