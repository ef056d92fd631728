//! Commands say what is the case where little is: no lake, lost manifests, another definition, a
//! run that fails, a job that somebody else runs. Nobody who only looks writes anything.

use std::fs;

use crate::support::cli::{Output, Sluice};
use crate::support::place::{Kind, Place, listing};
use crate::support::wait;

const JOB: &str = "counted.yaml";

/// A table, a dataset and views of several strategies, one of them without groups.
const TEXT: &str = r#"job: counted
lake: "${vars.lake}"
vars: {lake: ./lake, rows: 20}
sources:
  numbers:
    connector: generate
    rows: "${vars.rows}"
    columns: {id: {sequence: {start: 1}}, region: {choice: [north, south]}}
tables:
  kept: {sql: "SELECT id, region FROM numbers"}
  archive: {sql: "SELECT id FROM numbers", format: parquet}
views:
  total: {sql: "SELECT count(*) AS n FROM kept"}
  by_region: {sql: "SELECT region, count(*) AS n FROM kept GROUP BY region"}
  late_ones: {sql: "SELECT id FROM kept WHERE id > 5"}
"#;

fn place() -> Place {
    let place = Place::local();
    place.write(JOB, TEXT);
    place
}

/// A query is no name of a job: `sql` takes one more argument.
fn looking(place: &Place) -> Vec<(&'static str, Sluice)> {
    let names = ["validate", "plan", "status", "audit", "verify", "maintain", "sql"];
    let call = |name| match name {
        "sql" => place.job(name, JOB).arg("SELECT count(*) FROM kept"),
        _ => place.job(name, JOB),
    };
    names.into_iter().map(|name| (name, call(name))).collect()
}

#[test]
fn nobody_who_looks_makes_a_lake() {
    let place = place();
    for (name, call) in looking(&place) {
        let output = call.output();
        assert!(!place.lake_folder().exists(), "{name} made the lake\n{}", output.text());
    }
    // Nor a folder of the job where another job has its lake.
    place.write("lake/_sluice/other/epochs/_last", "0");
    let before = listing(place.lake_folder());
    for (name, call) in looking(&place) {
        let output = call.output();
        let own = place.lake_folder().join("_sluice/counted");
        assert!(!own.exists(), "{name} made a folder\n{}", output.text());
        assert_eq!(listing(place.lake_folder()), before, "{name} wrote");
    }
}

#[test]
fn a_job_that_never_ran_is_not_found_right() {
    for kind in Kind::ALL {
        let place = Place::new(kind);
        place.write(JOB, TEXT);
        for command in ["audit", "verify"] {
            let output = place.job(command, JOB).expect(1);
            assert!(output.stdout.contains("no epoch was ever sealed"), "{}", output.text());
            assert!(!output.stdout.contains(" ok "), "{}", output.text());
        }
        let maintained = place.job("maintain", JOB).expect(1);
        assert!(maintained.stdout.contains("no epoch was ever sealed"), "{}", maintained.text());
    }
}

#[test]
fn a_job_that_never_ran_is_no_finding_beside_one_that_did() {
    let place = Place::local();
    place.write("pack/1.yaml", TEXT);
    let other = "tables: {more: {sql: SELECT id FROM numbers}}\nviews: {n: {sql: SELECT count(*) AS n FROM more}}\n";
    let head = TEXT.split("tables:").next().unwrap().replace("job: counted", "job: other");
    place.write("pack/2.yaml", &format!("{head}{other}"));
    place.job("run", "pack").arg("--only").arg("counted").ok();
    for command in ["audit", "verify", "maintain"] {
        let output = place.job(command, "pack").ok();
        assert_eq!(output.stdout.contains("not run"), command != "maintain", "{}", output.text());
        assert!(output.stdout.contains("no epoch was ever sealed"), "{}", output.text());
    }
}

