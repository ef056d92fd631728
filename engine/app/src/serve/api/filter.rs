//! Filters of rows: `column=value`, `column.gt=value` … as query parameters.
//!
//! In: one parameter, the columns of a relation. Out: a condition with the column's name in double
//! quotes and placeholders, and a value of the column's type per placeholder. What a client writes
//! never becomes SQL text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::ScalarValue;
use sluice_core::{Error, Result, type_name};

/// Values of one `.in`: more are a table to join with.
const VALUES_MAX: usize = 1_000;

/// Columns that a hint lists.
const COLUMNS_TOLD: usize = 40;

/// The comparisons, as a hint lists them.
const COMPARISONS: &str = "`=`, or `.ne`, `.gt`, `.ge`, `.lt`, `.le`, `.like`, `.in`, `.null` \
                           behind the column's name";

/// A condition on one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    column: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// The column, an operator of SQL, a value.
    Compare(&'static str, ScalarValue),
    /// One of these values.
    In(Vec<ScalarValue>),
    /// Whether it is NULL.
    Null(bool),
}

/// What can stand behind a column's name.
#[derive(Debug, Clone, Copy)]
enum Comparison {
    Operator(&'static str),
    Like,
    In,
    Null,
}

impl Comparison {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Operator("="),
            "ne" => Self::Operator("<>"),
            "gt" => Self::Operator(">"),
            "ge" => Self::Operator(">="),
            "lt" => Self::Operator("<"),
            "le" => Self::Operator("<="),
            "like" => Self::Like,
            "in" => Self::In,
            "null" => Self::Null,
            _ => return None,
        })
    }
}

/// The values of a statement's placeholders, by name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Bound(pub(super) Vec<(String, ScalarValue)>);

impl Bound {
    /// The placeholder of a value.
    fn bind(&mut self, value: &ScalarValue) -> String {
        let name = format!("p{}", self.0.len() + 1);
        let placeholder = format!("${name}");
        self.0.push((name, value.clone()));
        placeholder
    }
}

impl Filter {
    /// Reads a parameter. A name that is a column's as a whole is a comparison by `=`.
    pub(super) fn parse(key: &str, text: &str, schema: &Schema) -> Result<Self> {
        if let Ok(field) = schema.field_with_name(key) {
            return Self::new(field, Comparison::Operator("="), text);
        }
        let Some((column, name)) = key.rsplit_once('.') else {
            return Err(no_column(key, schema));
        };
        let field = schema.field_with_name(column).map_err(|_| no_column(key, schema))?;
        let comparison = Comparison::named(name).ok_or_else(|| {
            Error::config(format!("no such comparison parameter={key:?}")).hint(COMPARISONS)
        })?;
        Self::new(field, comparison, text)
    }

    fn new(field: &Field, comparison: Comparison, text: &str) -> Result<Self> {
        let test = match comparison {
            Comparison::Operator(operator) => Test::Compare(operator, value(field, text)?),
            Comparison::Like if plain(field.data_type()).is_string() => {
                Test::Compare("LIKE", ScalarValue::from(text))
            }
            Comparison::Like => {
                let message =
                    format!("only text is compared with a pattern column={:?}", field.name());
                return Err(Error::config(message).hint("use `.ge` and `.lt` for a range"));
            }
            Comparison::In => Test::In(values(field, text)?),
            Comparison::Null => Test::Null(match text {
                "true" => true,
                "false" => false,
                _ => {
                    let message =
                        format!("neither true nor false parameter=\"{}.null\"", field.name());
                    return Err(Error::config(message));
                }
            }),
        };
        Ok(Self { column: field.name().clone(), test })
    }

    /// The condition in SQL; its values go to `bound`.
    pub(super) fn sql(&self, bound: &mut Bound) -> String {
        let column = quoted(&self.column);
        match &self.test {
            Test::Compare(operator, value) => format!("{column} {operator} {}", bound.bind(value)),
            Test::In(values) => {
                let list: Vec<_> = values.iter().map(|value| bound.bind(value)).collect();
                format!("{column} IN ({})", list.join(", "))
            }
            Test::Null(true) => format!("{column} IS NULL"),
            Test::Null(false) => format!("{column} IS NOT NULL"),
        }
    }
}

