//! How people spell what is not text: nothing, and numbers.
//!
//! In: cells. Out: whether one stands for null, and numbers as decoders read them: digits with a
//! point. It knows no types.

use std::borrow::Cow;

use super::record::Cell;
use crate::format::encoding::Encoding;

/// Digits between two thousands separators.
const GROUP_DIGITS: usize = 3;

/// How values are spelled in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelling {
    /// Texts other than the empty one that stand for null.
    pub nulls: Vec<Vec<u8>>,
    /// Whether an empty field is null in columns of text too.
    pub empty_is_null: bool,
    /// Before the fraction of numbers; ASCII.
    pub decimal: u8,
    /// Between groups of three digits; ASCII.
    pub thousands: Option<u8>,
    /// How characters are written.
    pub encoding: Encoding,
}

impl Default for Spelling {
    fn default() -> Self {
        let (nulls, encoding) = (Vec::new(), Encoding::Utf8);
        Self { nulls, empty_is_null: true, decimal: b'.', thousands: None, encoding }
    }
}

impl Spelling {
    /// Whether a cell stands for null. What is quoted is text in columns of text.
    #[inline]
    pub(super) fn is_null(&self, cell: Cell<'_>, text: bool) -> bool {
        if text && cell.quoted {
            return false;
        }
        match cell.text.is_empty() {
            true => self.empty_is_null || !text,
            false => !self.nulls.is_empty() && self.nulls.iter().any(|null| null == cell.text),
        }
    }

    /// Reads a number.
    #[inline]
    pub(super) fn number<N>(&self, text: &[u8], read: impl Fn(&[u8]) -> Option<N>) -> Option<N> {
        match (self.decimal, self.thousands) {
            (b'.', None) => read(text),
            _ => read(&self.pointed(text)?),
        }
    }

    /// The number with a point and without separators; none if they stand where they mean nothing.
    fn pointed(&self, text: &[u8]) -> Option<Cow<'_, [u8]>> {
        let at = text.iter().position(|b| *b == self.decimal);
        let (whole, fraction) = text.split_at(at.unwrap_or(text.len()));
        let mut out = Vec::with_capacity(text.len());
        match self.thousands {
            None => out.extend_from_slice(whole),
            Some(separator) => {
                let mut groups = whole.split(|b| *b == separator);
                out.extend_from_slice(groups.next()?);
                let first = out.iter().filter(|b| b.is_ascii_digit()).count();
                for group in groups {
                    let digits = group.iter().all(u8::is_ascii_digit);
                    if !digits
                        || group.len() != GROUP_DIGITS
                        || !(1..=GROUP_DIGITS).contains(&first)
                    {
                        return None;
                    }
                    out.extend_from_slice(group);
                }
            }
        }
        // A point that is neither would change the number by a thousand.
        if self.decimal != b'.' && out.contains(&b'.') {
            return None;
        }
        if let [_, rest @ ..] = fraction {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        let plain = !fraction.get(1..).unwrap_or_default().contains(&b'.') || self.decimal == b'.';
        plain.then_some(Cow::Owned(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::value;

    #[test]
    fn numbers_are_read_as_they_are_spelled_or_refused() {
        let read = |decimal: u8, thousands: Option<u8>, text: &str| {
            let spelling = Spelling { decimal, thousands, ..Spelling::default() };
            spelling.number(text.as_bytes(), |t| value::decimal(t, 18, 2))
        };
        let cases = [
            (b',', None, "1,5", Some(150)),
            (b',', None, "-1,25", Some(-125)),
            (b',', None, "7", Some(700)),
            (b',', None, "1.5", None),
            (b',', None, "1.234,5", None),
            (b',', Some(b'.'), "1.234,5", Some(123_450)),
            (b',', Some(b'.'), "-1.234.567", Some(-123_456_700)),
            (b',', Some(b'.'), "1.23", None),
            (b',', Some(b'.'), "1.2345", None),
            (b',', Some(b'.'), "1234.567", None),
            (b',', Some(b'.'), ".567", None),
            (b',', Some(b'.'), "1,234.5", None),
            (b'.', Some(b','), "1,234.5", Some(123_450)),
            (b'.', Some(b' '), "12 345", Some(1_234_500)),
            (b'.', Some(b','), "1,5", None),
            (b',', None, "1,2,3", None),
        ];
        for (decimal, thousands, text, value) in cases {
            assert_eq!(read(decimal, thousands, text), value, "{text}");
        }
    }

    #[test]
    fn nulls_are_what_was_said() {
        let cell =
            |text: &'static str, quoted| Cell { text: text.as_bytes(), quoted, doubled: None };
        let nulls = vec![b"NA".to_vec()];
        let spelling = Spelling { nulls, empty_is_null: false, ..Spelling::default() };
        let cases = [
            ("NA", false, true, true),
            ("NA", true, true, false),
            ("NA", true, false, true),
            ("", false, true, false),
            ("", false, false, true),
            ("na", false, true, false),
        ];
        for (text, quoted, of_text, null) in cases {
            assert_eq!(spelling.is_null(cell(text, quoted), of_text), null, "{text:?} {quoted}");
        }
    }
}
