//! The same columns, filled with values that have a type already.
//!
//! In: values as binary messages hold them; or texts of numbers of which it is known what they
//! stand for ([`Meaning`]). Out: rows in the columns, or that a value is lost in its column's type.
//! What may become what is as for files (`format::parquet::cast`). It reads no bytes of messages.

use arrow::datatypes::DataType;

use super::column::{Column, Record, Values, fits, name_of};
use super::scan::Wrong;
use crate::format::{time, value};

/// What a whole number of time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    /// So many of it in microseconds; none when that loses something.
    pub(crate) fn micros(self, count: i64) -> Option<i64> {
        match self {
            Unit::Millis => count.checked_mul(1_000),
            Unit::Micros => Some(count),
            Unit::Nanos => (count % 1_000 == 0).then_some(count / 1_000),
        }
    }
}

/// A value that is not null.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Bool(bool),
    Long(i64),
    /// Beyond what a signed number holds.
    Unsigned(u64),
    Float(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// An unscaled number and the digits after its point.
    Decimal(i128, i8),
    /// Days since 1970-01-01.
    Days(i64),
    /// Time since 1970-01-01 UTC.
    Time(i64, Unit),
}

/// What the texts of a column stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// What they say.
    #[default]
    Itself,
    /// Days since 1970-01-01.
    Days,
    /// Days since 1970-01-01 if they are a number, else what they say.
    NumberOfDays,
    /// Time since 1970-01-01 UTC.
    Time(Unit),
    /// The same if they are a number, else what they say.
    Number(Unit),
    /// Bytes, as base64.
    Bytes,
    /// The bytes of an unscaled number, as base64, and the digits after its point.
    Decimal(i8),
}

impl Record {
    /// The place of the field that the data calls `name`.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name.as_bytes()).copied()
    }

    /// The column at a place that [`Record::place`] gave.
    pub(crate) fn column(&mut self, place: usize) -> &mut Column {
        &mut self.columns[place]
    }

    /// The columns, in order.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Says of each column what its texts stand for; nothing new when `said` is what it was.
    pub(crate) fn mean(&mut self, said: u64, meaning: impl Fn(&Column) -> Meaning) {
        if std::mem::replace(&mut self.said, said) == said {
            return;
        }
        for column in &mut self.columns {
            column.meaning = meaning(column);
        }
    }
}

impl Column {
    /// The name in the data.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The type of its values.
    pub(crate) fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Values taken.
    pub(crate) fn rows(&self) -> usize {
        self.valid.len()
    }

    /// The fields, where values are structs.
    pub(crate) fn fields(&self) -> Option<&Record> {
        match &self.values {
            Values::Struct(record) => Some(record),
            _ => None,
        }
    }

    /// The fields, to be filled before [`Column::close`].
    pub(crate) fn fields_mut(&mut self) -> Option<&mut Record> {
        match &mut self.values {
            Values::Struct(record) => Some(record),
            _ => None,
        }
    }

    /// The items, where values are lists.
    pub(crate) fn items(&self) -> Option<&Column> {
        match &self.values {
            Values::List { items, .. } => Some(items),
            _ => None,
        }
    }

    /// The items, to be added to before [`Column::close`].
    pub(crate) fn items_mut(&mut self) -> Option<&mut Column> {
        match &mut self.values {
            Values::List { items, .. } => Some(items),
            _ => None,
        }
    }

    /// Ends a struct or a list that was put in piece by piece.
    pub(crate) fn close(&mut self) {
        if let Values::List { ends, items } = &mut self.values {
            ends.push(items.valid.len());
        }
        self.valid.push(true);
    }

    /// Takes a null.
    pub(crate) fn put_null(&mut self) -> Result<(), Wrong> {
        self.push_null()
    }

    /// Takes a value.
    pub(crate) fn put(&mut self, value: Value<'_>) -> Result<(), Wrong> {
        if self.store(value) {
            self.valid.push(true);
            return Ok(());
        }
        let wanted = name_of(&self.data_type);
        Err(Wrong::new(format!("not a {wanted} without loss value={}", shown(value))))
    }

