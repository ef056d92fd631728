//! Finding the part of a JSON Schema that an error speaks of.

use serde_json::Value;

/// The part of `schema` at the path of an error, in which `$ref` is a step to what it names.
pub(super) fn at<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let mut here = schema;
    for step in path.split('/').skip(1) {
        if step == "$ref" {
            let target = here.get("$ref")?.as_str()?;
            here = schema.pointer(target.strip_prefix('#')?)?;
            continue;
        }
        let step = step.replace("~1", "/").replace("~0", "~");
        here = match here {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            _ => here.get(&step)?,
        };
    }
    Some(here)
}

/// The schema that holds the keyword an error path ends with.
pub(super) fn around<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    at(schema, path.rsplit_once('/')?.0)
}

/// The description of a schema, on one line.
pub(super) fn description(schema: Option<&Value>) -> Option<String> {
    let text = schema?.get("description")?.as_str()?;
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let first = joined.split_once(". ").map_or(joined.as_str(), |(first, _)| first);
    let trimmed = first.trim_end_matches('.');
    (!trimmed.is_empty()).then(|| trimmed.to_string())
}

/// The keys a schema knows.
pub(super) fn keys(schema: Option<&Value>) -> Vec<&str> {
    let properties = schema.and_then(|s| s.get("properties")).and_then(Value::as_object);
    properties.into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}
