//! JSON Schemas: of the job file as it is validated, and of the whole file for editors.
//!
//! In: the serde types and the connectors' own schemas. Out: JSON. The validated schema is strict;
//! the editors' one also admits `${vars.x}` where a number or a choice will stand.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use sluice_core::{DataSchema, Registry};

use super::project::ProjectSpec;
use super::spec::JobSpec;

/// The form of a text that interpolation turns into a value of any type.
const REFERENCE: &str = r"^\$\{(vars|secrets)\.[^}]+\}$";

/// JSON Schema of a job file, for editors: sources and sinks by connector, with its settings.
pub fn job_schema(registry: &Registry) -> Value {
    let mut schema = spec_schema();
    let mut definitions = Map::new();
    let mut sources = Vec::new();
    for factory in registry.sources() {
        let own = schema_of_entry(&schema, "sources");
        let config = strict(factory.config_schema());
        let prefix = format!("{}_source", factory.name());
        sources.push(merged(own, factory.name(), lifted(config, &prefix, &mut definitions)));
    }
    let mut sinks = Vec::new();
    for factory in registry.sinks() {
        let own = schema_of_entry(&schema, "sinks");
        let config = strict(factory.config_schema());
        let prefix = format!("{}_sink", factory.name());
        sinks.push(merged(own, factory.name(), lifted(config, &prefix, &mut definitions)));
    }
    for (section, entries) in [("sources", sources), ("sinks", sinks)] {
        if let Some(slot) = schema.pointer_mut(&format!("/properties/{section}")) {
            slot["additionalProperties"] = json!({ "oneOf": entries });
        }
    }
    if !definitions.is_empty() {
        // Beside those of the file itself: fields of data schemas hold fields.
        match schema.get_mut("$defs") {
            Some(Value::Object(own)) => own.extend(definitions),
            _ => schema["$defs"] = Value::Object(definitions),
        }
    }
    admit_references(&mut schema);
    schema
}

/// JSON Schema of a project's file, for editors.
pub fn project_schema() -> Value {
    let mut schema = project_spec_schema();
    admit_references(&mut schema);
    schema
}

/// The schema projects are validated against.
pub(crate) fn project_spec_schema() -> Value {
    schema_for::<ProjectSpec>()
}

/// The schema job files are validated against; settings of connectors are open in it.
pub(crate) fn spec_schema() -> Value {
    schema_for::<JobSpec>()
}

/// The schema of data schemas.
pub fn data_schema() -> Value {
    schema_for::<DataSchema>()
}

/// `schema` without `null`: a key without a value is a mistake, not a way to leave it out.
pub(crate) fn strict(mut schema: Value) -> Value {
    strip_null(&mut schema);
    schema
}

fn schema_for<T: schemars::JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    strict(settings.into_generator().into_root_schema_for::<T>().to_value())
}

fn strip_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(strip_null),
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|t| t != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".into(), one);
                }
            }
            if object.get("default") == Some(&Value::Null) {
                object.shift_remove("default");
            }
            if let Some(Value::Array(choices)) = object.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
            }
            strip_null_branch(object);
            object.values_mut().for_each(strip_null);
        }
        _ => {}
    }
}

/// Takes `{type: null}` out of alternatives; a single one left takes their place.
fn strip_null_branch(object: &mut Map<String, Value>) {
    for keyword in ["anyOf", "oneOf"] {
        let Some(Value::Array(branches)) = object.get_mut(keyword) else { continue };
        branches.retain(|b| b.get("type") != Some(&Value::String("null".into())));
        if let [Value::Object(only)] = branches.as_slice() {
            let only = only.clone();
            object.shift_remove(keyword);
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
}

fn schema_of_entry(schema: &Value, section: &str) -> Value {
    let pointer = format!("/properties/{section}/additionalProperties");
    schema.pointer(&pointer).cloned().unwrap_or_default()
}

/// The entry's own keys together with the connector's.
fn merged(mut own: Value, connector: &str, config: Value) -> Value {
    own["title"] = connector.into();
    own["properties"]["connector"] = json!({ "const": connector });
    let Value::Object(config) = config else { return own };
    for (key, value) in config {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    own["properties"][name] = property;
                }
            }
            ("required", Value::Array(mut required)) => {
                if let Some(list) = own["required"].as_array_mut() {
                    list.append(&mut required);
                }
            }
            ("title" | "$schema" | "type", _) => {}
            (_, value) => own[key] = value,
        }
    }
    own["additionalProperties"] = Value::Bool(false);
    own
}

/// Moves the definitions of a connector's schema to the file's, under names of their own.
fn lifted(mut config: Value, prefix: &str, definitions: &mut Map<String, Value>) -> Value {
    rename_references(&mut config, prefix);
    if let Some(Value::Object(own)) = config.as_object_mut().and_then(|o| o.shift_remove("$defs")) {
        definitions.extend(own.into_iter().map(|(name, d)| (format!("{prefix}_{name}"), d)));
    }
    config
}

fn rename_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, prefix)),
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match value {
                    Value::String(text) if key == "$ref" => {
                        *text = text.replacen("#/$defs/", &format!("#/$defs/{prefix}_"), 1);
                    }
                    value => rename_references(value, prefix),
                }
            }
        }
        _ => {}
    }
}

/// Lets a reference stand where a number, a choice or a text of some form is expected.
fn admit_references(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    for keyword in ["properties", "$defs"] {
        if let Some(Value::Object(inner)) = object.get_mut(keyword) {
            inner.values_mut().for_each(admit_references);
        }
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(keyword) {
            admit_references(inner);
        }
    }
    let mut choice = object.contains_key("enum") || object.contains_key("pattern");
    for keyword in ["anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = object.get_mut(keyword) {
            choice |= branches.iter().any(|b| b.get("const").is_some());
            for branch in branches.iter_mut().filter(|b| b.get("const").is_none()) {
                admit_references(branch);
            }
        }
    }
    let number = |t: &Value| t == "integer" || t == "number" || t == "boolean";
    let plain = match object.get("type") {
        Some(Value::Array(types)) => types.iter().any(number) && !types.contains(&"string".into()),
        Some(one) => number(one),
        None => false,
    };
    if choice || plain {
        let description = object.get("description").cloned();
        let strict = Value::Object(std::mem::take(object));
        object.insert("anyOf".into(), json!([strict, { "type": "string", "pattern": REFERENCE }]));
        if let Some(description) = description {
            object.insert("description".into(), description);
        }
    }
}