#[test]
fn tables_without_manifests_are_a_finding() {
    let place = place();
    place.run(JOB);
    fs::remove_dir_all(place.lake_folder().join("_sluice")).unwrap();
    let before = listing(place.lake_folder());
    let tables = ["manifests of the job are gone", "archive", "by_region", "kept"];
    for command in ["audit", "verify", "maintain"] {
        let output = place.job(command, JOB).arg("--json").expect(1);
        for part in tables {
            assert!(output.text().contains(part), "{part}: {}", output.text());
        }
    }
    let plan = place.job("plan", JOB).ok().stdout;
    assert!(plan.contains("kept: is there, but the manifests"), "{plan}");
    assert!(plan.contains("archive: is there, but the manifests"), "{plan}");
    assert!(!plan.contains("no changes"), "{plan}");
    assert_eq!(listing(place.lake_folder()), before);
}

#[test]
fn lost_published_records_are_a_finding() {
    let place = place();
    place.run(JOB);
    place.job("run", JOB).arg("--set").arg("rows=30").ok();
    place.holds(JOB);
    fs::remove_dir_all(place.lake_folder().join("_sluice/counted/published")).unwrap();
    let audit = place.job("audit", JOB).expect(1);
    assert!(audit.stdout.contains("no published record is there"), "{}", audit.text());
    let verify = place.job("verify", JOB).expect(1);
    assert!(verify.stdout.contains("no epoch is published"), "{}", verify.text());
}

#[test]
fn a_changed_definition_is_not_verified_against_other_columns() {
    let place = place();
    place.run(JOB);
    let verified = place.job("verify", JOB).ok().stdout;
    assert!(verified.contains("1 row ") && verified.contains("2 rows"), "{verified}");
    place.write(JOB, &TEXT.replace("SELECT id, region FROM", "SELECT id, id AS region FROM"));
    let output = place.job("verify", JOB).expect(1);
    let told = "kept was written by another definition definition=region:Int64 lake=region:Utf8";
    assert!(output.stdout.contains(told), "{}", output.text());
    assert!(output.stdout.contains("--rebuild"), "{}", output.text());
    output.says(&[]);
    place.write(JOB, &TEXT.replace("region, count(*) AS n FROM kept GROUP BY region", "1 AS x"));
    let output = place.job("verify", JOB).expect(1);
    let told = "by_region was written by another definition";
    assert!(output.stdout.contains(told), "{}", output.text());
    place.run(JOB);
    place.holds(JOB);
}

#[test]
fn a_refused_query_is_told_what_would_help() {
    let place = place();
    let refused = |query: &str| place.job("sql", JOB).arg(query).expect(2);
    refused("SELECT 1 FROM keptt").says(&["'keptt' not found", "hint: SHOW TABLES"]);
    refused("SELECT idd FROM kept").says(&["'idd' not found", "hint: "]);
    refused("SELECT summ(id) FROM kept").says(&["'summ'", "hint: "]);
    for query in ["SELECT nope FROM kept", "SELECT summ(id) FROM kept", "SELECT (1"] {
        let output = refused(query);
        assert!(!output.stderr.contains("SHOW TABLES"), "{}", output.text());
    }
    refused("SELECT nope FROM kept").says(&["region"]);
    let nulls = place.job("sql", JOB).arg("SELECT NULL AS a, '' AS b").arg("--format").arg("csv");
    assert_eq!(nulls.ok().stdout, "a,b\n,\"\"\n");
}

#[test]
fn keys_without_effect_are_told() {
    let place = place();
    let more = "tests:\n  - {name: t, given: {}, expect: {}}\n";
    let timed = TEXT.replace(
        "SELECT id, region FROM numbers\"",
        "SELECT id, region, now() AS at FROM numbers\", event_time: {column: at}",
    );
    place.write(JOB, &format!("{timed}{more}"));
    let output = place.job("validate", JOB).ok();
    output.says(&["note: `tests` are", "note: `event_time` has"]);
    let json = place.job("validate", JOB).arg("--json").ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["notes"].as_array().unwrap().len(), 2, "{json}");
}

