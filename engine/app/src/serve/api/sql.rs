//! `POST /v1/sql`: one query with bound parameters, its rows streamed.
//!
//! In: JSON with the statement, parameters and a limit, or the statement alone as text. Out: rows in
//! the form asked for. That statements only read, and how much they may take, is `query`'s to see to.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use datafusion::common::ScalarValue;
use serde::Deserialize;
use serde_json::Value;
use sluice_core::{Error, Result, parse_type};
use utoipa::ToSchema;

use super::answer;
use super::ask::{Asked, Nothing, Whole, wanted};
use super::description::SqlRows;
use super::encode::{Around, Outgoing, begun, body};
use crate::serve::Parts;
use crate::serve::query::Ask;
use crate::serve::shell::{ApiError, Caller};

/// Parameters of one query: more are a table to join with.
const PARAMS_MAX: usize = 1_000;

/// A query.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// The statement. `$name` stands for a parameter.
    #[schema(
        example = "SELECT day, sum(amount) AS amount FROM sales WHERE site = $site GROUP BY day"
    )]
    sql: String,
    /// A value per parameter: null, a boolean, a number, a text, or `{"type": "date", "value":
    /// "2026-01-31"}` with a type of the schemas.
    #[serde(default)]
    #[schema(value_type = Object)]
    params: BTreeMap<String, Value>,
    /// Rows at most; default: as many as a query may have.
    #[schema(minimum = 1)]
    limit: Option<u64>,
}

/// Ask by SQL
///
/// Statements only read. Without `limit` a query that has more rows than it may breaks off; in JSON
/// the last member is `error` then, in an object that is not closed.
#[utoipa::path(post, path = "/v1/sql", tag = "sql", operation_id = "sql",
    request_body(description = "the query", content(
        (Question = "application/json"), (String = "text/plain"))),
    responses(SqlRows))]
pub(super) async fn ask(
    State(parts): State<Arc<Parts>>,
    Asked(Nothing {}): Asked<Nothing>,
    caller: Caller,
    headers: HeaderMap,
    Whole(bytes): Whole,
) -> Result<Response, ApiError> {
    let format = wanted(&headers)?;
    let question = question(&headers, &bytes)?;
    let params = scalars(&question.params)?;
    let ask = Ask { sql: question.sql, params, rows_max: None, who: caller.name };
    let rows = parts.queries.run(ask).await?;
    let (schema, rows) = (rows.schema, begun(rows.stream).await?);
    let outgoing = Outgoing { schema, rows, limit: question.limit };
    let around = Around { columns: true, ..Around::default() };
    Ok(answer::rows(format, None, None, body(format, outgoing, &around)?))
}

fn question(headers: &HeaderMap, bytes: &[u8]) -> Result<Question, ApiError> {
    let sent = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let question: Question = match essence.as_str() {
        "application/json" => serde_json::from_slice(bytes)
            .map_err(|e| ApiError::bad_request(format!("the body is no query: {e}")))?,
        "text/plain" => {
            let sql = std::str::from_utf8(bytes)
                .map_err(|_| ApiError::bad_request("the body is not text in UTF-8"))?;
            Question { sql: sql.to_string(), params: BTreeMap::new(), limit: None }
        }
        _ => {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            let message = "a query is sent as JSON or as plain text";
            return Err(ApiError::new(status, "unsupported_media_type", message)
                .hint("content-type: application/json, or text/plain"));
        }
    };
    if question.limit == Some(0) {
        return Err(ApiError::bad_request("not a whole number from 1 member=limit"));
    }
    Ok(question)
}

/// The parameters as typed values.
fn scalars(params: &BTreeMap<String, Value>) -> Result<Vec<(String, ScalarValue)>> {
    if params.len() > PARAMS_MAX {
        let message = format!("too many parameters parameters={}", params.len());
        return Err(Error::config(message).hint(format!("at most {PARAMS_MAX}")));
    }
    let mut scalars = Vec::with_capacity(params.len());
    for (name, value) in params {
        let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if name.is_empty() || !name.chars().all(word) {
            let message = format!("not a parameter's name name={name:?}");
            return Err(Error::config(message).hint("letters, digits and _, without the $"));
        }
        let value = scalar(value).map_err(|e| e.of("parameter", name))?;
        scalars.push((name.clone(), value));
    }
    Ok(scalars)
}

