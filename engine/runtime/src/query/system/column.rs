//! A system table's columns: a name, and how a row tells its value.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use sluice_core::{Error, Result};

/// One column of rows `T`.
pub(super) struct Column<T: 'static> {
    pub name: &'static str,
    pub value: Value<T>,
}

/// How a row tells its value; none is NULL.
pub(super) enum Value<T: 'static> {
    /// Text.
    Text(fn(&T) -> Option<String>),
    /// A count, a size in bytes or a number.
    Number(fn(&T) -> Option<u64>),
    /// An instant, from milliseconds since 1970.
    Instant(fn(&T) -> Option<i64>),
}

/// Text that is always there.
pub(super) const fn text<T>(name: &'static str, value: fn(&T) -> Option<String>) -> Column<T> {
    Column { name, value: Value::Text(value) }
}

/// A count, a size in bytes or a number.
pub(super) const fn number<T>(name: &'static str, value: fn(&T) -> Option<u64>) -> Column<T> {
    Column { name, value: Value::Number(value) }
}

/// An instant, given in milliseconds since 1970.
pub(super) const fn instant<T>(name: &'static str, value: fn(&T) -> Option<i64>) -> Column<T> {
    Column { name, value: Value::Instant(value) }
}

/// The columns as a schema; all nullable.
pub(super) fn schema<T>(columns: &[Column<T>]) -> SchemaRef {
    let field = |column: &Column<T>| {
        let data_type = match column.value {
            Value::Text(_) => DataType::Utf8,
            Value::Number(_) => DataType::Int64,
            Value::Instant(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        };
        Field::new(column.name, data_type, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The values of `rows`.
pub(super) fn batch<T>(columns: &[Column<T>], rows: &[T]) -> Result<RecordBatch> {
    let array = |column: &Column<T>| -> ArrayRef {
        match column.value {
            Value::Text(get) => Arc::new(rows.iter().map(get).collect::<StringArray>()),
            Value::Number(get) => {
                let number = |row| get(row).and_then(|n| i64::try_from(n).ok());
                Arc::new(rows.iter().map(number).collect::<Int64Array>())
            }
            Value::Instant(get) => {
                let micros = |row| get(row).and_then(|ms| ms.checked_mul(1_000));
                let array: TimestampMicrosecondArray = rows.iter().map(micros).collect();
                Arc::new(array.with_timezone("UTC"))
            }
        }
    };
    RecordBatch::try_new(schema(columns), columns.iter().map(array).collect())
        .map_err(|e| Error::bug("a system table does not fit its columns").because(e))
}
