//! From the conditions of a statement to bounds that readers understand.
//!
//! In: conditions that hold for every row a plan keeps. Out: those of the form *column compared
//! with constant*. The others are no loss: plans check all of them again.

use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use sluice_core::{Bound, Comparison};

/// The bounds that follow from `conditions` on rows of `schema`.
pub(super) fn bounds<'a>(
    conditions: impl IntoIterator<Item = &'a Expr>,
    schema: &Schema,
) -> Vec<Bound> {
    let conditions = conditions.into_iter().flat_map(split_conjunction);
    conditions.filter_map(|condition| bound(condition, schema)).collect()
}

fn bound(condition: &Expr, schema: &Schema) -> Option<Bound> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let (column, op, value) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) => (column, *op, value),
        (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap()?, value),
        _ => return None,
    };
    let comparison = match op {
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::AtMost,
        Operator::Eq => Comparison::Equal,
        Operator::GtEq => Comparison::AtLeast,
        Operator::Gt => Comparison::Greater,
        _ => return None,
    };
    let value = constant(column, value, schema)?;
    Some(Bound { column: column.name.clone(), comparison, value })
}

/// The value as an array of one, if it is of the column's type and not null.
fn constant(column: &Column, value: &ScalarValue, schema: &Schema) -> Option<ArrayRef> {
    let field = schema.field_with_name(&column.name).ok()?;
    let fits = value.data_type() == *field.data_type() && !value.is_null();
    if fits { value.to_array().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn comparisons_of_a_column_with_a_constant_are_bounds() {
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("text", DataType::Utf8, true),
        ]);
        let n = || col("n");
        let cases: Vec<(Expr, &[(&str, Comparison)])> = vec![
            (n().lt(lit(7_i64)), &[("n", Comparison::Less)]),
            (lit(7_i64).lt(n()), &[("n", Comparison::Greater)]),
            (lit(7_i64).lt_eq(n()), &[("n", Comparison::AtLeast)]),
            (n().eq(lit(7_i64)), &[("n", Comparison::Equal)]),
            (
                n().gt(lit(1_i64)).and(n().lt_eq(lit(9_i64)).and(col("text").eq(lit("x")))),
                &[
                    ("n", Comparison::Greater),
                    ("n", Comparison::AtMost),
                    ("text", Comparison::Equal),
                ],
            ),
            (n().gt(lit(1_i64)).and(n().not_eq(lit(7_i64))), &[("n", Comparison::Greater)]),
            (n().gt(lit(1_i64)).or(n().lt(lit(0_i64))), &[]),
            (n().gt(lit(1_i64)).is_true(), &[]),
            (n().gt(lit(1_i32)), &[]),
            (n().gt(lit(ScalarValue::Int64(None))), &[]),
            (n().gt(n()), &[]),
            ((n() + lit(1_i64)).gt(lit(1_i64)), &[]),
            (col("other").gt(lit(1_i64)), &[]),
        ];
        for (condition, expected) in cases {
            let found = bounds([&condition], &schema);
            let found: Vec<_> = found.iter().map(|b| (b.column.as_str(), b.comparison)).collect();
            assert_eq!(found, expected, "{condition}");
        }
    }
}