    fn store(&mut self, value: Value<'_>) -> bool {
        let data_type = &self.data_type;
        match &mut self.values {
            Values::Bools(values) => match value {
                Value::Bool(value) => {
                    values.push(value);
                    true
                }
                _ => false,
            },
            Values::Longs(values) => {
                let read = match data_type {
                    DataType::Date32 => days(value),
                    DataType::Timestamp(_, _) => micros(value),
                    whole => long(value).filter(|v| fits(*v, whole)),
                };
                read.map(|v| values.push(v)).is_some()
            }
            Values::Doubles(values) => {
                let narrow = *data_type == DataType::Float32;
                double(value, narrow).map(|v| values.push(v)).is_some()
            }
            Values::Decimals(values) => {
                let DataType::Decimal128(precision, scale) = *data_type else { return false };
                decimal(value, precision, scale).map(|v| values.push(v)).is_some()
            }
            Values::Bytes { ends, bytes } => {
                let stored = match (data_type, value) {
                    (DataType::Binary, Value::Bytes(value)) => {
                        bytes.extend_from_slice(value);
                        true
                    }
                    (DataType::Utf8, Value::Text(value)) => {
                        bytes.extend_from_slice(value.as_bytes());
                        true
                    }
                    (DataType::Utf8, other) => written(other)
                        .map(|text| bytes.extend_from_slice(text.as_bytes()))
                        .is_some(),
                    _ => false,
                };
                if stored {
                    ends.push(bytes.len());
                }
                stored
            }
            Values::Struct(_) | Values::List { .. } => false,
        }
    }

    /// Takes the text of a value whose meaning is known.
    pub(super) fn push_meant(&mut self, text: &[u8]) -> bool {
        let is_binary = self.data_type == DataType::Binary;
        let count = || value::integer(text);
        match self.meaning {
            Meaning::Itself => false,
            // A column that is a number keeps the count.
            Meaning::Days | Meaning::Time(_) if !self.is_time() => {
                count().is_some_and(|count| self.store(Value::Long(count)))
            }
            Meaning::NumberOfDays | Meaning::Number(_) if count().is_none() => {
                self.push_itself(text)
            }
            Meaning::Days | Meaning::NumberOfDays => {
                count().is_some_and(|days| self.store(Value::Days(days)))
            }
            Meaning::Time(unit) | Meaning::Number(unit) => {
                count().is_some_and(|n| self.store(Value::Time(n, unit)))
            }
            Meaning::Bytes => match (is_binary, base64(text)) {
                (true, Some(bytes)) => self.store(Value::Bytes(&bytes)),
                (false, _) => std::str::from_utf8(text).is_ok_and(|t| self.store(Value::Text(t))),
                (true, None) => false,
            },
            Meaning::Decimal(scale) => {
                let unscaled = base64(text).and_then(|bytes| unscaled(&bytes));
                unscaled.is_some_and(|value| self.store(Value::Decimal(value, scale)))
            }
        }
    }

    /// Whether values are dates, timestamps, or text that says them.
    fn is_time(&self) -> bool {
        matches!(self.data_type, DataType::Date32 | DataType::Timestamp(_, _) | DataType::Utf8)
    }
}

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

fn long(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Long(value) => Some(value),
        Value::Unsigned(value) => i64::try_from(value).ok(),
        Value::Float(value) => whole(f64::from(value)),
        Value::Double(value) => whole(value),
        Value::Decimal(value, scale) => i64::try_from(rescale(value, scale, 0)?).ok(),
        _ => None,
    }
}

/// 2^63: the first float beyond whole numbers.
const LONG_END: f64 = 9_223_372_036_854_775_808.0;

fn whole(value: f64) -> Option<i64> {
    (value.fract() == 0.0 && (-LONG_END..LONG_END).contains(&value)).then_some(value as i64)
}

fn double(value: Value<'_>, narrow: bool) -> Option<f64> {
    let read = match value {
        Value::Float(value) => return Some(f64::from(value)),
        Value::Double(value) => value,
        Value::Long(value) => {
            let read = value as f64;
            (whole(read) == Some(value)).then_some(read)?
        }
        Value::Unsigned(value) => {
            let read = value as f64;
            (read as u64 == value).then_some(read)?
        }
        Value::Decimal(unscaled, scale) => {
            let read: f64 = digits(unscaled, scale).parse().ok()?;
            let same = value::exact(format!("{read}").as_bytes(), i32::from(scale));
            (same == Some(unscaled)).then_some(read)?
        }
        _ => return None,
    };
    let kept = !narrow || read.is_nan() || f64::from(read as f32) == read;
    kept.then_some(read)
}

