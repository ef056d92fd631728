//! From the types of a file to those of a schema, without losing anything.
//!
//! In: a column as it was read. Out: the same values in the wanted type, and which of them could
//! not be kept. Text is never parsed here: `string` columns are cast in SQL, where the user sees
//! how.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, TimeUnit};
use sluice_core::{Result, parse_type, type_name};

use super::nested;

/// A column in its wanted type.
#[derive(Debug)]
pub(super) struct Kept {
    /// The values; null where one could not be kept.
    pub(super) array: ArrayRef,
    /// Which values are what they were; none if all are.
    pub(super) good: Option<BooleanBuffer>,
}

/// Whether values of `from` may be read as `to` at all.
pub(super) fn allowed(from: &DataType, to: &DataType) -> bool {
    if to.is_nested() {
        return nested::allowed(from, to);
    }
    let same = match (family(from), family(to)) {
        (Some(from), Some(to)) => from == to || (to == Family::Text && from != Family::Binary),
        _ => false,
    };
    same && can_cast_types(from, to)
}

/// The type that a schema gives to a column of `data_type`, without losing anything; none when it
/// has no word for it.
pub(in crate::format) fn learned(data_type: &DataType) -> Option<String> {
    let plain = match data_type {
        DataType::Dictionary(_, values) => return learned(values),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Date64 => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => other.clone(),
    };
    let name = type_name(&plain);
    let read = parse_type(&name).ok()?;
    allowed(data_type, &read).then_some(name)
}

/// Whether values of `from` that are read as `to` may be others than they were, which rejects them.
pub(super) fn may_lose(from: &DataType, to: &DataType) -> bool {
    from != to && (to.is_nested() || !never_loses(from, to))
}

/// Whether values of `from` that are kept as `to` stay in their order. It is not said of floats,
/// among which some are not numbers.
pub(super) fn keeps_order(from: &DataType, to: &DataType) -> bool {
    !from.is_floating() && family(from).is_some() && family(from) == family(to)
}

/// Values of `array` as `to`, which is [`allowed`].
pub(super) fn keep(array: &ArrayRef, to: &DataType) -> Result<Kept> {
    let from = array.data_type();
    if from == to {
        return Ok(Kept { array: array.clone(), good: None });
    }
    if to.is_nested() {
        return nested::keep(array, to);
    }
    let safe = CastOptions { safe: true, ..CastOptions::default() };
    let cast = cast_with_options(array, to, &safe)?;
    if never_loses(from, to) {
        return Ok(Kept { array: cast, good: None });
    }
    let back = cast_with_options(&cast, from, &safe)?;
    let good = not_distinct(&back, array)?;
    let all = good.true_count() == good.len();
    Ok(Kept { array: cast, good: (!all).then(|| good.values().clone()) })
}

/// Types whose values are of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Text,
    Binary,
    Boolean,
    Number,
    Time,
}

fn family(data_type: &DataType) -> Option<Family> {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Family::Text),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => Some(Family::Binary),
        DataType::Boolean => Some(Family::Boolean),
        t if t.is_numeric() => Some(Family::Number),
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => Some(Family::Time),
        DataType::Dictionary(_, values) => family(values),
        _ => None,
    }
}

fn never_loses(from: &DataType, to: &DataType) -> bool {
    let wider = match (from.primitive_width(), to.primitive_width()) {
        (Some(from), Some(to)) => from < to,
        _ => false,
    };
    match (family(from), family(to)) {
        (Some(Family::Text), _) | (Some(Family::Binary), Some(Family::Binary)) => true,
        _ if from.is_integer() && to.is_integer() => wider && to.is_signed_integer(),
        _ => from.is_floating() && to.is_floating() && wider,
    }
}