/// A name as SQL takes it word for word.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The refusal of a name that is no column.
pub(super) fn no_column(name: &str, schema: &Schema) -> Error {
    let told = schema.fields().iter().take(COLUMNS_TOLD).map(|f| f.name().as_str());
    let told = told.collect::<Vec<_>>().join(", ");
    let more = if schema.fields().len() > COLUMNS_TOLD { ", …" } else { "" };
    Error::config(format!("no such column or parameter name={name:?}"))
        .hint(format!("columns: {told}{more}"))
}

/// The type of the values in a column.
pub(super) fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, inner) => plain(inner),
        DataType::RunEndEncoded(_, inner) => plain(inner.data_type()),
        other => other,
    }
}

/// A text as a value of the column's type.
fn value(field: &Field, text: &str) -> Result<ScalarValue> {
    let wanted = plain(field.data_type());
    let name = field.name();
    if !is_comparable(wanted) {
        let message = format!("a column of this type is not compared column={name:?}");
        return Err(Error::config(message).hint("ask `POST /v1/sql`"));
    }
    ScalarValue::try_from_string(text.to_string(), wanted).map_err(|_| {
        let wanted = type_name(wanted);
        Error::config(format!("not a value of the column's type column={name:?} type={wanted}"))
            .hint("dates and times are written as in ISO 8601: 2026-01-31, 2026-01-31T08:30:00Z")
    })
}

/// Whether text can be read as such a value, and two of them compared.
fn is_comparable(data_type: &DataType) -> bool {
    let times = matches!(
        data_type,
        DataType::Date32
            | DataType::Date64
            | DataType::Timestamp(_, _)
            | DataType::Time32(_)
            | DataType::Time64(_)
    );
    times || data_type.is_numeric() || data_type.is_string() || data_type == &DataType::Boolean
}

/// Comma-separated values; one in double quotes may have commas, and quotes that are doubled.
fn values(field: &Field, text: &str) -> Result<Vec<ScalarValue>> {
    let items = items(text).ok_or_else(|| {
        Error::config(format!("a quote is not closed parameter=\"{}.in\"", field.name()))
            .hint("values are comma-separated; a quote within quotes is written twice")
    })?;
    if items.len() > VALUES_MAX {
        let message =
            format!("too many values parameter=\"{}.in\" values={}", field.name(), items.len());
        return Err(Error::config(message).hint(format!("at most {VALUES_MAX}")));
    }
    items.iter().map(|item| value(field, item)).collect()
}

/// None when a quote is not closed, or something follows a closed one.
fn items(text: &str) -> Option<Vec<String>> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        let item;
        (item, rest) = match rest.strip_prefix('"') {
            Some(inner) => quoted_item(inner)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_string(), &rest[end..])
            }
        };
        items.push(item);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return rest.is_empty().then_some(items),
        }
    }
}

/// The item up to its closing quote, and what follows that.
fn quoted_item(text: &str) -> Option<(String, &str)> {
    let mut item = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        item.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                item.push('"');
                rest = next;
            }
            None => return Some((item, rest)),
        }
    }
}

