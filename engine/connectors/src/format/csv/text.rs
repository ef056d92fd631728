//! Values of one column as text.
//!
//! In: an Arrow array. Out: the text of one value, without quotes. It knows no records.

use arrow::array::cast::AsArray;
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, PrimitiveArray};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};
use sluice_core::{Error, Result};

const DAY_US: i64 = 86_400_000_000;

/// Enough for the longest number: a 64-bit float in full.
const NUMBER_BYTES_MAX: usize = lexical_core::BUFFER_SIZE;

/// One column, ready to be written value by value.
#[derive(Debug)]
pub(super) struct Text {
    array: ArrayRef,
    shape: Shape,
}

/// The few shapes that all types are brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    String,
    Binary,
    Boolean,
    Integer,
    Float32,
    Float64,
    Date,
    Timestamp,
    Decimal(i8),
}

impl Shape {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Shape::Boolean,
            t if t.is_integer() && *t != DataType::UInt64 => Shape::Integer,
            DataType::Float16 | DataType::Float32 => Shape::Float32,
            DataType::Float64 => Shape::Float64,
            DataType::Date32 => Shape::Date,
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Shape::String,
            DataType::Timestamp(_, _) => Shape::Timestamp,
            DataType::Decimal128(_, scale) if *scale >= 0 => Shape::Decimal(*scale),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Shape::Binary,
            _ => Shape::String,
        }
    }

    /// The type of the arrays that are written from.
    fn data_type(self, from: &DataType) -> DataType {
        match self {
            Shape::String => DataType::Utf8,
            Shape::Binary => DataType::Binary,
            Shape::Integer => DataType::Int64,
            Shape::Float32 => DataType::Float32,
            Shape::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, zone(from)),
            Shape::Boolean | Shape::Float64 | Shape::Date | Shape::Decimal(_) => from.clone(),
        }
    }
}

fn zone(data_type: &DataType) -> Option<std::sync::Arc<str>> {
    match data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    }
}

impl Text {
    /// Whether values of this type can be written. Errors: `Config` naming the column.
    pub(super) fn check(name: &str, data_type: &DataType) -> Result<()> {
        if can_cast_types(data_type, &Shape::of(data_type).data_type(data_type)) {
            return Ok(());
        }
        let message = format!("this type cannot be written as text column={name} type={data_type}");
        Err(Error::config(message).hint("cast it to string in the SQL, or write parquet"))
    }

    /// A column of values.
    pub(super) fn new(array: &ArrayRef) -> Result<Self> {
        let shape = Shape::of(array.data_type());
        let wanted = shape.data_type(array.data_type());
        let same = *array.data_type() == wanted;
        let array = if same { array.clone() } else { cast(array, &wanted)? };
        Ok(Self { array, shape })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    /// Whether the text may hold any character, so that it may need quotes.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.shape, Shape::String | Shape::Binary)
    }

    /// Appends the text of a value that is not null.
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self.shape {
            Shape::String => {
                out.extend_from_slice(self.array.as_string::<i32>().value(row).as_bytes());
            }
            Shape::Binary => out.extend_from_slice(self.array.as_binary::<i32>().value(row)),
            Shape::Boolean => {
                let value = self.array.as_boolean().value(row);
                out.extend_from_slice(if value { b"true" } else { b"false" });
            }
            Shape::Integer => number(out, self.value::<Int64Type>(row)),
            Shape::Float32 => number(out, self.value::<Float32Type>(row)),
            Shape::Float64 => number(out, self.value::<Float64Type>(row)),
            Shape::Date => date(out, i64::from(self.value::<Date32Type>(row))),
            Shape::Timestamp => timestamp(out, self.value::<TimestampMicrosecondType>(row)),
            Shape::Decimal(scale) => decimal(out, self.value::<Decimal128Type>(row), scale),
        }
    }

    #[inline]
    fn value<T: ArrowPrimitiveType>(&self, row: usize) -> T::Native {
        let array: &PrimitiveArray<T> = self.array.as_primitive();
        array.value(row)
    }
}

fn number<N: lexical_core::ToLexical + ArrowNativeTypeOp>(out: &mut Vec<u8>, value: N) {
    let mut buffer = [0; NUMBER_BYTES_MAX];
    out.extend_from_slice(lexical_core::write(value, &mut buffer));
}

fn decimal(out: &mut Vec<u8>, value: i128, scale: i8) {
    if value < 0 {
        out.push(b'-');
    }
    let (magnitude, scale) = (value.unsigned_abs(), usize::from(scale.unsigned_abs()));
    let from = out.len();
    match u64::try_from(magnitude) {
        Ok(small) => number(out, small),
        Err(_) => out.extend_from_slice(magnitude.to_string().as_bytes()),
    }
    let digits = out.len() - from;
    if digits <= scale {
        out.splice(from..from, std::iter::repeat_n(b'0', scale + 1 - digits));
    }
    if scale > 0 {
        let point = out.len() - scale;
        out.insert(point, b'.');
    }
}

fn timestamp(out: &mut Vec<u8>, micros: i64) {
    date(out, micros.div_euclid(DAY_US));
    let clock = micros.rem_euclid(DAY_US);
    let (seconds, fraction) = (clock / 1_000_000, clock % 1_000_000);
    for (separator, value) in
        [(b' ', seconds / 3600), (b':', seconds / 60 % 60), (b':', seconds % 60)]
    {
        out.push(separator);
        padded(out, value, 2);
    }
    if fraction > 0 {
        out.push(b'.');
        padded(out, fraction, 6);
    }
}

/// A day counted from 1970-01-01, as `YYYY-MM-DD`.
fn date(out: &mut Vec<u8>, days: i64) {
    // Years that begin in March, in eras of 400 years: the inverse of reading a date.
    let from_march = days + 719_468;
    let (era, of_era) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (era * 400 + year_of_era, month + 3),
        _ => (era * 400 + year_of_era + 1, month - 9),
    };
    if year < 0 {
        out.push(b'-');
    }
    padded(out, year.abs(), 4);
    out.push(b'-');
    padded(out, month, 2);
    out.push(b'-');
    padded(out, day, 2);
}

/// A number that is not negative, with zeros in front.
fn padded(out: &mut Vec<u8>, value: i64, width: usize) {
    let from = out.len();
    number(out, value);
    let digits = out.len() - from;
    if digits < width {
        out.splice(from..from, std::iter::repeat_n(b'0', width - digits));
    }
}
