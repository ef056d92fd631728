//! Data schemas: the fields of a source's rows, as written in `schemas/*.yaml`.
//!
//! In: `{fields: [{name, from, type, required, format, doc}]}`. Out: an Arrow schema and per field
//! where it comes from. Types are few and lower case; what Delta cannot hold is not among them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The fields of a source's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSchema {
    /// Name and version, for people: `retail/sales.v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// What the rows are, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
    /// The fields, in order.
    pub fields: Vec<FieldSpec>,
}

/// One field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldSpec {
    /// The name in SQL, snake_case.
    pub name: String,
    /// The name in the data; default: `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `string`, `int8` … `int64`, `float32`, `float64`, `bool`, `date`, `timestamp`,
    /// `decimal(p, s)`, `binary`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether a row without it is rejected; default: false.
    #[serde(default)]
    pub required: bool,
    /// How dates and timestamps are written (`%d/%m/%Y`); default: ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What it means, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
    /// Whether no schema names it and the data taught it (`on_new_column: add`). Objects may lack it.
    #[serde(skip)]
    pub learned: bool,
}

impl FieldSpec {
    /// A field that the data called `origin` taught. Its name in SQL is one that needs no quotes and
    /// is none of `taken`.
    pub fn learned(origin: &str, data_type: &str, taken: &[&str]) -> Self {
        let base = column_name(origin);
        let free = |name: &String| !taken.contains(&name.as_str());
        let numbered = (2..).map(|n| format!("{base}_{n}"));
        let name = std::iter::once(base.clone()).chain(numbered).find(free).unwrap_or(base);
        Self {
            from: (name != origin).then(|| origin.to_string()),
            name,
            data_type: data_type.to_string(),
            learned: true,
            ..Self::default()
        }
    }

    /// The name in the data.
    pub fn origin(&self) -> &str {
        self.from.as_deref().unwrap_or(&self.name)
    }
}

impl DataSchema {
    /// The Arrow schema of the rows. Timestamps are microseconds UTC.
    pub fn arrow(&self) -> Result<SchemaRef> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            fields.push(Field::new(&field.name, parse_type(&field.data_type)?, !field.required));
        }
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// A name for SQL made of a name in data: lower case, words joined by `_`, no quotes needed.
pub fn column_name(origin: &str) -> String {
    let mut name = String::with_capacity(origin.len());
    let mut before = ' ';
    for c in origin.chars() {
        let word_begins = c.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit());
        if (word_begins || !c.is_alphanumeric()) && !name.is_empty() && !name.ends_with('_') {
            name.push('_');
        }
        if c.is_alphanumeric() {
            name.extend(c.to_lowercase());
        }
        before = c;
    }
    let name = name.trim_end_matches('_');
    match name.chars().next() {
        None => "column".to_string(),
        Some(first) if first.is_numeric() => format!("c_{name}"),
        Some(_) => name.to_string(),
    }
}

/// Reads a type name of a data schema.
pub fn parse_type(text: &str) -> Result<DataType> {
    let lower = text.trim().to_ascii_lowercase();
    Ok(match lower.as_str() {
        "string" => DataType::Utf8,
        "int8" => DataType::Int8,
        "int16" => DataType::Int16,
        "int32" => DataType::Int32,
        "int64" => DataType::Int64,
        "float32" => DataType::Float32,
        "float64" => DataType::Float64,
        "bool" => DataType::Boolean,
        "date" => DataType::Date32,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "binary" => DataType::Binary,
        _ => match parse_decimal(&lower) {
            Some((precision, scale)) => DataType::Decimal128(precision, scale),
            None => {
                return Err(Error::config(format!("unknown type type={text:?}")).hint(
                    "use string, int8, int16, int32, int64, float32, float64, bool, date, \
                     timestamp, binary or decimal(precision, scale)",
                ));
            }
        },
    })
}

/// The name [`parse_type`] reads back; Arrow's own name for types that schemas cannot hold.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".into(),
        DataType::Int8 => "int8".into(),
        DataType::Int16 => "int16".into(),
        DataType::Int32 => "int32".into(),
        DataType::Int64 => "int64".into(),
        DataType::Float32 => "float32".into(),
        DataType::Float64 => "float64".into(),
        DataType::Boolean => "bool".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(_, _) => "timestamp".into(),
        DataType::Binary => "binary".into(),
        DataType::Decimal128(p, s) => format!("decimal({p}, {s})"),
        other => other.to_string(),
    }
}

fn parse_decimal(text: &str) -> Option<(u8, i8)> {
    let inner = text.strip_prefix("decimal")?.trim().strip_prefix('(')?.strip_suffix(')')?;
    let (precision, scale) = inner.split_once(',')?;
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    let fits = (1..=38).contains(&precision) && (0..=precision as i8).contains(&scale);
    fits.then_some((precision, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_name_reads_back() {
        let names = ["string", "int8", "int64", "float64", "bool", "date", "timestamp", "binary"];
        for name in names.iter().copied().chain(["decimal(18, 3)"]) {
            let read = parse_type(name).map(|t| type_name(&t)).ok();
            assert_eq!(read.as_deref(), Some(name));
        }
    }

    #[test]
    fn names_of_data_become_names_of_sql() {
        let cases = [
            ("id", "id"),
            ("Unit Price", "unit_price"),
            ("unitPrice", "unit_price"),
            ("InvoiceNo", "invoice_no"),
            ("  % of  total ", "of_total"),
            ("2024", "c_2024"),
            ("_id", "id"),
            ("€", "column"),
            ("Größe", "größe"),
        ];
        for (origin, name) in cases {
            assert_eq!(column_name(origin), name, "{origin}");
        }
        let field = FieldSpec::learned("Unit Price", "string", &["id", "unit_price"]);
        assert_eq!((field.name.as_str(), field.origin()), ("unit_price_2", "Unit Price"));
        assert_eq!(FieldSpec::learned("a", "string", &[]).from, None);
    }

    #[test]
    fn decimals_out_of_range_are_refused() {
        for text in ["decimal(39, 2)", "decimal(0, 0)", "decimal(5, 6)", "decimal(5)", "money"] {
            assert!(parse_type(text).is_err(), "{text}");
        }
    }
}
