//! When epochs close and runs start.

use std::time::Duration;

use chrono_tz::{TZ_VARIANTS, Tz};
use serde_json::Value;
use sluice_core::parse_bytes;

use super::{Builder, cron};
use crate::job::model::{EpochLimits, Retry, Schedule, Timing};
use crate::job::named::Size;
use crate::job::spec::{EpochEntry, RetryDelayEntry, ScheduleEntry};
use crate::job::suggest;

/// The keys that say when a run starts.
const WAYS: [&str; 4] = ["cron", "every", "after", "continuous"];

impl Builder<'_, '_> {
    pub(in crate::job) fn epoch(&mut self, entry: EpochEntry) -> EpochLimits {
        let default = EpochLimits::default();
        let every = entry.every.and_then(|text| self.positive("/epoch/every", &text));
        let bytes = entry.bytes.and_then(|size| self.size("/epoch/bytes", &size));
        EpochLimits {
            every,
            rows: entry.rows.unwrap_or(default.rows),
            bytes: bytes.unwrap_or(default.bytes),
            files: entry.files.unwrap_or(default.files),
        }
    }

    pub(super) fn schedule(&mut self, mut entry: ScheduleEntry) -> (Schedule, Timing) {
        let given = [
            ("cron", entry.cron.is_some()),
            ("every", entry.every.is_some()),
            ("after", entry.after.is_some()),
            ("continuous", entry.continuous == Some(true)),
        ];
        let mut given = given.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| *key);
        let first = given.next();
        if let (Some(first), Some(second)) = (first, given.next()) {
            let hint = format!("keep one of {first} and {second}");
            let place = format!("/schedule/{second}");
            self.report.at_key(&place, "a schedule says when in one way", hint);
        }
        let timing = self.timing(&mut entry, first);
        let schedule = if let Some(text) = entry.cron {
            if let Err((message, hint)) = cron::parse(&text) {
                self.report.at("/schedule/cron", message, hint);
            }
            Schedule::Cron(text)
        } else if let Some(text) = entry.every {
            let every = self.positive("/schedule/every", &text);
            every.map_or(Schedule::Manual, Schedule::Every)
        } else {
            match (entry.after, entry.continuous) {
                (Some(jobs), _) => Schedule::After(jobs),
                (None, Some(true)) => Schedule::Continuous,
                (None, _) => Schedule::Manual,
            }
        };
        (schedule, timing)
    }

    /// What is said beside when: `way` is the key that says when.
    fn timing(&mut self, entry: &mut ScheduleEntry, way: Option<&str>) -> Timing {
        let keys: [(&str, bool, &[&str]); 4] = [
            ("timezone", entry.timezone.is_some(), &["cron"]),
            ("missed", entry.missed.is_some(), &["cron", "every"]),
            ("retries", entry.retries.is_some(), &["cron", "every", "after"]),
            ("retry_delay", entry.retry_delay.is_some(), &WAYS),
        ];
        for (key, _, ways) in keys.iter().filter(|(_, is_given, _)| *is_given) {
            if !way.is_some_and(|way| ways.contains(&way)) && !self.says_when_wrongly() {
                let hint = format!("it goes with {}", ways.join(", "));
                let message = format!("this key has no effect here key={key}");
                self.report.at_key(&format!("/schedule/{key}"), message, hint);
            }
        }
        if let (Some("continuous"), Some(_)) = (way, &entry.timeout) {
            let hint = "take it away: what runs all the time never ends by itself";
            let message = "this key has no effect here key=timeout";
            self.report.at_key("/schedule/timeout", message, hint);
        }
        let timezone = entry.timezone.take();
        let timeout = entry.timeout.take();
        Timing {
            timezone: timezone.and_then(|name| self.timezone("/schedule/timezone", &name)),
            missed: entry.missed.unwrap_or_default(),
            retry: self.retry(entry.retries, entry.retry_delay.take().unwrap_or_default()),
            timeout: timeout.and_then(|text| self.positive("/schedule/timeout", &text)),
        }
    }

    /// Whether a key that says when was there but wrong, which has been told.
    fn says_when_wrongly(&self) -> bool {
        WAYS.iter().any(|key| self.is_damaged(&format!("/schedule/{key}")))
            || self.is_misspelt("/schedule", &WAYS)
    }

    fn retry(&mut self, times: Option<u32>, delay: RetryDelayEntry) -> Retry {
        let default = Retry::default();
        let (base, max) = (delay.base, delay.max);
        let base = base.and_then(|text| self.positive("/schedule/retry_delay/base", &text));
        let max = max.and_then(|text| self.positive("/schedule/retry_delay/max", &text));
        if let (Some(base), Some(max)) = (base, max)
            && base > max
        {
            let hint = "each wait is twice as long as the one before: begin with the shorter one";
            let message = "the first wait is longer than the longest";
            self.report.at("/schedule/retry_delay/base", message, hint);
        }
        let base = base.unwrap_or_else(|| default.base.min(max.unwrap_or(default.base)));
        Retry { times: times.unwrap_or(default.times), base, max }
    }

    fn timezone(&mut self, pointer: &str, name: &str) -> Option<Tz> {
        match name.parse() {
            Ok(zone) => Some(zone),
            Err(_) => {
                let known = TZ_VARIANTS.iter().map(|zone| zone.name());
                let hint = suggest::names(name, known, "write it like Europe/Paris, or UTC");
                self.report.at(pointer, format!("no such time zone name={name}"), hint);
                None
            }
        }
    }

    pub(in crate::job) fn positive(&mut self, pointer: &str, text: &str) -> Option<Duration> {
        let duration = self.duration(pointer, text)?;
        if duration.is_zero() {
            let hint = "write a time above zero, such as 5s";
            self.report.at(pointer, "the time is zero", hint);
        }
        Some(duration)
    }

    pub(in crate::job) fn size(&mut self, pointer: &str, size: &Size) -> Option<u64> {
        let text = match &size.0 {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match parse_bytes(&text) {
            Ok(0) => {
                self.report.at(pointer, "the size is zero", "write a size above zero: 64MiB");
                None
            }
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let hint = error.hint_text().unwrap_or_default().to_string();
                self.report.at(pointer, error.message(), hint);
                None
            }
        }
    }
}
