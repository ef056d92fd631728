//! A message to columns.
//!
//! In: a message that was decoded. Out: a row. A field that says whether it is there and is not, is
//! null; one that does not say it has its default, as Protocol Buffers have it. Entries of maps come
//! by their keys.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage,
    Value as Proto,
};
use serde_json::{Map, Value as Json};

use crate::format::json::{
    Column, Reading, Record, Rescued, Unit, Value, Wrong, joined, to_base64, written,
};

/// Refuses message types with fields that the columns do not have.
pub(super) fn check(message: &MessageDescriptor, record: &Record) -> Result<(), String> {
    for field in message.fields() {
        let name = field.name();
        let Some(place) = record.place(name) else {
            return Err(format!("column {name}: not in the schema"));
        };
        let column = &record.columns()[place];
        let inner = column.fields().or_else(|| column.items().and_then(Column::fields));
        if let (Kind::Message(message), Some(inner)) = (field.kind(), inner) {
            check(&message, inner).map_err(|e| match e.strip_prefix("column ") {
                Some(rest) => format!("column {}", joined(name, rest)),
                None => e,
            })?;
        }
    }
    Ok(())
}

/// Reads a message as row `row`; fields without a column go to `reading`, if it is there.
pub(super) fn message(
    message: &DynamicMessage,
    row: usize,
    record: &mut Record,
    mut reading: Option<&mut Reading>,
) -> Result<(), Wrong> {
    for field in message.descriptor().fields() {
        let name = field.name();
        let absent = field.supports_presence() && !message.has_field(&field);
        match (record.place(name), &mut reading) {
            (Some(_), _) if absent => {}
            (Some(place), reading) => {
                let before = reading.as_ref().map_or(0, |r| r.rescued.len());
                let value = message.get_field(&field);
                let column = record.column(place);
                let put = put(&value, &field, column, reading.as_deref_mut());
                put.map_err(|wrong| wrong.within(name))?;
                if let Some(reading) = reading {
                    Rescued::nest(&mut reading.rescued[before..], name);
                }
            }
            (None, Some(reading)) if message.has_field(&field) => {
                let value = json(&message.get_field(&field), &field.kind()).to_string();
                reading.rescued.push(Rescued { path: name.into(), value, nested: false });
            }
            (None, _) => {}
        }
    }
    record.fill(row)
}

/// Takes the value of a field.
fn put(
    value: &Proto,
    field: &FieldDescriptor,
    column: &mut Column,
    mut reading: Option<&mut Reading>,
) -> Result<(), Wrong> {
    let kind = field.kind();
    match value {
        Proto::List(values) if column.items().is_some() => {
            if let Some(items) = column.items_mut() {
                for (number, value) in values.iter().enumerate() {
                    let put = one(value, &kind, items, reading.as_deref_mut());
                    put.map_err(|wrong| wrong.within(&format!("[{number}]")))?;
                }
            }
            column.close();
            Ok(())
        }
        Proto::Map(entries) if column.items().is_some() => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            let Kind::Message(entry) = kind else { return Err(Wrong::new("no map")) };
            let kinds = entry.map_entry_value_field().kind();
            if let Some(items) = column.items_mut() {
                for (key, value) in entries {
                    map_entry(key, value, &kinds, items, reading.as_deref_mut())?;
                }
            }
            column.close();
            Ok(())
        }
        value => one(value, &kind, column, reading),
    }
}

/// Takes an entry of a map as a struct of key and value.
fn map_entry(
    key: &MapKey,
    value: &Proto,
    kind: &Kind,
    items: &mut Column,
    reading: Option<&mut Reading>,
) -> Result<(), Wrong> {
    let row = items.rows();
    let Some(fields) = items.fields_mut() else {
        return Err(Wrong::new("a map is a list of structs with the fields key and value"));
    };
    if let Some(place) = fields.place("key") {
        let column = fields.column(place);
        match key {
            MapKey::Bool(key) => column.put(Value::Bool(*key)),
            MapKey::I32(key) => column.put(Value::Long(i64::from(*key))),
            MapKey::I64(key) => column.put(Value::Long(*key)),
            MapKey::U32(key) => column.put(Value::Long(i64::from(*key))),
            MapKey::U64(key) => column.put(Value::Unsigned(*key)),
            MapKey::String(key) => column.put(Value::Text(key)),
        }
        .map_err(|wrong| wrong.within("key"))?;
    }
    if let Some(place) = fields.place("value") {
        let put = one(value, kind, fields.column(place), reading);
        put.map_err(|wrong| wrong.within("value"))?;
    }
    fields.fill(row)?;
    items.close();
    Ok(())
}

