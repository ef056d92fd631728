//! Types of files that bring their own, as schemas say them.
//!
//! In: the columns of Parquet and Avro files. Out: fields that hold every value, structs and lists
//! with all that is in them. What no schema can hold is left out, and said.

use arrow::datatypes::{DataType, Fields};
use sluice_core::{FieldSpec, type_name};

use super::field;
use super::json::Known;

/// The field of a column; none when no schema can hold it.
pub(super) fn known(name: &str, origin: &str, data_type: &DataType) -> Option<Known> {
    let mut lost = Lost::default();
    let fields = within(data_type, "", &mut lost);
    let field = FieldSpec { fields, ..field(name, origin, kept_as(data_type)?, None) };
    // An empty struct, or lists deeper than schemas have them.
    field.arrow_type().ok()?;
    Some((field, lost.notes()))
}

/// Paths of fields within structs that are left out.
#[derive(Debug, Default)]
struct Lost {
    /// Of a type that no schema has.
    types: Vec<String>,
    /// With a name that no column has: within structs the names of the files are those of SQL.
    names: Vec<String>,
}

impl Lost {
    fn notes(&self) -> Vec<String> {
        let note = |what: &str, paths: &[String]| {
            (!paths.is_empty()).then(|| format!("{what} {}", paths.join(", ")))
        };
        let types = note("no schema can hold", &self.types);
        let names =
            note("left out, since names within structs have to be snake_case:", &self.names);
        types.into_iter().chain(names).collect()
    }
}

/// The fields of the struct that a type ends in; what cannot be kept goes to `lost`.
fn within(data_type: &DataType, path: &str, lost: &mut Lost) -> Vec<FieldSpec> {
    let mut kept = Vec::new();
    for inner in structure(data_type) {
        let path = format!("{path}{}", inner.name());
        if !is_name(inner.name()) {
            lost.names.push(path);
            continue;
        }
        let fields = within(inner.data_type(), &format!("{path}."), lost);
        let spec = kept_as(inner.data_type())
            .map(|kind| FieldSpec { fields, ..field(inner.name(), inner.name(), kind, None) })
            .filter(|spec| spec.arrow_type().is_ok());
        match spec {
            Some(spec) => kept.push(spec),
            None => lost.types.push(path),
        }
    }
    kept
}

/// Whether a column may have this name.
fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(inner)
}

/// The fields of the struct at the end of lists; none where there is none.
fn structure(data_type: &DataType) -> &Fields {
    static NONE: std::sync::LazyLock<Fields> = std::sync::LazyLock::new(Fields::empty);
    match data_type {
        DataType::Struct(fields) => fields,
        DataType::List(item) | DataType::LargeList(item) => structure(item.data_type()),
        _ => &NONE,
    }
}

/// The name of the type that holds every value of a column; none when there is none.
fn kept_as(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Struct(_) => "struct".to_string(),
        DataType::List(item) | DataType::LargeList(item) => {
            format!("list({})", kept_as(item.data_type())?)
        }
        DataType::Dictionary(_, values) => return kept_as(values),
        DataType::UInt8 => "int16".to_string(),
        DataType::UInt16 => "int32".to_string(),
        DataType::UInt32 => "int64".to_string(),
        DataType::UInt64 => "decimal(20, 0)".to_string(),
        DataType::Float16 => "float32".to_string(),
        DataType::Date64 => "timestamp".to_string(),
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary".to_string()
        }
        DataType::Decimal128(_, scale) if *scale < 0 => return None,
        other => {
            let name = type_name(other);
            sluice_core::parse_type(&name).ok()?;
            name
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    #[test]
    fn types_of_files_become_types_of_schemas() {
        let cases = [
            (DataType::Int32, Some("int32")),
            (DataType::UInt64, Some("decimal(20, 0)")),
            (DataType::Utf8View, Some("string")),
            (DataType::Decimal128(10, 2), Some("decimal(10, 2)")),
            (DataType::Time64(TimeUnit::Microsecond), None),
            (DataType::Struct(Fields::empty()), None),
            (
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
                Some("string"),
            ),
            (DataType::new_large_list(DataType::UInt8, true), Some("list(int16)")),
        ];
        for (from, to) in cases {
            let found = known("x", "x", &from).map(|(field, _)| field.data_type);
            assert_eq!(found.as_deref(), to, "{from}");
        }
    }

    #[test]
    fn structs_keep_what_schemas_can_hold() {
        let fields = |list: Vec<(&str, DataType)>| {
            DataType::Struct(list.into_iter().map(|(n, t)| Field::new(n, t, true)).collect())
        };
        let clock = DataType::Time32(TimeUnit::Millisecond);
        let inner = fields(vec![
            ("city", DataType::Utf8),
            ("at", clock.clone()),
            ("zipCode", DataType::Utf8),
        ]);
        let list = DataType::List(Arc::new(Field::new("item", inner, true)));
        let whole = fields(vec![("places", list), ("hours", fields(vec![("from", clock)]))]);
        let (field, notes) = known("x", "X", &whole).unwrap();
        assert_eq!((field.origin(), field.data_type.as_str()), ("X", "struct"));
        let [places] = &field.fields[..] else { panic!("{field:?}") };
        assert_eq!((places.name.as_str(), places.data_type.as_str()), ("places", "list(struct)"));
        let inner: Vec<&str> = places.fields.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(inner, ["city"]);
        let wanted = [
            "no schema can hold places.at, hours.from, hours",
            "left out, since names within structs have to be snake_case: places.zipCode",
        ];
        assert_eq!(notes, wanted);
    }
}
