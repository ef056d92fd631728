//! Whole job files through the whole reader, with connectors that only know their settings.

mod fuzz;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::DataType;
use serde_json::json;
use sluice_core::{Problems, Span};

use super::fake::registry;
use super::{
    ExpectAction, Job, LoadOptions, Pack, Schedule, TableFormat, job_schema, load, read_pack,
    resolve_secrets,
};

/// A folder with `files` in it, of this test's own.
fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("sluice-job-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    for (file, text) in files {
        let file = path.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    path
}

fn options(target: Option<&str>, set: &[(&str, &str)]) -> LoadOptions {
    let set = set.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    LoadOptions { target: target.map(str::to_string), set }
}

fn shown(problems: &Problems, root: &Path) -> Vec<String> {
    let one = |p: &sluice_core::Problem| {
        let file = p.file.strip_prefix(root).unwrap_or(&p.file).display().to_string();
        let place = p.span.map_or(String::new(), |s| format!("{}:{}: ", s.line, s.column));
        let file = if file == "job.yaml" { String::new() } else { format!("{file}:") };
        assert!(p.hint.as_ref().is_some_and(|h| !h.is_empty()), "no hint: {p}");
        format!("{file}{place}{}", p.message)
    };
    problems.sorted().into_iter().map(one).collect()
}

fn load_one(name: &str, text: &str, options: &LoadOptions) -> Result<Arc<Job>, Vec<String>> {
    let root = folder(name, &[("job.yaml", text)]);
    let loaded = load(&root.join("job.yaml"), options, &registry());
    let _ = fs::remove_dir_all(&root);
    loaded.map(|pack| pack.jobs[0].clone()).map_err(|problems| shown(&problems, &root))
}

