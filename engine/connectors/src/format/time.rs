//! Dates and timestamps written as text: ISO 8601 by hand, other patterns through chrono.
//!
//! In: the bytes of one field. Out: days since 1970-01-01 or microseconds since then in UTC; none
//! when the text is not a time or has digits finer than a microsecond. A timestamp without a zone
//! is UTC; no zone names are known.

use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use sluice_core::{Error, Result};

use super::value::digit;

const DAY_US: i64 = 86_400_000_000;
const SECOND_US: i64 = 1_000_000;

/// A strftime pattern, read once.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    items: Vec<Item<'static>>,
    /// For the patterns that say ISO 8601 with this separator between date and time.
    separator: Option<u8>,
}

impl Pattern {
    /// Reads `%d/%m/%Y %H:%M`. Errors: `Config` when it is not a pattern.
    pub(super) fn new(text: &str) -> Result<Self> {
        let items = StrftimeItems::new(text).parse_to_owned().map_err(|e| {
            Error::config(format!("not a pattern for times format={text:?}"))
                .hint("write it like %d/%m/%Y %H:%M:%S")
                .because(e)
        })?;
        let separator = match text {
            "%Y-%m-%d %H:%M:%S" => Some(b' '),
            "%Y-%m-%dT%H:%M:%S" => Some(b'T'),
            _ => None,
        };
        Ok(Self { items, separator })
    }

    /// Days since 1970-01-01.
    pub(super) fn date(&self, text: &[u8]) -> Option<i32> {
        days(self.parse(text)?.to_naive_date().ok()?)
    }

    /// Microseconds since 1970-01-01 in UTC; a pattern without a time means midnight.
    pub(super) fn timestamp(&self, text: &[u8]) -> Option<i64> {
        if let Some(separator) = self.separator
            && let Some(value) = fixed(text, separator)
        {
            return Some(value);
        }
        let parsed = self.parse(text)?;
        if parsed.offset().is_some() {
            let at = parsed.to_datetime().ok()?;
            return whole_micros(at.naive_utc());
        }
        match parsed.to_naive_datetime_with_offset(0) {
            Ok(at) => whole_micros(at),
            Err(_) if parsed.hour_mod_12().is_none() && parsed.minute().is_none() => {
                whole_micros(parsed.to_naive_date().ok()?.and_time(NaiveTime::MIN))
            }
            Err(_) => None,
        }
    }

    fn parse(&self, text: &[u8]) -> Option<Parsed> {
        let mut parsed = Parsed::new();
        let text = std::str::from_utf8(text).ok()?;
        chrono::format::parse(&mut parsed, text, self.items.iter()).ok()?;
        // `%Y` of chrono reads any number of digits: `24` is no year of the first century.
        let written =
            |year: i32| (0..=9999).contains(&year) && text.contains(&format!("{year:04}"));
        parsed.year().is_none_or(written).then_some(parsed)
    }
}

/// `YYYY-MM-DD`.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    let text: &[u8; 10] = text.try_into().ok()?;
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = pair(text[0], text[1])? * 100 + pair(text[2], text[3])?;
    civil(year, pair(text[5], text[6])?, pair(text[8], text[9])?)
}

/// `YYYY-MM-DD`, then perhaps `T` or a space, `HH:MM`, `:SS`, a fraction, `Z` or `±hh:mm`.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    let (day, rest) = text.split_at_checked(10)?;
    let midnight = i64::from(date(day)?) * DAY_US;
    let Some((separator, rest)) = rest.split_first() else { return Some(midnight) };
    if !matches!(separator, b' ' | b'T' | b't') {
        return None;
    }
    let (minutes, rest) = hours_minutes(rest)?;
    let (seconds, rest) = match rest {
        [b':', a, b, rest @ ..] => (i64::from(pair(*a, *b).filter(|s| *s < 60)?), rest),
        _ => (0, rest),
    };
    let (micros, rest) = match rest {
        [b'.' | b',', rest @ ..] => fraction(rest)?,
        _ => (0, rest),
    };
    let clock = (minutes * 60 + seconds) * SECOND_US + micros;
    Some(midnight + clock - zone(rest)? * 60 * SECOND_US)
}

/// The day as ISO 8601 writes it; none beyond the calendar.
pub(super) fn written_date(days: i64) -> Option<String> {
    let day = i32::try_from(days.checked_add(719_163)?).ok()?;
    NaiveDate::from_num_days_from_ce_opt(day).map(|day| day.to_string())
}

/// The moment as ISO 8601 writes it, in UTC; none beyond the calendar.
pub(super) fn written(micros: i64) -> Option<String> {
    let at = chrono::DateTime::from_timestamp_micros(micros)?;
    Some(at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

/// Exactly `YYYY-MM-DD<separator>HH:MM:SS`.
fn fixed(text: &[u8], separator: u8) -> Option<i64> {
    if text.len() != 19 || text[10] != separator || text[16] != b':' {
        return None;
    }
    timestamp(text)
}

/// Minutes of `HH:MM`, and what follows.
fn hours_minutes(text: &[u8]) -> Option<(i64, &[u8])> {
    let [a, b, b':', c, d, rest @ ..] = text else { return None };
    let (hours, minutes) = (i64::from(pair(*a, *b)?), i64::from(pair(*c, *d)?));
    (hours < 24 && minutes < 60).then_some((hours * 60 + minutes, rest))
}

/// Microseconds of the digits after a point, and what follows; finer digits must be zeros.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let (micros, finer) = digits.split_at(digits.len().min(6));
    if digits.is_empty() || finer.iter().any(|b| *b != b'0') {
        return None;
    }
    let read = micros.iter().try_fold(0, |v, b| Some(v * 10 + digit(*b)? as i64))?;
    Some((read * 10_i64.pow(6 - micros.len() as u32), rest))
}

/// Minutes east of UTC.
fn zone(text: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, a, b] => (sign, pair(*a, *b)?, 0),
        [sign, a, b, c, d] | [sign, a, b, b':', c, d] => (sign, pair(*a, *b)?, pair(*c, *d)?),
        _ => return None,
    };
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * i64::from(hours * 60 + minutes))
}

