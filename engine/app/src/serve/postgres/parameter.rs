//! Values that clients bind to `$1`, `$2`, …
//!
//! In: bytes as text or in PostgreSQL's binary forms, the type the client named, the type
//! DataFusion infers. Out: scalars. A value keeps the type its client gave it, and DataFusion
//! compares it with columns of other types as it does with literals; text without a type becomes
//! what it is compared with. Values never become part of SQL text.

use datafusion::arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::error::PgWireResult;
use uuid::Uuid;

use super::failure::{self, code};

/// Days and microseconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Digits that a decimal may have.
const DIGITS_MAX: usize = 38;

/// Items that an array may have: each takes many times the comma that makes it.
const ITEMS_MAX: usize = 100_000;

/// What helps against values that are none.
const HINT: &str = "write it as PostgreSQL does; arrays: one dimension, at most 100000 items";

/// A value as it came: its bytes, none for null, and whether they are binary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound<'a> {
    /// The bytes.
    pub bytes: Option<&'a [u8]>,
    /// Whether they are in the binary form of their type.
    pub binary: bool,
}

/// The value of parameter `number`, counted from 1. `named` is the type the client named,
/// `inferred` what DataFusion takes it for. Errors: the bytes are no value of the type.
pub(super) fn value(
    number: usize,
    bound: Bound<'_>,
    named: Option<&Type>,
    inferred: Option<&DataType>,
) -> PgWireResult<ScalarValue> {
    let odd = |what: &str| {
        let message = format!("invalid value for a parameter parameter=${number} type={what}");
        failure::hinted(code::TEXT, message, HINT)
    };
    // Whoever names no type, or unknown, sends text for whatever it is compared with.
    let named = named.filter(|named| **named != Type::UNKNOWN);
    let advertised = advertised(inferred);
    let (kind, target) = match named {
        Some(named) => (named, arrow_type(named).ok_or_else(|| odd(named.name()))?),
        None if bound.binary => {
            let target = arrow_type(&advertised).ok_or_else(|| odd(advertised.name()))?;
            (&advertised, target)
        }
        None => (&Type::UNKNOWN, inferred.cloned().unwrap_or(DataType::Utf8)),
    };
    let Some(bytes) = bound.bytes else {
        return ScalarValue::try_from(&target).map_err(|_| odd(kind.name()));
    };
    let read = if bound.binary { binary(kind, &target, bytes) } else { text(kind, &target, bytes) };
    read.ok_or_else(|| odd(kind.name()))
}

/// The type that a client is told a parameter has.
pub(super) fn advertised(inferred: Option<&DataType>) -> Type {
    use datafusion_postgres::arrow_pg::datatypes::into_pg_type;
    let kind = match inferred {
        None | Some(DataType::Null) => Type::TEXT,
        Some(DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..)) => {
            Type::NUMERIC
        }
        Some(inferred) => into_pg_type(inferred).unwrap_or(Type::TEXT),
    };
    // What cannot be read is asked for as text.
    if arrow_type(&kind).is_some() { kind } else { Type::TEXT }
}

/// The Arrow type of PostgreSQL's; none for what is not read.
fn arrow_type(kind: &Type) -> Option<DataType> {
    let utc = || Some("UTC".into());
    Some(match *kind {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 | Type::OID => DataType::Int32,
        Type::INT8 => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => DataType::Decimal128(38, 0),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR | Type::UNKNOWN => {
            DataType::Utf8
        }
        Type::JSON | Type::JSONB | Type::UUID => DataType::Utf8,
        Type::REGCLASS | Type::REGTYPE | Type::REGPROC | Type::REGNAMESPACE => DataType::Int32,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, utc()),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        Type::BOOL_ARRAY => list(DataType::Boolean),
        Type::INT2_ARRAY => list(DataType::Int16),
        Type::INT4_ARRAY => list(DataType::Int32),
        Type::INT8_ARRAY => list(DataType::Int64),
        Type::FLOAT4_ARRAY => list(DataType::Float32),
        Type::FLOAT8_ARRAY => list(DataType::Float64),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY => list(DataType::Utf8),
        Type::DATE_ARRAY => list(DataType::Date32),
        Type::TIMESTAMP_ARRAY => list(DataType::Timestamp(TimeUnit::Microsecond, None)),
        Type::TIMESTAMPTZ_ARRAY => list(DataType::Timestamp(TimeUnit::Microsecond, utc())),
        _ => return None,
    })
}

