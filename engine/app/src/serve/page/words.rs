//! Numbers and times in words.
//!
//! In: milliseconds, counts, Arrow values. Out: short texts. The script says times in the same
//! words, so that they do not jump.

use chrono::{DateTime, SecondsFormat, TimeZone};
use serde_json::Value;

use crate::output::age;

/// Characters of one cell: what is longer is told by its beginning.
pub(super) const CELL_MAX: usize = 60;

/// A moment as a page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    /// Milliseconds since 1970.
    pub ms: i64,
    /// `12 s ago`, `in 3 min`.
    pub words: String,
    /// The moment in the project's time zone.
    pub full: String,
    /// For programs, in UTC.
    pub utc: String,
}

impl Moment {
    /// The moment `ms` seen from `now_ms`; none where no calendar has it.
    pub(super) fn of<Z: TimeZone>(ms: i64, now_ms: i64, zone: &Z) -> Option<Self>
    where
        Z::Offset: std::fmt::Display,
    {
        let at = DateTime::from_timestamp_millis(ms)?;
        Some(Self {
            ms,
            words: ago(ms, now_ms),
            full: at.with_timezone(zone).format("%Y-%m-%d %H:%M:%S %Z").to_string(),
            utc: at.to_rfc3339_opts(SecondsFormat::Millis, true),
        })
    }
}

/// How far `ms` is from `now_ms`.
pub(super) fn ago(ms: i64, now_ms: i64) -> String {
    let apart = now_ms.abs_diff(ms);
    match ms.cmp(&now_ms) {
        std::cmp::Ordering::Greater if apart >= 1_000 => format!("in {}", age(apart)),
        _ if apart < 1_000 => "now".to_string(),
        _ => format!("{} ago", age(apart)),
    }
}

/// A value as it stands in a table: its text, and whether it is a number.
pub(super) fn cell(value: &Value) -> (String, bool) {
    match value {
        Value::Null => (String::new(), false),
        Value::Number(number) => (number_text(&number.to_string()), true),
        Value::String(text) => (shortened(text), false),
        other => (shortened(&other.to_string()), false),
    }
}

/// A number with its thousands apart, and no more than four digits behind the point.
pub(super) fn number_text(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if digits.contains(['e', 'E']) || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.to_string();
    }
    let mut grouped = String::with_capacity(text.len() + whole.len() / 3);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let fraction: String = fraction.chars().take(4).collect();
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

/// The beginning of a text that is long, on one line.
pub(super) fn shortened(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match plain.char_indices().nth(CELL_MAX) {
        Some((at, _)) => format!("{}…", &plain[..at]),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_told_from_now() {
        let cases = [
            (10_000, 10_000, "now"),
            (9_100, 10_000, "now"),
            (5_000, 10_000, "5 s ago"),
            (0, 7_200_000, "2 h ago"),
            (190_000, 10_000, "in 3 min"),
        ];
        for (ms, now, words) in cases {
            assert_eq!(ago(ms, now), words);
        }
        let moment = Moment::of(0, 5_000, &Utc).unwrap();
        assert_eq!(moment.utc, "1970-01-01T00:00:00.000Z");
        assert!(moment.full.starts_with("1970-01-01 00:00:00"));
        assert!(Moment::of(i64::MAX, 0, &Utc).is_none());
    }

    #[test]
    fn values_are_short_and_numbers_readable() {
        let cases = [
            (json!(null), "", false),
            (json!(1234567), "1,234,567", true),
            (json!(-1234.567891), "-1,234.5678", true),
            (json!(0.5), "0.5", true),
            (json!(1e300), "1e+300", true),
            (json!("2024-05-01"), "2024-05-01", false),
            (json!({"a": [1]}), r#"{"a":[1]}"#, false),
            (json!("a\nb\u{1b}[31m"), "a b [31m", false),
        ];
        for (value, text, number) in cases {
            assert_eq!(cell(&value), (text.to_string(), number), "{value}");
        }
        assert_eq!(shortened(&"ä".repeat(100)).chars().count(), CELL_MAX + 1);
        assert_eq!(number_text("12345.00"), "12,345");
    }
}
