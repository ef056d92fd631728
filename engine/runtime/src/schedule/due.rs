//! When runs are due: by cron expressions in a time zone, or so long after the start before. And
//! what becomes of times at which no run could start.
//!
//! In: a job's schedule, the last time that was served, now. Out: times, in milliseconds since
//! 1970. Everything here is a function of those; nobody waits, and nothing is remembered.
//!
//! Clocks that are put forward or back: an expression that names hours is due once for each time of
//! day that it names. One that does not exist is due at the first moment after the gap, one that
//! comes twice when it comes first. With `*` for the hour it is a rhythm that goes on through both:
//! none of the hours that come twice is left out, and none that does not exist is made up for.
//! `croner` by itself does so only where minute and hour are single numbers; lists of them it would
//! skip in a gap and serve twice behind it.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{LocalResult, NaiveDateTime, TimeZone};
use chrono_tz::{GapInfo, Tz};
use croner::Cron;
use sluice_core::{Error, Result};

use crate::job::{Missed, Schedule, parse_cron};

/// A run that starts this much after it was due starts on time: a busy machine wakes late, and a
/// run that took a moment longer than its interval is not a missed one.
const ON_TIME_MS: i64 = 10_000;

/// Runs that make up for missed ones, one by one: a day of a run each quarter of an hour. Whoever
/// has missed more is served better by one run that takes all there is.
const MISSED_MAX: usize = 100;

/// A last time further in the future than this was written by a clock that was wrong.
const AHEAD_MAX_MS: i64 = 24 * 3_600_000;

/// How far back the newest due times are looked for, until there are enough of them: so a run that
/// is due each minute is not counted through a year.
const WINDOWS_MS: [i64; 4] = [3_600_000, 24 * 3_600_000, 32 * 24 * 3_600_000, 366 * 24 * 3_600_000];

/// The times at which a job's runs are due.
#[derive(Debug, Clone)]
pub struct Timetable {
    rhythm: Rhythm,
}

#[derive(Debug, Clone)]
enum Rhythm {
    /// At no time: somebody starts it, or other jobs do.
    Never,
    /// So many milliseconds after the time before.
    Every(i64),
    /// By the clock of a place.
    Cron {
        cron: Box<Cron>,
        zone: Tz,
        /// Whether it names no hours.
        hourly: bool,
    },
}

/// What is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// Times that each get a run, oldest first.
    pub run: Vec<i64>,
    /// Times before those that get none.
    pub passed: Option<Passed>,
    /// The first time that is still to come; none where there never is one.
    pub next_ms: Option<i64>,
}

/// Times that get no run, from the first to the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// The first.
    pub first_ms: i64,
    /// The last.
    pub last_ms: i64,
}

impl Timetable {
    /// The times of `schedule` by the clock of `zone`. Errors: `Config` for no cron expression.
    pub fn new(schedule: &Schedule, zone: Tz) -> Result<Self> {
        let rhythm = match schedule {
            Schedule::Manual | Schedule::After(_) | Schedule::Continuous => Rhythm::Never,
            Schedule::Every(every) => Rhythm::Every(millis(*every)),
            Schedule::Cron(text) => {
                let cron = parse_cron(text);
                let cron = cron.map_err(|(what, hint)| Error::config(what).hint(hint))?;
                let hourly = cron.pattern.hours.values().len() == 24;
                Rhythm::Cron { cron: Box::new(cron), zone, hourly }
            }
        };
        Ok(Self { rhythm })
    }

    /// What counts as the last time of a job that was never served before: an interval begins at
    /// once, an expression with its next time.
    pub fn begin(&self, now_ms: i64) -> i64 {
        match self.rhythm {
            Rhythm::Every(every) => now_ms.saturating_sub(every),
            Rhythm::Never | Rhythm::Cron { .. } => now_ms,
        }
    }

    /// The first time after `after_ms`, which has to be one itself where it is an interval: so
    /// intervals are counted from start to start and do not drift.
    pub fn next(&self, after_ms: i64) -> Option<i64> {
        match &self.rhythm {
            Rhythm::Never => None,
            Rhythm::Every(every) => after_ms.checked_add(*every),
            Rhythm::Cron { cron, zone, hourly: true } => {
                let after = zone.timestamp_millis_opt(after_ms).single()?;
                let next = cron.find_next_occurrence(&after, false).ok()?;
                Some(next.timestamp_millis())
            }
            Rhythm::Cron { cron, zone, hourly: false } => {
                let mut wall = zone.timestamp_millis_opt(after_ms).single()?.naive_local();
                // While the clock shows times for the second time, each of them is behind.
                loop {
                    wall = cron.find_next_occurrence(&wall, false).ok()?;
                    let next = instant(wall, *zone)?;
                    if next > after_ms {
                        return Some(next);
                    }
                }
            }
        }
    }

    /// What is due at `now_ms` when `last_ms` was the last time that was served.
    pub fn due(&self, last_ms: i64, now_ms: i64, missed: Missed) -> Due {
        let last_ms = match last_ms.saturating_sub(now_ms) > AHEAD_MAX_MS {
            true => now_ms,
            false => last_ms,
        };
        let wanted = match missed {
            Missed::Skip | Missed::Once => 1,
            Missed::All => MISSED_MAX,
        };
        // One more tells whether there are others before.
        let mut run = self.newest(last_ms, now_ms, wanted + 1);
        let next_ms = self.next(run.back().copied().unwrap_or(last_ms));
        let late = |due: &i64| now_ms.saturating_sub(*due) > ON_TIME_MS;
        let mut passed_last = None;
        if run.len() > wanted {
            passed_last = run.pop_front();
        }
        if missed == Missed::Skip && run.back().is_some_and(late) {
            passed_last = run.pop_back();
        }
        let passed = passed_last
            .map(|last| Passed { first_ms: self.next(last_ms).unwrap_or(last), last_ms: last });
        Due { run: run.into(), passed, next_ms }
    }

    /// At most `count` times after `last_ms` and up to `now_ms`, the newest of them, oldest first.
    fn newest(&self, last_ms: i64, now_ms: i64, count: usize) -> VecDeque<i64> {
        if let Rhythm::Every(every) = self.rhythm {
            let passed = now_ms.saturating_sub(last_ms).max(0) / every;
            let first = passed.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX)).max(0);
            return (first..passed).map(|n| last_ms + (n + 1) * every).collect();
        }
        let windows = WINDOWS_MS.into_iter().map(|window| now_ms.saturating_sub(window));
        let mut newest = VecDeque::new();
        for from in windows.chain([last_ms]) {
            let from = from.max(last_ms);
            newest = self.between(from, now_ms, count);
            if newest.len() >= count || from == last_ms {
                break;
            }
        }
        newest
    }

    fn between(&self, from_ms: i64, to_ms: i64, count: usize) -> VecDeque<i64> {
        let mut times = VecDeque::new();
        let mut at = from_ms;
        while let Some(next) = self.next(at).filter(|next| *next <= to_ms) {
            if times.len() == count {
                times.pop_front();
            }
            times.push_back(next);
            at = next;
        }
        times
    }
}

/// When the clock of `zone` shows `wall`, the first time it does; the first moment after the gap
/// where it never does. None beyond what is known of the zone.
fn instant(wall: NaiveDateTime, zone: Tz) -> Option<i64> {
    let shown = match zone.from_local_datetime(&wall) {
        LocalResult::Single(shown) | LocalResult::Ambiguous(shown, _) => shown,
        LocalResult::None => GapInfo::new(&wall, &zone)?.end?,
    };
    Some(shown.timestamp_millis())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests;
