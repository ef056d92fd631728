//! Settings of a session: what clients `SET` and `SHOW`.
//!
//! In: changes, the parameters a client connects with. Out: the settings in force, and what is to
//! be reported. Only how values are written, the time zone and the time limit mean something here;
//! what else PostgreSQL knows is taken and forgotten, so that clients which set it go on.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;
use std::time::Duration;

use datafusion::arrow::array::timezone::Tz;
use datafusion::sql::sqlparser::ast::{Expr, Set, Value};
use datafusion_postgres::pgwire::error::PgWireResult;

use super::failure::{self, code};
use crate::serve::catalog::POSTGRES_VERSION;

/// The version as one number, as clients compare it.
const VERSION_NUMBER: &str = "160006";

/// What can be set, with the name it is reported by, if it is, and its default.
const SETTABLE: [(&str, Option<&str>, &str); 9] = [
    ("application_name", Some("application_name"), ""),
    ("bytea_output", None, "hex"),
    ("client_encoding", Some("client_encoding"), "UTF8"),
    ("datestyle", Some("DateStyle"), "ISO, YMD"),
    ("extra_float_digits", None, "1"),
    ("intervalstyle", Some("IntervalStyle"), "postgres"),
    ("search_path", None, "public"),
    ("statement_timeout", None, "0"),
    ("timezone", Some("TimeZone"), "UTC"),
];

/// What always is as it is.
const FIXED: [(&str, &str); 14] = [
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "on"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("is_superuser", "off"),
    ("lc_collate", "C"),
    ("lc_ctype", "C.UTF-8"),
    ("max_identifier_length", "63"),
    ("server_encoding", "UTF8"),
    ("server_version", POSTGRES_VERSION),
    ("server_version_num", VERSION_NUMBER),
    ("standard_conforming_strings", "on"),
    ("transaction_isolation", "read committed"),
    ("transaction_read_only", "on"),
];

/// What is told to a client when it connects, beside what it can set.
const TOLD: [&str; 6] = [
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "server_encoding",
    "standard_conforming_strings",
];

/// Settings of a session by name.
pub(super) type Settings = HashMap<String, String>;

/// A `SET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The setting, lower-cased; empty for what means nothing here.
    name: String,
    /// The value; none for the default.
    value: Option<String>,
}

impl Change {
    /// What `set` changes. Errors: an encoding that is none.
    pub(super) fn of(set: Set) -> PgWireResult<Self> {
        let (name, value) = match set {
            Set::SingleAssignment { variable, values, .. } => {
                let texts: Vec<String> = values.iter().map(text_of).collect();
                (variable.to_string().to_lowercase().replace('"', ""), texts.join(", "))
            }
            Set::SetTimeZone { value, .. } => ("timezone".to_string(), text_of(&value)),
            Set::SetNames { charset_name, .. } => {
                ("client_encoding".to_string(), charset_name.value)
            }
            // Transactions read what is there, whatever they ask for; nobody becomes somebody else.
            _ => (String::new(), String::new()),
        };
        let default = ["default", "local"].iter().any(|word| value.eq_ignore_ascii_case(word));
        Ok(Self { name, value: (!default).then_some(value) })
    }

    /// Applies it to `settings`. Out: what is to be reported. Errors: a value that cannot be.
    pub(super) fn apply(&self, settings: &mut Settings) -> PgWireResult<Option<Report>> {
        let Some((name, reported, default)) = known(&self.name) else { return Ok(None) };
        let value = match &self.value {
            Some(value) => checked(name, value, settings)?,
            None => default.to_string(),
        };
        settings.insert(name.to_string(), value.clone());
        Ok(reported.map(|name| Report { name: name.to_string(), value }))
    }
}

/// What a client is told about its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    /// The name, as PostgreSQL writes it.
    pub name: String,
    /// The value.
    pub value: String,
}

fn known(name: &str) -> Option<(&'static str, Option<&'static str>, &'static str)> {
    SETTABLE.into_iter().find(|(known, ..)| *known == name)
}

/// Back to the default of one setting, or of all. Out: what is to be reported.
pub(super) fn reset(settings: &mut Settings, name: Option<&str>) -> Vec<Report> {
    let wanted = |known: &str| name.is_none_or(|name| name == known);
    let mut reports = Vec::new();
    for (known, reported, default) in SETTABLE.into_iter().filter(|(known, ..)| wanted(known)) {
        settings.insert(known.to_string(), default.to_string());
        let report = |name: &str| Report { name: name.to_string(), value: default.to_string() };
        reports.extend(reported.map(report));
    }
    reports
}

