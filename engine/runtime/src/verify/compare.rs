//! Comparing two sets of rows as multisets: exact, but for floats, which may differ by one part in
//! a thousand million, because sums of floats depend on their order.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use sluice_core::{Result, format_count};

/// The relative difference that two floats may have.
const TOLERANCE: f64 = 1e-9;

/// The first difference between the rows a statement gives and those a view holds.
pub fn difference(
    schema: &SchemaRef,
    expected: &[RecordBatch],
    kept: &[RecordBatch],
) -> Result<Option<String>> {
    let (expected, kept) = (whole(schema, expected)?, whole(schema, kept)?);
    if expected.num_rows() != kept.num_rows() {
        let a = format_count(expected.num_rows() as u64, "row");
        let b = kept.num_rows();
        return Ok(Some(format!("the statement gives {a}, the view holds {b}")));
    }
    let (left, right) = (Sorted::new(&expected)?, Sorted::new(&kept)?);
    for at in 0..expected.num_rows() {
        if !left.same(&right, at) {
            let a = show(&expected, left.order[at])?;
            let b = show(&kept, right.order[at])?;
            return Ok(Some(format!("the statement gives ({a}), the view holds ({b})")));
        }
    }
    Ok(None)
}

fn whole(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<RecordBatch> {
    let mut fitted = Vec::with_capacity(rows.len());
    for batch in rows {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(c, f)| cast(c, f.data_type()));
        let columns: Vec<ArrayRef> = columns.collect::<std::result::Result<_, _>>()?;
        fitted.push(RecordBatch::try_new(schema.clone(), columns)?);
    }
    Ok(concat_batches(schema, &fitted)?)
}

struct Sorted {
    exact: Vec<Vec<u8>>,
    floats: Vec<Vec<Option<f64>>>,
    order: Vec<usize>,
}

impl Sorted {
    fn new(rows: &RecordBatch) -> Result<Self> {
        let is_float = |c: &&ArrayRef| {
            matches!(c.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64)
        };
        let (floats, exact): (Vec<&ArrayRef>, Vec<&ArrayRef>) =
            rows.columns().iter().partition(is_float);
        let exact: Vec<ArrayRef> = exact.into_iter().cloned().collect();
        let fields = exact.iter().map(|c| SortField::new(c.data_type().clone())).collect();
        let exact: Vec<Vec<u8>> = if exact.is_empty() {
            vec![Vec::new(); rows.num_rows()]
        } else {
            let encoded = RowConverter::new(fields)?.convert_columns(&exact)?;
            encoded.iter().map(|r| r.as_ref().to_vec()).collect()
        };
        let mut values = vec![Vec::new(); rows.num_rows()];
        for column in floats {
            let column = cast(column, &DataType::Float64)?;
            let column = column.as_primitive::<Float64Type>();
            for (at, row) in values.iter_mut().enumerate() {
                row.push(column.is_valid(at).then(|| column.value(at)));
            }
        }
        let mut order: Vec<usize> = (0..rows.num_rows()).collect();
        order.sort_by(|a, b| {
            exact[*a].cmp(&exact[*b]).then_with(|| compare(&values[*a], &values[*b]))
        });
        Ok(Self { exact, floats: values, order })
    }

    fn same(&self, other: &Self, at: usize) -> bool {
        let (a, b) = (self.order[at], other.order[at]);
        self.exact[a] == other.exact[b]
            && self.floats[a].iter().zip(&other.floats[b]).all(|(a, b)| close(*a, *b))
    }
}

fn compare(a: &[Option<f64>], b: &[Option<f64>]) -> std::cmp::Ordering {
    let pairs = a.iter().zip(b).map(|(a, b)| match (a, b) {
        (Some(a), Some(b)) => a.total_cmp(b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    });
    pairs.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
}

fn close(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a == b
                || (a.is_nan() && b.is_nan())
                || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
        }
        _ => false,
    }
}

fn show(rows: &RecordBatch, at: usize) -> Result<String> {
    let mut parts = Vec::with_capacity(rows.num_columns());
    for (column, field) in rows.columns().iter().zip(rows.schema().fields()) {
        parts.push(format!("{}={}", field.name(), array_value_to_string(column, at)?));
    }
    Ok(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn rows(ids: &[i64], values: &[f64]) -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("value", DataType::Float64, true),
        ]);
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        RecordBatch::try_new(Arc::new(schema), vec![ids, values]).unwrap()
    }

    #[test]
    fn order_does_not_matter_and_floats_may_be_close() {
        let a = rows(&[1, 2, 2], &[1.0, 2.0, 3.0]);
        let b = rows(&[2, 1, 2], &[3.0, 1.0 + 1e-12, 2.0]);
        let schema = a.schema();
        assert_eq!(difference(&schema, &[a], &[b]).unwrap(), None);
    }

    #[test]
    fn a_missing_a_doubled_and_a_changed_row_are_found() {
        let a = rows(&[1, 2], &[1.0, 2.0]);
        let schema = a.schema();
        for b in [rows(&[1], &[1.0]), rows(&[1, 1], &[1.0, 1.0]), rows(&[1, 2], &[1.0, 2.001])] {
            let found = difference(&schema, std::slice::from_ref(&a), &[b]).unwrap();
            assert!(found.is_some());
        }
    }
}