const WHOLE: &str = r#"
job: shop-360
lake: "${vars.lake}/v1"
vars: {lake: ./lake, rows: 100, least: 0.5, raw: "${vars.lake}/raw"}
targets:
  dev: {default: true}
  prod: {vars: {lake: s3://acme, rows: 5}, secrets: {token: {file: /run/token}}, lake: s3://own}
secrets: {token: {env: TOKEN}}
sources:
  orders: {connector: generate, rows: "${vars.rows}", columns: {id: {}, amount: {}, day: {}}}
  sales:
    connector: files
    path: ["${vars.raw}/*.csv"]
    delimiter: "${secrets.token}"
    schema: {fields: [{name: invoice, from: InvoiceNo, type: "decimal(18, 3)", required: true}]}
tables:
  facts:
    sql: |
      SELECT id, amount, day
        FROM orders
       WHERE amount > ${vars.least} AND day > 1
    key: [id]
    sequence_by: day
    delete_when: amount < 0
    merge: coalesce
    partition_by: [day]
    folder: delta/
    event_time: {column: day, lateness: 2 days}
    expect:
      positive: {that: amount > 0, else: drop, fail_above: 5%}
      known: {that: "id IS NOT NULL"}
  staging: {sql: SELECT * FROM sales, format: parquet}
views:
  totals: {sql: 'SELECT day, sum(amount) AS "the ''sum''" FROM facts GROUP BY 1', refresh: full}
sinks:
  out: {connector: files, from: totals, path: "${vars.raw}/out"}
epoch: {every: 5s, rows: 1000, bytes: 64MiB}
schedule: {cron: "*/5 * * * *"}
tests:
  - name: one row
    given: {orders: [{id: 1, amount: 2}]}
    expect: {facts: [{id: 1}]}
"#;

#[test]
fn a_whole_job_is_read_without_an_open_question() {
    let job = load_one("whole", WHOLE, &LoadOptions::default()).unwrap();
    assert_eq!((job.name.as_str(), job.lake.as_str()), ("shop-360", "./lake/v1"));
    assert_eq!(job.target.as_deref(), Some("dev"));
    assert_eq!(job.sources[0].config.value["rows"], json!(100));
    assert_eq!(job.sources[0].config.span("/rows"), Some(Span { line: 10, column: 39 }));
    assert_eq!(job.sources[1].config.value["path"], json!(["./lake/raw/*.csv"]));
    assert_eq!(job.sources[1].config.value["delimiter"], json!("${secrets.token}"));
    assert_eq!(job.sources[1].schema.field(0).data_type(), &DataType::Decimal128(18, 3));
    assert!(job.sources[1].config.value.get("schema").is_none());
    let facts = &job.tables[0];
    assert_eq!((facts.folder.as_str(), facts.key.len()), ("delta", 1));
    assert_eq!(facts.event_time.as_ref().unwrap().lateness, Duration::from_secs(172_800));
    assert_eq!(facts.expect[0].fail_above, Some(0.05));
    assert_eq!(facts.expect[1].action, ExpectAction::Quarantine);
    assert_eq!(job.tables[1].format, TableFormat::Parquet);
    assert_eq!((job.epoch.rows, job.epoch.bytes, job.epoch.files), (1000, 64 << 20, 10_000));
    assert_eq!(job.schedule, Schedule::Cron("*/5 * * * *".into()));
    assert_eq!(job.tests[0].given[0].1[0]["amount"], json!(2));
    assert_eq!(job.sinks[0].config.value, json!({"path": "./lake/raw/out"}));
}

#[test]
fn sql_is_located_through_blocks_quotes_and_variables() {
    let job = load_one("locate", WHOLE, &LoadOptions::default()).unwrap();
    let place = |sql: &super::SqlText, word: &str| {
        let at = sql.find(word).unwrap();
        let line = sql[..at].matches('\n').count();
        let column = at - sql[..at].rfind('\n').map_or(0, |i| i + 1);
        let (_, span) = sql.locate(line as u32 + 1, column as u32 + 1);
        let written = WHOLE.lines().nth(span.line as usize - 1).unwrap();
        written[span.column as usize - 1..].to_string()
    };
    let facts = &job.tables[0];
    for word in ["amount, day", "orders", "day > 1", "AND"] {
        assert!(place(&facts.sql, word).starts_with(word), "{word}");
    }
    assert!(facts.sql.contains("amount > 0.5 AND"));
    assert!(place(&facts.sql, "0.5").starts_with("${vars.least}"));
    assert!(place(&job.views[0].sql, "FROM facts").starts_with("FROM facts"));
    assert!(place(&facts.expect[1].that, "IS NOT").starts_with("IS NOT"));
    assert!(place(facts.delete_when.as_ref().unwrap(), "< 0").starts_with("< 0"));
}

#[test]
fn targets_and_set_decide_the_values() {
    let job = load_one("prod", WHOLE, &options(Some("prod"), &[])).unwrap();
    assert_eq!(job.lake, "s3://own");
    assert_eq!(job.sources[0].config.value["rows"], json!(5));
    assert_eq!(job.vars["raw"], json!("s3://acme/raw"));
    let job = load_one("set", WHOLE, &options(Some("prod"), &[("rows", "7"), ("least", "2")]));
    let job = job.unwrap();
    assert_eq!(job.sources[0].config.value["rows"], json!(7));
    assert!(job.tables[0].sql.contains("amount > 2 AND"));

    let wrong = options(Some("prd"), &[("rows", "many"), ("rwos", "1")]);
    let problems = load_one("wrong-set", WHOLE, &wrong).unwrap_err();
    assert_eq!(
        problems,
        [
            "--set of an unknown variable name=rwos",
            "no such target name=prd",
            "4:28: --set does not fit the variable name=rows text=many",
        ]
    );
}

#[test]
fn secrets_are_looked_up_only_to_run() {
    let job = load_one("secrets", WHOLE, &LoadOptions::default()).unwrap();
    let secrets = resolve_secrets(&job, |name| (name == "TOKEN").then(|| "s3cret".to_string()));
    let secrets = secrets.unwrap();
    assert_eq!(secrets.get("token"), Some("s3cret"));
    assert!(!format!("{job:?}{secrets:?}").contains("s3cret"));
    let error = resolve_secrets(&job, |_| None).unwrap_err();
    assert_eq!(error.message(), "a secret has no value secret=token variable=TOKEN");
    let job = load_one("secrets-prod", WHOLE, &options(Some("prod"), &[])).unwrap();
    assert!(resolve_secrets(&job, |_| None).unwrap_err().message().contains("/run/token"));
}

#[test]
fn buckets_get_their_settings_with_the_secrets_filled_in() {
    let text = r#"
job: shop
lake: s3://acme/lake
vars: {inbox: "s3://inbox/orders"}
secrets: {token: {env: TOKEN}}
storage:
  inbox: {url: "${vars.inbox}", access_key_id: id, secret_access_key: "${secrets.token}", allow_http: true}
sources:
  orders: {connector: generate, rows: 1, columns: {id: {}}}
tables:
  facts: {sql: SELECT id FROM orders}
"#;
    let job = load_one("storage", text, &LoadOptions::default()).unwrap();
    let secrets = resolve_secrets(&job, |_| Some("s3cret".to_string())).unwrap();
    assert!(!format!("{job:?}{secrets:?}").contains("s3cret"));
    let settings = secrets.store("s3://inbox/any/where").unwrap();
    let settings: Vec<_> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected =
        [("access_key_id", "id"), ("allow_http", "true"), ("secret_access_key", "s3cret")];
    assert_eq!(settings, expected);
    assert!(secrets.store("s3://acme/lake").is_none());
    assert!(secrets.store("s3://inbox-2/x").is_none());
}

fn pack(name: &str, files: &[(&str, &str)]) -> Result<Pack, Vec<String>> {
    let root = folder(name, files);
    let loaded = load(&root, &LoadOptions::default(), &registry());
    let _ = fs::remove_dir_all(&root);
    loaded.map_err(|problems| shown(&problems, &root))
}

const FIRST: &str = "job: one\nlake: l\nschedule: {after: [two]}\n";
const SECOND: &str = "job: two\nlake: l\nsources: {s: {connector: generate, columns: {}}}\n\
                      tables: {t: {sql: SELECT 1 AS a}}\n";

#[test]
fn jobs_of_a_pack_run_after_those_they_wait_for() {
    let files = [
        ("1.yaml", FIRST),
        ("2.yml", SECOND),
        ("sluice.yaml", "project: p\npacks: [sub]\n"),
        ("sub/3.yaml", "x"),
    ];
    let pack = pack("order", &files).unwrap();
    let names: Vec<&str> = pack.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["two", "one"]);
}

#[test]
fn what_is_wrong_between_jobs_is_told_with_the_rest() {
    let circle = "job: two\nlake: l\nschedule: {after: [one]}\ntables: {t: {sql: a, ke: 1}}\n";
    let twin = "job: two\nlake: l\nviews: {t: {sql: b}}\nschedule: {after: [tree]}\n";
    let found = pack("wrong", &[("1.yaml", FIRST), ("2.yaml", circle), ("3.yaml", twin)]);
    assert_eq!(
        found.err().unwrap(),
        [
            "1.yaml:3:20: jobs wait for each other in a circle",
            "2.yaml:3:20: jobs wait for each other in a circle",
            "2.yaml:4:22: unknown key key=ke",
            "3.yaml:1:6: two jobs have the same name name=two",
            "3.yaml:3:9: the name is taken by another job name=t",
            "3.yaml:4:20: no such job in the pack name=tree",
        ]
    );
    let alone = folder("alone", &[("1.yaml", FIRST), ("2.yaml", SECOND)]);
    assert!(load(&alone.join("1.yaml"), &LoadOptions::default(), &registry()).is_ok());
    let missing = load(&alone.join("9.yaml"), &LoadOptions::default(), &registry());
    assert!(missing.is_err_and(|p| p.to_string().contains("no such job file or folder")));
    let _ = fs::remove_dir_all(&alone);
}

#[test]
fn what_can_be_read_of_a_wrong_job_is_there_for_the_planner() {
    let text = WHOLE
        .replace("    key: [id]", "    kee: [id]")
        .replace("SELECT * FROM sales", "\"${vars.x}\"");
    let root = folder("partly", &[("job.yaml", &text)]);
    let (pack, problems) = read_pack(&root.join("job.yaml"), &LoadOptions::default(), &registry());
    let _ = fs::remove_dir_all(&root);
    assert_eq!(
        shown(&problems, &root),
        ["22:5: unknown key key=kee", "32:18: no such variable name=x"],
    );
    let job = &pack.jobs[0];
    assert_eq!(job.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["facts"]);
    assert_eq!(job.broken, ["staging"]);
}

#[test]
fn schemas_and_statements_are_found_beside_the_job_or_above() {
    let job = "job: a\nlake: l\nsources:\n  s: {connector: files, path: x.csv, schema: shop/s.yaml}\n\
               tables:\n  t: {sql_file: sql/t.sql}\n";
    let fields = "fields:\n  - {name: id, type: int64}\n";
    let root = folder(
        "schemas",
        &[
            ("jobs/p/job.yaml", job),
            ("jobs/p/sql/t.sql", "SELECT id\n  FROM s\n"),
            ("schemas/shop/s.yaml", fields),
        ],
    );
    let job = load(&root.join("jobs/p"), &LoadOptions::default(), &registry()).unwrap();
    let table = &job.jobs[0].tables[0];
    let (file, span) = table.sql.locate(2, 3);
    assert!(file.ends_with("sql/t.sql"));
    assert_eq!(span, Span { line: 2, column: 3 });
    assert_eq!(job.jobs[0].sources[0].schema.field(0).name(), "id");
    let _ = fs::remove_dir_all(&root);
}

#[test]
fn the_definition_hash_covers_what_changes_rows_and_nothing_else() {
    let hashes = |text: &str, name: &str| {
        let job = load_one(name, text, &LoadOptions::default()).unwrap();
        (job.definition_hash(), job.table_hash("facts"), job.table_hash("totals"))
    };
    let (all, facts, totals) = hashes(WHOLE, "hash");
    assert_eq!(all.len(), 64);
    let same = [("./lake,", "./other,"), ("rows: 1000", "rows: 9"), ("*/5 * * * *", "1 * * * *")];
    for (from, to) in same.into_iter().chain([("folder: delta/", "doc: what it is")]) {
        assert!(WHOLE.contains(from));
        assert_eq!(hashes(&WHOLE.replacen(from, to, 1), "hash-same").0, all, "{from}");
    }
    for (from, to) in [
        ("day > 1", "day > 2"),
        ("least: 0.5", "least: 0.6"),
        ("key: [id]", "key: [id, day]"),
        ("partition_by: [day]", "partition_by: []"),
        ("merge: coalesce", "merge: replace"),
        ("amount < 0", "amount < 1"),
        ("that: amount > 0", "that: amount > 1"),
        ("else: drop", "else: warn"),
        ("2 days", "3 days"),
    ] {
        assert!(WHOLE.contains(from));
        let (other, other_facts, other_totals) = hashes(&WHOLE.replacen(from, to, 1), "hash-other");
        assert_ne!(other, all, "{from}");
        assert_ne!(other_facts, facts, "{from}");
        assert_eq!(other_totals, totals, "{from}");
    }
    let schema = WHOLE.replace("decimal(18, 3)", "decimal(18, 2)");
    assert_ne!(hashes(&schema, "hash-schema").0, all);
}

#[test]
fn the_editors_schema_admits_what_is_read_and_refuses_what_is_not() {
    let schema = job_schema(&registry());
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let mut problems = Problems::new();
    let parse = |text: &str, problems: &mut Problems| {
        super::read::Document::parse(Path::new("j"), text, problems).unwrap().value
    };
    let whole = parse(WHOLE, &mut problems);
    let errors: Vec<String> = validator.iter_errors(&whole).map(|e| e.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
    for (from, to) in [
        ("connector: generate", "connector: kafka"),
        ("rows: \"${vars.rows}\"", "rows: many"),
        ("path: [", "paht: ["),
        ("format: parquet", "format: csv"),
        ("refresh: full", "refresh: ~"),
    ] {
        assert!(WHOLE.contains(from));
        let wrong = parse(&WHOLE.replacen(from, to, 1), &mut problems);
        assert!(!validator.is_valid(&wrong), "{to}");
    }
}

#[test]
fn no_cut_or_doubled_piece_of_a_file_makes_the_reader_panic() {
    let root = folder("cuts", &[("job.yaml", "")]);
    let file = root.join("job.yaml");
    let lines: Vec<&str> = WHOLE.lines().collect();
    let mut texts: Vec<String> =
        (0..WHOLE.len()).step_by(7).map(|i| WHOLE[..i].to_string()).collect();
    for i in 0..lines.len() {
        let mut changed = lines.clone();
        changed.remove(i);
        texts.push(changed.join("\n"));
        let mut changed = lines.clone();
        changed.insert(i, lines[(i * 7) % lines.len()]);
        texts.push(changed.join("\n"));
        texts.push(WHOLE.replacen(lines[i], &lines[i].replace(": ", ": - "), 1));
    }
    let mut refused = 0;
    for text in texts {
        fs::write(&file, text).unwrap();
        if let Err(problems) = load(&file, &LoadOptions::default(), &registry()) {
            assert!(!shown(&problems, &root).is_empty());
            refused += 1;
        }
    }
    assert!(refused > 100, "{refused}");
    let _ = fs::remove_dir_all(&root);
}

/// Every folder of `tests/bad-jobs`: the problems of `job.yaml`, all of them, at their places.
/// Those that end with `*` are found by the planner, so here such jobs load. A case without
/// `job.yaml` is a pack.
#[test]
fn bad_jobs_are_refused_with_all_their_problems() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/bad-jobs");
    let mut cases = 0;
    let mut wrong = BTreeMap::new();
    for entry in fs::read_dir(&root).unwrap() {
        let case = entry.unwrap().path();
        let Ok(expected) = fs::read_to_string(case.join("expected.txt")) else { continue };
        let expected: Vec<&str> = expected.lines().filter(|line| !line.ends_with('*')).collect();
        let job = case.join("job.yaml");
        let path = if job.exists() { &job } else { &case };
        let loaded = load(path, &LoadOptions::default(), &registry());
        let found = loaded.err().map(|p| shown(&p, &case)).unwrap_or_default();
        let is_told = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, wanted)| found.starts_with(wanted));
        if !is_told {
            wrong.insert(case, (expected.join("\n"), found.join("\n")));
        }
        cases += 1;
    }
    for (case, (expected, found)) in &wrong {
        println!("{}\nexpected:\n{expected}\nfound:\n{found}\n", case.display());
    }
    assert!(wrong.is_empty(), "{} of {cases} cases are wrong", wrong.len());
    assert!(cases >= 40, "{cases}");
}