/// The settings of a session that begins with `parameters`. What cannot be is left at its default,
/// as clients cannot do anything about it at that moment.
pub(super) fn begin(parameters: &Settings) -> Settings {
    let mut settings = Settings::new();
    reset(&mut settings, None);
    let options = parameters.get("options").map(|text| options(text)).unwrap_or_default();
    let given = parameters.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
    for (name, value) in given.chain(options) {
        let change = Change { name, value: Some(value) };
        // An invalid value leaves the default, see above.
        let _ = change.apply(&mut settings);
    }
    settings
}

/// The settings in `-c name=value` and `--name=value`.
fn options(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let pair = match word {
            "-c" => words.next(),
            other => other.strip_prefix("--").or_else(|| other.strip_prefix("-c")),
        };
        if let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) {
            found.push((name.to_lowercase().replace('-', "_"), value.to_string()));
        }
    }
    found
}

/// What a client is told when its session begins.
pub(super) fn told(settings: &Settings, version: &str) -> Vec<Report> {
    let report =
        |name: &str, value: &str| Report { name: name.to_string(), value: value.to_string() };
    let mut reports = vec![report("server_version", version)];
    let fixed = FIXED.iter().filter(|(name, _)| TOLD.contains(name));
    reports.extend(fixed.map(|(name, value)| report(name, value)));
    for (name, reported, default) in SETTABLE {
        let value = settings.get(name).map_or(default, String::as_str);
        reports.extend(reported.map(|name| report(name, value)));
    }
    reports
}

/// All settings in force.
pub(super) fn all(settings: &Settings) -> BTreeMap<String, String> {
    let fixed = FIXED.into_iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let set = SETTABLE.into_iter().map(|(name, _, default)| {
        let value = settings.get(name).cloned().unwrap_or_else(|| default.to_string());
        (name.to_string(), value)
    });
    fixed.chain(set).collect()
}

/// What `SHOW` of `words` answers: names of columns, and rows. Errors: there is no such setting.
pub(super) fn show(
    settings: &Settings,
    words: &str,
) -> PgWireResult<(Vec<String>, Vec<Vec<String>>)> {
    if words == "all" {
        let names = ["name", "setting", "description"].map(str::to_string).to_vec();
        let row = |(name, value)| vec![name, value, String::new()];
        return Ok((names, all(settings).into_iter().map(row).collect()));
    }
    let name = match words {
        "time zone" => "timezone",
        "transaction isolation level" => "transaction_isolation",
        other => other,
    };
    let reported = known(name).and_then(|(_, reported, _)| reported).unwrap_or(name);
    match all(settings).remove(name) {
        Some(value) => Ok((vec![reported.to_string()], vec![vec![value]])),
        None => {
            let message = format!("there is no such setting name={name}");
            Err(failure::hinted("42704", message, "SHOW ALL lists those there are"))
        }
    }
}

/// How long a statement may take by the client's own wish.
pub(super) fn timeout(settings: &Settings) -> Option<Duration> {
    let ms: u64 = settings.get("statement_timeout")?.parse().ok()?;
    (ms > 0).then(|| Duration::from_millis(ms))
}

/// The time zone the client set; none for UTC.
pub(super) fn zone(settings: &Settings) -> Option<String> {
    let zone = settings.get("timezone")?;
    let is_utc = ["UTC", "Etc/UTC", "GMT"].contains(&zone.as_str());
    (!is_utc).then(|| zone.clone())
}

/// The text of a value as it is written.
fn text_of(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        Expr::Identifier(ident) => ident.value.clone(),
        other => other.to_string(),
    }
}

/// `value` as the setting `name` has it. Errors: it cannot be.
fn checked(name: &str, value: &str, settings: &Settings) -> PgWireResult<String> {
    let odd = || {
        let message = format!("invalid value for a setting name={name} value={value}");
        failure::error(code::PARAMETER, message)
    };
    let one_of = |known: &[&'static str]| {
        let found = known.iter().find(|known| value.eq_ignore_ascii_case(known));
        found.map(|known| (*known).to_string()).ok_or_else(odd)
    };
    match name {
        "bytea_output" => one_of(&["hex", "escape"]),
        "intervalstyle" => one_of(&["postgres", "postgres_verbose", "sql_standard", "iso_8601"]),
        "client_encoding" => {
            let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
            let utf8 = ["utf8", "unicode"].contains(&plain.to_lowercase().as_str());
            if utf8 { Ok("UTF8".to_string()) } else { Err(odd()) }
        }
        "datestyle" => {
            let before = settings.get(name).map_or("ISO, YMD", String::as_str);
            date_style(value, before).ok_or_else(odd)
        }
        "extra_float_digits" => {
            let digits: i8 = value.trim().parse().map_err(|_| odd())?;
            if (-15..=3).contains(&digits) { Ok(digits.to_string()) } else { Err(odd()) }
        }
        "statement_timeout" => Ok(milliseconds(value).ok_or_else(odd)?.to_string()),
        "timezone" => time_zone(value).ok_or_else(odd),
        _ => Ok(value.to_string()),
    }
}

