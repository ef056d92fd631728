//! The shell of `sluice sql`: where statements end, what lines ask of it, what Tab offers; then
//! sessions over a pipe and at a terminal.

use std::fs;

use sluice::shell::{Command, Input, Named, Names, candidates};

use crate::support::cli::Sluice;
use crate::support::clients::python;
use crate::support::place::Place;
use crate::support::root;

/// The statements in a text that is given line by line, and what is left.
fn split(text: &str) -> (Vec<String>, Option<String>) {
    let mut input = Input::default();
    let mut statements = Vec::new();
    for line in text.lines() {
        input.push(line);
        while let Some(statement) = input.next_statement() {
            statements.push(statement);
        }
    }
    (statements, input.rest())
}

#[test]
fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
    let cases: [(&str, &[&str], Option<&str>); 11] = [
        ("", &[], None),
        (";;\n;", &[], None),
        ("SELECT 1", &[], Some("SELECT 1")),
        ("SELECT 1;", &["SELECT 1"], None),
        ("SELECT 1; SELECT\n2; SELECT 3", &["SELECT 1", "SELECT\n2"], Some("SELECT 3")),
        ("SELECT ';', '''; ', \"a;b\";", &["SELECT ';', '''; ', \"a;b\""], None),
        ("SELECT 1 -- one; two\n;", &["SELECT 1 -- one; two"], None),
        ("SELECT /* ;\n; */ 1;", &["SELECT /* ;\n; */ 1"], None),
        ("-- only this;\n", &[], None),
        ("SELECT 'open; \n still';", &["SELECT 'open; \n still'"], None),
        ("SELECT 'é;ü' - 1 / 2;", &["SELECT 'é;ü' - 1 / 2"], None),
    ];
    for (text, statements, rest) in cases {
        let (found, left) = split(text);
        assert_eq!(found, statements, "{text}");
        assert_eq!(left.as_deref(), rest, "{text}");
    }
}

#[test]
fn what_is_open_is_not_blank() {
    let cases = [("", true), ("  -- x", true), ("'", false), ("SELECT", false), ("/* x", true)];
    for (text, expected) in cases {
        let mut input = Input::default();
        input.push(text);
        assert_eq!(input.is_blank(), expected, "{text}");
    }
}

#[test]
fn every_command_is_known_by_its_name() {
    let cases = [
        ("\\d", Some(Command::List)),
        (" \\dt ; ", Some(Command::List)),
        ("\\d sales", Some(Command::Describe("sales".into()))),
        ("\\d  _sluice.epochs;", Some(Command::Describe("_sluice.epochs".into()))),
        ("\\timing", Some(Command::Timing)),
        ("\\?", Some(Command::Help)),
        ("\\q", Some(Command::Quit)),
        ("\\x", Some(Command::Unknown("\\x".into()))),
        ("\\q now", Some(Command::Unknown("\\q now".into()))),
        ("SELECT '\\d'", None),
        ("", None),
    ];
    for (line, expected) in cases {
        assert_eq!(Command::parse(line), expected, "{line}");
    }
}

#[test]
fn a_word_may_become_what_fits_its_place() {
    let table = |name: &str, columns: &[&str]| Named {
        name: name.to_string(),
        of: String::new(),
        columns: columns.iter().map(|c| (c.to_string(), "Utf8".to_string())).collect(),
    };
    let names = Names::new(vec![
        table("sales", &["invoice", "country"]),
        table("customers", &["customer_id", "InvoiceNo"]),
        table("_sluice.epochs", &["job"]),
    ]);
    let all: &[&str] = &["_sluice.epochs", "customers", "sales"];
    let cases: [(&str, &str, usize, &[&str]); 12] = [
        ("", "SEL", 0, &["SELECT"]),
        ("", "sel", 0, &["select"]),
        ("", "SELECT * FROM ", 14, all),
        ("", "select * from s", 14, &["sales"]),
        ("SELECT *\nFROM", "", 0, all),
        ("", "SELECT * FROM _sluice.e", 14, &["_sluice.epochs"]),
        ("", "SELECT * FROM sales WHERE inv", 26, &["invoice"]),
        ("", "SELECT inv", 7, &["invoice"]),
        ("", "SELECT \"Inv", 7, &["\"InvoiceNo\""]),
        ("", "SELECT sales.c", 7, &["sales.country"]),
        ("", "\\d cu", 3, &["customers"]),
        ("", "SELECT xyz", 7, &[]),
    ];
    for (before, line, start, expected) in cases {
        let (at, found) = candidates(&names, before, line);
        assert_eq!((at, found), (start, expected.iter().map(|c| (*c).into()).collect()), "{line}");
    }
}

const JOB: &str = "counted.yaml";

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
"#;

fn place() -> Place {
    let place = Place::local();
    place.write(JOB, TEXT);
    place.run(JOB);
    place
}

#[test]
fn a_pipe_gives_statements_and_its_first_error_ends_it() {
    let place = place();
    let asked = |text: &str| place.job("sql", JOB).arg("--format").arg("csv").input(text);
    let both =
        asked("SELECT count(*) AS n FROM kept; -- and\n\nSELECT max(id)\n AS top FROM kept\n");
    assert_eq!(both.ok().stdout, "n\n20\ntop\n20\n");
    let output = asked("SELECT 1 AS a;\nSELECT nope FROM kept;\nSELECT 2 AS b;").expect(2);
    output.says(&["'nope' not found", "hint: "]);
    assert_eq!(output.stdout, "a\n1\n");
    for (text, said) in [("DROP TABLE kept;", "only reads"), ("\\x\n", "no command \\x")] {
        asked(text).expect(2).says(&[said, "hint: "]);
    }
    let listed = asked("\\d\n\\d kept\n").ok().stdout;
    for part in ["kept__quarantine", "_sluice.files", "region", "Int64"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    assert_eq!(asked("").ok().stdout, "");
    assert_eq!(asked("\\q\nSELECT 1;").ok().stdout, "");
}

/// At a terminal: Tab completes, an error does not end the session, Ctrl-C ends what was begun or
/// is being answered, each statement sees what was published meanwhile, and the next session has
/// the last one's lines.
#[test]
fn a_session_at_a_terminal_outlives_errors_and_interruptions() {
    let place = place();
    let state = place.path("state").display().to_string();
    let lake = format!("lake={}", place.lake());
    let more = place.job("run", JOB).arg("--set").arg("rows=30");
    let script = root().join("tests/clients/terminal.py");
    let folder = place.path("").display().to_string();
    let run = more.command().join("\t");
    let binary = Sluice::binary();
    let session = [binary, "sql", JOB, "--set", lake.as_str(), "--format", "csv"];
    let mut args = vec![folder.as_str(), state.as_str(), run.as_str()];
    args.extend(session);
    let said = python(&script, &args, place.env());
    assert_eq!(said.trim(), "done", "{said}");
    let history = fs::read_to_string(place.path("state/sluice/history")).unwrap();
    assert!(history.contains("SELECT count(*)"), "{history}");
}