fn decimal(value: Value<'_>, precision: u8, scale: i8) -> Option<i128> {
    let read = match value {
        Value::Long(value) => rescale(i128::from(value), 0, scale),
        Value::Unsigned(value) => rescale(i128::from(value), 0, scale),
        Value::Decimal(value, from) => rescale(value, from, scale),
        Value::Float(v) => return value::any_decimal(v.to_string().as_bytes(), precision, scale),
        Value::Double(v) => return value::any_decimal(v.to_string().as_bytes(), precision, scale),
        _ => None,
    }?;
    (read.unsigned_abs() < 10_u128.checked_pow(u32::from(precision))?).then_some(read)
}

fn rescale(value: i128, from: i8, to: i8) -> Option<i128> {
    let power = |digits: i16| 10_i128.checked_pow(u32::try_from(digits).ok()?);
    let (from, to) = (i16::from(from), i16::from(to));
    if to >= from {
        return value.checked_mul(power(to - from)?);
    }
    match power(from - to) {
        Some(power) => (value % power == 0).then_some(value / power),
        None => (value == 0).then_some(0),
    }
}

fn days(value: Value<'_>) -> Option<i64> {
    let days = match value {
        Value::Days(days) => days,
        Value::Time(count, unit) => {
            let micros = unit.micros(count)?;
            (micros % DAY_US == 0).then_some(micros / DAY_US)?
        }
        _ => return None,
    };
    i32::try_from(days).ok().map(i64::from)
}

fn micros(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Days(days) => days.checked_mul(DAY_US),
        Value::Time(count, unit) => unit.micros(count),
        _ => None,
    }
}

/// The unscaled number of big-endian bytes in two's complement; none beyond 128 bits.
pub(crate) fn unscaled(bytes: &[u8]) -> Option<i128> {
    let fill = match bytes.first()? {
        0x80.. => 0xFF,
        _ => 0,
    };
    let (beyond, kept) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut wide = [fill; 16];
    wide[16 - kept.len()..].copy_from_slice(kept);
    let value = i128::from_be_bytes(wide);
    let same_sign = beyond.is_empty() || (value < 0) == (fill == 0xFF);
    (beyond.iter().all(|b| *b == fill) && same_sign).then_some(value)
}

/// The bytes of base64 with the plain alphabet, padded or not.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let padding = text.iter().rev().take_while(|b| **b == b'=').count();
    if padding > 2
        || (padding > 0 && !text.len().is_multiple_of(4))
        || (text.len() - padding) % 4 == 1
    {
        return None;
    }
    for group in text[..text.len() - padding].chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = (bits << 6) | u32::from(digit);
        }
        let missing = 4 - group.len();
        let whole = (bits << (6 * missing)).to_be_bytes();
        bytes.extend_from_slice(&whole[1..4 - missing]);
    }
    Some(bytes)
}

/// Bytes in base64 with the plain alphabet, padded.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut wide = [0; 4];
        wide[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(wide);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 0x3F];
            text.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// A decimal as people write it.
fn digits(unscaled: i128, scale: i8) -> String {
    let Ok(scale) = usize::try_from(scale) else { return format!("{unscaled}e{}", -scale) };
    if scale == 0 {
        return unscaled.to_string();
    }
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// The value as text; none for bytes and for times that no calendar has.
pub(crate) fn written(value: Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bool(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::Unsigned(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Double(value) => format!("{value:?}"),
        Value::Text(value) => value.to_string(),
        Value::Bytes(_) => return None,
        Value::Decimal(value, scale) => digits(value, scale),
        Value::Days(days) => time::written_date(days)?,
        Value::Time(count, unit) => time::written(unit.micros(count)?)?,
    })
}

/// Characters of a value in a reason.
const SHOWN_CHARS_MAX: usize = 64;

fn shown(value: Value<'_>) -> String {
    match (value, written(value)) {
        (Value::Bytes(bytes), _) => format!("{} bytes", bytes.len()),
        (_, Some(text)) => format!("{:?}", text.chars().take(SHOWN_CHARS_MAX).collect::<String>()),
        (value, None) => format!("{value:?}"),
    }
}
