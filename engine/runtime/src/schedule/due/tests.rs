//! When runs are due: tables of times around leap days and changed clocks, the same by counting
//! minutes, and weeks of a clock that is moved by hand.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta};
use chrono_tz::{Europe, Pacific, Tz};
use sluice_core::{Clock as _, ManualClock};

use super::*;

fn ms(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

fn shown(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn cron(text: &str, zone: Tz) -> Timetable {
    Timetable::new(&Schedule::Cron(text.to_string()), zone).unwrap()
}

fn every(text: &str) -> Timetable {
    let every = sluice_core::parse_duration(text).unwrap();
    Timetable::new(&Schedule::Every(every), Tz::UTC).unwrap()
}

/// All times after the first up to the second.
fn all(table: &Timetable, from: i64, to: i64) -> Vec<i64> {
    let next = |at: &i64| table.next(*at).filter(|next| *next <= to);
    std::iter::successors(next(&from), next).collect()
}

const PARIS: Tz = Europe::Paris;

/// Expression, zone, after when, the two times that follow.
const TIMES: &[(&str, Tz, &str, &str)] = &[
    // Leap days.
    ("0 12 29 2 *", Tz::UTC, "2026-01-01T00:00:00Z", "2028-02-29T12:00:00Z 2032-02-29T12:00:00Z"),
    ("0 0 29 * *", Tz::UTC, "2027-01-30T00:00:00Z", "2027-03-29T00:00:00Z 2027-04-29T00:00:00Z"),
    // Steps, names, the seventh day, a day of the month or of the week.
    ("*/5 * * * *", PARIS, "2026-06-01T10:02:30Z", "2026-06-01T10:05:00Z 2026-06-01T10:10:00Z"),
    (
        "30 8 * jun-jul MON",
        PARIS,
        "2026-06-01T00:00:00Z",
        "2026-06-01T06:30:00Z 2026-06-08T06:30:00Z",
    ),
    ("0 9 * * 7", PARIS, "2026-06-01T00:00:00Z", "2026-06-07T07:00:00Z 2026-06-14T07:00:00Z"),
    ("0 0 1 * fri", Tz::UTC, "2026-05-30T00:00:00Z", "2026-06-01T00:00:00Z 2026-06-05T00:00:00Z"),
    // Paris puts the clock forward from 2 to 3 on 2026-03-29, at 1 in UTC.
    ("30 2 * * *", PARIS, "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z 2026-03-30T00:30:00Z"),
    ("0 2,14 * * *", PARIS, "2026-03-28T20:00:00Z", "2026-03-29T01:00:00Z 2026-03-29T12:00:00Z"),
    ("0,30 2,3 * * *", PARIS, "2026-03-28T20:00:00Z", "2026-03-29T01:00:00Z 2026-03-29T01:30:00Z"),
    ("*/30 * * * *", PARIS, "2026-03-29T00:15:00Z", "2026-03-29T00:30:00Z 2026-03-29T01:00:00Z"),
    ("30 * * * *", PARIS, "2026-03-29T00:15:00Z", "2026-03-29T00:30:00Z 2026-03-29T01:30:00Z"),
    // And back from 3 to 2 on 2026-10-25, at 1 in UTC.
    ("30 2 * * *", PARIS, "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"),
    ("0,30 2 * * *", PARIS, "2026-10-25T00:10:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:00:00Z"),
    ("0,30 2 * * *", PARIS, "2026-10-25T01:10:00Z", "2026-10-26T01:00:00Z 2026-10-26T01:30:00Z"),
    ("*/30 * * * *", PARIS, "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z 2026-10-25T01:30:00Z"),
    ("0 3 * * *", PARIS, "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z 2026-10-26T02:00:00Z"),
    // Samoa left out a whole day.
    (
        "0 12 * * *",
        Pacific::Apia,
        "2011-12-29T22:00:00Z",
        "2011-12-30T10:00:00Z 2011-12-30T22:00:00Z",
    ),
];

#[test]
fn times_are_due_as_the_clock_of_the_place_shows_them() {
    for (text, zone, after, expected) in TIMES {
        let table = cron(text, *zone);
        let first = table.next(ms(after)).unwrap();
        let found = [first, table.next(first).unwrap()].map(shown).join(" ");
        assert_eq!(found, *expected, "{text} {zone}");
    }
}

/// The same by looking at each minute.
fn counted(text: &str, zone: Tz, from: i64, to: i64) -> Vec<i64> {
    const MINUTE_MS: i64 = 60_000;
    let cron = parse_cron(text).unwrap();
    let hourly = cron.pattern.hours.values().len() == 24;
    let wall = |ms: i64| zone.timestamp_millis_opt(ms).single().unwrap().naive_local();
    let is_named = |wall: &NaiveDateTime| cron.is_time_matching(wall).unwrap();
    let is_due = |at: &i64| {
        let now = wall(*at);
        if hourly {
            return is_named(&now);
        }
        let first = zone.from_local_datetime(&now).earliest().unwrap().timestamp_millis() == *at;
        let minute = TimeDelta::minutes(1);
        let mut skipped = wall(at - MINUTE_MS) + minute;
        let mut made_up = false;
        while skipped < now {
            made_up |= is_named(&skipped);
            skipped += minute;
        }
        made_up || (first && is_named(&now))
    };
    let minutes = (1..).map(|n| from + n * MINUTE_MS).take_while(|at| *at <= to);
    minutes.filter(is_due).collect()
}

#[test]
fn weeks_in_which_clocks_change_have_no_time_twice_and_none_lost() {
    let texts = [
        "*/5 * * * *",
        "7 * * * *",
        "0 */2 * * *",
        "*/20 1-3 * * *",
        "30 2 * * *",
        "30 0 * * *",
        "0 3 * * *",
        "59 1 * * 7",
        "15,45 0,2,3,23 29,25 3,10 *",
    ];
    let weeks = [
        (Europe::Paris, "2026-03-26T00:00:00Z"),
        (Europe::Paris, "2026-10-22T00:00:00Z"),
        // Half an hour, and at midnight.
        (Tz::Australia__Lord_Howe, "2026-04-01T00:00:00Z"),
        (Tz::Australia__Lord_Howe, "2026-10-01T00:00:00Z"),
        (Tz::America__Havana, "2026-03-05T00:00:00Z"),
        (Tz::America__Havana, "2026-10-29T00:00:00Z"),
    ];
    for (zone, from) in weeks {
        let (from, to) = (ms(from), ms(from) + 7 * 24 * 3_600_000);
        for text in texts {
            let found = all(&cron(text, zone), from, to);
            let expected = counted(text, zone, from, to);
            let shown = |list: &[i64]| list.iter().map(|ms| shown(*ms)).collect::<Vec<_>>();
            assert_eq!(shown(&found), shown(&expected), "{text} {zone}");
        }
    }
}

/// Numbers that look random, the same each time.
fn numbers(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    }
}

#[test]
fn a_scheduler_that_is_away_now_and_then_serves_or_passes_each_time_once() {
    let tables = [
        cron("*/5 * * * *", Europe::Paris),
        cron("30 2,14 * * *", Europe::Paris),
        cron("0 0 * * 1-5", Tz::UTC),
        every("10min"),
        every("7h"),
    ];
    for missed in [Missed::Skip, Missed::Once, Missed::All] {
        for (seed, table) in tables.iter().enumerate() {
            // Three weeks, in one of which the clock is put back.
            let clock = ManualClock::at(ms("2026-10-15T00:00:00Z"));
            let began = table.begin(clock.wall_ms());
            let mut random = numbers(seed as u64);
            let (mut last, mut served, mut passed) = (began, Vec::new(), Vec::new());
            while clock.wall_ms() < ms("2026-11-05T00:00:00Z") {
                let due = table.due(last, clock.wall_ms(), missed);
                if let Some(Passed { first_ms, last_ms }) = due.passed {
                    passed.push(first_ms);
                    passed.extend(all(table, first_ms, last_ms));
                    last = last_ms;
                }
                assert!(due.run.len() <= if missed == Missed::All { MISSED_MAX } else { 1 });
                served.extend(due.run.iter().copied());
                last = due.run.last().copied().unwrap_or(last);
                let next = due.next_ms.unwrap();
                assert!(next > clock.wall_ms() && table.next(last) == Some(next));
                // Mostly it sleeps until then, and wakes a little late.
                let away = match random(8) {
                    0 => random(30 * 3_600_000),
                    _ => u64::try_from(next - clock.wall_ms()).unwrap() + random(2_000),
                };
                clock.advance_ms(i64::try_from(away).unwrap());
            }
            let mut seen: Vec<i64> = served.iter().chain(&passed).copied().collect();
            seen.sort_unstable();
            let unique: BTreeSet<i64> = seen.iter().copied().collect();
            assert_eq!(unique.len(), seen.len(), "no time twice: {table:?}");
            assert_eq!(seen, all(table, began, last), "no time lost: {table:?}");
            assert!(served.is_sorted());
        }
    }
}

#[test]
fn what_was_missed_is_made_up_for_as_the_policy_says() {
    let table = cron("0 * * * *", Tz::UTC);
    let (last, at) = (ms("2026-06-01T06:00:00Z"), |text: &str| ms(&format!("2026-06-01T{text}Z")));
    let passed = |first: &str, last: &str| Some(Passed { first_ms: at(first), last_ms: at(last) });
    let cases = [
        // On time: served whatever the policy.
        ("07:00:01", Missed::Skip, vec!["07:00:00"], None),
        ("07:00:01", Missed::All, vec!["07:00:00"], None),
        ("09:00:02", Missed::Skip, vec!["09:00:00"], passed("07:00:00", "08:00:00")),
        // Late.
        ("09:30:00", Missed::Skip, vec![], passed("07:00:00", "09:00:00")),
        ("09:30:00", Missed::Once, vec!["09:00:00"], passed("07:00:00", "08:00:00")),
        ("09:30:00", Missed::All, vec!["07:00:00", "08:00:00", "09:00:00"], None),
        ("07:30:00", Missed::Once, vec!["07:00:00"], None),
        // Early.
        ("06:59:59", Missed::Once, vec![], None),
        ("06:00:00", Missed::All, vec![], None),
        ("05:00:00", Missed::All, vec![], None),
    ];
    for (now, missed, run, passed) in cases {
        let due = table.due(last, at(now), missed);
        let expected: Vec<i64> = run.into_iter().map(at).collect();
        assert_eq!((due.run, due.passed), (expected, passed), "{now} {missed:?}");
    }
}

#[test]
fn more_than_a_hundred_runs_are_not_made_up_for_and_years_are_not_counted() {
    let (last, now) = (ms("2020-01-01T00:00:00Z"), ms("2026-06-01T12:00:30Z"));
    let minutes = cron("* * * * *", Tz::UTC);
    let due = minutes.due(last, now, Missed::All);
    assert_eq!(due.run.len(), 100);
    assert_eq!(due.run.last(), Some(&ms("2026-06-01T12:00:00Z")));
    let passed = due.passed.unwrap();
    assert_eq!(shown(passed.first_ms), "2020-01-01T00:01:00Z");
    assert_eq!(minutes.next(passed.last_ms), due.run.first().copied());
    let seldom = cron("0 6 29 2 *", Tz::UTC).due(last, now, Missed::All);
    let expected = ["2020-02-29T06:00:00Z", "2024-02-29T06:00:00Z"].map(ms);
    assert_eq!((seldom.run, seldom.passed), (expected.to_vec(), None));
}

#[test]
fn intervals_begin_at_once_and_are_counted_from_start_to_start() {
    let table = every("10s");
    let now = ms("2026-06-01T00:00:03Z");
    let began = table.begin(now);
    assert_eq!(table.due(began, now, Missed::Skip).run, [now]);
    // However late each start was, the next is due as if it had been on time.
    let due = table.due(now, now + 12_345, Missed::Skip);
    assert_eq!((due.run, due.next_ms), (vec![now + 10_000], Some(now + 20_000)));
    let due = table.due(now, now + 95_000, Missed::Once);
    assert_eq!((due.run, due.next_ms), (vec![now + 90_000], Some(now + 100_000)));
    assert_eq!(due.passed.unwrap(), Passed { first_ms: now + 10_000, last_ms: now + 80_000 });
}

#[test]
fn a_last_time_in_the_far_future_is_not_waited_for() {
    let table = cron("0 6 * * *", Tz::UTC);
    let now = ms("2026-06-01T12:00:00Z");
    let next = |last: &str| table.due(ms(last), now, Missed::Once).next_ms.map(shown);
    assert_eq!(next("2030-01-01T00:00:00Z").unwrap(), "2026-06-02T06:00:00Z");
    assert_eq!(next("2026-06-02T06:00:00Z").unwrap(), "2026-06-03T06:00:00Z");
}

#[test]
fn jobs_that_others_start_are_never_due() {
    for schedule in [Schedule::Manual, Schedule::Continuous, Schedule::After(vec!["a".into()])] {
        let table = Timetable::new(&schedule, Tz::UTC).unwrap();
        assert_eq!(table.due(0, i64::MAX, Missed::All), Due::default());
    }
    let long = Timetable::new(&Schedule::Every(Duration::MAX), Tz::UTC).unwrap();
    assert_eq!(long.next(1), None);
    assert!(Timetable::new(&Schedule::Cron("* * *".into()), Tz::UTC).is_err());
}
