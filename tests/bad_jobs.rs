//! Wrong job files as data: each is refused with all its problems, in their places, with a hint,
//! and nothing is written.
//!
//! `expected.txt` has a line per problem, in order: `line:column: beginning of the message`, `*`
//! for any message, without a place when the file as a whole is meant, and with the file's name
//! before it when that is not `job.yaml`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::cli::Sluice;
use crate::support::place::listing;
use crate::support::root;

/// How many cases there have to be.
const CASES_MIN: usize = 40;

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("tests/bad-jobs")).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases.retain(|path| path.is_dir());
    cases
}

/// Problems as `expected.txt` writes them, each with whether a hint follows.
fn problems(case: &Path, stderr: &str) -> Vec<(String, bool)> {
    let folder = format!("{}/", case.display());
    let mut found: Vec<(String, bool)> = Vec::new();
    for line in stderr.lines() {
        if let Some(problem) = line.strip_prefix(&folder) {
            let own = problem.strip_prefix("job.yaml:").map(str::trim_start);
            found.push((own.unwrap_or(problem).to_string(), false));
        } else if let (Some(hint), Some(last)) = (line.strip_prefix("  hint: "), found.last_mut()) {
            last.1 = !hint.trim().is_empty();
        }
    }
    found
}

fn fits(problem: &str, expected: &str) -> bool {
    problem.starts_with(expected.strip_suffix('*').unwrap_or(expected))
}

/// What is wrong with how a case is refused; nothing when all is as expected.
fn findings(case: &Path) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let before = listing(case);
    let job = case.join("job.yaml");
    // A case without that file is a whole pack.
    let path = if job.exists() { &job } else { case };
    let call = Sluice::new(&["validate"]).arg(path.display().to_string());
    let output = call.folder(folder.path()).output();
    let mut wrong = Vec::new();
    if output.code != Some(2) {
        wrong.push(format!("exit code {:?}", output.code));
    }
    if output.stderr.contains("panicked") || !output.stdout.is_empty() {
        wrong.push("panicked, or wrote to standard output".to_string());
    }
    if listing(case) != before || !listing(folder.path()).is_empty() {
        wrong.push("wrote files".to_string());
    }
    let expected = fs::read_to_string(case.join("expected.txt")).unwrap();
    let expected: Vec<&str> = expected.lines().collect();
    let found = problems(case, &output.stderr);
    let same = found.len() == expected.len()
        && found.iter().zip(&expected).all(|((problem, _), line)| fits(problem, line));
    if expected.is_empty() || !same {
        wrong.push(format!("expected {expected:#?}\nfound {found:#?}"));
    }
    let noun = if expected.len() == 1 { "problem" } else { "problems" };
    let count = format!("{} {noun}", expected.len());
    if output.stderr.lines().last() != Some(count.as_str()) {
        wrong.push(format!("does not end with `{count}`: {}", output.stderr));
    }
    for (problem, _) in found.iter().filter(|(_, hint)| !hint) {
        wrong.push(format!("no hint: {problem}"));
    }
    wrong
}

#[test]
fn every_wrong_job_file_is_refused_with_all_its_problems() {
    let cases = cases();
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        for finding in findings(case) {
            wrong.push(format!("{}: {finding}", case.file_name().unwrap().to_string_lossy()));
        }
    }
    assert!(wrong.is_empty(), "{} findings\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn places_and_hints_are_told_apart() {
    let case = Path::new("/c");
    let text = "/c/job.yaml:2:7: bad\n  hint: mend\n/c/job.yaml: worse\n/c/a.sql:1:1: odd\n";
    let found = problems(case, text);
    let expected = [("2:7: bad", true), ("worse", false), ("a.sql:1:1: odd", false)];
    assert_eq!(found, expected.map(|(problem, hint)| (problem.to_string(), hint)));
    assert!(fits("2:7: bad luck", "2:7: bad") && fits("2:7: x", "2:7: *"));
    assert!(!fits("2:8: bad", "2:7: *") && !fits("2:7: good", "2:7: bad"));
}
