//! How a command ends when it does not succeed: what is said, and the exit code.
//!
//! In: errors of the engine and of standard output. Out: text for people, JSON for programs, a
//! number for the shell. Exit codes: 1 a job failed or a check found something, 2 the job file or
//! the options are wrong.

use std::fmt::Write as _;
use std::io;

use serde_json::{Value, json};
use sluice_core::{Error, Kind, Problems};

/// A job failed, or a check found something.
pub const EXIT_FAILED: u8 = 1;

/// The options or the job file are wrong.
pub const EXIT_USAGE: u8 = 2;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// Job files are wrong; nothing was run.
    Problems(Problems),
    /// Options, names or SQL are wrong; nothing was run.
    Usage(Error),
    /// The work failed.
    Failed(Error),
    /// The work was done and its answer is bad; it has been shown.
    Found,
    /// Whoever reads standard output has gone; there is nobody left to tell.
    Closed,
}

impl Failure {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Problems(_) | Failure::Usage(_) => EXIT_USAGE,
            Failure::Failed(_) | Failure::Found => EXIT_FAILED,
            Failure::Closed => 0,
        }
    }

    /// What people read, with a line end; empty when all has been said.
    pub fn text(&self) -> String {
        match self {
            Failure::Problems(problems) => {
                let count = problems.sorted().len();
                let noun = if count == 1 { "problem" } else { "problems" };
                format!("{problems}\n{count} {noun}\n")
            }
            Failure::Usage(error) | Failure::Failed(error) => error_text(error),
            Failure::Found | Failure::Closed => String::new(),
        }
    }

    /// What programs read; none when it has been written.
    pub fn json(&self) -> Option<Value> {
        match self {
            Failure::Problems(problems) => Some(json!({
                "ok": false,
                "problems": problems_json(problems),
            })),
            Failure::Usage(error) | Failure::Failed(error) => Some(json!({
                "ok": false,
                "error": error_json(error),
            })),
            Failure::Found | Failure::Closed => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.kind() == Kind::Config { Failure::Usage(error) } else { Failure::Failed(error) }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Failure::Problems(problems)
    }
}

impl From<io::Error> for Failure {
    /// Commands meet these only when they write to standard output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::Closed;
        }
        Failure::Failed(Error::unavailable("cannot write to standard output").because(error))
    }
}

/// `error: message: cause`, then a `hint:` line when something can be done.
pub fn error_text(error: &Error) -> String {
    let mut text = format!("error: {}\n", error.chain());
    if let Some(hint) = error.hint_text() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

/// An error as an object: kind, message with its causes, hint.
pub fn error_json(error: &Error) -> Value {
    let kind = error.kind().name();
    json!({ "kind": kind, "message": error.chain(), "hint": error.hint_text() })
}

fn problems_json(problems: &Problems) -> Vec<Value> {
    let one = |p: &sluice_core::Problem| {
        json!({
            "file": p.file.display().to_string(),
            "line": p.span.map(|s| s.line),
            "column": p.span.map(|s| s.column),
            "message": p.message,
            "hint": p.hint,
        })
    };
    problems.sorted().into_iter().map(one).collect()
}
