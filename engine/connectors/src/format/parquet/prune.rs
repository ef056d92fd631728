//! Which row groups hold no row that a statement wants, told by their statistics alone.
//!
//! In: bounds, a layout, a file's footer. Out: whether a row group can be left out. In doubt it
//! cannot: statistics that are missing, of an unknown order, of floats (they leave out what is not
//! a number), or that the schema's type cannot hold say nothing. Truncated ones are ends still.

use arrow::array::{ArrayRef, BooleanArray, Scalar};
use arrow::compute::kernels::cmp::{gt, gt_eq, lt, lt_eq};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::basic::{ColumnOrder, SortOrder};
use sluice_core::{Bound, Comparison};

use super::cast;
use super::decode::Layout;

/// Whether no row of a row group can fulfil all of `bounds`.
pub(super) fn ruled_out(
    bounds: &[Bound],
    layout: &Layout,
    file: &ArrowReaderMetadata,
    group: usize,
) -> bool {
    bounds.iter().any(|bound| {
        let mut columns = layout.columns();
        let Some((field, wanted)) = columns.find(|(field, _)| field.name == bound.column) else {
            return false;
        };
        let comparable = bound.value.data_type() == wanted && bound.value.len() == 1;
        comparable && values(file, group, field.origin(), wanted).none_fits(bound)
    })
}

/// What is known of a column's values in a row group.
enum Values {
    Unknown,
    /// All are null.
    Null,
    /// Those that are not null lie between two values, ends included. An end that is null is not
    /// known.
    Between(ArrayRef, ArrayRef),
}

impl Values {
    /// Whether `bound` is certainly true of none of them.
    fn none_fits(&self, bound: &Bound) -> bool {
        let (lowest, highest) = match self {
            Values::Unknown => return false,
            Values::Null => return true,
            Values::Between(lowest, highest) => (lowest, highest),
        };
        let value = Scalar::new(bound.value.clone());
        match bound.comparison {
            Comparison::Less => is_true(gt_eq(lowest, &value)),
            Comparison::AtMost => is_true(gt(lowest, &value)),
            Comparison::Equal => is_true(gt(lowest, &value)) || is_true(lt(highest, &value)),
            Comparison::AtLeast => is_true(lt(highest, &value)),
            Comparison::Greater => is_true(lt_eq(highest, &value)),
        }
    }
}

/// Whether a comparison of one value with one is true, and not null.
fn is_true(compared: Result<BooleanArray, ArrowError>) -> bool {
    compared.is_ok_and(|compared| compared.true_count() == 1)
}

/// What the statistics tell of the column `origin`, as values of type `wanted`.
fn values(file: &ArrowReaderMetadata, group: usize, origin: &str, wanted: &DataType) -> Values {
    if file.schema().field_with_name(origin).is_err() {
        return Values::Null;
    }
    told(file, group, origin, wanted).unwrap_or(Values::Unknown)
}

fn told(
    file: &ArrowReaderMetadata,
    group: usize,
    origin: &str,
    wanted: &DataType,
) -> Option<Values> {
    let (schema, metadata) = (file.schema(), file.metadata());
    let (whole, group) = (metadata.file_metadata(), metadata.row_group(group));
    let columns = whole.schema_descr();
    let converter = StatisticsConverter::try_new(origin, schema, columns).ok()?;
    // Fields within fields have none.
    let column = converter.parquet_column_index()?;
    let statistics = group.column(column).statistics()?;
    if statistics.null_count_opt() == u64::try_from(group.num_rows()).ok() {
        return Some(Values::Null);
    }
    let ColumnOrder::TYPE_DEFINED_ORDER(order) = whole.column_orders()?.get(column)? else {
        return None;
    };
    if *order == SortOrder::UNDEFINED || statistics.is_min_max_deprecated() {
        return None;
    }
    let lowest = end(&converter.row_group_mins([group]).ok()?, wanted)?;
    let highest = end(&converter.row_group_maxes([group]).ok()?, wanted)?;
    Some(Values::Between(lowest, highest))
}

/// A smallest or largest value in the wanted type; none if values may change their order in it, or
/// it cannot hold this one.
fn end(value: &ArrayRef, wanted: &DataType) -> Option<ArrayRef> {
    if !cast::keeps_order(value.data_type(), wanted) {
        return None;
    }
    let kept = cast::keep(value, wanted).ok()?;
    kept.good.is_none().then_some(kept.array)
}
