//! Refusals as clients of PostgreSQL know them: a severity, a code of five letters, words, a hint.
//!
//! In: errors of queries, of DataFusion, of the engine. Out: errors of the wire. What broke inside
//! of Sluice, and addresses of stores, go to the log only.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};
use sluice_core::{Error, Kind};

use crate::serve::query::QueryError;
use crate::serve::shell::scrubbed;

/// Codes that PostgreSQL gives too, by what they mean.
pub(super) mod code {
    pub(crate) const ABORTED: &str = "25P02";
    pub(crate) const CANCELED: &str = "57014";
    pub(crate) const CURSOR: &str = "34000";
    pub(crate) const CHANGED: &str = "0A000";
    pub(crate) const DUPLICATE_CURSOR: &str = "42P03";
    pub(crate) const IDLE: &str = "57P05";
    pub(crate) const LIMIT: &str = "54000";
    pub(crate) const LOGIN: &str = "28000";
    pub(crate) const PARAMETER: &str = "22023";
    pub(crate) const PROTOCOL: &str = "08P01";
    pub(crate) const READ_ONLY: &str = "25006";
    pub(crate) const SHUTDOWN: &str = "57P01";
    pub(crate) const SYNTAX: &str = "42601";
    pub(crate) const TEXT: &str = "22P02";
    pub(crate) const TOO_MANY: &str = "53300";
    pub(crate) const UNSUPPORTED: &str = "0A000";
}

/// An error of a statement; the connection goes on.
pub(super) fn error(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(info("ERROR", code, message.into(), None)))
}

/// An error of a statement with what to do about it.
pub(super) fn hinted(code: &str, message: impl Into<String>, hint: &str) -> PgWireError {
    PgWireError::UserError(Box::new(info("ERROR", code, message.into(), Some(hint.to_string()))))
}

/// An error that ends the connection.
pub(super) fn fatal(code: &str, message: &str, hint: Option<&str>) -> PgWireError {
    let info = info("FATAL", code, message.to_string(), hint.map(str::to_string));
    PgWireError::UserError(Box::new(info))
}

fn info(severity: &str, code: &str, message: String, hint: Option<String>) -> ErrorInfo {
    let mut info = ErrorInfo::new(severity.to_string(), code.to_string(), message);
    info.severity_nonlocalized = Some(severity.to_string());
    info.hint = hint;
    info
}

/// Why a query is not answered.
pub(super) fn query(failure: QueryError) -> PgWireError {
    match failure {
        QueryError::Refused(refused) => {
            let message = scrubbed(&refused.chain());
            let hint = refused.hint_text().map(str::to_string);
            PgWireError::UserError(Box::new(info("ERROR", code_of(&message), message, hint)))
        }
        QueryError::Busy { retry_after } => {
            let seconds = retry_after.as_secs().max(1);
            let hint = format!("try again in {seconds} s");
            hinted("53000", "too many queries are at work or wait", &hint)
        }
        QueryError::TooLong => hinted(
            code::CANCELED,
            "the query took longer than it may",
            "ask for less at once, or raise serve.limits.query_time",
        ),
        QueryError::TooLarge(what) => hinted(
            code::LIMIT,
            what,
            "ask for fewer rows or groups, or raise the query limits of serve.limits",
        ),
        QueryError::Failed(failed) => engine(&failed),
    }
}

/// An error of the engine.
pub(super) fn engine(failed: &Error) -> PgWireError {
    let chain = scrubbed(&failed.chain());
    let (code, message) = match failed.kind() {
        Kind::Config => (code_of(&chain), chain),
        Kind::Data | Kind::Unreadable => ("22000", chain),
        Kind::Conflict | Kind::Fenced => ("55000", chain),
        Kind::Unavailable => {
            tracing::warn!(error = %chain, "a statement met an outage");
            ("58000", failed.message().to_string())
        }
        Kind::Bug => {
            tracing::error!(error = %chain, "a statement met a bug");
            ("XX000", "something broke while this was answered".to_string())
        }
    };
    let hint = failed.hint_text().map(str::to_string);
    PgWireError::UserError(Box::new(info("ERROR", code, message, hint)))
}

/// What DataFusion says when it reads or plans a statement.
pub(super) fn planning(failed: &DataFusionError) -> PgWireError {
    let text = failed.strip_backtrace();
    let code = match failed.find_root() {
        DataFusionError::SQL(..) => code::SYNTAX,
        DataFusionError::NotImplemented(_) => code::UNSUPPORTED,
        DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
            SchemaError::FieldNotFound { .. } => "42703",
            SchemaError::AmbiguousReference { .. } => "42702",
            _ => "42701",
        },
        _ => code_of(&text),
    };
    let message = failed.diagnostic().map_or_else(|| text.clone(), |known| known.message.clone());
    let help = failed.diagnostic().and_then(|known| {
        let help = known.helps.first().map(|help| help.message.clone());
        help.or_else(|| known.notes.first().map(|note| note.message.clone()))
    });
    PgWireError::UserError(Box::new(info("ERROR", code, scrubbed(&message), help)))
}

/// The code for what a refusal says: DataFusion tells kinds of mistakes apart in words only.
fn code_of(message: &str) -> &'static str {
    let lower = message.to_lowercase();
    let has = |text: &str| lower.contains(text);
    if has("only reads") {
        code::READ_ONLY
    } else if has("table '") && has("not found") {
        "42P01"
    } else if has("no field named") || (has("column '") && has("not found")) {
        "42703"
    } else if has("invalid function") || (has("function '") && has("not found")) {
        "42883"
    } else if has("sql error") || has("expected:") || has("parser error") {
        code::SYNTAX
    } else {
        "42000"
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(error: PgWireError) -> (String, String, Option<String>) {
        let info = ErrorInfo::from(error);
        (info.code, info.message, info.hint)
    }

    #[test]
    fn refusals_have_the_codes_clients_know() {
        let refused = |text: &str| QueryError::Refused(Error::config(text.to_string()));
        let cases = [
            (refused("a query only reads, this is DML"), "25006"),
            (refused("table 'x' not found"), "42P01"),
            (refused("No field named y"), "42703"),
            (refused("Invalid function 'f'"), "42883"),
            (refused("Expected: a list, found: EOF"), "42601"),
            (refused("something else"), "42000"),
            (QueryError::Busy { retry_after: Duration::from_secs(2) }, "53000"),
            (QueryError::TooLong, "57014"),
            (QueryError::TooLarge("more rows than a query may have".into()), "54000"),
            (QueryError::Failed(Error::data("divide by zero")), "22000"),
        ];
        for (error, expected) in cases {
            assert_eq!(told(query(error)).0, expected);
        }
    }

    #[test]
    fn bugs_and_addresses_stay_inside() {
        let (code, message, _) = told(engine(&Error::bug("a secret place")));
        assert_eq!(
            (code.as_str(), message.as_str()),
            ("XX000", "something broke while this was answered")
        );
        let away = Error::unavailable("the store is away").because("http://me:pw@host");
        assert_eq!(told(engine(&away)).1, "the store is away");
    }

    #[test]
    fn fatal_errors_end_the_connection() {
        let PgWireError::UserError(info) = fatal(code::IDLE, "enough", Some("connect again"))
        else {
            unreachable!("fatal errors are told");
        };
        assert!(info.is_fatal());
        assert_eq!(info.hint.as_deref(), Some("connect again"));
    }
}