/// Takes a value that is no list.
fn one(
    value: &Proto,
    kind: &Kind,
    column: &mut Column,
    reading: Option<&mut Reading>,
) -> Result<(), Wrong> {
    match value {
        Proto::Bool(value) => column.put(Value::Bool(*value)),
        Proto::I32(value) => column.put(Value::Long(i64::from(*value))),
        Proto::I64(value) => column.put(Value::Long(*value)),
        Proto::U32(value) => column.put(Value::Long(i64::from(*value))),
        Proto::U64(value) => column.put(unsigned(*value)),
        Proto::F32(value) => column.put(Value::Float(*value)),
        Proto::F64(value) => column.put(Value::Double(*value)),
        Proto::String(value) => column.put(Value::Text(value)),
        Proto::Bytes(value) => column.put(Value::Bytes(value)),
        Proto::EnumNumber(number) if column.data_type().is_integer() => {
            column.put(Value::Long(i64::from(*number)))
        }
        Proto::EnumNumber(number) => match enum_name(kind, *number) {
            Some(name) => column.put(Value::Text(&name)),
            None => Err(Wrong::new(format!("no value of its enum number={number}"))),
        },
        Proto::Message(value) if column.fields().is_some() => {
            let row = column.rows();
            if let Some(record) = column.fields_mut() {
                message(value, row, record, reading)?;
            }
            column.close();
            Ok(())
        }
        Proto::Message(value) => match known(value) {
            Known::Time(seconds, nanos) => {
                let micros = seconds.checked_mul(1_000_000).filter(|_| nanos % 1000 == 0);
                let micros = micros.and_then(|m| m.checked_add(i64::from(nanos) / 1000));
                let micros = micros.ok_or_else(|| Wrong::new("not whole microseconds"))?;
                column.put(Value::Time(micros, Unit::Micros))
            }
            Known::Wrapped(field) => {
                let kind = field.kind();
                one(&value.get_field(&field), &kind, column, reading)
            }
            Known::No => column.put(Value::Text(&message_json(value).to_string())),
        },
        value => column.put(Value::Text(&json(value, kind).to_string())),
    }
}

fn unsigned(value: u64) -> Value<'static> {
    i64::try_from(value).map_or(Value::Unsigned(value), Value::Long)
}

fn enum_name(kind: &Kind, number: i32) -> Option<String> {
    let Kind::Enum(descriptor) = kind else { return None };
    descriptor.get_value(number).map(|value| value.name().to_string())
}

/// What a message of Google's own types stands for.
enum Known {
    /// Seconds and nanoseconds since 1970.
    Time(i64, i32),
    /// The value of this field.
    Wrapped(FieldDescriptor),
    /// Itself.
    No,
}

fn known(message: &DynamicMessage) -> Known {
    let descriptor = message.descriptor();
    let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.") else {
        return Known::No;
    };
    let number = |field: &str| message.get_field_by_name(field).map(|v| v.into_owned());
    match name {
        "Timestamp" => match (number("seconds"), number("nanos")) {
            (Some(Proto::I64(seconds)), Some(Proto::I32(nanos))) => Known::Time(seconds, nanos),
            _ => Known::No,
        },
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value"
        | "UInt32Value" | "BoolValue" | "StringValue" | "BytesValue" => {
            descriptor.get_field_by_name("value").map_or(Known::No, Known::Wrapped)
        }
        _ => Known::No,
    }
}

/// A value as JSON: bytes as base64, times as ISO 8601.
fn json(value: &Proto, kind: &Kind) -> Json {
    match value {
        Proto::Bool(value) => Json::from(*value),
        Proto::I32(value) => Json::from(*value),
        Proto::I64(value) => Json::from(*value),
        Proto::U32(value) => Json::from(*value),
        Proto::U64(value) => Json::from(*value),
        Proto::F32(value) => Json::from(*value),
        Proto::F64(value) => Json::from(*value),
        Proto::String(value) => Json::from(value.as_str()),
        Proto::Bytes(value) => Json::from(to_base64(value)),
        Proto::EnumNumber(number) => {
            enum_name(kind, *number).map_or_else(|| Json::from(*number), Json::from)
        }
        Proto::Message(value) => message_json(value),
        Proto::List(values) => values.iter().map(|value| json(value, kind)).collect(),
        Proto::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            let kinds = match kind {
                Kind::Message(entry) => entry.map_entry_value_field().kind(),
                other => other.clone(),
            };
            let entries = entries.into_iter().map(|(key, value)| (shown(key), json(value, &kinds)));
            Json::Object(entries.collect())
        }
    }
}

fn shown(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn message_json(message: &DynamicMessage) -> Json {
    match known(message) {
        Known::Time(seconds, nanos) => {
            let micros = seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos) / 1000);
            return Json::from(written(Value::Time(micros, Unit::Micros)));
        }
        Known::Wrapped(field) => return json(&message.get_field(&field), &field.kind()),
        Known::No => {}
    }
    let inner = |name: &str| {
        let field = message.descriptor().get_field_by_name(name)?;
        Some(json(&message.get_field(&field), &field.kind()))
    };
    match message.descriptor().full_name() {
        "google.protobuf.Struct" => inner("fields").unwrap_or(Json::Null),
        "google.protobuf.ListValue" => inner("values").unwrap_or(Json::Null),
        // One of its fields is set, and says what it is.
        "google.protobuf.Value" => match message.fields().next() {
            Some((field, _)) if field.name() == "null_value" => Json::Null,
            Some((field, value)) => json(value, &field.kind()),
            None => Json::Null,
        },
        _ => {
            let mut object = Map::new();
            for field in message.descriptor().fields() {
                if message.has_field(&field) {
                    let value = json(&message.get_field(&field), &field.kind());
                    object.insert(field.name().to_string(), value);
                }
            }
            Json::Object(object)
        }
    }
}
