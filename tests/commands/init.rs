//! From files that nobody has described to a view: `init`, `run --limit`, and the README's
//! transcript, word for word.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::place::{Kind, Place, listing};
use crate::support::{root, shared_data};

/// A file, and what becomes of it.
struct Case {
    name: &'static str,
    file: &'static str,
    bytes: &'static [u8],
    /// What the schema file says, in this order.
    fields: &'static [&'static str],
    /// What the source says.
    source: &'static [&'static str],
    /// Rows of the table and rejected rows.
    rows: (u64, u64),
}

const CASES: &[Case] = &[
    Case {
        name: "an export with commas",
        file: "sales-2024.csv",
        bytes: b"Order No,Order Date,Customer ID,Amount,Paid\r\n00123,2024-01-31,17850.0,12.50,true\r\n\
            00124,2024-02-01,,3.999,false\r\n",
        fields: &[
            "{name: order_no, from: \"Order No\", type: string}",
            "{name: order_date, from: \"Order Date\", type: date}",
            "{name: customer_id, from: \"Customer ID\", type: \"decimal(18, 0)\"}",
            "{name: amount, from: Amount, type: \"decimal(18, 3)\"}",
            "{name: paid, from: Paid, type: bool}",
        ],
        source: &["format: csv"],
        rows: (2, 0),
    },
    Case {
        name: "tabs, days first, a quoted line break, no ending that says anything",
        file: "log.txt",
        bytes: b"when\twhat\tn\n31/01/2024 08:05\t\"two\nlines\"\t1\n01/02/2024 09:00\tb\t-2\n",
        fields: &[
            "{name: when_, from: when, type: timestamp, format: \"%d/%m/%Y %H:%M\"}",
            "{name: what, type: string}",
            "{name: \"n\", type: int64}",
        ],
        source: &["format: csv", "delimiter: \"\\t\""],
        rows: (2, 0),
    },
    Case {
        name: "no header",
        file: "plain.csv",
        bytes: b"1,2024-01-01,x\n2,2024-01-02,y\n3,2024-01-03,x\n",
        fields: &[
            "{name: c1, type: int64}",
            "{name: c2, type: date}",
            "{name: c3, type: string}",
        ],
        source: &["header: false"],
        rows: (3, 0),
    },
    Case {
        name: "one column, a mark at its beginning, blank lines",
        file: "names.csv",
        bytes: b"\xef\xbb\xbfname\n\nAnna\nBerta\n\n",
        fields: &["{name: name, type: string}"],
        source: &["format: csv"],
        rows: (2, 0),
    },
    Case {
        name: "an export of German Excel",
        file: "umsatz.csv",
        bytes: b"Datum;Kunde;Betrag\r\n31.01.2024;M\xfcller;1.234,50\r\n01.02.2024;Gr\xf6\xdfe;NA\r\n",
        fields: &[
            "{name: datum, from: Datum, type: date, format: \"%d.%m.%Y\"}",
            "{name: kunde, from: Kunde, type: string}",
            "{name: betrag, from: Betrag, type: \"decimal(18, 2)\"}",
        ],
        source: &["encoding: windows-1252", "delimiter: \";\"", "decimal: \",\""],
        rows: (2, 0),
    },
    Case {
        name: "objects, a line each",
        file: "orders.jsonl",
        bytes: br#"{"id": 1, "placedAt": "2024-01-31T08:00:00Z", "total": 12.5, "who": {"name": "A"}}
{"id": 2, "total": 3, "who": {"name": "B", "age": 40}, "lines": [{"sku": "x", "count": 2}], "tags": ["new"]}
"#,
        fields: &[
            "{name: id, type: int64}",
            "{name: placed_at, from: placedAt, type: timestamp}",
            "{name: total, type: \"decimal(18, 2)\"}",
            "{name: who, type: struct, fields: [{name: name, type: string}, {name: age, type: int64}]}",
            "{name: lines, type: \"list(struct)\", fields: [{name: sku, type: string}, {name: count, type: int64}]}",
            "{name: tags, type: \"list(string)\"}",
        ],
        source: &["format: json"],
        rows: (2, 0),
    },
    Case {
        name: "one list of objects",
        file: "list.json",
        bytes: br#"[{"a": true, "b": "x"},
 {"a": false, "b": null}]"#,
        fields: &["{name: a, type: bool}", "{name: b, type: string}"],
        source: &["format: json"],
        rows: (2, 0),
    },
];

