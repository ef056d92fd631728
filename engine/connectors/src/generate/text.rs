//! Text around a number: `M{:07}` makes M0000001.
//!
//! In: a pattern with one `{}` or `{:0N}`. Out: bytes appended to a buffer. It is a piece of
//! Rust's format language and no more: no names, no alignment, no second placeholder.

use std::fmt::Write;

/// The widest number a pattern may ask for; i64 has 20 characters, more is padding.
const WIDTH_MAX: usize = 64;

/// A pattern after parsing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    before: String,
    width: usize,
    after: String,
}

impl Pattern {
    /// Reads a pattern; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (before, rest) = text.split_once('{').ok_or("has no placeholder")?;
        let (inside, after) = rest.split_once('}').ok_or("has an open brace")?;
        if before.contains('}') || after.contains(['{', '}']) {
            return Err("has more than one placeholder");
        }
        let width = match inside.strip_prefix(":0") {
            None if inside.is_empty() => 0,
            None => return Err("has a placeholder that cannot be read"),
            Some(width) => width.parse().map_err(|_| "has a width that is not a number")?,
        };
        if width > WIDTH_MAX {
            return Err("has a width above 64");
        }
        Ok(Self { before: before.into(), width, after: after.into() })
    }

    /// Replaces what is in `out` by the text of `number`.
    pub(super) fn write(&self, number: i64, out: &mut String) {
        out.clear();
        out.push_str(&self.before);
        if number < 0 {
            // Writing to a string cannot fail.
            let _ = write!(out, "{number:0width$}", width = self.width);
        } else {
            push_digits(number.unsigned_abs(), self.width, out);
        }
        out.push_str(&self.after);
    }
}

/// Appends the digits of `number`, filled with zeros up to `width`.
fn push_digits(mut number: u64, width: usize, out: &mut String) {
    let mut digits = [b'0'; WIDTH_MAX];
    let mut start = WIDTH_MAX;
    while number > 0 || start == WIDTH_MAX {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let start = start.min(WIDTH_MAX - width);
    out.push_str(std::str::from_utf8(&digits[start..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pattern: &str, number: i64) -> String {
        let mut out = String::from("before");
        Pattern::parse(pattern).expect("a pattern").write(number, &mut out);
        out
    }

    #[test]
    fn patterns_write_as_the_format_language_does() {
        let numbers = [0, 1, 9, 10, 1234567, 123456789, i64::MAX, -1, -1234567, i64::MIN];
        for number in numbers {
            assert_eq!(text("M{:07}", number), format!("M{number:07}"));
            assert_eq!(text("{}.0", number), format!("{number}.0"));
            assert_eq!(text("é{:064}x", number), format!("é{number:064}x"));
        }
    }

    #[test]
    fn other_patterns_are_refused() {
        for pattern in ["", "M", "M{", "M}", "{}{}", "}{}", "{:7}", "{:0x}", "{:065}", "{n}"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
