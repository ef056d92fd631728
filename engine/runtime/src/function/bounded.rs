//! Functions that are told how much to make, within bounds: `repeat('x', 2000000000)`.
//!
//! In: a session. Out: the same with a wrapper around each of them, which looks at the arguments
//! and refuses what would take too much. No memory pool knows of what they make, and of constants
//! it is made while a question is planned, where neither time nor memory is looked at. Rows of
//! `generate_series` in FROM are made one batch after the other and need no bounds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, TimeUnit,
};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};
use datafusion::prelude::SessionContext;
use sluice_core::Error;

/// Bytes that one call makes of one batch of rows: eight million numbers, or eight thousand texts
/// of eight thousand letters.
const BYTES_MAX: usize = 64 << 20;

/// Bytes of a number, and of the place of an item in what it is made from.
const NUMBER_BYTES: usize = 8;

/// Bytes of a letter at most.
const LETTER_BYTES: usize = 4;

/// Nanoseconds of a day, and of the shortest one: clocks are put forward.
const DAY: i128 = 86_400_000_000_000;
const SHORT_DAY: i128 = DAY / 24 * 23;

/// Days of the shortest month.
const MONTH_DAYS: i128 = 28;

/// The functions, by what they make.
const FUNCTIONS: [(&str, Makes); 7] = [
    ("repeat", Makes::Text),
    ("lpad", Makes::Letters),
    ("rpad", Makes::Letters),
    ("array_repeat", Makes::Items),
    ("array_resize", Makes::Room),
    ("range", Makes::Series),
    ("generate_series", Makes::Series),
];

/// Replaces DataFusion's functions in `context`.
pub(super) fn register(context: &SessionContext) {
    let state = context.state();
    for (name, makes) in FUNCTIONS {
        if let Some(inner) = state.scalar_functions().get(name) {
            let bounded = Bounded { inner: inner.clone(), makes };
            context.register_udf(ScalarUDF::new_from_impl(bounded));
        }
    }
}

/// What a function makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Makes {
    /// A text so many times.
    Text,
    /// So many letters.
    Letters,
    /// An array of a value so many times.
    Items,
    /// An array of so many items, whatever it had.
    Room,
    /// Values from one to another.
    Series,
}

/// A function that is asked only for what it may make. What is not here it has as all functions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    makes: Makes,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn simplify(&self, arguments: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(arguments, info)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let of_rows = |value: &ColumnarValue| matches!(value, ColumnarValue::Array(_));
        let rows = match arguments.args.iter().any(of_rows) {
            true => arguments.number_rows,
            false => 1,
        };
        let array = |value: &ColumnarValue| match value {
            ColumnarValue::Array(array) => Ok(array.clone()),
            ColumnarValue::Scalar(value) => value.to_array(),
        };
        let values: Vec<ArrayRef> = arguments.args.iter().map(array).collect::<Result<_>>()?;
        let mut bytes = 0_usize;
        for row in 0..rows {
            bytes = bytes.saturating_add(self.makes.bytes(&values, row));
            if bytes > BYTES_MAX {
                return Err(too_much(self.name()));
            }
        }
        self.inner.invoke_with_args(arguments)
    }
}

fn too_much(name: &str) -> DataFusionError {
    let text = format!("a function makes more than it may function={name} bytes_max={BYTES_MAX}");
    let hint = "ask for less at once; a long series is a table: FROM generate_series(1, 100000000)";
    DataFusionError::External(Box::new(Error::config(text).hint(hint)))
}

impl Makes {
    /// The bytes it makes of one row, about. What is no argument for it the function tells itself.
    fn bytes(self, values: &[ArrayRef], row: usize) -> usize {
        let each = match self {
            Self::Text => values.first().map_or(0, |text| bytes(text, row)),
            Self::Letters => {
                let plain = values.get(2).is_none_or(|fill| is_ascii(fill, row));
                if plain { 1 } else { LETTER_BYTES }
            }
            Self::Items => NUMBER_BYTES + values.first().map_or(0, |value| bytes(value, row)),
            Self::Room => NUMBER_BYTES + fill_bytes(values, row),
            Self::Series => return steps(values, row).saturating_mul(NUMBER_BYTES),
        };
        let count = values.get(1).and_then(|count| number(count, row)).unwrap_or(0).max(0);
        usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(each)
    }
}

/// Where the value for a row stands: a constant stands alone.
fn place(array: &ArrayRef, row: usize) -> usize {
    if array.len() == 1 { 0 } else { row }
}

/// The bytes of one value.
fn bytes(array: &ArrayRef, row: usize) -> usize {
    let row = place(array, row);
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len(),
        DataType::Utf8View => array.as_string_view().value(row).len(),
        _ => array.slice(row, 1).to_data().get_slice_memory_size().unwrap_or(usize::MAX),
    }
}

/// Whether a text has none but the letters of one byte.
fn is_ascii(array: &ArrayRef, row: usize) -> bool {
    let row = place(array, row);
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).is_ascii(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).is_ascii(),
        DataType::Utf8View => array.as_string_view().value(row).is_ascii(),
        _ => false,
    }
}

/// The bytes of an item that an array is filled up with: a value, or null.
fn fill_bytes(values: &[ArrayRef], row: usize) -> usize {
    if let Some(fill) = values.get(2) {
        return bytes(fill, row);
    }
    match values.first().map(|array| array.data_type()) {
        Some(DataType::List(item) | DataType::LargeList(item)) => {
            let plain = item.data_type().primitive_width();
            plain.unwrap_or_else(|| bytes(&new_null_array(item.data_type(), 1), 0))
        }
        _ => 0,
    }
}