/// Runs init, and the job that it wrote; gives what init said.
pub(super) fn taken(place: &Place, from: &str) -> Value {
    let output = place.sluice(&["init", "--into", "pack", "--json", "--from", from]).ok();
    let said: Value = serde_json::from_str(&output.stdout).unwrap();
    place.sluice(&["validate", "pack"]).ok();
    place.job("run", "pack").ok();
    place.holds("pack");
    said
}

pub(super) fn job_file(place: &Place) -> String {
    let mut files: Vec<_> = fs::read_dir(place.path("pack")).unwrap().flatten().collect();
    files.retain(|file| file.path().is_file());
    assert_eq!(files.len(), 1, "{files:?}");
    fs::read_to_string(files[0].path()).unwrap()
}

/// The name of the table of a job file that init wrote.
pub(super) fn table(job: &str) -> String {
    let after = job.split("\ntables:\n  ").nth(1).unwrap();
    after.split(':').next().unwrap().to_string()
}

pub(super) fn rejected(said: &Value) -> u64 {
    said["rejected"].as_array().unwrap().iter().map(|r| r["rows"].as_u64().unwrap()).sum()
}

#[test]
fn files_that_nobody_described_are_taken_as_they_are() {
    for case in CASES {
        let name = case.name;
        let place = Place::local();
        fs::create_dir(place.path("data")).unwrap();
        fs::write(place.path("data").join(case.file), case.bytes).unwrap();
        let said = taken(&place, &format!("data/{}", case.file));
        let job = job_file(&place);
        for line in case.source {
            assert!(job.contains(&format!("    {line}\n")), "{name}: {line}\n{job}");
        }
        let table = table(&job);
        let schema =
            fs::read_to_string(place.path(&format!("pack/schemas/{table}.v1.yaml"))).unwrap();
        let fields: Vec<&str> =
            schema.lines().filter_map(|line| line.strip_prefix("  - ")).collect();
        assert_eq!(fields, case.fields, "{name}");
        let count = |relation: &str| {
            let query = format!("SELECT count(*) FROM {relation}");
            place.cell("pack", &query).parse::<u64>().unwrap()
        };
        let rows = (count(&table), count(&format!("{table}_files__rejected")));
        assert_eq!(rows, case.rows, "{name}");
        assert_eq!(rejected(&said), case.rows.1, "{name}: what is rejected was told before");
        assert_eq!(said["rows"].as_u64(), Some(case.rows.0), "{name}");
        assert_eq!(said["complete"], true, "{name}");
    }
}

#[test]
fn rows_that_do_not_fit_are_told_before_they_are_rejected() {
    let place = Place::local();
    let mut text = String::from("id,day,price\n");
    for i in 0..200 {
        text.push_str(&format!("{i},2024-01-{:02},{}.5\n", i % 28 + 1, i));
    }
    text.push_str("200,2024-02-31,7.5\n201,2024-02-28,seven\n202,2024-02-28,1,2\n");
    place.write("in/prices.csv", &text);
    let said = taken(&place, "in");
    assert_eq!(rejected(&said), 3, "{said}");
    let table = table(&job_file(&place));
    let rejected = format!("SELECT reason FROM {table}_files__rejected ORDER BY position");
    let reasons = place.sql("pack", &rejected);
    assert_eq!(reasons.len(), 3);
    let job = job_file(&place);
    for reason in reasons.iter().flatten() {
        let start = reason.split(" text=").next().unwrap();
        assert!(job.replace("\n# ", " ").contains(start), "{start}\n{job}");
    }
}

