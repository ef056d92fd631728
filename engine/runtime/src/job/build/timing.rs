//! When epochs close and runs start.

use std::time::Duration;

use serde_json::Value;
use sluice_core::parse_bytes;

use super::{Builder, cron};
use crate::job::model::{EpochLimits, Schedule};
use crate::job::named::Size;
use crate::job::spec::{EpochEntry, ScheduleEntry};

impl Builder<'_, '_> {
    pub(super) fn epoch(&mut self, entry: EpochEntry) -> EpochLimits {
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

    pub(super) fn schedule(&mut self, entry: ScheduleEntry) -> Schedule {
        let given = [
            ("cron", entry.cron.is_some()),
            ("every", entry.every.is_some()),
            ("after", entry.after.is_some()),
            ("continuous", entry.continuous == Some(true)),
        ];
        let mut given = given.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| *key);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            let hint = format!("keep one of {first} and {second}");
            let place = format!("/schedule/{second}");
            self.report.at_key(&place, "a schedule says when in one way", hint);
        }
        if let Some(text) = entry.cron {
            if let Err((message, hint)) = cron::check(&text) {
                self.report.at("/schedule/cron", message, hint);
            }
            return Schedule::Cron(text);
        }
        if let Some(text) = entry.every {
            let every = self.positive("/schedule/every", &text);
            return every.map_or(Schedule::Manual, Schedule::Every);
        }
        match (entry.after, entry.continuous) {
            (Some(jobs), _) => Schedule::After(jobs),
            (None, Some(true)) => Schedule::Continuous,
            (None, _) => Schedule::Manual,
        }
    }

    fn positive(&mut self, pointer: &str, text: &str) -> Option<Duration> {
        let duration = self.duration(pointer, text)?;
        if duration.is_zero() {
            let hint = "write a time above zero, such as 5s";
            self.report.at(pointer, "the time is zero", hint);
        }
        Some(duration)
    }

    pub(super) fn size(&mut self, pointer: &str, size: &Size) -> Option<u64> {
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