/// How many values a series has; there may be one less.
fn steps(values: &[ArrayRef], row: usize) -> usize {
    let (start, stop) = match values {
        [stop] => (Some(0), number(stop, row)),
        [start, stop, ..] => (number(start, row), number(stop, row)),
        [] => (None, None),
    };
    let step = values.get(2).map_or(Some(1), |step| stride(step, row));
    let (Some(start), Some(stop), Some(step)) = (start, stop, step) else { return 0 };
    let way = stop - start;
    match step {
        // It goes there and back, and may never arrive.
        0 => usize::MAX,
        _ if way.signum() * step.signum() < 0 => 0,
        _ => usize::try_from(way.abs() / step.abs() + 1).unwrap_or(usize::MAX),
    }
}

/// A number as it is, an instant in nanoseconds; none for null and for what is neither.
fn number(array: &ArrayRef, row: usize) -> Option<i128> {
    let unit = match array.data_type() {
        DataType::Date32 => DAY,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    };
    let one = cast(&array.slice(place(array, row), 1), &DataType::Int64).ok()?;
    let one = one.as_primitive_opt::<Int64Type>()?;
    one.is_valid(0).then(|| i128::from(one.value(0)) * unit)
}

/// How far a step goes at least; zero for one that goes both ways, none where there is no step.
fn stride(array: &ArrayRef, row: usize) -> Option<i128> {
    let Some(steps) = array.as_primitive_opt::<IntervalMonthDayNanoType>() else {
        return number(array, row).filter(|step| *step != 0);
    };
    let row = place(array, row);
    if steps.is_null(row) {
        return None;
    }
    let IntervalMonthDayNano { months, days, nanoseconds } = steps.value(row);
    let parts = [i128::from(months), i128::from(days), i128::from(nanoseconds)];
    let both = parts.iter().any(|part| *part > 0) && parts.iter().any(|part| *part < 0);
    let [months, days, nanos] = parts;
    match (months * MONTH_DAYS + days) * SHORT_DAY + nanos {
        _ if both => Some(0),
        0 => None,
        far => Some(far),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EpochTime, SessionOptions, reading, session};
    use super::*;

    /// Asks in a session for questions. Out: how many rows there are, or what is said of it.
    async fn asked(sql: &str) -> std::result::Result<usize, String> {
        let options = SessionOptions { memory: None, partitions: 2, time: EpochTime::default() };
        let context = reading(&options).unwrap();
        let rows = async { context.sql(sql).await?.collect().await };
        match rows.await {
            Ok(batches) => Ok(batches.iter().map(|batch| batch.num_rows()).sum()),
            Err(error) => match error.find_root() {
                DataFusionError::External(inner) => {
                    let ours = inner.downcast_ref::<Error>().unwrap();
                    assert!(ours.hint_text().is_some());
                    Err(ours.message().to_string())
                }
                other => Err(other.to_string()),
            },
        }
    }

    #[tokio::test]
    async fn what_would_take_gigabytes_is_refused() {
        for sql in [
            "SELECT repeat('x', 2147483647)",
            "SELECT length(repeat('four', 20000000))",
            "SELECT sum(length(repeat('x', value))) FROM generate_series(100000, 101000)",
            "SELECT lpad('x', 2147483647)",
            "SELECT rpad('x', 20000000, 'é')",
            "SELECT array_repeat(1, 2147483647)",
            "SELECT list_repeat(make_array(1, 2, 3, 4), 4000000)",
            "SELECT array_repeat(value, 10000) FROM generate_series(1, 1000)",
            "SELECT array_resize(make_array(1), 2000000000)",
            "SELECT list_resize(make_array('a'), 4000000, 'some more letters')",
            "SELECT range(3000000000)",
            "SELECT range(0, 3000000000)",
            "SELECT generate_series(3000000000, 0, -1)",
            "SELECT range(-9223372036854775807, 9223372036854775807)",
            "SELECT range(TIMESTAMP '2000-01-01', TIMESTAMP '2001-01-01', INTERVAL '1 second')",
            // It is back where it began after each step, for ever.
            "SELECT generate_series(DATE '2000-01-01', DATE '2000-01-01', \
             INTERVAL '1 month -31 days')",
        ] {
            let told = asked(sql).await.unwrap_err();
            assert!(told.contains("makes more than it may function="), "{sql}: {told}");
        }
    }

    #[tokio::test]
    async fn what_people_ask_for_is_made() {
        for (sql, rows) in [
            ("SELECT repeat('x', 1000000)", 1),
            ("SELECT repeat('x', -1), range(5, 1), range(1, 5, -1)", 1),
            ("SELECT lpad(CAST(value AS VARCHAR), 20, '0') FROM generate_series(1, 10000)", 10_000),
            ("SELECT unnest(array_repeat('a', 1000))", 1_000),
            ("SELECT unnest(array_resize(make_array(1, 2), 1000, 7))", 1_000),
            ("SELECT unnest(range(0, 100000))", 100_000),
            (
                "SELECT unnest(generate_series(DATE '2000-01-01', DATE '2000-12-31', \
                 INTERVAL '1 day'))",
                366,
            ),
            ("SELECT value FROM generate_series(1, 100000000) LIMIT 7", 7),
        ] {
            assert_eq!(asked(sql).await, Ok(rows), "{sql}");
        }
    }

    #[test]
    fn only_questions_have_bounds() {
        let options = SessionOptions { memory: None, partitions: 1, time: EpochTime::default() };
        let is_bounded = |context: &SessionContext, name: &str| {
            context.state().scalar_functions()[name].inner().is::<Bounded>()
        };
        let (asks, runs) = (reading(&options).unwrap(), session(&options).unwrap());
        for (name, _) in FUNCTIONS {
            assert!(is_bounded(&asks, name) && !is_bounded(&runs, name), "{name}");
        }
    }
}
