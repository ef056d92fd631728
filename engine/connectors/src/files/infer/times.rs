//! The ways in which people write days and times, and which of them a text is.
//!
//! In: the text of one value. Out: whether it is a time in ISO 8601 as decoders read it without
//! being told, or by which of the known patterns. It weighs nothing: a text may fit several.

use chrono::NaiveDate;

/// How days are written, besides `2024-03-01`.
const DAYS: &[&str] = &[
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y-%m-%d",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d.%m.%y",
    "%d-%m-%y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%Y%m%d",
];

/// What follows a day when there is a time of day.
const CLOCKS: &[&str] = &[
    " %H:%M",
    " %H:%M:%S",
    "T%H:%M:%S",
    ", %H:%M",
    ", %H:%M:%S",
    " %I:%M %p",
    " %I:%M:%S %p",
    " %H:%M:%S %z",
    " %H:%M:%S UTC",
];

/// Texts of other lengths are no times.
const CHARS: std::ops::RangeInclusive<usize> = 6..=40;

/// Years that data tells of; others are numbers that look like days.
const YEARS: std::ops::RangeInclusive<i32> = 1800..=2200;

/// A known pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// As schemas have it.
    pub(super) text: String,
    /// Whether it has a time of day.
    pub(super) clock: bool,
}

/// All patterns: days first.
pub(super) fn patterns() -> Vec<Pattern> {
    let days = DAYS.iter().map(|day| Pattern { text: day.to_string(), clock: false });
    let compact = |day: &&&str| **day != "%Y%m%d";
    let both = DAYS.iter().filter(compact).flat_map(|day| {
        CLOCKS.iter().map(move |clock| Pattern { text: format!("{day}{clock}"), clock: true })
    });
    let last = Pattern { text: "%Y%m%d%H%M%S".to_string(), clock: true };
    days.chain(both).chain([last]).collect()
}

/// Whether a text can be a time at all: cheap, and true for few others.
pub(super) fn possible(text: &str) -> bool {
    CHARS.contains(&text.len()) && text.bytes().filter(u8::is_ascii_digit).count() >= 3
}

/// Whether it is `YYYY-MM-DD`.
pub(super) fn is_iso_day(text: &str) -> bool {
    text.len() == 10 && fits("%Y-%m-%d", text)
}

/// Whether it is an ISO 8601 time with a time of day, no finer than microseconds.
pub(super) fn is_iso_time(text: &str) -> bool {
    let (Some(day), Some(rest)) = (text.get(..10), text.get(10..)) else { return false };
    let Some(rest) = rest.strip_prefix([' ', 'T', 't']) else { return false };
    if !is_iso_day(day) || rest.get(2..3) != Some(":") {
        return false;
    }
    let zone = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(zone);
    let (whole, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, "0"));
    let whole_fits = match whole.len() {
        5 => fits("%H:%M", whole) && !clock.contains(['.', ',']),
        8 => fits("%H:%M:%S", whole),
        _ => false,
    };
    let digits = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    let finer = fraction.bytes().skip(6).any(|b| b != b'0');
    let zone_fits = matches!(zone, "" | "Z" | "z") || is_zone(zone);
    whole_fits && digits && !finer && zone_fits
}

/// Whether `text` is a time written by `pattern`, with every digit it should have.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    read(pattern, text).is_some_and(|parts| parts.is_real())
}

/// Day and month of a text that fits, to tell which of two patterns is meant.
pub(super) fn day_and_month(pattern: &str, text: &str) -> Option<(u32, u32)> {
    read(pattern, text).map(|parts| (parts.day, parts.month))
}

/// What a text says.
#[derive(Debug, Clone, Copy)]
struct Parts {
    year: i32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

impl Parts {
    fn is_real(self) -> bool {
        YEARS.contains(&self.year)
            && NaiveDate::from_ymd_opt(self.year, self.month, self.day).is_some()
            && self.hour < 24
            && self.minute < 60
            && self.second < 60
    }
}

fn read(pattern: &str, text: &str) -> Option<Parts> {
    // What a pattern does not say is right by itself.
    let mut parts = Parts { year: 2000, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
    let mut rest = text;
    let mut items = pattern.chars();
    while let Some(item) = items.next() {
        if item != '%' {
            rest = rest.strip_prefix(item)?;
            continue;
        }
        match items.next()? {
            'Y' => parts.year = digits(&mut rest, 4, 4)? as i32,
            'y' => parts.year = 2000 + digits(&mut rest, 2, 2)? as i32,
            'm' => parts.month = digits(&mut rest, 1, 2)?,
            'd' => parts.day = digits(&mut rest, 1, 2)?,
            'H' => parts.hour = digits(&mut rest, 1, 2)?,
            'I' => parts.hour = digits(&mut rest, 1, 2).filter(|h| (1..=12).contains(h))?,
            'M' => parts.minute = digits(&mut rest, 2, 2)?,
            'S' => parts.second = digits(&mut rest, 2, 2)?,
            'b' => parts.month = month(&mut rest, 3)?,
            'B' => parts.month = month(&mut rest, usize::MAX)?,
            'p' => rest = rest.get(2..).filter(|_| half_day(rest))?,
            'z' => rest = if is_zone(rest) { "" } else { return None },
            _ => return None,
        }
    }
    let compact = pattern.starts_with("%Y%m%d") && text.len() % 2 == 1;
    (rest.is_empty() && !compact).then_some(parts)
}

fn half_day(text: &str) -> bool {
    text.get(..2).is_some_and(|t| t.eq_ignore_ascii_case("am") || t.eq_ignore_ascii_case("pm"))
}

/// `+hh:mm` or `+hhmm`.
fn is_zone(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['+', '-']) else { return false };
    let digits: String = rest.chars().filter(|c| *c != ':').collect();
    let colon = rest.find(':').is_none_or(|at| at == 2) && rest.matches(':').count() < 2;
    colon && digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()) && *digits < *"2400"
}

