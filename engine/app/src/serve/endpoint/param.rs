//! Parameters of a request, as typed values that are bound to a statement.
//!
//! In: declarations; segments of a path, pairs of a query string, a JSON body. Out: a value for
//! each declared parameter, or which one is wrong and how. What is not declared is not looked at.
//! Values never become text of a statement.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use serde_json::{Map, Value};
use sluice_runtime::job::{ParamFrom, ParamSpec};

use super::route::decoded;
use crate::serve::shell::ApiError;

/// Characters of a wrong value that are told back.
const SHOWN_CHARS: usize = 60;

/// Where values of parameters stand.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Segments of the path, percent-encoded.
    pub path: Vec<(String, String)>,
    /// Pairs of the query string.
    pub query: Vec<(String, String)>,
    /// The body.
    pub body: Map<String, Value>,
}

/// A value for each of `specs`, by name.
pub(super) fn values(
    specs: &[ParamSpec],
    given: &Given,
) -> Result<Vec<(String, ScalarValue)>, ApiError> {
    let value = |spec: &ParamSpec| Ok((spec.name.clone(), value(spec, given)?));
    specs.iter().map(value).collect()
}

fn value(spec: &ParamSpec, given: &Given) -> Result<ScalarValue, ApiError> {
    let said = match spec.from {
        ParamFrom::Path => {
            let segment = given.path.iter().find(|(name, _)| *name == spec.name);
            let text = segment.map(|(_, text)| decoded(text).ok_or_else(|| wrong(spec, text)));
            text.transpose()?.map(Value::String)
        }
        ParamFrom::Query => said_once(spec, &given.query)?.map(|text| Value::String(text.into())),
        ParamFrom::Body => given.body.get(&spec.name).cloned(),
    };
    // What stands in a path or query is text, whatever it means.
    let is_text = spec.from != ParamFrom::Body;
    let may_be_null = spec.default.as_ref().is_some_and(Value::is_null);
    match said {
        Some(Value::Null) if !may_be_null => Err(wrong(spec, "null")),
        Some(said) => {
            let read = typed(&said, &spec.data_type, is_text);
            let read = read.filter(|_| !is_rounded(&said, &spec.data_type));
            read.ok_or_else(|| wrong(spec, &shown(&said)))
        }
        None => match &spec.default {
            Some(default) => typed(default, &spec.data_type, false).ok_or_else(|| {
                tracing::error!(parameter = %spec.name, "the default of a parameter has no value");
                ApiError::internal()
            }),
            None => {
                let text = format!("a parameter is missing parameter={}", spec.name);
                Err(ApiError::bad_request(text).hint(where_to_say(spec)))
            }
        },
    }
}

fn said_once<'a>(
    spec: &ParamSpec,
    pairs: &'a [(String, String)],
) -> Result<Option<&'a str>, ApiError> {
    let mut said = pairs.iter().filter(|(name, _)| *name == spec.name).map(|(_, v)| v.as_str());
    let first = said.next();
    if said.next().is_some() {
        let text = format!("a parameter is there twice parameter={}", spec.name);
        return Err(ApiError::bad_request(text).hint(where_to_say(spec)));
    }
    Ok(first)
}

/// `value` as one of `data_type`; in JSON numbers are numbers and text is text.
fn typed(value: &Value, data_type: &DataType, is_text: bool) -> Option<ScalarValue> {
    let text = match value {
        Value::Null => return ScalarValue::try_new_null(data_type).ok(),
        Value::Bool(value) if *data_type == DataType::Boolean => {
            return Some(ScalarValue::from(*value));
        }
        Value::Number(number) if data_type.is_numeric() => number.to_string(),
        Value::String(text) if is_text || data_type.is_temporal() => text.trim().to_string(),
        _ => String::new(),
    };
    match (value, data_type) {
        (Value::String(text), DataType::Utf8) => Some(ScalarValue::from(text.as_str())),
        (_, DataType::Boolean) => text.to_ascii_lowercase().parse().ok().map(|b: bool| b.into()),
        _ if text.is_empty() => None,
        _ => {
            let value = ScalarValue::try_from_string(text, data_type).ok()?;
            (!value.is_null()).then_some(value)
        }
    }
}

/// Whether a decimal would lose digits behind the point.
fn is_rounded(said: &Value, data_type: &DataType) -> bool {
    let (DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale)) = data_type else {
        return false;
    };
    decimals(shown(said).trim()).is_none_or(|digits| digits > i64::from(*scale))
}

