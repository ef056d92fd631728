//! Arrow schemas as Delta's `schemaString` and back.
//!
//! What Delta cannot hold is an error of kind `Config` that names the cast. Timestamps are
//! microseconds in UTC; unsigned, nanosecond, duration and interval types have no Delta type.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde_json::{Map, Value, json};

use sluice_core::{Error, Result};

/// Characters that Delta refuses in column names.
const ILLEGAL: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\r', '\t', '='];

/// `schema` as Delta writes it.
pub fn schema_string(schema: &Schema) -> Result<String> {
    let mut seen = std::collections::HashSet::new();
    for field in schema.fields() {
        if !seen.insert(field.name().to_lowercase()) {
            return Err(Error::config(format!(
                "two columns have one name column={:?}",
                field.name()
            ))
            .hint("column names differ by more than case; give one a name with AS"));
        }
    }
    Ok(struct_json(schema.fields(), "")?.to_string())
}

/// The Arrow schema of a `schemaString`; an error of kind `Conflict` that names the type when it
/// holds one that we do not read.
pub fn parse_schema(text: &str) -> Result<SchemaRef> {
    let value: Value = serde_json::from_str(text)
        .map_err(|e| Error::data("a table's schema is not JSON").because(e))?;
    Ok(Arc::new(Schema::new(parse_fields(&value)?)))
}

fn struct_json(fields: &Fields, path: &str) -> Result<Value> {
    let mut out = Vec::with_capacity(fields.len());
    for field in fields {
        let name = field.name();
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if name.is_empty() || name.contains(ILLEGAL) {
            return Err(Error::config(format!("delta refuses this column name column={path:?}"))
                .hint("give it a name with AS, without blanks and any of ,;{}()="));
        }
        out.push(json!({
            "name": name,
            "type": type_json(field.data_type(), &path)?,
            "nullable": field.is_nullable(),
            "metadata": {},
        }));
    }
    Ok(json!({"type": "struct", "fields": out}))
}

fn type_json(data_type: &DataType, path: &str) -> Result<Value> {
    Ok(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".into(),
        DataType::Int64 => "long".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int16 => "short".into(),
        DataType::Int8 => "byte".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Decimal128(p, s) if *s >= 0 => format!("decimal({p},{s})").into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if is_utc(zone) => {
            "timestamp".into()
        }
        DataType::Struct(fields) => struct_json(fields, path)?,
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => json!({
            "type": "array",
            "elementType": type_json(item.data_type(), path)?,
            "containsNull": item.is_nullable(),
        }),
        DataType::Map(entries, _) => map_json(entries, path)?,
        DataType::Dictionary(_, values) => type_json(values, path)?,
        other => return Err(refused(other, path)),
    })
}

fn map_json(entries: &Field, path: &str) -> Result<Value> {
    let DataType::Struct(pair) = entries.data_type() else {
        return Err(refused(entries.data_type(), path));
    };
    let [key, value] = pair.as_ref() else { return Err(refused(entries.data_type(), path)) };
    Ok(json!({
        "type": "map",
        "keyType": type_json(key.data_type(), path)?,
        "valueType": type_json(value.data_type(), path)?,
        "valueContainsNull": value.is_nullable(),
    }))
}

fn refused(data_type: &DataType, path: &str) -> Error {
    let cast = match data_type {
        DataType::UInt8 => "CAST(… AS SMALLINT)",
        DataType::UInt16 => "CAST(… AS INT)",
        DataType::UInt32 => "CAST(… AS BIGINT)",
        DataType::UInt64 => "CAST(… AS DECIMAL(20, 0)), or BIGINT where the values are small",
        DataType::Timestamp(_, _) => "arrow_cast(…, 'Timestamp(Microsecond, Some(\"UTC\"))')",
        DataType::Date64 => "CAST(… AS DATE)",
        DataType::Float16 => "CAST(… AS FLOAT)",
        DataType::Decimal32(_, _) | DataType::Decimal64(_, _) | DataType::Decimal128(_, _) => {
            "CAST(… AS DECIMAL(p, s)) with s from 0 to p"
        }
        DataType::Decimal256(_, _) => "CAST(… AS DECIMAL(38, s))",
        DataType::Null => "a typed null such as CAST(NULL AS TEXT)",
        DataType::Duration(_) | DataType::Interval(_) => "a number of seconds, or CAST(… AS TEXT)",
        _ => "CAST(… AS TEXT)",
    };
    Error::config(format!("delta cannot hold this type column={path:?} type={data_type}"))
        .hint(format!("write {cast} in the table's sql"))
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z" | "Etc/UTC")
}