/// Whether rows can be put in the order of such a column.
pub(super) fn is_sortable(field: &Arc<Field>) -> bool {
    !plain(field.data_type()).is_nested() && plain(field.data_type()) != &DataType::Null
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    fn schema() -> Schema {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("site", DataType::Utf8View, true),
            Field::new("kind", dictionary, true),
            Field::new("day", DataType::Date32, true),
            Field::new("at", time, true),
            Field::new("price", DataType::Decimal128(9, 2), true),
            Field::new("ok", DataType::Boolean, true),
            Field::new("raw", DataType::Binary, true),
            Field::new("a.gt", DataType::Utf8, true),
            Field::new("we\"ird", DataType::Utf8, true),
        ])
    }

    #[test]
    fn parameters_become_conditions_with_placeholders() {
        let cases = [
            ("id", "7", "\"id\" = $p1"),
            ("id.ne", "7", "\"id\" <> $p1"),
            ("id.in", "1,2,3", "\"id\" IN ($p1, $p2, $p3)"),
            ("site", "'; DROP TABLE x; --", "\"site\" = $p1"),
            ("site.like", "ber%", "\"site\" LIKE $p1"),
            ("kind.like", "%a", "\"kind\" LIKE $p1"),
            ("day.ge", "2026-01-31", "\"day\" >= $p1"),
            ("at.lt", "2026-01-31T08:30:00Z", "\"at\" < $p1"),
            ("price.le", "12.50", "\"price\" <= $p1"),
            ("ok.eq", "true", "\"ok\" = $p1"),
            ("raw.null", "false", "\"raw\" IS NOT NULL"),
            ("site.null", "true", "\"site\" IS NULL"),
            ("a.gt", "x", "\"a.gt\" = $p1"),
            ("a.gt.gt", "x", "\"a.gt\" > $p1"),
            ("we\"ird", "x", "\"we\"\"ird\" = $p1"),
        ];
        for (key, text, sql) in cases {
            let mut bound = Bound::default();
            let filter = Filter::parse(key, text, &schema()).expect(key);
            assert_eq!(filter.sql(&mut bound), sql, "{key}");
        }
    }

    #[test]
    fn values_have_the_type_of_their_column() {
        let cases = [
            ("id", "-7", ScalarValue::Int64(Some(-7))),
            ("site", "a", ScalarValue::Utf8View(Some("a".to_string()))),
            ("kind", "a", ScalarValue::Utf8(Some("a".to_string()))),
            ("day", "1970-01-02", ScalarValue::Date32(Some(1))),
            ("price", "12.5", ScalarValue::Decimal128(Some(1_250), 9, 2)),
            ("ok", "false", ScalarValue::Boolean(Some(false))),
            (
                "at",
                "1970-01-01T00:00:01Z",
                ScalarValue::TimestampMicrosecond(Some(1_000_000), Some("UTC".into())),
            ),
        ];
        for (key, text, value) in cases {
            let mut bound = Bound::default();
            Filter::parse(key, text, &schema()).expect(key).sql(&mut bound);
            assert_eq!(bound.0, [("p1".to_string(), value)], "{key}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_a_reason() {
        let cases = [
            ("nothing", "1", "no such column"),
            ("nothing.gt", "1", "no such column"),
            ("id.above", "1", "no such comparison"),
            ("id", "seven", "not a value"),
            ("id", "", "not a value"),
            ("id", "1 OR 1=1", "not a value"),
            ("id.in", "1,two", "not a value"),
            ("site.in", "\"a", "a quote is not closed"),
            ("site.in", "\"a\"b", "a quote is not closed"),
            ("day.ge", "yesterday", "not a value"),
            ("id.like", "1%", "only text"),
            ("raw", "00", "not compared"),
            ("site.null", "maybe", "neither true nor false"),
        ];
        for (key, text, message) in cases {
            let error = Filter::parse(key, text, &schema()).expect_err(key);
            assert!(error.message().contains(message), "{key}={text}: {error}");
        }
    }

    #[test]
    fn items_may_be_quoted() {
        let cases = [
            ("", Some(vec![""])),
            ("a", Some(vec!["a"])),
            ("a,b,", Some(vec!["a", "b", ""])),
            ("\"a,b\",c", Some(vec!["a,b", "c"])),
            ("\"say \"\"hi\"\"\"", Some(vec!["say \"hi\""])),
            ("\"\"", Some(vec![""])),
            ("\"a\"b", None),
            ("\"a", None),
        ];
        for (text, wanted) in cases {
            let wanted = wanted.map(|list| list.into_iter().map(str::to_string).collect());
            assert_eq!(items(text), wanted, "{text}");
        }
    }
}