#[inline]
fn pair(tens: u8, ones: u8) -> Option<u32> {
    Some((digit(tens)? * 10 + digit(ones)?) as u32)
}

/// Days since 1970-01-01 of a day of the Gregorian calendar; the year has at most four digits.
#[inline]
fn civil(year: u32, month: u32, day: u32) -> Option<i32> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        2 => 28 + u32::from(leap),
        // 31 and 30 in turn, twice: July and August both have 31.
        1..=12 => 30 + ((month ^ (month >> 3)) & 1),
        _ => return None,
    };
    if day < 1 || day > last {
        return None;
    }
    // Years that begin in March put the leap day at the end. They are counted from 400 years
    // before 0000-03-01, which lie 146,097 and 719,468 days before 1970-01-01.
    let (year, month) = if month > 2 { (year + 400, month - 3) } else { (year + 399, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year;
    Some(days as i32 - 146_097 - 719_468)
}

fn days(date: NaiveDate) -> Option<i32> {
    date.num_days_from_ce().checked_sub(719_163)
}

fn whole_micros(at: NaiveDateTime) -> Option<i64> {
    let nanos = at.nanosecond();
    (nanos < 1_000_000_000 && nanos.is_multiple_of(1_000)).then(|| at.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_agree_with_chrono_for_every_day_of_four_centuries() {
        let mut day = NaiveDate::from_ymd_opt(1799, 12, 31).unwrap();
        let mut expected = days(day).unwrap();
        while day.year() < 2201 {
            assert_eq!(date(day.to_string().as_bytes()), Some(expected), "{day}");
            day = day.succ_opt().unwrap();
            expected += 1;
        }
        for text in
            ["2023-02-29", "1900-02-29", "2023-13-01", "2023-00-10", "2023-04-31", "2023-1-1"]
        {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
        assert_eq!(date(b"0000-01-01"), Some(-719_528));
    }

    #[test]
    fn iso_timestamps_read_as_chrono_reads_them() {
        let cases = [
            ("2011-03-29 08:26:00", "2011-03-29T08:26:00Z"),
            ("2011-03-29", "2011-03-29T00:00:00Z"),
            ("2011-03-29T08:26", "2011-03-29T08:26:00Z"),
            ("2011-03-29T08:26:01.5Z", "2011-03-29T08:26:01.5Z"),
            ("2011-03-29T08:26:01.123456000", "2011-03-29T08:26:01.123456Z"),
            ("2011-03-29T08:26:01+02:00", "2011-03-29T06:26:01Z"),
            ("2011-03-29T08:26:01-0530", "2011-03-29T13:56:01Z"),
            ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ];
        for (text, meant) in cases {
            let meant = chrono::DateTime::parse_from_rfc3339(meant).unwrap().timestamp_micros();
            assert_eq!(timestamp(text.as_bytes()), Some(meant), "{text}");
        }
        let wrong = [
            "2011-03-29 24:00:00",
            "2011-03-29 08:60:00",
            "2011-03-29 08:26:60",
            "2011-03-29 08:26:01.1234567",
            "2011-03-29 08:26:01.",
            "2011-03-29 08:26:01 UTC",
            "2011-03-29_08:26:01",
            "29/03/2011",
            "",
        ];
        for text in wrong {
            assert_eq!(timestamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn patterns_read_other_ways_of_writing() {
        let at =
            |pattern: &str, text: &str| Pattern::new(pattern).unwrap().timestamp(text.as_bytes());
        let meant = timestamp(b"2011-03-29 08:26:00");
        assert_eq!(at("%d/%m/%Y %H:%M", "29/03/2011 08:26"), meant);
        assert_eq!(at("%Y-%m-%d %H:%M:%S", "2011-03-29 08:26:00"), meant);
        assert_eq!(at("%Y-%m-%d %H:%M:%S", "2011-3-29 8:26:00"), meant);
        assert_eq!(at("%Y-%m-%d %H:%M:%S", "2011-03-29T08:26:00"), None);
        assert_eq!(at("%d.%m.%Y", "29.03.2011"), timestamp(b"2011-03-29"));
        assert_eq!(at("%d/%m/%Y %H:%M %z", "29/03/2011 10:26 +0200"), meant);
        assert_eq!(at("%d/%m/%Y %H:%M", "29/03/2011"), None);
        assert_eq!(Pattern::new("%d/%m/%Y").unwrap().date(b"29/03/2011"), date(b"2011-03-29"));
        assert!(Pattern::new("%Q").is_err());
    }
}