#[test]
fn files_of_a_kind_are_one_source_and_nothing_is_written_over() {
    let place = Place::local();
    place.write("in/a.csv", "id,name\n1,x\n");
    place.write("in/b.csv", "id,name,city\n2,y,Rome\n");
    place.write("in/readme.md", "# no rows\n");
    let output = place.sluice(&["init", "--into", "pack", "--from", "in/a.csv", "in/b.csv"]).ok();
    assert!(
        output.stdout.contains("2 files, 2 rows, all of them read: 3 columns"),
        "{}",
        output.text()
    );
    let job = job_file(&place);
    assert!(job.contains("  files: \"in/*.csv\"\n"), "{job}");
    assert!(job.contains("on_missing_column: \"null\"\n"), "{job}");
    place.job("run", "pack").ok();
    let table = table(&job);
    let rows = place.sql("pack", &format!("SELECT id, name, city FROM {table} ORDER BY id"));
    assert_eq!(rows, [["1", "x", ""], ["2", "y", "Rome"]]);

    let before = listing(&place.path("pack"));
    let again =
        place.sluice(&["init", "--into", "pack", "--from", "in/a.csv", "in/b.csv"]).expect(2);
    again.says(&["a file is there already", "hint: "]);
    assert_eq!(listing(&place.path("pack")), before);

    let folder = place.sluice(&["init", "--into", "other", "--from", "in"]).ok();
    assert!(
        folder.stdout.contains("left out: 1 file of another kind, \".md\""),
        "{}",
        folder.text()
    );
}

#[test]
fn what_is_no_rows_is_refused_with_a_way_out() {
    let place = Place::local();
    place.write("book.xlsx", "PK\u{3}\u{4}...");
    place.write("empty.csv", "");
    place.write("page.csv", "<html><body>no</body></html>\n");
    place.write("title.csv", "Report\n\na,b,c\n1,2,3\n4,5,6\n");
    let cases = [
        ("book.xlsx", "it is a zip archive or an Excel workbook"),
        ("empty.csv", "the files are empty"),
        ("page.csv", "it is XML or HTML"),
        ("nothing/*.csv", "no file is there"),
    ];
    for (path, says) in cases {
        let output = place.sluice(&["init", "--from", path]).expect(2);
        output.says(&[says, "hint: "]);
    }
    place
        .sluice(&["init", "--from", "title.csv"])
        .expect(1)
        .says(&["1 line above the table", "hint: "]);
    assert!(!place.path("jobs").exists());
}

#[test]
fn the_sample_runs_at_once_and_shows_every_place_for_rows() {
    let place = Place::local();
    let output = place.sluice(&["init"]).ok();
    assert!(output.stdout.contains("wrote jobs/orders/orders.yaml\n"), "{}", output.text());
    let pack = "jobs/orders";
    place.job("run", pack).ok();
    place.holds(pack);
    let figures = place.figures(
        pack,
        &[
            "count(*) FROM orders",
            "count(*) FROM orders__quarantine",
            "count(*) FROM order_files__rejected",
            "sum(revenue) FROM revenue_by_month",
        ],
    );
    assert_eq!(figures, ["6", "1", "1", "236.70"]);
    place.sluice(&["init"]).expect(2).says(&["a file is there already"]);
}

#[test]
fn few_rows_are_tried_in_a_lake_that_goes_away() {
    let place = Place::local();
    place.sluice(&["init"]).ok();
    let pack = "jobs/orders";
    place.job("run", pack).ok();
    let before = listing(place.lake_folder());
    let temporary = place.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let tried = |args: &[&str]| {
        let call = place.job("run", pack).env("TMPDIR", temporary.display().to_string());
        let call = args.iter().fold(call, |call, arg| call.arg(*arg)).arg("--json");
        let output = call.ok();
        serde_json::from_str::<Value>(&output.stdout).unwrap()
    };
    let said = tried(&["--limit", "4"]);
    let relations = said["jobs"][0]["relations"].as_array().unwrap();
    let rows = |name: &str| {
        let one = relations.iter().find(|r| r["name"] == name);
        one.map(|r| r["rows"].as_u64().unwrap())
    };
    assert_eq!(rows("orders"), Some(3));
    assert_eq!(rows("orders__quarantine"), Some(1));
    assert_eq!(rows("order_files__rejected"), None);
    assert_eq!(rows("revenue_by_month"), Some(2));
    let first = &relations[0];
    assert_eq!(first["columns"][0], serde_json::json!({ "name": "order_id", "type": "int64" }));
    assert_eq!(first["sample"].as_array().unwrap().len(), 3);
    assert_eq!(listing(place.lake_folder()), before, "the real lake is as it was");
    assert_eq!(listing(&temporary), [], "the scratch lake is gone");

    let all = tried(&["--limit", "1000", "--keep"]);
    let kept = all["lake"].as_str().unwrap();
    assert!(Path::new(kept).join("orders/_delta_log").is_dir(), "{kept}");
    let rejected = all["jobs"][0]["relations"].as_array().unwrap();
    let rejected = rejected.iter().find(|r| r["name"] == "order_files__rejected").unwrap();
    let reason = rejected["sample"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("column quantity"), "{reason}");
}

