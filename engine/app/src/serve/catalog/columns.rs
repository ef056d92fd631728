//! Arrow's types as PostgreSQL calls them.
//!
//! In: a field. Out: the type a client is told of, and its names. What PostgreSQL has no type for
//! is text; the rows are written accordingly.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion_postgres::arrow_pg::datatypes::field_into_pg_type;
use datafusion_postgres::pgwire::api::Type;

/// A column's type with PostgreSQL's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Typed {
    /// The standard's name, such as `timestamp with time zone`.
    pub name: String,
    /// PostgreSQL's own, such as `timestamptz`.
    pub short: String,
    /// Digits of a number.
    pub precision: Option<i32>,
    /// Digits behind the point.
    pub scale: Option<i32>,
    /// Digits of a second.
    pub fraction: Option<i32>,
}

impl Typed {
    /// The type of `field`.
    pub(super) fn of(field: &Field) -> Self {
        let kind = wire_type(field);
        let (precision, scale) = match (&kind, field.data_type()) {
            (
                _,
                DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale),
            ) => (Some(i32::from(*precision)), Some(i32::from(*scale))),
            (kind, _) if *kind == Type::INT2 => (Some(16), Some(0)),
            (kind, _) if *kind == Type::INT4 => (Some(32), Some(0)),
            (kind, _) if *kind == Type::INT8 => (Some(64), Some(0)),
            (kind, _) if *kind == Type::FLOAT4 => (Some(24), None),
            (kind, _) if *kind == Type::FLOAT8 => (Some(53), None),
            _ => (None, None),
        };
        let timed = [Type::TIMESTAMP, Type::TIMESTAMPTZ, Type::TIME].contains(&kind);
        Self {
            name: name(&kind),
            short: kind.name().to_string(),
            precision,
            scale,
            fraction: timed.then_some(6),
        }
    }
}

/// The type that a client is told `field` has.
pub(crate) fn wire_type(field: &Field) -> Type {
    match field.data_type() {
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => {
            Type::NUMERIC
        }
        // Nested deeper than one level, and what has no counterpart, is written as text.
        other if !has_counterpart(other) => Type::TEXT,
        _ => field_into_pg_type(&Arc::new(field.clone())).unwrap_or(Type::TEXT),
    }
}

/// Whether PostgreSQL has a type for it that the encoder writes.
pub(crate) fn has_counterpart(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let kind = item.data_type();
            let odd = matches!(
                kind,
                DataType::Decimal32(..)
                    | DataType::Decimal64(..)
                    | DataType::Decimal256(..)
                    | DataType::Dictionary(..)
            );
            !odd && !kind.is_nested() && has_counterpart(kind)
        }
        DataType::Dictionary(_, value) => !value.is_nested() && has_counterpart(value),
        DataType::Struct(_)
        | DataType::Map(..)
        | DataType::Union(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeBinary(_)
        | DataType::Float16 => false,
        _ => true,
    }
}

/// The standard's name of a type.
fn name(kind: &Type) -> String {
    let known = [
        (Type::BOOL, "boolean"),
        (Type::INT2, "smallint"),
        (Type::INT4, "integer"),
        (Type::INT8, "bigint"),
        (Type::FLOAT4, "real"),
        (Type::FLOAT8, "double precision"),
        (Type::TIMESTAMP, "timestamp without time zone"),
        (Type::TIMESTAMPTZ, "timestamp with time zone"),
        (Type::TIME, "time without time zone"),
    ];
    if let Some((_, name)) = known.into_iter().find(|(known, _)| known == kind) {
        return name.to_string();
    }
    let is_array = kind.name().starts_with('_');
    if is_array { "ARRAY".to_string() } else { kind.name().to_string() }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    fn named(kind: DataType) -> (String, String) {
        let typed = Typed::of(&Field::new("a", kind, true));
        (typed.name, typed.short)
    }

    #[test]
    fn types_have_postgresql_names() {
        let list = |kind| DataType::List(Arc::new(Field::new_list_field(kind, true)));
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let cases = [
            (DataType::Utf8, "text", "text"),
            (DataType::Utf8View, "text", "text"),
            (DataType::Int64, "bigint", "int8"),
            (utc, "timestamp with time zone", "timestamptz"),
            (DataType::Decimal256(50, 4), "numeric", "numeric"),
            (DataType::Date32, "date", "date"),
            (list(DataType::Int32), "ARRAY", "_int4"),
            (list(list(DataType::Int32)), "text", "text"),
            (DataType::Struct(vec![Field::new("a", DataType::Int8, true)].into()), "text", "text"),
            (
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
                "text",
                "text",
            ),
        ];
        for (kind, name, short) in cases {
            assert_eq!(named(kind), (name.to_string(), short.to_string()));
        }
    }
}
