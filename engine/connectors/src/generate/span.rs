//! Dates and timestamps: ranges and series, read from text.
//!
//! In: settings with ends and distances as people write them. Out: whole days and microseconds
//! since 1970 UTC. Other time zones are not known here.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use sluice_core::parse_duration;

use super::check::{Check, ORDER_HINT};
use super::column::Kind;
use super::config::{Dates, Times};

const DATE_HINT: &str = "write it like 2024-01-31";
const TIME_HINT: &str = "write it like 2024-01-31 or \"2024-01-31 12:00:00\"; it is UTC";

impl Check<'_> {
    /// Dates of a range.
    pub(super) fn date(&mut self, spec: &Dates) -> Option<Kind> {
        let mut read = |key: &str, text: &str| match parse_date(text) {
            Some(date) => Some(date),
            None => self.fault(key, format!("not a date text={text:?}"), DATE_HINT),
        };
        let (from, to) = (read("/date/from", &spec.from), read("/date/to", &spec.to));
        let (from, to) = (from?, to?);
        if from > to {
            return self.fault(
                "/date",
                format!("from is after to from={from} to={to}"),
                ORDER_HINT,
            );
        }
        let days = (to - from).num_days().unsigned_abs() + 1;
        let from = (from - NaiveDate::default()).num_days();
        Some(Kind::Date { from: i32::try_from(from).ok()?, days })
    }

    /// Timestamps of a range or a series.
    pub(super) fn timestamp(&mut self, spec: &Times) -> Option<Kind> {
        match (&spec.from, &spec.to, &spec.start, &spec.every) {
            (Some(from), Some(to), None, None) if spec.jitter.is_none() => self.range(from, to),
            (None, None, Some(start), Some(every)) => {
                self.series(start, every, spec.jitter.as_deref())
            }
            _ => {
                let message = "a timestamp is neither a range nor a series";
                let hint = "give from and to, or start and every with an optional jitter";
                self.fault("/timestamp", message.into(), hint)
            }
        }
    }

    fn range(&mut self, from: &str, to: &str) -> Option<Kind> {
        let (start, end) = (self.time("from", from), self.time("to", to));
        let (start, end) = (start?, end?);
        if start > end {
            let message = format!("from is after to from={from:?} to={to:?}");
            return self.fault("/timestamp", message, ORDER_HINT);
        }
        let steps = (end - start).unsigned_abs() / 1_000_000 + 1;
        Some(Kind::Time { start, every: 0, unit: 1_000_000, steps })
    }

    fn series(&mut self, start: &str, every: &str, jitter: Option<&str>) -> Option<Kind> {
        let start = self.time("start", start);
        let every = self.duration("every", every);
        let jitter = jitter.map_or(Some(0), |text| self.duration("jitter", text));
        let (start, every, jitter) = (start?, every?, jitter?);
        Some(Kind::Time { start, every, unit: 1, steps: jitter.unsigned_abs() + 1 })
    }

    fn time(&mut self, key: &str, text: &str) -> Option<i64> {
        match parse_time(text) {
            Some(time) => Some(time),
            None => {
                let message = format!("not a timestamp text={text:?}");
                self.fault(&format!("/timestamp/{key}"), message, TIME_HINT)
            }
        }
    }

    fn duration(&mut self, key: &str, text: &str) -> Option<i64> {
        let micros = parse_duration(text).ok().and_then(|d| i64::try_from(d.as_micros()).ok());
        match micros {
            Some(micros) => Some(micros),
            None => {
                let message = format!("not a duration text={text:?}");
                self.fault(&format!("/timestamp/{key}"), message, "write it like 500ms, 5s, 2 days")
            }
        }
    }
}

fn parse_date(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text.trim(), "%Y-%m-%d").ok()
}

/// Microseconds since 1970 UTC.
fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.strip_suffix('Z').unwrap_or(text);
    let time = |format| NaiveDateTime::parse_from_str(text, format).ok();
    let time = time("%Y-%m-%d %H:%M:%S%.f")
        .or_else(|| time("%Y-%m-%dT%H:%M:%S%.f"))
        .or_else(|| Some(parse_date(text)?.and_time(NaiveTime::MIN)))?;
    Some(time.and_utc().timestamp_micros())
}
