//! Values written as text, exactly: numbers, decimals, truth values.
//!
//! In: the bytes of one field. Out: the value, or none when the text is not one or would lose
//! something. It knows no columns, no nulls and no quotes.

/// 10^0 to 10^18, which all fit into 64 bits.
const POW10: [u64; 19] = {
    let mut powers = [1; 19];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

const POW38: i128 = 10_i128.pow(38);

/// A decimal of `precision` digits, `scale` of them after the point, as its unscaled value.
///
/// Further digits are refused unless they are zeros, and so are numbers that are too large.
pub(super) fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let scale = usize::try_from(scale).ok()?;
    let (negative, digits) = sign(text);
    let (whole, fraction) = match memchr::memchr(b'.', digits) {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &[][..]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (fraction, rest) = fraction.split_at(fraction.len().min(scale));
    let zeros = whole.iter().take_while(|b| **b == b'0').count();
    let whole = &whole[zeros..];
    if rest.iter().any(|b| *b != b'0') || whole.len() + scale > usize::from(precision) {
        return None;
    }
    let missing = scale - fraction.len();
    let value = if whole.len() + scale < POW10.len() {
        let read = fraction.iter().try_fold(narrow(whole)?, |v, b| Some(v * 10 + digit(*b)?))?;
        i128::from(read * POW10[missing])
    } else {
        let read = whole
            .iter()
            .chain(fraction)
            .try_fold(0, |v: i128, b| v.checked_mul(10)?.checked_add(i128::from(digit(*b)?)))?;
        read.checked_mul(10_i128.checked_pow(u32::try_from(missing).ok()?)?)?
    };
    Some(if negative { -value } else { value })
}

/// A number written in any way, exponents included, times 10^`scale`; none unless that is a whole
/// number of at most 38 digits.
pub(super) fn exact(text: &[u8], scale: i32) -> Option<i128> {
    let (negative, number) = sign(text);
    let (digits, exponent) = match number.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&number[..at], lexical_core::parse::<i32>(&number[at + 1..]).ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = match memchr::memchr(b'.', digits) {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &[][..]),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Zeros are kept back until a digit follows, so that those at the end only move the point.
    let (mut value, mut zeros) = (0_i128, 0_u32);
    for byte in whole.iter().chain(fraction) {
        match digit(*byte)? {
            0 if value == 0 => {}
            0 => zeros += 1,
            digit => {
                value = value.checked_mul(10_i128.checked_pow(zeros + 1)?)?;
                value = value.checked_add(i128::from(digit))?;
                zeros = 0;
            }
        }
    }
    if value == 0 {
        return Some(0);
    }
    let places = i64::from(exponent) + i64::from(scale) - i64::try_from(fraction.len()).ok()?;
    let shift = u32::try_from(places + i64::from(zeros)).ok()?;
    let value = value.checked_mul(10_i128.checked_pow(shift)?)?;
    let fits = value < POW38;
    fits.then_some(if negative { -value } else { value })
}

/// A decimal as [`decimal`] reads it, or with an exponent.
pub(super) fn any_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    decimal(text, precision, scale).or_else(|| {
        let value = exact(text, i32::from(scale))?;
        (value.unsigned_abs() < 10_u128.pow(u32::from(precision))).then_some(value)
    })
}

/// A whole number written in any way: `7`, `7.0`, `7e0`.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    lexical_core::parse(text).ok().or_else(|| i64::try_from(exact(text, 0)?).ok())
}

/// A floating-point number; digits that are too large for one are none, `inf` is.
#[inline]
pub(super) fn float<N: lexical_core::FromLexical + Into<f64> + Copy>(text: &[u8]) -> Option<N> {
    let value: N = lexical_core::parse(text).ok()?;
    let overflows = value.into().is_infinite() && text.iter().any(u8::is_ascii_digit);
    (!overflows).then_some(value)
}

/// `true`, `yes`, `t`, `y`, `1` and their opposites, in any case.
pub(super) fn boolean(text: &[u8]) -> Option<bool> {
    let is = |word: &[u8]| text.eq_ignore_ascii_case(word);
    match text.first()? {
        b't' | b'T' | b'y' | b'Y' | b'1' => {
            (is(b"true") || is(b"t") || is(b"yes") || is(b"y") || is(b"1")).then_some(true)
        }
        _ => (is(b"false") || is(b"f") || is(b"no") || is(b"n") || is(b"0")).then_some(false),
    }
}