fn scalar(value: &Value) -> Result<ScalarValue> {
    Ok(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(value) => ScalarValue::from(*value),
        Value::String(text) => ScalarValue::from(text.as_str()),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(signed), _) => ScalarValue::from(signed),
            (None, Some(unsigned)) => ScalarValue::from(unsigned),
            (None, None) => ScalarValue::from(number.as_f64()),
        },
        Value::Object(members) => {
            let (Some(Value::String(name)), Some(value), 2) =
                (members.get("type"), members.get("value"), members.len())
            else {
                return Err(unbindable());
            };
            typed(name, value)?
        }
        Value::Array(_) => return Err(unbindable()),
    })
}

/// A value of a named type, written as JSON or as text.
fn typed(name: &str, value: &Value) -> Result<ScalarValue> {
    let wanted = parse_type(name)?;
    if wanted.is_nested() {
        return Err(unbindable());
    }
    let text = match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => return Err(unbindable()),
    };
    ScalarValue::Utf8(text).cast_to(&wanted).map_err(|_| {
        Error::config(format!("not a value of its type type={name}"))
            .hint("dates and times are written as in ISO 8601: 2026-01-31, 2026-01-31T08:30:00Z")
    })
}

fn unbindable() -> Error {
    Error::config("not a value that can be bound").hint(
        "null, a boolean, a number, a text, or {\"type\": \"date\", \"value\": \"2026-01-31\"}",
    )
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_are_typed() {
        let cases = [
            (json!(null), ScalarValue::Null),
            (json!(true), ScalarValue::Boolean(Some(true))),
            (json!(-3), ScalarValue::Int64(Some(-3))),
            (json!(u64::MAX), ScalarValue::UInt64(Some(u64::MAX))),
            (json!(0.5), ScalarValue::Float64(Some(0.5))),
            (json!("x' OR 1=1"), ScalarValue::Utf8(Some("x' OR 1=1".to_string()))),
            (json!({"type": "date", "value": "1970-01-02"}), ScalarValue::Date32(Some(1))),
            (json!({"type": "date", "value": null}), ScalarValue::Date32(None)),
            (
                json!({"type": "decimal(5, 2)", "value": 1.5}),
                ScalarValue::Decimal128(Some(150), 5, 2),
            ),
            (json!({"type": "bool", "value": true}), ScalarValue::Boolean(Some(true))),
        ];
        for (value, wanted) in cases {
            assert_eq!(scalar(&value).expect("a value"), wanted, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_bound_is_refused() {
        let wrong = [
            json!([1]),
            json!({}),
            json!({"type": "date"}),
            json!({"type": "date", "value": "soon"}),
            json!({"type": "money", "value": 1}),
            json!({"type": "list(date)", "value": "x"}),
            json!({"type": "date", "value": {}}),
            json!({"type": "date", "value": "1970-01-02", "more": 1}),
        ];
        for value in wrong {
            assert!(scalar(&value).is_err(), "{value}");
        }
        for name in ["", "a b", "a;", "$a", "é"] {
            assert!(scalars(&BTreeMap::from([(name.to_string(), json!(1))])).is_err(), "{name}");
        }
    }

    #[test]
    fn bodies_are_json_or_text() {
        let cases = [
            ("application/json", r#"{"sql": "SELECT 1"}"#, None),
            ("Application/JSON; charset=utf-8", r#"{"sql": "SELECT 1", "limit": 1}"#, None),
            ("text/plain", "SELECT 1", None),
            ("application/json", "SELECT 1", Some(400)),
            ("application/json", r#"{"sql": "SELECT 1", "limit": 0}"#, Some(400)),
            ("application/json", r#"{"sql": "SELECT 1", "limt": 1}"#, Some(400)),
            ("application/json", r#"{"params": {}}"#, Some(400)),
            ("application/x-www-form-urlencoded", "sql=x", Some(415)),
            ("", "SELECT 1", Some(415)),
        ];
        for (kind, body, status) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            let refused = question(&headers, body.as_bytes()).err();
            assert_eq!(refused.map(|e| e.status().as_u16()), status, "{kind} {body}");
        }
    }
}
