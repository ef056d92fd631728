//! Structs and lists from the types of a file to those of a schema, without losing anything.
//!
//! In: a nested column as it was read. Out: the same in the wanted type, fields found by their
//! names, and which rows could be kept. What is inside is up to [`cast`].

use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, ListArray, StructArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::{DataType, Field, Fields};
use sluice_core::{Error, FieldSpec, Result};

use super::cast::{self, Kept};

/// Refuses what is possible only where rows are read field by field. Errors: `Config`.
pub(super) fn check(fields: &[FieldSpec]) -> Result<()> {
    for field in fields {
        if let Some(inner) = field.fields.iter().find(|f| f.from.is_some() || f.required) {
            let path = format!("{}.{}", field.name, inner.name);
            let message = format!("a field within a field has `from` or `required` field={path}");
            return Err(Error::config(message)
                .hint("take them away: here it is found by its name, and may be null"));
        }
        check(&field.fields)?;
    }
    Ok(())
}

/// Whether values of `from` may be read as `to`, which is nested.
pub(super) fn allowed(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Struct(from), DataType::Struct(to)) => to.iter().all(|wanted| {
            let found = from.iter().find(|f| f.name() == wanted.name());
            found.is_none_or(|f| cast::allowed(f.data_type(), wanted.data_type()))
        }),
        (DataType::List(from) | DataType::LargeList(from), DataType::List(to)) => {
            cast::allowed(from.data_type(), to.data_type())
        }
        _ => false,
    }
}

/// Values of `array` as `to`, which is [`allowed`].
pub(super) fn keep(array: &ArrayRef, to: &DataType) -> Result<Kept> {
    match (array.data_type(), to) {
        (DataType::Struct(_), DataType::Struct(fields)) => keep_struct(array.as_struct(), fields),
        (DataType::LargeList(item), DataType::List(_)) => {
            keep(&arrow_cast(array, &DataType::List(item.clone()))?, to)
        }
        (DataType::List(_), DataType::List(item)) => keep_list(array.as_list(), item),
        (from, to) => Err(Error::bug(format!("a column cannot be kept from={from} to={to}"))),
    }
}

fn keep_struct(array: &StructArray, fields: &Fields) -> Result<Kept> {
    let mut good: Option<BooleanBuffer> = None;
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let Some(column) = array.column_by_name(field.name()) else {
            columns.push(new_null_array(field.data_type(), array.len()));
            continue;
        };
        let kept = cast::keep(column, field.data_type())?;
        good = match (good, kept.good) {
            (Some(a), Some(b)) => Some(&a & &b),
            (a, b) => a.or(b),
        };
        columns.push(kept.array);
    }
    // What stands in a struct that is null is nothing that could be lost.
    if let (Some(all), Some(nulls)) = (&good, array.nulls()) {
        good = Some(all | &!nulls.inner());
    }
    let nulls = array.nulls().cloned();
    let kept = StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?;
    Ok(Kept { array: Arc::new(kept), good })
}

fn keep_list(array: &ListArray, item: &Arc<Field>) -> Result<Kept> {
    let kept = cast::keep(array.values(), item.data_type())?;
    let good = kept.good.map(|items| {
        let ranges = array.offsets().windows(2).enumerate();
        ranges
            .map(|(row, ends)| {
                array.is_null(row) || (ends[0]..ends[1]).all(|item| items.value(item as usize))
            })
            .collect()
    });
    let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
    let list = ListArray::try_new(item.clone(), offsets, kept.array, nulls)?;
    Ok(Kept { array: Arc::new(list), good })
}