/// How many digits behind the point a number needs; none for what is no number.
fn decimals(text: &str) -> Option<i64> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let behind = digits.split_once('.').map_or("", |(_, behind)| behind).trim_end_matches('0');
    i64::try_from(behind.len()).ok()?.checked_sub(exponent)
}

fn wrong(spec: &ParamSpec, value: &str) -> ApiError {
    let (name, data_type) = (&spec.name, type_name(&spec.data_type));
    let value: String = value.chars().take(SHOWN_CHARS).collect();
    ApiError::bad_request(format!(
        "not a value of this parameter parameter={name} type={data_type} value={value:?}"
    ))
    .hint(where_to_say(spec))
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn where_to_say(spec: &ParamSpec) -> String {
    let (name, example) = (&spec.name, example(spec));
    match spec.from {
        ParamFrom::Path => format!("the path says {name}, such as {example}"),
        ParamFrom::Query => format!("say ?{name}={example}"),
        ParamFrom::Body => match quoted(&spec.data_type) {
            true => format!("say {{\"{name}\": \"{example}\"}}"),
            false => format!("say {{\"{name}\": {example}}}"),
        },
    }
}

fn quoted(data_type: &DataType) -> bool {
    !data_type.is_numeric() && *data_type != DataType::Boolean
}

/// What a value looks like: what it is if nothing is said, else one of its type.
fn example(spec: &ParamSpec) -> String {
    if let Some(default) = spec.default.as_ref().filter(|default| !default.is_null()) {
        return shown(default);
    }
    let example = match &spec.data_type {
        DataType::Utf8 => "text",
        DataType::Boolean => "true",
        DataType::Date32 | DataType::Date64 => "2026-01-31",
        DataType::Timestamp(..) => "2026-01-31T12:00:00Z",
        DataType::Time32(_) | DataType::Time64(_) => "12:00:00",
        t if t.is_integer() => "30",
        _ => "1.5",
    };
    example.to_string()
}

/// The type as SQL writes it.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int64 => "INT".to_string(),
        DataType::Float64 => "DOUBLE".to_string(),
        DataType::Utf8 => "TEXT".to_string(),
        DataType::Boolean => "BOOLEAN".to_string(),
        DataType::Date32 => "DATE".to_string(),
        DataType::Timestamp(..) => "TIMESTAMP".to_string(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        other => other.to_string().to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;
    use serde_json::json;

    use super::*;

    fn spec(data_type: DataType, from: ParamFrom, default: Option<Value>) -> ParamSpec {
        ParamSpec { name: "x".to_string(), data_type, default, from }
    }

    fn timestamp() -> DataType {
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
    }

    #[test]
    fn texts_of_a_query_are_read_by_their_types() {
        let micros =
            ScalarValue::TimestampMicrosecond(Some(1_767_225_600_000_000), Some("UTC".into()));
        let cases = [
            (DataType::Int64, "30", Some(ScalarValue::Int64(Some(30)))),
            (DataType::Int64, " -7 ", Some(ScalarValue::Int64(Some(-7)))),
            (DataType::Int64, "1.5", None),
            (DataType::Int64, "1; DROP TABLE x", None),
            (DataType::Int64, "9223372036854775808", None),
            (DataType::Int64, "30 OR 1=1", None),
            (DataType::Float64, "1e3", Some(ScalarValue::Float64(Some(1000.0)))),
            (DataType::Float64, "one", None),
            (DataType::Boolean, "true", Some(ScalarValue::Boolean(Some(true)))),
            (DataType::Boolean, "False", Some(ScalarValue::Boolean(Some(false)))),
            (DataType::Boolean, "maybe", None),
            (DataType::Utf8, "", Some(ScalarValue::from(""))),
            (DataType::Utf8, " a'; -- ", Some(ScalarValue::from(" a'; -- "))),
            (DataType::Date32, "2026-01-01", Some(ScalarValue::Date32(Some(20_454)))),
            (DataType::Date32, "2026-02-30", None),
            (DataType::Date32, "yesterday", None),
            (timestamp(), "2026-01-01T01:00:00+01:00", Some(micros)),
            (timestamp(), "noon", None),
            (
                DataType::Decimal128(10, 2),
                "12.50",
                Some(ScalarValue::Decimal128(Some(1250), 10, 2)),
            ),
            (DataType::Decimal128(4, 2), "1000", None),
            (DataType::Decimal128(10, 2), "2.345", None),
            (
                DataType::Decimal128(10, 2),
                "2.3400",
                Some(ScalarValue::Decimal128(Some(234), 10, 2)),
            ),
            (DataType::Int64, "", None),
        ];
        for (data_type, text, expected) in cases {
            let query = vec![("x".to_string(), text.to_string())];
            let given = Given { query, ..Given::default() };
            let found = value(&spec(data_type.clone(), ParamFrom::Query, None), &given);
            match expected {
                Some(expected) => assert_eq!(found.unwrap(), expected, "{data_type} {text}"),
                None => assert_eq!(found.unwrap_err().status(), 400, "{data_type} {text}"),
            }
        }
    }

    #[test]
    fn values_of_a_body_have_jsons_types() {
        let cases = [
            (DataType::Int64, json!(30), Some(ScalarValue::Int64(Some(30)))),
            (DataType::Int64, json!("30"), None),
            (DataType::Int64, json!(1.5), None),
            (DataType::Int64, json!(true), None),
            (DataType::Int64, json!(null), None),
            (DataType::Utf8, json!(null), None),
            (DataType::Int64, json!([30]), None),
            (DataType::Utf8, json!("30"), Some(ScalarValue::from("30"))),
            (DataType::Utf8, json!(30), None),
            (DataType::Utf8, json!({"a": 1}), None),
            (DataType::Boolean, json!(false), Some(ScalarValue::Boolean(Some(false)))),
            (DataType::Boolean, json!("false"), None),
            (DataType::Date32, json!("2026-01-01"), Some(ScalarValue::Date32(Some(20_454)))),
            (DataType::Date32, json!(20_454), None),
        ];
        for (data_type, said, expected) in cases {
            let body = Map::from_iter([("x".to_string(), said.clone())]);
            let given = Given { body, ..Given::default() };
            let found = value(&spec(data_type.clone(), ParamFrom::Body, None), &given);
            match expected {
                Some(expected) => assert_eq!(found.unwrap(), expected, "{data_type} {said}"),
                None => assert_eq!(found.unwrap_err().status(), 400, "{data_type} {said}"),
            }
        }
    }

    #[test]
    fn what_is_not_said_is_the_default_or_missing() {
        let nothing = Given::default();
        let seven = Some(json!(7));
        let int = |from, default: &Option<Value>| spec(DataType::Int64, from, default.clone());
        for from in [ParamFrom::Query, ParamFrom::Body] {
            let found = value(&int(from, &seven), &nothing).unwrap();
            assert_eq!(found, ScalarValue::Int64(Some(7)));
            let found = value(&int(from, &Some(Value::Null)), &nothing).unwrap();
            assert_eq!(found, ScalarValue::Int64(None));
            assert_eq!(value(&int(from, &None), &nothing).unwrap_err().status(), 400);
        }
        let pair = |value: &str| ("x".to_string(), value.to_string());
        let blank = Given { query: vec![pair("")], ..Given::default() };
        assert_eq!(value(&int(ParamFrom::Query, &seven), &blank).unwrap_err().status(), 400);
        let body = Map::from_iter([("x".to_string(), Value::Null)]);
        let null = Given { body, ..Given::default() };
        assert_eq!(value(&int(ParamFrom::Body, &seven), &null).unwrap_err().status(), 400);
        let found = value(&int(ParamFrom::Body, &Some(Value::Null)), &null).unwrap();
        assert_eq!(found, ScalarValue::Int64(None));
        assert_eq!(where_to_say(&int(ParamFrom::Query, &seven)), "say ?x=7");
        assert_eq!(where_to_say(&int(ParamFrom::Body, &None)), "say {\"x\": 30}");
        let twice = Given { query: vec![pair("1"), pair("2")], ..Given::default() };
        assert_eq!(value(&int(ParamFrom::Query, &seven), &twice).unwrap_err().status(), 400);
        let path = Given { path: vec![pair("caf%C3%A9")], ..Given::default() };
        let found = value(&spec(DataType::Utf8, ParamFrom::Path, None), &path).unwrap();
        assert_eq!(found, ScalarValue::from("café"));
        let broken = Given { path: vec![pair("%ff")], ..Given::default() };
        let found = value(&spec(DataType::Utf8, ParamFrom::Path, None), &broken);
        assert_eq!(found.unwrap_err().status(), 400);
    }
}