fn list(item: DataType) -> DataType {
    DataType::new_list(item, true)
}

/// A value written as text.
fn text(kind: &Type, target: &DataType, bytes: &[u8]) -> Option<ScalarValue> {
    let text = std::str::from_utf8(bytes).ok()?;
    match target {
        DataType::List(item) => array_text(item.data_type(), text),
        DataType::Utf8 => Some(ScalarValue::Utf8(Some(text.to_string()))),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => bytea(text),
        _ if *kind == Type::NUMERIC => decimal(text.trim()),
        // A literal of the column's own type would cut digits off.
        DataType::Decimal128(..) | DataType::Decimal256(..) => decimal(text.trim()),
        _ => ScalarValue::try_from_string(text.trim().to_string(), target).ok(),
    }
}

/// A value in PostgreSQL's binary form.
fn binary(kind: &Type, target: &DataType, bytes: &[u8]) -> Option<ScalarValue> {
    Some(match target {
        DataType::Boolean => ScalarValue::Boolean(Some(*bytes.first()? != 0)),
        DataType::Int16 => ScalarValue::Int16(Some(i16::from_be_bytes(exact(bytes)?))),
        DataType::Int32 => ScalarValue::Int32(Some(i32::from_be_bytes(exact(bytes)?))),
        DataType::Int64 => ScalarValue::Int64(Some(i64::from_be_bytes(exact(bytes)?))),
        DataType::Float32 => ScalarValue::Float32(Some(f32::from_be_bytes(exact(bytes)?))),
        DataType::Float64 => ScalarValue::Float64(Some(f64::from_be_bytes(exact(bytes)?))),
        DataType::Decimal128(..) => decimal(&numeric(bytes)?)?,
        DataType::Binary => ScalarValue::Binary(Some(bytes.to_vec())),
        DataType::Utf8 if *kind == Type::UUID => {
            ScalarValue::Utf8(Some(Uuid::from_bytes(exact(bytes)?).to_string()))
        }
        DataType::Utf8 => {
            // The first byte of binary jsonb is its version.
            let bytes = if *kind == Type::JSONB { bytes.get(1..)? } else { bytes };
            ScalarValue::Utf8(Some(std::str::from_utf8(bytes).ok()?.to_string()))
        }
        DataType::Date32 => {
            let days = i32::from_be_bytes(exact(bytes)?).checked_add(EPOCH_DAYS)?;
            ScalarValue::Date32(Some(days))
        }
        DataType::Time64(_) => {
            ScalarValue::Time64Microsecond(Some(i64::from_be_bytes(exact(bytes)?)))
        }
        DataType::Timestamp(_, zone) => {
            let micros = i64::from_be_bytes(exact(bytes)?).checked_add(EPOCH_MICROS)?;
            ScalarValue::TimestampMicrosecond(Some(micros), zone.clone())
        }
        DataType::Interval(_) => {
            let (micros, rest) = bytes.split_first_chunk::<8>()?;
            let (days, months) = rest.split_first_chunk::<4>()?;
            let nanos = i64::from_be_bytes(*micros).checked_mul(1_000)?;
            let days = i32::from_be_bytes(*days);
            let months = i32::from_be_bytes(exact(months)?);
            let interval = IntervalMonthDayNano::new(months, days, nanos);
            ScalarValue::IntervalMonthDayNano(Some(interval))
        }
        DataType::List(item) => array_binary(item.data_type(), bytes)?,
        _ => return None,
    })
}

