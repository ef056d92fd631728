//! What a log knows of columns, for planning: their smallest and largest values.
//!
//! In: statistics of files as a Delta log has them. Out: column statistics, which say how many
//! different values there may be, and so how large a join gets. All of them are estimates: files
//! that went take nothing away, and those without statistics are passed over. Texts have none.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::stats::{ColumnStatistics, Precision};
use serde::Deserialize;
use serde_json::Value;
use sluice_lake::manifest::DataFile;

/// The smallest and the largest value by the name of the column.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds(BTreeMap<String, (ScalarValue, ScalarValue)>);

/// What is read of a file's statistics.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(default)]
    min_values: BTreeMap<String, Value>,
    #[serde(default)]
    max_values: BTreeMap<String, Value>,
}

impl Bounds {
    /// Those of `files`, whose columns are in `schema`.
    pub fn of<'a>(schema: &Schema, files: impl IntoIterator<Item = &'a DataFile>) -> Self {
        let mut bounds = Self::default();
        bounds.widen(schema, files);
        bounds
    }

    /// Takes in what is told of `files`.
    pub fn widen<'a>(&mut self, schema: &Schema, files: impl IntoIterator<Item = &'a DataFile>) {
        for stats in files.into_iter().filter_map(|file| file.stats.as_deref()) {
            let Ok(told) = serde_json::from_str::<Told>(stats) else { continue };
            for field in schema.fields() {
                let read = |values: &BTreeMap<String, Value>| {
                    values.get(field.name()).and_then(|json| value(json, field.data_type()))
                };
                let (Some(min), Some(max)) = (read(&told.min_values), read(&told.max_values))
                else {
                    continue;
                };
                let known = self.0.entry(field.name().clone());
                let known = known.or_insert_with(|| (min.clone(), max.clone()));
                if known.0.data_type() != min.data_type() {
                    // The column became wider.
                    *known = (min, max);
                    continue;
                }
                if min.partial_cmp(&known.0) == Some(Ordering::Less) {
                    known.0 = min;
                }
                if max.partial_cmp(&known.1) == Some(Ordering::Greater) {
                    known.1 = max;
                }
            }
        }
    }

    /// For the columns of `schema`, in their order.
    pub fn columns(&self, schema: &Schema) -> Vec<ColumnStatistics> {
        let of = |name: &str, data_type: &DataType| {
            let unknown = ColumnStatistics::new_unknown();
            match self.0.get(name).filter(|(min, _)| min.data_type() == *data_type) {
                Some((min, max)) => ColumnStatistics {
                    min_value: Precision::Inexact(min.clone()),
                    max_value: Precision::Inexact(max.clone()),
                    ..unknown
                },
                None => unknown,
            }
        };
        schema.fields().iter().map(|field| of(field.name(), field.data_type())).collect()
    }
}

/// A bound of a type whose order says how far two values are apart.
fn value(json: &Value, data_type: &DataType) -> Option<ScalarValue> {
    let text = match (data_type, json) {
        (numeric, Value::Number(number)) if numeric.is_numeric() => number.to_string(),
        (DataType::Date32 | DataType::Timestamp(..), Value::String(text)) => text.clone(),
        _ => return None,
    };
    let value = ScalarValue::try_from_string(text, data_type).ok()?;
    (!value.is_null()).then_some(value)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    fn file(stats: Option<&str>) -> DataFile {
        DataFile {
            path: "f".to_string(),
            partition_values: Default::default(),
            bytes: 1,
            rows: 1,
            modified_ms: 0,
            stats: stats.map(str::to_string),
        }
    }

    #[test]
    fn bounds_hold_all_files_that_tell_theirs() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("price", DataType::Decimal128(9, 2), true),
            Field::new("day", DataType::Date32, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("name", DataType::Utf8, true),
            Field::new("other", DataType::Int64, true),
        ]);
        let one = r#"{"numRecords":2,"minValues":{"id":3,"price":1.5,"day":"2024-02-01",
            "at":"2024-02-01T00:00:00.000Z","name":"a"},"maxValues":{"id":9,"price":2,
            "day":"2024-02-03","at":"2024-02-01T00:00:01.000Z","name":"b"},"nullCount":{"id":0}}"#;
        let two = r#"{"numRecords":2,"minValues":{"id":-4},"maxValues":{"id":5}}"#;
        let files = [file(Some(one)), file(None), file(Some("no json")), file(Some(two))];
        let found: Vec<_> = Bounds::of(&schema, &files)
            .columns(&schema)
            .into_iter()
            .map(|c| (c.min_value.get_value().cloned(), c.max_value.get_value().cloned()))
            .collect();
        let days = |day: i32| Some(ScalarValue::Date32(Some(day)));
        let cents = |cents: i128| Some(ScalarValue::Decimal128(Some(cents), 9, 2));
        let micros =
            |at: i64| Some(ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into())));
        assert_eq!(
            found,
            [
                (Some(ScalarValue::from(-4_i64)), Some(ScalarValue::from(9_i64))),
                (cents(150), cents(200)),
                (days(19_754), days(19_756)),
                (micros(1_706_745_600_000_000), micros(1_706_745_601_000_000)),
                (None, None),
                (None, None),
            ]
        );
    }

    #[test]
    fn a_column_that_became_wider_begins_anew() {
        let narrow = Schema::new(vec![Field::new("id", DataType::Int32, false)]);
        let wide = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
        let stats = r#"{"minValues":{"id":1},"maxValues":{"id":2}}"#;
        let mut bounds = Bounds::of(&narrow, [&file(Some(stats))]);
        assert_eq!(bounds.columns(&wide), [ColumnStatistics::new_unknown()]);
        bounds.widen(&wide, [&file(Some(r#"{"minValues":{"id":7},"maxValues":{"id":8}}"#))]);
        let min = Precision::Inexact(ScalarValue::from(7_i64));
        assert_eq!(bounds.columns(&wide)[0].min_value, min);
    }
}