/// The value of an ASCII digit.
#[inline]
pub(super) fn digit(byte: u8) -> Option<u64> {
    let value = byte.wrapping_sub(b'0');
    (value < 10).then_some(u64::from(value))
}

/// Digits that fit into 64 bits: 18 of them at most.
#[inline]
fn narrow(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |v, b| Some(v * 10 + digit(*b)?))
}

fn sign(text: &[u8]) -> (bool, &[u8]) {
    match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_or_refused() {
        let cases: [(&str, u8, i8, Option<i128>); 20] = [
            ("12.5", 18, 3, Some(12_500)),
            ("-0.125", 18, 3, Some(-125)),
            ("+7", 18, 3, Some(7_000)),
            (".5", 18, 3, Some(500)),
            ("5.", 18, 3, Some(5_000)),
            ("17850.0", 10, 0, Some(17_850)),
            ("1.2500000", 18, 2, Some(125)),
            ("1.2501", 18, 3, None),
            ("000000000000000000000000000000000000000000012", 5, 0, Some(12)),
            ("99999", 5, 0, Some(99_999)),
            ("100000", 5, 0, None),
            ("999.99", 5, 2, Some(99_999)),
            ("1000.00", 5, 2, None),
            ("99999999999999999999999999999999999999", 38, 0, Some(10_i128.pow(38) - 1)),
            ("123456789012345678901.5", 38, 10, Some(1_234_567_890_123_456_789_015_000_000_000)),
            ("", 18, 3, None),
            (".", 18, 3, None),
            ("-", 18, 3, None),
            ("1e3", 18, 3, None),
            ("1,5", 18, 3, None),
        ];
        for (text, precision, scale, value) in cases {
            assert_eq!(decimal(text.as_bytes(), precision, scale), value, "{text}");
        }
    }

    #[test]
    fn numbers_written_in_any_way_are_exact_or_refused() {
        let nines = 10_i128.pow(38) - 1;
        let cases = [
            ("7", 0, Some(7)),
            ("-7.0", 0, Some(-7)),
            ("7e0", 0, Some(7)),
            ("1.25e2", 0, Some(125)),
            ("1.25e1", 0, None),
            ("1.25e1", 1, Some(125)),
            ("1200e-2", 0, Some(12)),
            ("0.0000e999999", 0, Some(0)),
            ("1e999", 2, None),
            ("1e-999", 2, None),
            ("0.001", 3, Some(1)),
            ("99999999999999999999999999999999999999", 0, Some(nines)),
            ("100000000000000000000000000000000000000", 0, None),
            ("1e37", 1, None),
            ("1e37", 0, Some(10_i128.pow(37))),
            ("", 0, None),
            ("-", 0, None),
            (".", 0, None),
            ("1e", 0, None),
            ("1e99999999999", 0, None),
            ("1x", 0, None),
        ];
        for (text, scale, value) in cases {
            assert_eq!(exact(text.as_bytes(), scale), value, "{text}");
        }
        assert_eq!(any_decimal(b"1.5e2", 5, 2), Some(15_000));
        assert_eq!(any_decimal(b"1e3", 5, 2), None);
        assert_eq!(integer(b"9223372036854775807.0"), Some(i64::MAX));
        assert_eq!(integer(b"9223372036854775808"), None);
    }

    #[test]
    fn floats_do_not_overflow_in_silence() {
        assert_eq!(float::<f64>(b"1e308"), Some(1e308));
        assert_eq!(float::<f64>(b"1e999"), None);
        assert_eq!(float::<f32>(b"-1e39"), None);
        assert_eq!(float::<f64>(b"-inf"), Some(f64::NEG_INFINITY));
        assert!(float::<f64>(b"NaN").is_some_and(f64::is_nan));
    }

    #[test]
    fn truth_is_written_in_five_ways() {
        for text in ["true", "T", "Yes", "y", "1"] {
            assert_eq!(boolean(text.as_bytes()), Some(true), "{text}");
        }
        for text in ["FALSE", "f", "no", "N", "0"] {
            assert_eq!(boolean(text.as_bytes()), Some(false), "{text}");
        }
        for text in ["", "2", "on", "tru", "falsey"] {
            assert_eq!(boolean(text.as_bytes()), None, "{text}");
        }
    }
}
