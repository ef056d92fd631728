//! Parameters of endpoints: `$days INT = 30`, their types and their places in SQL.
//!
//! In: a declaration in either form, a statement. Out: names, types and defaults; the placeholders
//! of the statement. Values are bound by whoever runs the query, never written into its text.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use serde_json::Value;
use sluice_core::{Error, Result, parse_type};

use super::route::is_name;

/// The types of parameters, for hints.
const TYPES: &str = "use INT, DOUBLE, DECIMAL(10, 2), TEXT, BOOLEAN, DATE or TIMESTAMP";

/// A declaration in the short form.
#[derive(Debug, PartialEq)]
pub(super) struct Declared {
    pub name: String,
    pub data_type: String,
    /// Null stands for SQL's NULL.
    pub default: Option<Value>,
}

/// Reads `$days INT = 30`.
pub(super) fn declared(text: &str) -> Result<Declared> {
    let refused = || {
        Error::config(format!("not a parameter text={text}"))
            .hint("write it like `$days INT = 30` or `$city TEXT`; names are snake_case")
    };
    let (name, rest) = text
        .trim()
        .strip_prefix('$')
        .and_then(|rest| rest.split_once(char::is_whitespace))
        .ok_or_else(refused)?;
    if !is_name(name) {
        return Err(refused());
    }
    let (data_type, default) = match rest.split_once('=') {
        Some((data_type, value)) => (data_type, Some(literal(value.trim()).ok_or_else(refused)?)),
        None => (rest, None),
    };
    let (name, data_type) = (name.to_string(), data_type.trim().to_string());
    Ok(Declared { name, data_type, default })
}

/// A literal of SQL: a number, a text in single quotes, true, false or null.
fn literal(text: &str) -> Option<Value> {
    if let Some(inner) = text.strip_prefix('\'') {
        let inner = inner.strip_suffix('\'')?;
        let plain = inner.replace("''", "\u{0}");
        return (!plain.contains('\'')).then(|| Value::String(plain.replace('\u{0}', "'")));
    }
    match text.to_ascii_lowercase().as_str() {
        "null" => Some(Value::Null),
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ => serde_json::from_str(text).ok().filter(Value::is_number),
    }
}

/// The type that is named, in SQL's words or those of data schemas. Whole numbers are all of 64
/// bits, so that no value that a column can hold is refused.
pub(super) fn data_type(name: &str) -> Result<DataType> {
    let upper = name.trim().to_ascii_uppercase();
    let word = upper.split('(').next().unwrap_or_default().trim();
    Ok(match word {
        "INT" | "INTEGER" | "BIGINT" | "SMALLINT" | "TINYINT" => DataType::Int64,
        "DOUBLE" | "DOUBLE PRECISION" | "FLOAT" | "REAL" => DataType::Float64,
        "TEXT" | "VARCHAR" | "CHAR" | "STRING" => DataType::Utf8,
        "BOOLEAN" | "BOOL" => DataType::Boolean,
        "TIMESTAMP" | "TIMESTAMPTZ" => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        _ => {
            let name = upper.replace("NUMERIC", "DECIMAL");
            let found = parse_type(&name).ok().filter(can_be_asked);
            found.ok_or_else(|| {
                Error::config(format!("not a type of a parameter type={upper}")).hint(TYPES)
            })?
        }
    })
}

fn can_be_asked(data_type: &DataType) -> bool {
    !data_type.is_nested() && *data_type != DataType::Binary
}

/// Whether `value` can be a value of `data_type`.
pub(super) fn fits(value: &Value, data_type: &DataType) -> bool {
    let text = match (value, data_type) {
        (Value::Null, _) => return true,
        (Value::Bool(_), _) => return *data_type == DataType::Boolean,
        (Value::Number(number), _) if data_type.is_numeric() => number.to_string(),
        (Value::String(text), _) if data_type.is_temporal() => text.clone(),
        (Value::String(_), DataType::Utf8) => return true,
        _ => return false,
    };
    let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&column, data_type, &strict).is_ok()
}

