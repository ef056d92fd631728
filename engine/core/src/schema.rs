//! Data schemas: the fields of a source's rows, as written in `schemas/*.yaml`.
//!
//! In: `{fields: [{name, from, type, fields, required, format, doc}]}`. Out: an Arrow schema and
//! per field where it comes from. Types are few and lower case; what Delta cannot hold is not among
//! them. A `struct` names its fields in turn; `list(…)` goes around any type.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
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
    /// `decimal(p, s)`, `binary`, `struct`, `list(type)`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// The fields of a `struct`, or of the structs in a `list(struct)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldSpec>,
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

    /// The Arrow type, with all that is inside. Errors: `Config` naming the field.
    pub fn arrow_type(&self) -> Result<DataType> {
        let found = parse_type(&self.data_type)?;
        if contains_struct(&found) == self.fields.is_empty() {
            let (message, hint) = match self.fields.is_empty() {
                true => ("a struct without fields", "add `fields: [{name: …, type: …}]`"),
                false => ("only a struct has fields", "take them away, or use `type: struct`"),
            };
            return Err(Error::config(format!("{message} name={}", self.name)).hint(hint));
        }
        let inner: Fields =
            self.fields.iter().map(FieldSpec::arrow_field).collect::<Result<Vec<_>>>()?.into();
        Ok(with_fields(found, &inner))
    }

    /// The Arrow field: null where the row does not have it, unless it is required.
    pub fn arrow_field(&self) -> Result<Field> {
        Ok(Field::new(&self.name, self.arrow_type()?, !self.required))
    }
}

fn contains_struct(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) => true,
        DataType::List(item) => contains_struct(item.data_type()),
        _ => false,
    }
}

/// `data_type` with `fields` put into the struct it ends in.
fn with_fields(data_type: DataType, fields: &Fields) -> DataType {
    match data_type {
        DataType::Struct(_) => DataType::Struct(fields.clone()),
        DataType::List(item) => list_of(with_fields(item.data_type().clone(), fields)),
        other => other,
    }
}

/// Lists as tables keep them.
fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, true)))
}

impl DataSchema {
    /// The Arrow schema of the rows. Timestamps are microseconds UTC.
    pub fn arrow(&self) -> Result<SchemaRef> {
        let mut fields = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            fields.push(field.arrow_field()?);
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

/// Lists within lists at most: deeper ones are a slip of the pen.
const LIST_DEPTH_MAX: usize = 8;

/// Reads a type name of a data schema. A `struct` has no fields yet: see [`FieldSpec::arrow_type`].
pub fn parse_type(text: &str) -> Result<DataType> {
    parse_within(&text.trim().to_ascii_lowercase(), 0).ok_or_else(|| {
        Error::config(format!("unknown type type={text:?}")).hint(
            "use string, int8, int16, int32, int64, float32, float64, bool, date, timestamp, \
             binary, decimal(precision, scale), struct or list(type)",
        )
    })
}

fn parse_within(text: &str, depth: usize) -> Option<DataType> {
    Some(match text {
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
        "struct" => DataType::Struct(Fields::empty()),
        _ => match text.strip_prefix("list") {
            Some(_) if depth == LIST_DEPTH_MAX => return None,
            Some(list) => {
                let item = list.trim().strip_prefix('(')?.strip_suffix(')')?;
                list_of(parse_within(item.trim(), depth + 1)?)
            }
            None => {
                let (precision, scale) = parse_decimal(text)?;
                DataType::Decimal128(precision, scale)
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
        DataType::List(item) => format!("list({})", type_name(item.data_type())),
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
        for name in names.iter().copied().chain(["decimal(18, 3)", "list(list(date))"]) {
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
        for text in [
            "decimal(39, 2)",
            "decimal(0, 0)",
            "decimal(5, 6)",
            "decimal(5)",
            "money",
            "list",
            "list()",
        ] {
            assert!(parse_type(text).is_err(), "{text}");
        }
    }

    #[test]
    fn structs_and_lists_nest() {
        let text = |name: &str| FieldSpec {
            name: name.into(),
            data_type: "string".into(),
            ..FieldSpec::default()
        };
        let spec = |data_type: &str, fields: Vec<FieldSpec>| FieldSpec {
            name: "x".into(),
            data_type: data_type.into(),
            fields,
            ..FieldSpec::default()
        };
        let inner = Fields::from(vec![Field::new("city", DataType::Utf8, true)]);
        let city = || vec![text("city")];
        assert_eq!(spec("struct", city()).arrow_type().unwrap(), DataType::Struct(inner.clone()));
        let lists = spec("list(struct)", city()).arrow_type().unwrap();
        assert_eq!(lists, list_of(DataType::Struct(inner)));
        for (wrong, fields) in [("struct", vec![]), ("list(struct)", vec![]), ("int64", city())] {
            let error = spec(wrong, fields).arrow_type().unwrap_err();
            assert!(error.message().ends_with("name=x"), "{error}");
        }
    }
}
