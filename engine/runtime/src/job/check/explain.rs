//! What a JSON Schema error means to the person who wrote the file.
//!
//! In: an error of the validator. Out: one or more [`Finding`]s: where, what, what to do. Errors of
//! alternatives are told by the alternative that was most likely meant.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use super::walk::{around, at, description, keys};
use crate::job::read::segment;
use crate::job::suggest;

/// Alternatives within alternatives that are looked into. Schemas here nest two.
const DEPTH_MAX: usize = 4;

/// What a person without an idea can do.
const LOOK: &str = "`sluice schema` prints what may stand here";

/// Something wrong with the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// JSON pointer of the value, relative to the value that was checked.
    pub pointer: String,
    /// Lower case, no full stop.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// What is wrong at the pointer, and has to go before the rest can be read.
    pub cut: Cut,
}

/// What is wrong at a pointer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cut {
    /// The value.
    Value,
    /// The key.
    Key,
    /// A key is missing in it.
    Around(String),
}

/// The findings of one error; `schema` is the whole schema.
pub(super) fn explain(schema: &Value, error: &ValidationError<'_>) -> Vec<Finding> {
    explain_within(schema, error, 0)
}

fn explain_within(schema: &Value, error: &ValidationError<'_>, depth: usize) -> Vec<Finding> {
    let path = error.schema_path().as_str();
    let pointer = error.instance_path().as_str();
    match error.kind() {
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let known = keys(around(schema, path));
            unexpected.iter().map(|key| unknown_key(pointer, key, &known)).collect()
        }
        Kind::Required { property } => vec![missing(schema, error, property)],
        Kind::PropertyNames { error: inner } => {
            let name = inner.instance().as_str().unwrap_or_default();
            let any_case =
                matches!(inner.kind(), Kind::Pattern { pattern } if pattern.contains('A'));
            vec![Finding {
                pointer: format!("{pointer}{}", segment(name)),
                message: format!("not a name that can be used here name={name}"),
                hint: name_hint(name, any_case),
                cut: Cut::Key,
            }]
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } if depth < DEPTH_MAX => {
            alternatives(schema, error, context, depth)
        }
        Kind::Enum { options } => {
            vec![choice(error, options.as_array().map_or(&[][..], Vec::as_slice))]
        }
        Kind::Constant { expected_value } => {
            vec![choice(error, std::slice::from_ref(expected_value))]
        }
        Kind::Type { .. } => {
            let about = description(around(schema, path));
            vec![wrong_type(error, &wanted_types(at(schema, path)), about)]
        }
        _ => vec![other(schema, error)],
    }
}

fn unknown_key(pointer: &str, key: &str, known: &[&str]) -> Finding {
    Finding {
        pointer: format!("{pointer}{}", segment(key)),
        message: format!("unknown key key={key}"),
        hint: match key.contains(' ') {
            // A statement in braces without quotes ends at its first comma.
            true => "put the text before it in quotes: in braces a comma ends it".to_string(),
            false => suggest::names(key, known.iter().copied(), "take it away"),
        },
        cut: Cut::Key,
    }
}

fn missing(schema: &Value, error: &ValidationError<'_>, property: &Value) -> Finding {
    let key = property.as_str().unwrap_or_default();
    let whole = around(schema, error.schema_path().as_str());
    let known = keys(whole);
    let present = error.instance().as_object().into_iter().flatten().map(|(k, _)| k.as_str());
    let strange = present.filter(|k| !known.contains(k));
    let hint = match suggest::near(key, strange) {
        Some(near) => format!("did you mean {key} where {near} is written?"),
        None => {
            let about = whole.and_then(|s| s.get("properties")).and_then(|p| p.get(key));
            match description(about) {
                Some(text) => format!("add `{key}:`: {}", lower_first(&text)),
                None => format!("add `{key}:`"),
            }
        }
    };
    Finding {
        pointer: error.instance_path().as_str().to_string(),
        message: format!("a key is missing key={key}"),
        hint,
        cut: Cut::Around(key.to_string()),
    }
}

fn name_hint(name: &str, any_case: bool) -> String {
    if any_case {
        return "such names have letters, digits and `_`, and begin with a letter".into();
    }
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        match c {
            c if c.is_ascii_alphanumeric() => snake.push(c.to_ascii_lowercase()),
            _ if snake.is_empty() || snake.ends_with('_') => {}
            _ => snake.push('_'),
        }
    }
    let snake = snake.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
    let rule = "names are snake_case, begin with a letter and have no `__`";
    if snake.is_empty() || snake == name { rule.into() } else { format!("{rule}: {snake}") }
}

fn choice(error: &ValidationError<'_>, options: &[Value]) -> Finding {
    let texts: Vec<String> = options.iter().map(shown).collect();
    let wrong = shown(error.instance());
    let hint = match suggest::near(&wrong, &texts) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("one of: {}", texts.join(", ")),
    };
    value_finding(error, format!("not a value that can stand here value={wrong}"), hint)
}

fn wrong_type(error: &ValidationError<'_>, wanted: &[String], about: Option<String>) -> Finding {
    let names: Vec<&str> = wanted.iter().map(|t| type_name(t)).collect();
    let found = found_name(error.instance());
    let hint = match (wanted.first().map(String::as_str), error.instance().as_ref()) {
        (_, Value::Null) => "write the value after the colon, or take the key away".to_string(),
        (Some("array"), Value::String(text)) => format!("write it as a list: [{text}]"),
        (Some("object"), _) => "write keys with values: {key: value}".to_string(),
        (Some("string"), Value::Number(_) | Value::Bool(_)) => match about {
            Some(text) if text.contains("such as") => lower_first(&text),
            _ => format!("put it in quotes: \"{}\"", shown(error.instance())),
        },
        (Some("integer"), Value::Number(_)) => "write a whole number".to_string(),
        (Some("integer" | "number"), Value::String(_)) => {
            "write the number without quotes and units".to_string()
        }
        (Some("boolean"), _) => "write true or false".to_string(),
        _ => LOOK.to_string(),
    };
    value_finding(error, format!("expected {}, found {found}", names.join(" or ")), hint)
}