/// The placeholders of a statement with line and column of each, from 1. Those in comments, quotes
/// and names are none. Nothing for a text that is no SQL at all, which its planning tells.
pub(super) fn placeholders(sql: &str) -> Vec<(String, u32, u32)> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location();
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let found = tokens.unwrap_or_default().into_iter().filter_map(|token| match token.token {
        Token::Placeholder(name) => {
            let place = token.span.start;
            let name = name.trim_start_matches('$').to_string();
            Some((name, narrow(place.line), narrow(place.column)))
        }
        _ => None,
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_short_form_is_sqls() {
        let read = |text: &str| {
            declared(text).map(|d| (d.name, d.data_type, d.default)).map_err(|_| "refused")
        };
        let is = |name: &str, data_type: &str, default| {
            Ok((name.to_string(), data_type.to_string(), default))
        };
        assert_eq!(read("$days INT = 30"), is("days", "INT", Some(json!(30))));
        assert_eq!(read(" $price DECIMAL(10, 2)"), is("price", "DECIMAL(10, 2)", None));
        assert_eq!(read("$city TEXT='L''Aquila'"), is("city", "TEXT", Some(json!("L'Aquila"))));
        assert_eq!(read("$from DATE = NULL"), is("from", "DATE", Some(Value::Null)));
        assert_eq!(read("$all BOOLEAN = false"), is("all", "BOOLEAN", Some(json!(false))));
        assert_eq!(read("$least DOUBLE = -1.5e3"), is("least", "DOUBLE", Some(json!(-1500.0))));
        for text in ["days INT", "$days", "$Days INT", "$d INT =", "$d INT = now()", "$d TEXT = 'a"]
        {
            assert_eq!(read(text), Err("refused"), "{text}");
        }
    }

    #[test]
    fn types_have_sqls_names() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        for (name, expected) in [
            ("int", DataType::Int64),
            ("VARCHAR(20)", DataType::Utf8),
            ("double precision", DataType::Float64),
            ("numeric(10, 2)", DataType::Decimal128(10, 2)),
            ("date", DataType::Date32),
            ("timestamp", utc),
            ("float32", DataType::Float32),
        ] {
            assert_eq!(data_type(name).ok(), Some(expected), "{name}");
        }
        for name in ["", "INTERVAL", "list(string)", "binary", "decimal(99, 2)"] {
            assert!(data_type(name).is_err(), "{name}");
        }
    }

    #[test]
    fn defaults_fit_their_types() {
        let fitting = |name: &str, value: Value| {
            let of = data_type(name).unwrap();
            fits(&value, &of)
        };
        for (name, value) in [
            ("INT", json!(30)),
            ("DOUBLE", json!(30)),
            ("DECIMAL(10, 2)", json!(1.25)),
            ("TEXT", json!("30")),
            ("DATE", json!("2024-02-29")),
            ("TIMESTAMP", json!("2024-02-29T10:00:00Z")),
            ("BOOLEAN", json!(true)),
            ("DATE", Value::Null),
        ] {
            assert!(fitting(name, value.clone()), "{name} {value}");
        }
        for (name, value) in [
            ("INT", json!(1.5)),
            ("INT", json!("30")),
            ("TEXT", json!(30)),
            ("DATE", json!("2024-02-30")),
            ("DATE", json!(20240229)),
            ("BOOLEAN", json!("true")),
        ] {
            assert!(!fitting(name, value.clone()), "{name} {value}");
        }
    }

    #[test]
    fn placeholders_stand_outside_of_quotes_and_comments() {
        let sql = "SELECT '$a', \"$b\", $c -- $d\n/* $e */ FROM t WHERE x > $f AND y = $c";
        let found = placeholders(sql);
        let names: Vec<&str> = found.iter().map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(names, ["c", "f", "c"]);
        assert_eq!((found[1].1, found[1].2), (2, 27));
    }
}