fn parse_fields(value: &Value) -> Result<Fields> {
    let fields = value.get("fields").and_then(Value::as_array).ok_or_else(|| unknown(value))?;
    fields.iter().map(parse_field).collect::<Result<Vec<_>>>().map(Fields::from)
}

fn parse_field(value: &Value) -> Result<Field> {
    let name = value.get("name").and_then(Value::as_str).ok_or_else(|| unknown(value))?;
    let data_type = parse_type(value.get("type").ok_or_else(|| unknown(value))?)?;
    let nullable = value.get("nullable").and_then(Value::as_bool).unwrap_or(true);
    Ok(Field::new(name, data_type, nullable))
}

fn parse_type(value: &Value) -> Result<DataType> {
    match value {
        Value::String(name) => parse_primitive(name).ok_or_else(|| unknown(value)),
        Value::Object(object) => parse_nested(object).unwrap_or_else(|| Err(unknown(value))),
        _ => Err(unknown(value)),
    }
}

fn parse_primitive(name: &str) -> Option<DataType> {
    Some(match name {
        "string" => DataType::Utf8,
        "long" => DataType::Int64,
        "integer" => DataType::Int32,
        "short" => DataType::Int16,
        "byte" => DataType::Int8,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "boolean" => DataType::Boolean,
        "binary" => DataType::Binary,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => {
            let inner = name.strip_prefix("decimal(")?.strip_suffix(')')?;
            let (precision, scale) = inner.split_once(',')?;
            DataType::Decimal128(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
        }
    })
}

/// `None` when the object is no type.
fn parse_nested(object: &Map<String, Value>) -> Option<Result<DataType>> {
    let flag = |key: &str| object.get(key).and_then(Value::as_bool).unwrap_or(true);
    Some(match object.get("type")?.as_str()? {
        "struct" => parse_fields(&Value::Object(object.clone())).map(DataType::Struct),
        "array" => parse_type(object.get("elementType")?).map(|item| {
            DataType::List(Arc::new(Field::new("element", item, flag("containsNull"))))
        }),
        "map" => parse_type(object.get("keyType")?).and_then(|key| {
            let value = parse_type(object.get("valueType").unwrap_or(&Value::Null))?;
            let pair = Fields::from(vec![
                Field::new("key", key, false),
                Field::new("value", value, flag("valueContainsNull")),
            ]);
            let entries = Field::new("key_value", DataType::Struct(pair), false);
            Ok(DataType::Map(Arc::new(entries), false))
        }),
        _ => return None,
    })
}

fn unknown(value: &Value) -> Error {
    Error::conflict(format!("a table has a column type that is not supported type={value}"))
        .hint("read the table with another client, or cast the column there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back() {
        let list = Field::new("element", DataType::Int32, true);
        let inner = Fields::from(vec![Field::new("x", DataType::Float64, false)]);
        let fields = vec![
            Field::new("s", DataType::Utf8, true),
            Field::new("l", DataType::Int64, false),
            Field::new("d", DataType::Decimal128(18, 3), true),
            Field::new("day", DataType::Date32, true),
            Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("list", DataType::List(Arc::new(list)), true),
            Field::new("st", DataType::Struct(inner), true),
        ];
        let schema = Schema::new(fields);
        let text = schema_string(&schema).unwrap();
        assert_eq!(parse_schema(&text).unwrap().as_ref(), &schema);
    }

    #[test]
    fn what_delta_cannot_hold_names_the_cast() {
        let cases = [
            (DataType::UInt64, "DECIMAL(20, 0)"),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), "Microsecond"),
            (DataType::Timestamp(TimeUnit::Microsecond, None), "UTC"),
            (DataType::Duration(TimeUnit::Second), "seconds"),
            (DataType::Null, "CAST(NULL AS TEXT)"),
        ];
        for (data_type, cast) in cases {
            let schema = Schema::new(vec![Field::new("x", data_type.clone(), true)]);
            let error = schema_string(&schema).unwrap_err();
            assert!(error.message().contains("column=\"x\""), "{error:?}");
            assert!(error.hint_text().unwrap().contains(cast), "{error:?}");
        }
    }

    #[test]
    fn names_must_be_legal_and_different() {
        for names in [vec!["sum(x)"], vec!["a b"], vec!["a", "A"], vec![""]] {
            let field = |n: &&str| Field::new(*n, DataType::Int64, true);
            let schema = Schema::new(names.iter().map(field).collect::<Vec<_>>());
            assert!(schema_string(&schema).unwrap_err().hint_text().unwrap().contains("AS"));
        }
    }
}