/// Style and order of dates; what is not said stays as it was.
fn date_style(value: &str, before: &str) -> Option<String> {
    let (mut style, mut order) = before.split_once(", ")?;
    let upper = value.to_uppercase();
    for word in upper.split([',', ' ']).filter(|word| !word.is_empty()) {
        match word {
            "ISO" => style = "ISO",
            "SQL" => style = "SQL",
            "POSTGRES" => style = "Postgres",
            "GERMAN" => style = "German",
            "MDY" | "US" | "NONEURO" => order = "MDY",
            "DMY" | "EURO" | "EUROPEAN" => order = "DMY",
            "YMD" => order = "YMD",
            _ => return None,
        }
    }
    Some(format!("{style}, {order}"))
}

fn milliseconds(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let each = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(each)
}

fn time_zone(value: &str) -> Option<String> {
    let value = value.trim();
    let upper = value.to_uppercase();
    let name = if ["UTC", "GMT", "Z"].contains(&upper.as_str()) { "UTC" } else { value };
    Tz::from_str(name).ok().map(|_| name.to_string())
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn set(settings: &mut Settings, text: &str) -> PgWireResult<Option<Report>> {
        let statement = Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap().remove(0);
        let Statement::Set(set) = statement else { unreachable!("{text}") };
        Change::of(set)?.apply(settings)
    }

    fn shown(settings: &Settings, words: &str) -> String {
        show(settings, words).unwrap().1[0][0].clone()
    }

    #[test]
    fn what_is_set_is_shown_and_reported() {
        let mut settings = begin(&Settings::new());
        let cases = [
            ("SET application_name = 'a b'", "application_name", "a b"),
            ("SET datestyle TO ISO, DMY", "datestyle", "ISO, DMY"),
            ("SET DateStyle = 'MDY'", "datestyle", "ISO, MDY"),
            ("SET extra_float_digits = 3", "extra_float_digits", "3"),
            ("SET TIME ZONE 'utc'", "timezone", "UTC"),
            ("SET timezone TO '+02:00'", "time zone", "+02:00"),
            ("SET timezone TO DEFAULT", "timezone", "UTC"),
            ("SET SESSION statement_timeout = '5s'", "statement_timeout", "5000"),
            ("SET client_encoding TO 'utf-8'", "client_encoding", "UTF8"),
            ("SET NAMES 'UTF8'", "client_encoding", "UTF8"),
        ];
        for (text, words, value) in cases {
            let report = set(&mut settings, text).unwrap();
            assert_eq!(shown(&settings, words), value, "{text}");
            assert!(report.is_none_or(|report| report.value == value), "{text}");
        }
        assert_eq!(timeout(&settings), Some(Duration::from_secs(5)));
        reset(&mut settings, Some("statement_timeout"));
        assert_eq!(timeout(&settings), None);
    }

    #[test]
    fn what_means_nothing_is_taken() {
        let mut settings = begin(&Settings::new());
        let before = settings.clone();
        for text in [
            "SET lock_timeout = 5",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET ROLE somebody",
        ] {
            assert_eq!(set(&mut settings, text).unwrap(), None, "{text}");
        }
        assert_eq!(settings, before);
        for text in [
            "SET timezone = 'Nowhere/Land'",
            "SET client_encoding = 'LATIN1'",
            "SET datestyle = 'maybe'",
            "SET statement_timeout = 'soon'",
            "SET extra_float_digits = 99",
        ] {
            assert!(set(&mut settings, text).is_err(), "{text}");
        }
        assert!(show(&settings, "nonsense").is_err());
    }

    #[test]
    fn sessions_begin_with_what_clients_ask_for() {
        let given = [
            ("user", "ana"),
            ("application_name", "psql"),
            ("DateStyle", "ISO"),
            ("TimeZone", "Nowhere"),
            ("options", "-c statement_timeout=1min --search-path=a -cextra_float_digits=2"),
        ];
        let given = given.map(|(name, value)| (name.to_string(), value.to_string()));
        let settings = begin(&Settings::from(given));
        assert_eq!(shown(&settings, "application_name"), "psql");
        assert_eq!(shown(&settings, "timezone"), "UTC");
        assert_eq!(shown(&settings, "statement_timeout"), "60000");
        assert_eq!(shown(&settings, "extra_float_digits"), "2");
        assert_eq!(shown(&settings, "search_path"), "a");
        assert!(!settings.contains_key("user"));
        let names: Vec<String> = told(&settings, "16.6").into_iter().map(|one| one.name).collect();
        for name in ["server_version", "client_encoding", "DateStyle", "TimeZone"] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        assert!(show(&settings, "all").unwrap().1.len() > 20);
    }
}
