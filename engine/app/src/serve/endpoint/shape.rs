//! Rows in the form that a front end asks for.
//!
//! In: the rows of an answer. Out: JSON. Whole numbers and floats are numbers, decimals and times
//! text, as everywhere else.
//!
//! | shape | JSON |
//! |---|---|
//! | `object` | `{"total": 7, "rate": 0.5}`: the first row; without rows there is nothing |
//! | `list` | `[{"day": "2026-01-01", "n": 3}, …]` |
//! | `series` | `{"labels": ["2026-01-01", …], "series": {"n": [3, …], "rate": [0.5, …]}}` |
//!
//! In series the first column names the points, and each other column is a line.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sluice_core::{Error, Result};
use sluice_runtime::job::Shape;

use crate::output::{json_names, json_rows, json_values};

/// The rows of `schema` as a body; none where there is nothing to show.
pub(super) fn body(shape: Shape, schema: &Schema, rows: &[RecordBatch]) -> Result<Option<Bytes>> {
    let names = json_names(schema);
    let value = match shape {
        Shape::Object => {
            let first = rows.iter().find(|rows| rows.num_rows() > 0).map(|rows| rows.slice(0, 1));
            let Some(first) = first else { return Ok(None) };
            json_rows(&names, &first)?.into_iter().next().map(Value::Object)
        }
        Shape::List => Some(list(&names, rows)?),
        Shape::Series => Some(series(&names, rows)?),
    };
    let Some(value) = value else { return Ok(None) };
    let text = serde_json::to_vec(&value);
    text.map(|text| Some(text.into())).map_err(|e| Error::bug("cannot write JSON").because(e))
}

fn list(names: &[String], rows: &[RecordBatch]) -> Result<Value> {
    let mut list = Vec::new();
    for rows in rows {
        list.extend(json_rows(names, rows)?.into_iter().map(Value::Object));
    }
    Ok(Value::Array(list))
}

fn series(names: &[String], rows: &[RecordBatch]) -> Result<Value> {
    let mut columns: Vec<Vec<Value>> = vec![Vec::new(); names.len()];
    for rows in rows {
        for (column, array) in columns.iter_mut().zip(rows.columns()) {
            column.extend(json_values(array)?);
        }
    }
    let mut columns = columns.into_iter();
    let labels = columns.next().unwrap_or_default();
    let lines = names.iter().skip(1).cloned().zip(columns.map(Value::Array));
    Ok(json!({"labels": labels, "series": lines.collect::<Map<String, Value>>()}))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array};

    use super::*;

    fn rows() -> Vec<RecordBatch> {
        let batch = |from: i32, n: &[Option<i64>]| {
            let days: Vec<i32> = (from..).take(n.len()).collect();
            let amounts = Decimal128Array::from(vec![1250_i128; n.len()]);
            let amounts = amounts.with_precision_and_scale(10, 2).unwrap();
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("day", Arc::new(Date32Array::from(days))),
                ("n", Arc::new(Int64Array::from(n.to_vec()))),
                ("rate", Arc::new(Float64Array::from(vec![0.5; n.len()]))),
                ("amount", Arc::new(amounts)),
            ];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        vec![batch(20_454, &[]), batch(20_454, &[Some(3), None]), batch(20_456, &[Some(4)])]
    }

    fn shaped(shape: Shape, rows: &[RecordBatch]) -> Option<Value> {
        let schema = rows[0].schema();
        let body = body(shape, &schema, rows).unwrap();
        body.map(|body| serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn rows_are_an_object_a_list_or_series() {
        let rows = rows();
        let row = |day: &str, n: Value| json!({"day": day, "n": n, "rate": 0.5, "amount": "12.50"});
        let first = row("2026-01-01", json!(3));
        assert_eq!(shaped(Shape::Object, &rows), Some(first.clone()));
        let list = json!([first, row("2026-01-02", Value::Null), row("2026-01-03", json!(4))]);
        assert_eq!(shaped(Shape::List, &rows), Some(list));
        let series = json!({
            "labels": ["2026-01-01", "2026-01-02", "2026-01-03"],
            "series": {
                "n": [3, null, 4],
                "rate": [0.5, 0.5, 0.5],
                "amount": ["12.50", "12.50", "12.50"],
            },
        });
        assert_eq!(shaped(Shape::Series, &rows), Some(series));
    }

    #[test]
    fn nothing_is_an_empty_list_and_no_object() {
        let rows = &rows()[..1];
        assert_eq!(shaped(Shape::Object, rows), None);
        assert_eq!(shaped(Shape::List, rows), Some(json!([])));
        let series = json!({"labels": [], "series": {"n": [], "rate": [], "amount": []}});
        assert_eq!(shaped(Shape::Series, rows), Some(series));
    }
}
