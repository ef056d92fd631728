//! Values of columns to Arrow arrays.
//!
//! In: plain values, and which of them are null. Out: arrays, without a copy where the types are
//! alike. It checks nothing: whoever took the values did.

use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::array::{ArrayRef, PrimitiveArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use sluice_core::{Error, Result};

/// Values that were checked to fit into `data_type`.
pub(super) fn longs(data_type: &DataType, values: Vec<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
    let values = values.into_iter();
    match data_type {
        DataType::Int8 => primitive::<Int8Type>(values.map(|v| v as i8), nulls),
        DataType::Int16 => primitive::<Int16Type>(values.map(|v| v as i16), nulls),
        DataType::Int32 => primitive::<Int32Type>(values.map(|v| v as i32), nulls),
        DataType::Date32 => primitive::<Date32Type>(values.map(|v| v as i32), nulls),
        DataType::Timestamp(_, _) => {
            let values = values.collect::<Vec<_>>().into();
            let array = PrimitiveArray::<TimestampMicrosecondType>::new(values, nulls);
            Arc::new(array.with_data_type(data_type.clone()))
        }
        _ => primitive::<Int64Type>(values, nulls),
    }
}

pub(super) fn primitive<T: ArrowPrimitiveType>(
    values: impl Iterator<Item = T::Native>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let values: Vec<T::Native> = values.collect();
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls))
}

pub(super) fn offsets(ends: Vec<usize>) -> Result<OffsetBuffer<i32>> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    for end in ends {
        let end = i32::try_from(end);
        offsets.push(end.map_err(|e| Error::bug("a chunk of more than 2 GiB").because(e))?);
    }
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}

pub(super) fn strange() -> Error {
    Error::bug("a column holds values of another type")
}
