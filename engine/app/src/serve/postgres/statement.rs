//! What a client asks for.
//!
//! In: the text of one or several statements. Out: one [`Asked`] each: a question that is planned
//! and run, or one of the commands by which clients set up and clean up their sessions. Questions
//! about the catalogue are rewritten, others are taken as they are written. Nothing is planned
//! here.

use std::sync::{Arc, OnceLock};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::sql::parser::{DFParserBuilder, ResetStatement, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::{
    CloseCursor, Declare, FetchDirection, Ident, Statement, Value, ValueWithSpan,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion_postgres::pgwire::error::PgWireResult;

use super::failure::{self, code};
use super::settings::Change;
use crate::serve::catalog::{Reads, Rewriter, split};
use crate::serve::query::{check_statement, check_text};

/// Statements that one message may have: each is answered before the next is looked at.
const STATEMENTS_MAX: usize = 100;

/// A statement.
#[derive(Debug)]
pub(super) struct Asked {
    /// What it is.
    pub what: What,
    /// The columns that a client was told of before it bound values.
    pub promised: OnceLock<SchemaRef>,
}

/// What statements do.
#[derive(Debug)]
pub(super) enum What {
    /// Reads, or tries something else and is refused when it is planned.
    Read(Box<DfStatement>),
    /// `SET`.
    Set(Change),
    /// `RESET`; all settings without a name.
    Reset(Option<String>),
    /// `SHOW` of a setting.
    Show(String),
    /// `BEGIN`.
    Begin,
    /// `COMMIT`, `END`.
    Commit,
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `DECLARE … CURSOR FOR` a question.
    Declare(String, Box<DfStatement>),
    /// `FETCH`, of so many rows; all without a number.
    Fetch(String, Option<usize>),
    /// `CLOSE`; all cursors without a name.
    Close(Option<String>),
    /// `DEALLOCATE`; all prepared statements without a name.
    Deallocate(Option<String>),
    /// `DISCARD ALL`.
    Discard,
    /// What has nothing to do here: savepoints, channels. The word is the answer.
    Nothing(&'static str),
}

/// The statements of `text`. Errors: it is no SQL, too long, has too many, or one that stands for
/// too much.
pub(super) fn read(text: &str, rewriter: &Rewriter) -> PgWireResult<Vec<Arc<Asked>>> {
    check_text(text, &PostgreSqlDialect {}).map_err(|e| failure::engine(&e))?;
    let parts = split(text).map_err(|e| failure::error(code::SYNTAX, e.to_string()))?;
    if parts.len() > STATEMENTS_MAX {
        let message = format!("too many statements at once statements_max={STATEMENTS_MAX}");
        return Err(failure::error(code::LIMIT, message));
    }
    parts.iter().map(|part| one(part, rewriter).map(Arc::new)).collect()
}

fn one(text: &str, rewriter: &Rewriter) -> PgWireResult<Asked> {
    let plain = DFParserBuilder::new(text)
        .with_dialect(&PostgreSqlDialect {})
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let plain = plain.map(|mut statements| statements.pop_front());
    let what = match plain {
        Ok(Some(DfStatement::Statement(statement))) => {
            let rewritten = Reads::of(&statement).is_catalog();
            // What cannot be rewritten may still be planned as it is.
            let again = if rewritten { rewriter.statement(text).ok().flatten() } else { None };
            of(again.unwrap_or(*statement))?
        }
        Ok(Some(DfStatement::Reset(ResetStatement::Variable(name)))) => {
            let name = name.to_string().to_lowercase();
            What::Reset(Some(name).filter(|name| name != "all"))
        }
        Ok(Some(other)) => What::Read(Box::new(other)),
        Ok(None) => What::Nothing(""),
        // Some of PostgreSQL's own words are known to the rewriter only.
        Err(error) => match rewriter.statement(text) {
            Ok(Some(statement)) if !Reads::of(&statement).own => of(statement)?,
            _ => return Err(failure::planning(&error)),
        },
    };
    if let What::Read(statement) | What::Declare(_, statement) = &what {
        check_statement(statement).map_err(|e| failure::engine(&e))?;
    }
    Ok(Asked::new(what))
}

fn of(statement: Statement) -> PgWireResult<What> {
    Ok(match statement {
        Statement::Set(set) => What::Set(Change::of(set)?),
        Statement::ShowVariable { variable } => {
            let words: Vec<String> =
                variable.iter().map(|word| word.value.to_lowercase()).collect();
            What::Show(words.join(" "))
        }
        Statement::Reset(reset) => {
            let text = reset.to_string().to_lowercase();
            let name = text.trim_start_matches("reset").trim().to_string();
            What::Reset(Some(name).filter(|name| name != "all"))
        }
        Statement::StartTransaction { .. } => What::Begin,
        Statement::Commit { .. } => What::Commit,
        Statement::Rollback { savepoint: None, .. } => What::Rollback,
        Statement::Rollback { .. } => What::Nothing("ROLLBACK"),
        Statement::Savepoint { .. } => What::Nothing("SAVEPOINT"),
        Statement::ReleaseSavepoint { .. } => What::Nothing("RELEASE"),
        Statement::LISTEN { .. } => What::Nothing("LISTEN"),
        Statement::UNLISTEN { .. } => What::Nothing("UNLISTEN"),
        Statement::Discard { .. } => What::Discard,
        Statement::Deallocate { name, .. } => What::Deallocate(named(name)),
        Statement::Declare { stmts } => declare(stmts)?,
        Statement::Fetch { name, direction, .. } => What::Fetch(name.value, rows_of(&direction)?),
        Statement::Close { cursor: CloseCursor::All } => What::Close(None),
        Statement::Close { cursor: CloseCursor::Specific { name } } => What::Close(named(name)),
        other => What::Read(Box::new(DfStatement::Statement(Box::new(other)))),
    })
}

fn named(name: Ident) -> Option<String> {
    let all = name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all");
    (!all).then_some(name.value)
}

fn declare(mut stmts: Vec<Declare>) -> PgWireResult<What> {
    let refused = || failure::error(code::SYNTAX, "DECLARE takes one cursor FOR a query");
    let declared = stmts.pop().filter(|_| stmts.is_empty()).ok_or_else(refused)?;
    let name = declared.names.into_iter().next().ok_or_else(refused)?;
    let query = declared.for_query.ok_or_else(refused)?;
    let query = DfStatement::Statement(Box::new(Statement::Query(query)));
    Ok(What::Declare(name.value, Box::new(query)))
}

/// How many rows `FETCH` asks for; none for all. Errors: it wants to go back.
fn rows_of(direction: &FetchDirection) -> PgWireResult<Option<usize>> {
    let number = |value: &ValueWithSpan| match &value.value {
        Value::Number(digits, _) => digits.parse().ok(),
        _ => None,
    };
    let odd = || failure::error(code::SYNTAX, "FETCH takes a number of rows");
    match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Ok(Some(1)),
        FetchDirection::Forward { limit: Some(limit) } | FetchDirection::Count { limit } => {
            number(limit).map(Some).ok_or_else(odd)
        }
        FetchDirection::All | FetchDirection::ForwardAll => Ok(None),
        _ => Err(failure::error(code::UNSUPPORTED, "a cursor only goes forward")),
    }
}

impl Asked {
    /// A statement nobody was told about.
    pub(super) fn new(what: What) -> Self {
        Self { what, promised: OnceLock::new() }
    }

    /// What a client that failed inside of a transaction may still ask for.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self.what, What::Commit | What::Rollback)
    }
}

#[cfg(test)]
mod tests {
    use datafusion_postgres::pgwire::error::PgWireError;

    use super::*;

    fn kinds(text: &str) -> Vec<String> {
        let rewriter = Rewriter::new().unwrap();
        let asked = read(text, &rewriter).unwrap();
        let kind = |one: &Arc<Asked>| match &one.what {
            What::Read(statement) => format!("read {statement}"),
            What::Declare(name, statement) => format!("declare {name} {statement}"),
            other => format!("{other:?}"),
        };
        asked.iter().map(kind).collect()
    }

    #[test]
    fn commands_are_told_from_questions() {
        let cases: [(&str, &[&str]); 20] = [
            ("", &[]),
            (" ; ;", &[]),
            ("SELECT a FROM sales", &["read SELECT a FROM sales"]),
            ("BEGIN; SELECT 1; COMMIT", &["Begin", "read SELECT 1", "Commit"]),
            ("START TRANSACTION READ ONLY", &["Begin"]),
            ("END", &["Commit"]),
            ("ABORT", &["Rollback"]),
            ("ROLLBACK TO SAVEPOINT a", &["Nothing(\"ROLLBACK\")"]),
            ("SAVEPOINT a", &["Nothing(\"SAVEPOINT\")"]),
            ("SHOW TIME ZONE", &["Show(\"time zone\")"]),
            ("SHOW search_path", &["Show(\"search_path\")"]),
            ("RESET ALL", &["Reset(None)"]),
            ("RESET timezone", &["Reset(Some(\"timezone\"))"]),
            ("DISCARD ALL", &["Discard"]),
            ("DEALLOCATE ALL", &["Deallocate(None)"]),
            ("DEALLOCATE _pg3_0", &["Deallocate(Some(\"_pg3_0\"))"]),
            ("UNLISTEN *", &["Nothing(\"UNLISTEN\")"]),
            ("DECLARE \"C\" CURSOR FOR SELECT a FROM sales", &["declare C SELECT a FROM sales"]),
            ("FETCH FORWARD 100 FROM \"C\"", &["Fetch(\"C\", Some(100))"]),
            ("CLOSE ALL", &["Close(None)"]),
        ];
        for (text, expected) in cases {
            assert_eq!(kinds(text), expected, "{text}");
        }
    }

    #[test]
    fn what_reads_relations_of_a_project_is_never_rewritten() {
        let text = "SELECT (SELECT max(s.a) FROM sales AS s WHERE s.b = t.b) FROM sales AS t";
        assert_eq!(kinds(text), [format!("read {text}")]);
        // The rewriter would make null of it.
        let text = "SELECT (SELECT max(c.oid) FROM pg_class c WHERE c.oid = t.oid) FROM pg_type t";
        assert!(kinds(text)[0].contains("NULL"), "{:?}", kinds(text));
    }

    #[test]
    fn mistakes_are_told() {
        let rewriter = Rewriter::new().unwrap();
        for text in ["SELEC 1", "SELECT 'open", "FETCH PRIOR FROM c", "DECLARE c CURSOR FOR"] {
            assert!(read(text, &rewriter).is_err(), "{text}");
        }
        let many = "SELECT 1;".repeat(STATEMENTS_MAX + 1);
        assert!(read(&many, &rewriter).is_err());
        // It would be a tree that no stack holds.
        let deep = format!("SELECT 1{}", " + 1".repeat(20_000));
        assert!(read(&deep, &rewriter).is_err());
        // It would be a hundred times all columns, however it is asked.
        let stars = format!("SELECT {} FROM sales", vec!["*"; 100].join(", "));
        for text in [stars.clone(), format!("DECLARE c CURSOR FOR {stars}")] {
            let PgWireError::UserError(told) = read(&text, &rewriter).unwrap_err() else {
                unreachable!("it is told")
            };
            assert!(told.message.contains("more stars") && told.hint.is_some(), "{told:?}");
        }
    }
}