fn exact<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// `\x` and hexadecimal digits; anything else is the bytes themselves.
fn bytea(text: &str) -> Option<ScalarValue> {
    let Some(digits) = text.strip_prefix("\\x") else {
        return Some(ScalarValue::Binary(Some(text.as_bytes().to_vec())));
    };
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [_, _] => u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok(),
        _ => None,
    };
    Some(ScalarValue::Binary(Some(pairs.map(byte).collect::<Option<Vec<u8>>>()?)))
}

/// A decimal with as many digits as are written. An exponent is one of a float.
fn decimal(text: &str) -> Option<ScalarValue> {
    if text.contains(['e', 'E', 'n', 'N', 'f', 'F']) {
        return text.parse().ok().map(|number| ScalarValue::Float64(Some(number)));
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = all.trim_start_matches('0').len();
    if significant > DIGITS_MAX || fraction.len() > DIGITS_MAX {
        return text.parse().ok().map(|number| ScalarValue::Float64(Some(number)));
    }
    let value: i128 = if significant == 0 { 0 } else { all.parse().ok()? };
    let precision = u8::try_from(significant.max(fraction.len()).max(1)).ok()?;
    let scale = i8::try_from(fraction.len()).ok()?;
    Some(ScalarValue::Decimal128(Some(sign * value), precision, scale))
}

/// PostgreSQL's binary numeric, written out: groups of four digits.
fn numeric(bytes: &[u8]) -> Option<String> {
    let mut words = bytes.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
    let (count, weight) = (words.next()?, i32::from(words.next()?));
    let (sign, scale) = (words.next()?, usize::try_from(words.next()?).ok()?);
    let groups: Vec<i16> = words.by_ref().take(usize::try_from(count).ok()?).collect();
    match sign {
        0 | 0x4000 => {}
        // Not a number, and the infinities.
        _ if sign.cast_unsigned() == 0xC000 => return Some("NaN".to_string()),
        _ if sign.cast_unsigned() == 0xD000 => return Some("inf".to_string()),
        _ if sign.cast_unsigned() == 0xF000 => return Some("-inf".to_string()),
        _ => return None,
    }
    let group = |at: i32| -> Option<String> {
        let value = usize::try_from(weight - at).ok().and_then(|at| groups.get(at)).unwrap_or(&0);
        (0..10_000).contains(value).then(|| format!("{value:04}"))
    };
    let mut text = if sign == 0 { String::new() } else { "-".to_string() };
    let whole: String = (0..=weight.max(0)).rev().map(group).collect::<Option<_>>()?;
    text.push_str(match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    });
    if scale > 0 {
        let count = i32::try_from(scale.div_ceil(4)).ok()?;
        let fraction: String = (1..=count).map(|at| group(-at)).collect::<Option<_>>()?;
        text.push('.');
        text.push_str(&fraction[..scale]);
    }
    Some(text)
}

/// `{a,"b c",NULL}`; of one dimension.
fn array_text(item: &DataType, text: &str) -> Option<ScalarValue> {
    let inside = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut values: Vec<ScalarValue> = Vec::new();
    for (word, quoted) in words(inside)? {
        values.push(match (quoted, word.eq_ignore_ascii_case("null")) {
            (false, true) => ScalarValue::try_from(item).ok()?,
            (false, false) if word.starts_with('{') => return None,
            _ if *item == DataType::Utf8 => ScalarValue::Utf8(Some(word)),
            _ => ScalarValue::try_from_string(word, item).ok()?,
        });
    }
    Some(ScalarValue::List(ScalarValue::new_list_nullable(&values, item)))
}

