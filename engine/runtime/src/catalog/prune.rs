//! Which files of a partitioned table a plan needs.
//!
//! In: the values of the partition columns, one row per file, and conditions that hold for every
//! row a plan keeps. Out: the files that have such rows. All rows of a file have its values, so
//! that a condition on partition columns alone is decided without opening any.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use sluice_core::{Error, Result};

/// The partition columns of some files.
#[derive(Debug, Clone)]
pub(super) struct Values(RecordBatch);

impl Values {
    /// Those of `files`, which have a value for each of `partition`; none where there is nothing to
    /// tell files apart by.
    pub fn of(partition: &[FieldRef], files: &[PartitionedFile]) -> Result<Option<Self>> {
        if partition.is_empty() || files.is_empty() {
            return Ok(None);
        }
        let column = |i: usize| {
            let values = files.iter().filter_map(|file| file.partition_values.get(i).cloned());
            ScalarValue::iter_to_array(values)
                .map_err(|e| Error::bug("partition values are no column").because(e))
        };
        let columns = (0..partition.len()).map(column).collect::<Result<Vec<_>>>()?;
        let fields = partition.iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema = SchemaRef::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Some(Self(RecordBatch::try_new(schema, columns)?)))
    }

    /// For each file whether it has rows for which all of `filters` hold, as far as they are about
    /// partition columns; none where none of them is, or where one cannot be evaluated.
    pub fn wanted(&self, state: &dyn Session, filters: &[Expr]) -> Option<BooleanArray> {
        let schema = self.0.schema();
        let decided = |expr: &&Expr| {
            let columns = expr.column_refs();
            !columns.is_empty() && columns.iter().all(|c| schema.index_of(&c.name).is_ok())
        };
        let filters = filters.iter().flat_map(split_conjunction).filter(decided).cloned();
        let condition = conjunction(filters)?;
        let fields = DFSchema::try_from(schema.as_ref().clone()).ok()?;
        let condition = state.create_physical_expr(condition, &fields).ok()?;
        let holds = condition.evaluate(&self.0).ok()?.into_array(self.0.num_rows()).ok()?;
        holds.as_boolean_opt().cloned()
    }
}

/// Whether `mask` leaves file `i` in.
pub(super) fn is_wanted(mask: Option<&BooleanArray>, i: usize) -> bool {
    mask.is_none_or(|mask| i < mask.len() && mask.is_valid(i) && mask.value(i))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field};
    use datafusion::prelude::{SessionContext, col, lit};

    use super::*;

    #[test]
    fn files_are_ruled_out_by_conditions_on_partition_columns() {
        let partition: Vec<FieldRef> = vec![
            Arc::new(Field::new("country", DataType::Utf8, false)),
            Arc::new(Field::new("day", DataType::Int64, true)),
        ];
        let file = |country: &str, day: Option<i64>| {
            let mut file = PartitionedFile::new("f", 1);
            file.partition_values = vec![ScalarValue::from(country), ScalarValue::Int64(day)];
            file
        };
        let files =
            [file("FR", Some(1)), file("FR", Some(2)), file("DE", Some(2)), file("DE", None)];
        let values = Values::of(&partition, &files).unwrap().unwrap();
        let state = SessionContext::new().state();
        let cases: Vec<(Vec<Expr>, Option<Vec<usize>>)> = vec![
            (vec![], None),
            (vec![col("other").eq(lit(1_i64))], None),
            (vec![col("country").eq(lit("FR"))], Some(vec![0, 1])),
            (vec![col("country").eq(lit("FR")), col("other").eq(lit(1_i64))], Some(vec![0, 1])),
            (vec![col("country").eq(lit("FR")).and(col("day").gt(lit(1_i64)))], Some(vec![1])),
            (vec![col("country").eq(lit("FR")).or(col("day").gt(lit(1_i64)))], Some(vec![0, 1, 2])),
            (vec![col("day").is_null()], Some(vec![3])),
            (vec![col("day").not_eq(lit(1_i64))], Some(vec![1, 2])),
            (vec![col("day").eq(col("other"))], None),
            (vec![col("country").eq(lit("IT"))], Some(vec![])),
        ];
        for (filters, expected) in cases {
            let mask = values.wanted(&state, &filters);
            let found = mask.as_ref().map(|mask| {
                (0..files.len()).filter(|i| is_wanted(Some(mask), *i)).collect::<Vec<_>>()
            });
            assert_eq!(found, expected, "{filters:?}");
        }
        assert!(Values::of(&partition, &[]).unwrap().is_none());
        assert!(Values::of(&[], &files).unwrap().is_none());
    }
}