fn digits(rest: &mut &str, least: usize, most: usize) -> Option<u32> {
    let count = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if count < least {
        return None;
    }
    let (number, after) = rest.split_at(count);
    *rest = after;
    number.parse().ok()
}

/// An English month of at most `letters` letters.
fn month(rest: &mut &str, letters: usize) -> Option<u32> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let count = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (word, after) = rest.split_at(count);
    let is = |name: &str| word.eq_ignore_ascii_case(&name[..name.len().min(letters)]);
    let number = MONTHS.iter().position(|name| is(name))?;
    *rest = after;
    u32::try_from(number + 1).ok()
}

#[cfg(test)]
mod tests {
    use sluice_core::FieldSpec;

    use super::*;
    use crate::format::csv::Column;

    fn reads(kind: &str, format: Option<&str>, text: &str) -> bool {
        let field = FieldSpec {
            name: "t".to_string(),
            data_type: kind.to_string(),
            format: format.map(str::to_string),
            ..FieldSpec::default()
        };
        Column::new(&field).unwrap().reads(text)
    }

    #[test]
    fn patterns_fit_what_they_say_and_nothing_else() {
        let cases = [
            ("%d/%m/%Y", "31/12/2024", true),
            ("%d/%m/%Y", "1/2/2024", true),
            ("%d/%m/%Y", "31/02/2024", false),
            ("%d/%m/%Y", "12/31/2024", false),
            ("%m/%d/%Y", "12/31/2024", true),
            ("%d/%m/%Y", "31/12/24", false),
            ("%d/%m/%y", "31/12/24", true),
            ("%d/%m/%y", "31/12/2024", false),
            ("%d-%b-%Y", "01-Mar-2024", true),
            ("%d-%b-%Y", "01-March-2024", false),
            ("%B %d, %Y", "March 1, 2024", true),
            ("%Y%m%d", "20240301", true),
            ("%Y%m%d", "2024301", false),
            ("%Y%m%d", "12345678", false),
            ("%d.%m.%Y %H:%M", "01.03.2024 08:05", true),
            ("%d.%m.%Y %H:%M", "01.03.2024 24:05", false),
            ("%m/%d/%Y %I:%M %p", "3/1/2024 8:05 PM", true),
            ("%m/%d/%Y %I:%M %p", "3/1/2024 13:05 PM", false),
            ("%Y-%m-%d %H:%M:%S %z", "2024-03-01 08:05:00 +0200", true),
            ("%Y-%m-%d %H:%M:%S UTC", "2024-03-01 08:05:00 UTC", true),
        ];
        for (pattern, text, wanted) in cases {
            assert_eq!(fits(pattern, text), wanted, "{pattern} {text}");
        }
        assert!(is_iso_day("2024-03-01") && !is_iso_day("2024-3-01") && !is_iso_day("2024-13-01"));
    }

    #[test]
    fn iso_times_are_those_that_decoders_read_untold() {
        let good = [
            "2024-03-01 08:05",
            "2024-03-01T08:05:09",
            "2024-03-01T08:05:09Z",
            "2024-03-01 08:05:09.123456",
            "2024-03-01 08:05:09.123456000",
            "2024-03-01T08:05:09+02:00",
            "2024-03-01T08:05:09.5-0530",
        ];
        let wrong = [
            "2024-03-01",
            "2024-03-01 24:00",
            "2024-03-01 08:05:09.1234567",
            "2024-03-01 8:05",
            "2024-03-01 08:05:09 +02:00",
            "2024-03-01 08:05:",
            "01/03/2024 08:05",
            "2024-03-01_08:05",
        ];
        for text in good {
            assert!(is_iso_time(text), "{text}");
            assert!(reads("timestamp", None, text), "{text}");
        }
        for text in wrong {
            assert!(!is_iso_time(text), "{text}");
        }
    }

    #[test]
    fn decoders_read_what_fits() {
        let day = |p: &str| {
            p.replace("%Y", "2024").replace("%m", "03").replace("%d", "01").replace("%y", "24")
        };
        for Pattern { text: pattern, clock } in patterns() {
            let text = day(&pattern).replace("%b", "Mar").replace("%B", "March");
            let text = text.replace("%H", "09").replace("%I", "09").replace("%M", "05");
            let text = text.replace("%S", "07").replace("%p", "PM").replace("%z", "+0100");
            assert!(fits(&pattern, &text), "{pattern} {text}");
            let kind = if clock { "timestamp" } else { "date" };
            assert!(reads(kind, Some(&pattern), &text), "{pattern} {text}");
        }
    }
}