/// The words between commas, each with whether it was quoted.
fn words(text: &str) -> Option<Vec<(String, bool)>> {
    let mut found = Vec::new();
    if text.trim().is_empty() {
        return Some(found);
    }
    let (mut word, mut quoted, mut open) = (String::new(), false, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => word.push(letters.next()?),
            '"' => (open, quoted) = (!open, true),
            ',' if !open && found.len() + 1 == ITEMS_MAX => return None,
            ',' if !open => {
                found.push((std::mem::take(&mut word), quoted));
                quoted = false;
            }
            _ => word.push(letter),
        }
    }
    found.push((word, quoted));
    (!open).then_some(found)
}

/// PostgreSQL's binary array; of one dimension.
fn array_binary(item: &DataType, bytes: &[u8]) -> Option<ScalarValue> {
    let (head, rest) = bytes.split_first_chunk::<12>()?;
    let number =
        |at: usize| -> Option<i32> { Some(i32::from_be_bytes(exact(head.get(at..at + 4)?)?)) };
    let (dimensions, kind) = (number(0)?, Type::from_oid(number(8)?.cast_unsigned())?);
    let mut values = Vec::new();
    let mut rest: &[u8] = match dimensions {
        0 => &[],
        1 => rest.get(8..)?,
        _ => return None,
    };
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = i32::from_be_bytes(*length);
        rest = after;
        if values.len() == ITEMS_MAX {
            return None;
        }
        if length < 0 {
            values.push(ScalarValue::try_from(item).ok()?);
            continue;
        }
        let (value, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        values.push(binary(&kind, item, value)?);
        rest = after;
    }
    Some(ScalarValue::List(ScalarValue::new_list_nullable(&values, item)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, named: Option<&Type>, inferred: Option<&DataType>) -> Option<ScalarValue> {
        let bound = Bound { bytes: Some(text.as_bytes()), binary: false };
        value(1, bound, named, inferred).ok()
    }

    fn sent(bytes: &[u8], named: Option<&Type>, kind: Option<&DataType>) -> Option<ScalarValue> {
        value(1, Bound { bytes: Some(bytes), binary: true }, named, kind).ok()
    }

    #[test]
    fn text_becomes_what_its_client_says_or_what_it_is_compared_with() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let price = DataType::Decimal128(12, 2);
        let json = "{\"a\": 1}";
        let micros =
            ScalarValue::TimestampMicrosecond(Some(1_714_550_400_000_000), Some("UTC".into()));
        let cases = [
            (of("7", Some(&Type::INT2), Some(&price)), Some(ScalarValue::Int16(Some(7)))),
            (of("7.125", None, Some(&price)), Some(ScalarValue::Decimal128(Some(7125), 4, 3))),
            (
                of("-0.50", Some(&Type::NUMERIC), None),
                Some(ScalarValue::Decimal128(Some(-50), 2, 2)),
            ),
            (of("1e3", Some(&Type::NUMERIC), None), Some(ScalarValue::Float64(Some(1000.0)))),
            (of("t", Some(&Type::BOOL), None), Some(ScalarValue::Boolean(Some(true)))),
            (of(json, None, None), Some(ScalarValue::Utf8(Some(json.to_string())))),
            (
                of("2000-01-02", None, Some(&DataType::Date32)),
                Some(ScalarValue::Date32(Some(10_958))),
            ),
            (of("2024-05-01 10:00:00+02:00", None, Some(&utc)), Some(micros)),
            (
                of("\\x00ff", Some(&Type::BYTEA), None),
                Some(ScalarValue::Binary(Some(vec![0, 255]))),
            ),
            (of("soon", None, Some(&DataType::Int64)), None),
            (of("1", Some(&Type::POINT), None), None),
        ];
        for (at, (value, expected)) in cases.into_iter().enumerate() {
            assert_eq!(value, expected, "case {at}");
        }
        let null = value(1, Bound { bytes: None, binary: false }, None, Some(&DataType::Int64));
        assert_eq!(null.unwrap(), ScalarValue::Int64(None));
    }

    #[test]
    fn binary_forms_are_postgresql_s() {
        let days = DataType::Date32;
        let numeric = [0, 3, 0, 1, 0x40, 0, 0, 3, 0, 1, 0x09, 0x29, 0x11, 0xd6];
        let interval = [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 1];
        let array = [
            0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 9,
            255, 255, 255, 255,
        ];
        let mixed = [ScalarValue::Int32(Some(9)), ScalarValue::Int32(None)];
        let mixed = ScalarValue::List(ScalarValue::new_list_nullable(&mixed, &DataType::Int32));
        let month = IntervalMonthDayNano::new(1, 2, 5_000);
        let text = |text: &str| Some(ScalarValue::Utf8(Some(text.to_string())));
        let cases = [
            (sent(&[0, 0, 0, 7], Some(&Type::INT4), None), Some(ScalarValue::Int32(Some(7)))),
            (sent(&[0, 0, 0, 1], None, Some(&days)), Some(ScalarValue::Date32(Some(10_958)))),
            (
                sent(&[0; 8], Some(&Type::TIMESTAMP), None),
                Some(ScalarValue::TimestampMicrosecond(Some(EPOCH_MICROS), None)),
            ),
            (
                sent(&numeric, Some(&Type::NUMERIC), None),
                Some(ScalarValue::Decimal128(Some(-12_345_456), 8, 3)),
            ),
            (
                sent(&interval, Some(&Type::INTERVAL), None),
                Some(ScalarValue::IntervalMonthDayNano(Some(month))),
            ),
            (sent(b"ab", None, None), text("ab")),
            (sent(b"\x01{}", Some(&Type::JSONB), None), text("{}")),
            (sent(&array, Some(&Type::INT4_ARRAY), None), Some(mixed)),
            (
                sent(&[0x12; 16], Some(&Type::UUID), None),
                text("12121212-1212-1212-1212-121212121212"),
            ),
            (sent(&[0, 0, 7], Some(&Type::INT4), None), None),
            (sent(&[255], Some(&Type::TEXT), None), None),
        ];
        for (at, (value, expected)) in cases.into_iter().enumerate() {
            assert_eq!(value, expected, "case {at}");
        }
    }

    #[test]
    fn arrays_are_read_with_their_quotes() {
        let items = |text: &str| match of(text, Some(&Type::TEXT_ARRAY), None) {
            Some(ScalarValue::List(list)) => {
                let items = list.value(0);
                let texts = datafusion::arrow::array::AsArray::as_string::<i32>(&items);
                let texts = texts.iter().map(|text| text.unwrap_or("null").to_string());
                Some(texts.collect::<Vec<_>>())
            }
            _ => None,
        };
        assert_eq!(items("{}"), Some(vec![]));
        let mixed = items(r#"{a,"b c","d\"e",NULL,"NULL"}"#);
        assert_eq!(mixed.unwrap(), ["a", "b c", "d\"e", "null", "NULL"]);
        assert_eq!(items("{a,{b}}"), None);
        assert_eq!(items("{\"open}"), None);
    }

    #[test]
    fn arrays_have_so_many_items() {
        let head: [u8; 20] = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0, 1];
        for (count, fits) in [(ITEMS_MAX, true), (ITEMS_MAX + 1, false)] {
            let text = format!("{{{}}}", ",".repeat(count - 1));
            assert_eq!(of(&text, Some(&Type::TEXT_ARRAY), None).is_some(), fits, "{count}");
            let nulls = [&head[..], &[255_u8; 4].repeat(count)[..]].concat();
            assert_eq!(sent(&nulls, Some(&Type::INT4_ARRAY), None).is_some(), fits, "{count}");
        }
    }

    #[test]
    fn what_is_advertised_can_be_read() {
        let nested = list(list(DataType::Int8));
        let kinds = [
            None,
            Some(DataType::Int8),
            Some(DataType::UInt64),
            Some(DataType::Decimal256(50, 2)),
            Some(DataType::Utf8View),
            Some(nested),
        ];
        for kind in kinds {
            assert!(arrow_type(&advertised(kind.as_ref())).is_some(), "{kind:?}");
        }
    }
}