/// Errors that are told by their description: patterns, bounds, lengths.
fn other(schema: &Value, error: &ValidationError<'_>) -> Finding {
    let value = shown(error.instance());
    let message = match error.kind() {
        Kind::Pattern { .. } => format!("not written as expected value={value}"),
        Kind::MinLength { .. } => "the text is empty".to_string(),
        Kind::MinItems { .. } => "the list is too short".to_string(),
        Kind::MaxItems { .. } => "the list is too long".to_string(),
        Kind::MinProperties { .. } | Kind::MaxProperties { .. } => {
            "the wrong number of keys".to_string()
        }
        Kind::Minimum { limit } => format!("too small, at least {limit} value={value}"),
        Kind::ExclusiveMinimum { limit } => format!("too small, above {limit} value={value}"),
        Kind::Maximum { limit } => format!("too large, at most {limit} value={value}"),
        Kind::ExclusiveMaximum { limit } => format!("too large, below {limit} value={value}"),
        _ => format!("does not fit here value={value}"),
    };
    let about = description(around(schema, error.schema_path().as_str()));
    value_finding(error, message, about.map_or_else(|| LOOK.into(), |text| lower_first(&text)))
}

/// Tells what is wrong by the alternative that fits best.
fn alternatives(
    schema: &Value,
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
    depth: usize,
) -> Vec<Finding> {
    let here = error.instance_path().as_str();
    let own = |e: &ValidationError<'_>| e.instance_path().as_str() == here;
    let mut options = Vec::new();
    let mut types = Vec::new();
    let mut fitting: Vec<&Vec<ValidationError<'static>>> = Vec::new();
    for branch in context {
        let first = branch.iter().find(|e| own(e));
        match first.map(|e| (e.kind(), e.schema_path().as_str())) {
            Some((Kind::Constant { expected_value }, _)) => {
                options.push(expected_value.as_ref().clone());
            }
            Some((Kind::Enum { options: some }, _)) => {
                options.extend(some.as_array().into_iter().flatten().cloned());
            }
            Some((Kind::Type { .. }, path)) => types.extend(wanted_types(at(schema, path))),
            _ => fitting.push(branch),
        }
    }
    let best = fitting.into_iter().min_by_key(|branch| branch.iter().filter(|e| own(e)).count());
    match best {
        Some(branch) if !unsure(branch, &own, context) => {
            branch.iter().flat_map(|e| explain_within(schema, e, depth + 1)).collect()
        }
        Some(_) => vec![one_of_keys(schema, error, context)],
        None if !options.is_empty() && error.instance().is_string() => {
            vec![choice(error, &options)]
        }
        None => {
            types.dedup();
            vec![wrong_type(error, &types, None)]
        }
    }
}

/// Whether nothing tells which of several mappings was meant: each lacks its own key.
fn unsure(
    branch: &[ValidationError<'static>],
    own: &dyn Fn(&ValidationError<'_>) -> bool,
    context: &[Vec<ValidationError<'static>>],
) -> bool {
    let lacks = |branch: &[ValidationError<'static>]| {
        branch.iter().any(|e| own(e) && matches!(e.kind(), Kind::Required { .. }))
    };
    lacks(branch) && context.iter().filter(|b| lacks(b)).count() > 1
}

fn one_of_keys(
    schema: &Value,
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
) -> Finding {
    let mut wanted: Vec<String> = Vec::new();
    for inner in context.iter().flatten() {
        if let Kind::Required { property: Value::String(key) } = inner.kind() {
            wanted.push(key.clone());
        }
    }
    let present = error.instance().as_object().into_iter().flatten().map(|(key, _)| key);
    for key in present {
        let known = |e: &ValidationError<'_>| {
            keys(around(schema, e.schema_path().as_str())).contains(&key.as_str())
        };
        if !context.iter().flatten().any(known) {
            let known: Vec<&str> = wanted.iter().map(String::as_str).collect();
            return unknown_key(error.instance_path().as_str(), key, &known);
        }
    }
    let hint = format!("write one of: {}", wanted.join(", "));
    value_finding(error, "it is not clear what is meant".into(), hint)
}

fn value_finding(error: &ValidationError<'_>, message: String, hint: String) -> Finding {
    let pointer = error.instance_path().as_str().to_string();
    Finding { pointer, message, hint, cut: Cut::Value }
}

fn wanted_types(keyword: Option<&Value>) -> Vec<String> {
    match keyword {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(some)) => {
            some.iter().filter_map(|t| t.as_str().map(str::to_string)).collect()
        }
        _ => Vec::new(),
    }
}

fn type_name(json: &str) -> &'static str {
    match json {
        "string" => "text",
        "number" => "a number",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping",
        _ => "nothing",
    }
}

fn found_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let second_is_upper = text.chars().nth(1).is_some_and(char::is_uppercase);
    match chars.next() {
        Some(first) if !second_is_upper => first.to_lowercase().chain(chars).collect(),
        _ => text.to_string(),
    }
}
