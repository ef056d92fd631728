//! Cells: what one value of a column is as text and as JSON.
//!
//! In: an Arrow array. Out: a text or a JSON value per row. Integers and floats are JSON numbers,
//! decimals and times strings, lists and structs arrays and objects; in text those are JSON.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value};
use sluice_core::{Error, Result};

/// Each row's text; none is NULL.
pub(super) fn texts(array: &ArrayRef) -> Result<Vec<Option<String>>> {
    let array = plain(array)?;
    // Of this type nothing is valid, though no bitmap says so.
    if array.data_type() == &DataType::Null {
        return Ok(vec![None; array.len()]);
    }
    if array.data_type().is_nested() {
        let text = |value: Value| (!value.is_null()).then(|| value.to_string());
        return Ok(values(&array)?.into_iter().map(text).collect());
    }
    let options = FormatOptions::new().with_display_error(false);
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).map_err(unshown)?;
    let text = |row| {
        let shown = array.is_valid(row).then(|| formatter.value(row).try_to_string());
        shown.transpose().map_err(unshown)
    };
    (0..array.len()).map(text).collect()
}

/// Each row as JSON.
pub fn values(array: &ArrayRef) -> Result<Vec<Value>> {
    let array = plain(array)?;
    let rows = 0..array.len();
    let list = match array.data_type() {
        DataType::Null => rows.map(|_| Value::Null).collect(),
        DataType::Boolean => array.as_boolean().iter().map(Value::from).collect(),
        t if t.is_signed_integer() => {
            let wide = cast(&array, &DataType::Int64).map_err(unshown)?;
            wide.as_primitive::<Int64Type>().iter().map(Value::from).collect()
        }
        t if t.is_unsigned_integer() => {
            let wide = cast(&array, &DataType::UInt64).map_err(unshown)?;
            wide.as_primitive::<UInt64Type>().iter().map(Value::from).collect()
        }
        DataType::Float64 => array
            .as_primitive::<Float64Type>()
            .iter()
            .map(|v| v.map_or(Value::Null, float))
            .collect(),
        // Through the shortest text: 0.1 must not become 0.10000000149011612.
        DataType::Float16 | DataType::Float32 => {
            let number = |t: String| t.parse().map_or_else(|_| Value::from(t), float);
            texts(&array)?.into_iter().map(|t| t.map_or(Value::Null, number)).collect()
        }
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            let lists = cast(&array, &DataType::List(field.clone())).map_err(unshown)?;
            let lists = lists.as_list::<i32>();
            let items = lists.iter().map(|item| match item {
                Some(item) => Ok(Value::Array(values(&item)?)),
                None => Ok(Value::Null),
            });
            return items.collect();
        }
        DataType::Struct(_) => return structs(&array),
        DataType::Map(_, _) => return maps(&array),
        _ => texts(&array)?.into_iter().map(Value::from).collect(),
    };
    Ok(list)
}

fn structs(array: &ArrayRef) -> Result<Vec<Value>> {
    let rows = array.as_struct();
    let columns = rows.columns().iter().map(values).collect::<Result<Vec<_>>>()?;
    let object = |row: usize| {
        if rows.is_null(row) {
            return Value::Null;
        }
        let names = rows.column_names().into_iter().map(str::to_string);
        let cells = columns.iter().map(|c| c.get(row).cloned().unwrap_or(Value::Null));
        Value::Object(names.zip(cells).collect())
    };
    Ok((0..rows.len()).map(object).collect())
}

fn maps(array: &ArrayRef) -> Result<Vec<Value>> {
    let object = |entries: arrow::array::StructArray| {
        let keys = texts(entries.column(0))?.into_iter().map(Option::unwrap_or_default);
        let items: Map<String, Value> = keys.zip(values(entries.column(1))?).collect();
        Ok(Value::Object(items))
    };
    array.as_map().iter().map(|e| e.map_or(Ok(Value::Null), object)).collect()
}

/// JSON has no infinity and no NaN; they are strings, so that they are not taken for NULL.
fn float(value: f64) -> Value {
    serde_json::Number::from_f64(value)
        .map_or_else(|| Value::from(value.to_string()), Value::Number)
}

/// The array without dictionaries and runs, instants in UTC.
fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Dictionary(_, inner) => plain(&cast(array, inner).map_err(unshown)?),
        DataType::RunEndEncoded(_, inner) => {
            plain(&cast(array, inner.data_type()).map_err(unshown)?)
        }
        DataType::Timestamp(unit, Some(zone)) if zone.as_ref() != "UTC" => {
            let utc = DataType::Timestamp(*unit, Some(Arc::from("UTC")));
            cast(array, &utc).map_err(unshown)
        }
        _ => Ok(array.clone()),
    }
}

fn unshown(error: ArrowError) -> Error {
    Error::data("a value cannot be shown")
        .hint("cast the column to something else in the query")
        .because(error)
}