/// Endpoints that are wrong in one way each: who may ask and what they ask of, a placeholder.
const PROJECT: &str = r#"project: counted
lake: "${vars.lake}"
vars: {lake: ./lake}
endpoints:
  odd: {path: /api/odd, role: publik, sql: SELECT n FROM totl}
  least: {path: /api/least, role: read, sql: "SELECT id FROM kept WHERE id > $least AND id < 2 * $least"}
"#;

#[test]
fn endpoints_tell_what_is_wrong_with_them_once_and_nothing_of_broken_jobs() {
    let place = place();
    place.write("sluice.yaml", PROJECT);
    let said = place.job("validate", "sluice.yaml").expect(2).stderr;
    assert!(said.contains("sluice.yaml:5:31: not a value that can stand here"), "{said}");
    assert!(said.contains("no source, table or view has this name name=totl"), "{said}");
    assert!(said.contains("no such parameter name=least"), "{said}");
    assert_eq!(said.lines().last(), Some("3 problems"), "{said}");
    place.write(JOB, "job: [");
    let said = place.job("validate", "sluice.yaml").expect(2).stderr;
    assert!(said.contains("not readable as YAML"), "{said}");
    assert!(said.contains("no such parameter") && !said.contains("has this name"), "{said}");
}

/// The second file stops the run after the first was sealed.
const FAILS: &str = r#"job: counted
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  lines: {connector: files, path: input/*.csv, schema: {fields: [{name: id, type: int64}]}}
tables:
  kept: {sql: SELECT id FROM lines}
"#;

#[test]
fn a_run_that_fails_tells_what_it_sealed() {
    let place = Place::local();
    place.write(JOB, FAILS);
    place.write("input/1.csv", "id\n1\n2\n");
    place.write("input/2.csv", "id,extra\n3,x\n");
    let output = place.job("run", JOB).expect(1);
    output.says(&["job counted failed", "column=extra", "hint: "]);
    assert!(output.stdout.contains("1 epoch in"), "{}", output.text());
    assert!(output.stdout.contains("then failed") && output.stdout.contains("kept"));
    let again = place.job("run", JOB).arg("--json").expect(1);
    let json: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(json["jobs"][0]["epochs"], 0, "{json}");
    place.job("run", JOB).arg("--rebuild").arg("--json").expect(1);
    let rebuilt = place.job("run", JOB).arg("--rebuild").arg("--json").expect(1);
    let json: serde_json::Value = serde_json::from_str(&rebuilt.stdout).unwrap();
    let job = &json["jobs"][0];
    assert_eq!((&json["ok"], &job["ended"]), (&false.into(), &"failed".into()), "{json}");
    assert!(job["epochs"].as_u64() > Some(0), "{json}");
    assert_eq!(job["tables"][0]["written"], 2, "{json}");
    assert!(job["error"]["message"].as_str().unwrap().contains("extra"), "{json}");
}

/// Fails when it takes as long as a second attempt would.
fn fails_at_once(place: &Place, lake: &str) -> Output {
    let call = place.sluice(&["run", JOB]).arg("--set").arg(format!("lake={lake}"));
    let output = call.output();
    assert_ne!(output.code, Some(0), "{}", output.text());
    output.says(&["hint: check the path"]);
    assert!(!output.stderr.contains("trying again"), "{}", output.text());
    output
}

#[test]
fn a_lake_that_cannot_be_is_not_tried_again() {
    let place = place();
    let in_the_way = place.write("file", "");
    fails_at_once(&place, &in_the_way.display().to_string());
    fails_at_once(&place, &in_the_way.join("lake").display().to_string());
    fails_at_once(&place, "/proc/sluice/lake");
    place.write("a/_sluice/counted", "");
    fails_at_once(&place, "a");
    place.write("b/_sluice/counted/lock/folder", "");
    fails_at_once(&place, "b");
    place.write("c/kept", "");
    fails_at_once(&place, "c");
}

#[test]
fn lines_that_end_in_cr_only_are_told() {
    let place = Place::local();
    place.write(JOB, FAILS);
    place.write("input/1.csv", "id\r1\r2\r");
    let output = place.job("run", JOB).expect(1);
    for part in
        ["1 file could not be read", "1.csv: the lines of the file end in CR only; end them"]
    {
        assert!(output.stdout.contains(part), "{}", output.text());
    }
}

/// A run that goes on until it is stopped, past its first epoch.
fn follow(place: &Place) -> crate::support::cli::Running {
    let rows = "rows=100000000";
    let run = place.job("run", JOB).arg("--set").arg(rows).arg("--follow").start();
    wait::until("some epochs", 120, || (place.next_epoch(JOB) > 2).then_some(()));
    run
}

#[test]
fn the_runner_of_a_job_maintains_it_when_asked() {
    for kind in Kind::ALL {
        let place = Place::new(kind);
        place.write(JOB, &format!("{TEXT}epoch: {{rows: 1000}}\n"));
        let run = follow(&place);
        let own = run.id().to_string();
        let maintained = place.job("maintain", JOB).ok();
        let done = ["done by its runner", &format!("pid={own}"), "checkpoint of version", "folded"];
        for part in done {
            assert!(maintained.stdout.contains(part), "{part}: {}", maintained.text());
        }
        run.signal("STOP");
        let maintained = place.job("maintain", JOB).arg("--wait").arg("1").ok();
        assert!(maintained.stdout.contains("not come to it yet"), "{}", maintained.text());
        run.signal("CONT");
        run.signal("TERM");
        assert_eq!(run.wait().code, Some(0));
        let status = place.job("status", JOB).ok().stdout;
        assert!(status.contains("nobody runs it"), "{status}");
    }
}

#[test]
fn who_took_over_and_sealed_nothing_hands_the_job_back() {
    let place = Place::local();
    place.write(JOB, FAILS);
    place.write("input/1.csv", "id\n1\n");
    let run = place.job("run", JOB).arg("--follow").start();
    let own = format!("process {}", run.id());
    wait::until("an epoch", 120, || (place.next_epoch(JOB) > 0).then_some(()));
    place.job("run", JOB).arg("--take-over").ok();
    let status = place.job("status", JOB).ok().stdout;
    assert!(status.contains(&own), "{status}");
    run.signal("TERM");
    assert_eq!(run.wait().code, Some(0));
    let status = place.job("status", JOB).ok().stdout;
    assert!(status.contains("nobody runs it"), "{status}");
}

#[test]
fn views_over_the_tables_of_another_job_are_verified_too() {
    let place = Place::local();
    let own = "lake: \"${vars.lake}\"\nvars: {lake: ./lake, rows: 5}\n";
    let first = format!(
        "job: first\n{own}sources:\n  numbers: {{connector: generate, rows: \"${{vars.rows}}\", \
         columns: {{id: {{sequence: {{}}}}}}}}\ntables:\n  kept: {{sql: SELECT id FROM numbers}}\n"
    );
    let second = format!(
        "job: second\n{own}views:\n  total: {{sql: SELECT count(*) AS n FROM kept}}\n  \
         double: {{sql: SELECT n * 2 AS n FROM total}}\n"
    );
    place.write("pack/first.yaml", &first);
    place.write("pack/second.yaml", &second);
    place.run("pack");
    let verified = place.job("verify", "pack").ok().stdout;
    assert!(verified.contains("2 of 2 hold"), "{verified}");
    place.job("run", "pack").arg("--only").arg("first").arg("--set").arg("rows=7").ok();
    let verified = place.job("verify", "pack").expect(1).stdout;
    assert!(verified.contains("job first went on since"), "{verified}");
    // Looking after tables is not having seen what other jobs did.
    place.job("maintain", "pack").ok();
    place.job("run", "pack").arg("--set").arg("rows=7").ok();
    place.holds("pack");
}