#[test]
fn a_job_that_reads_another_is_tried_on_what_that_one_published() {
    let place = Place::local();
    place.write("pack/1-numbers.yaml", NUMBERS);
    place.write("pack/2-sums.yaml", SUMS);
    let tried = |more: &[&str]| {
        let call = place.job("run", "pack").arg("--limit").arg("5").arg("--json");
        let output = more.iter().fold(call, |call, arg| call.arg(*arg)).ok();
        let said: Value = serde_json::from_str(&output.stdout).unwrap();
        let jobs = said["jobs"].as_array().unwrap();
        let sums = jobs.iter().find(|job| job["job"] == "sums").unwrap();
        sums["relations"][0]["sample"][0]["n"].as_u64().unwrap()
    };
    assert_eq!(tried(&[]), 5, "nothing is published: the run's own rows");
    assert!(!Path::new(place.lake()).exists());
    place.job("run", "pack").arg("--only").arg("numbers").ok();
    let before = listing(place.lake_folder());
    assert_eq!(tried(&["--only", "sums"]), 20);
    assert_eq!(tried(&[]), 20);
    assert_eq!(listing(place.lake_folder()), before);
}

const NUMBERS: &str = r#"job: numbers
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  generated:
    connector: generate
    rows: 20
    columns: {id: {sequence: {start: 1}}}
tables:
  numbers: {sql: "SELECT id FROM generated"}
sinks:
  files: {connector: files, from: numbers, path: "${vars.lake}/export", format: csv}
"#;

const SUMS: &str = r#"job: sums
lake: "${vars.lake}"
vars: {lake: ./lake}
schedule: {after: [numbers]}
views:
  counted: {sql: "SELECT count(*) AS n FROM numbers"}
"#;

#[test]
fn files_in_an_object_store_are_described_like_others() {
    for kind in Kind::CLOUDS {
        let place = Place::new(kind);
        place.write("numbers.yaml", NUMBERS);
        place.job("run", "numbers.yaml").ok();
        let from = format!("{}/export/", place.lake());
        place.sluice(&["init", "--into", "pack", "--from", &from]).ok();
        let job = job_file(&place);
        assert!(job.contains(&format!("  files: \"{from}**/*.csv\"\n")), "{job}");
        place.job("run", "pack").ok();
        assert_eq!(place.cell("pack", &format!("SELECT sum(id) FROM {}", table(&job))), "210");
    }
}

#[test]
fn real_files_are_read_whole() {
    let Some(retail) = shared_data("retail/by-day") else { return };
    let place = Place::local();
    let said = taken(&place, &retail.display().to_string());
    assert_eq!((rejected(&said), said["files"].as_u64()), (0, Some(141)));
    assert_eq!(said["complete"], true);
    let table = table(&job_file(&place));
    let query = format!("SELECT count(*), sum(quantity * unit_price) FROM {table}");
    let figures = place.sql("pack", &query);
    assert_eq!(figures, [["209029", "3706827.64100"]]);
}

/// One command of a transcript and what is shown below it.
struct Step {
    command: String,
    shown: String,
}

/// The steps of the README's `console` block.
fn transcript(readme: &str) -> Vec<Step> {
    let block = readme.split("```console\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_string(), shown: String::new() });
        } else if let Some(more) = line.strip_prefix("> ") {
            let command = &mut steps.last_mut().unwrap().command;
            command.push('\n');
            command.push_str(more);
        } else {
            let shown = &mut steps.last_mut().unwrap().shown;
            shown.push_str(line);
            shown.push('\n');
        }
    }
    steps
}

#[test]
fn the_transcript_in_the_readme_is_true() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let steps = transcript(&readme);
    assert!(steps.iter().any(|s| s.command.contains("init --from")), "no init in the transcript");
    assert!(steps.iter().any(|s| s.command.contains("sql")), "no query in the transcript");
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_sluice")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    for Step { command, shown } in steps {
        let output = Command::new("bash")
            .args(["-c", &format!("exec 2>&1\n{command}")])
            .current_dir(folder.path())
            .env("PATH", &path)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), shown, "$ {command}");
    }
}
