//! What happens to a job next: tables of facts, and weeks of a clock that is moved by hand while
//! the process is killed now and then.

use std::collections::BTreeSet;
use std::time::Duration;

use sluice_core::{Clock as _, Kind, ManualClock};
use sluice_runtime::job::{Missed, Retry, Schedule};
use sluice_runtime::schedule::{Due, Passed, Timetable};

use super::decide::*;
use super::record::outcome;

const NOW: i64 = 1_000_000;

fn retry() -> Retry {
    Retry { times: 2, base: Duration::from_secs(10), max: Some(Duration::from_secs(60)) }
}

fn facts<'a>(way: Way, due: &'a Due, upstream: &'a Upstream) -> Facts<'a> {
    Facts {
        now_ms: NOW,
        serving: true,
        at_work: false,
        paused: false,
        way,
        given_up: false,
        held_until_ms: None,
        asked: None,
        again: None,
        due,
        others_ended: false,
        upstream,
    }
}

fn started(cause: Cause, attempt: u32, due_ms: Option<i64>, passed: Option<Passed>) -> Step {
    Step::Start(Start { cause, attempt, due_ms, passed })
}

fn told(trigger: &str) -> Cause {
    Cause::Told(trigger.to_string())
}

#[test]
fn every_case_of_a_job_that_rests_has_its_step() {
    let (free, busy) = (Upstream::Free, Upstream::Busy("a".into()));
    let failed = Upstream::Failed("a".into());
    let span = |first_ms, last_ms| Passed { first_ms, last_ms };
    let never = Due::default();
    let later = Due { next_ms: Some(NOW + 50), ..Due::default() };
    let due = Due { run: vec![NOW - 5], passed: None, next_ms: Some(NOW + 50) };
    let late = Due { run: vec![NOW - 5], passed: Some(span(7, 9)), next_ms: Some(NOW + 50) };
    let skipped = Due { run: Vec::new(), passed: Some(span(7, 9)), next_ms: Some(NOW + 50) };
    let soon = Again { at_ms: NOW + 9, attempt: 2, trigger: "schedule".into() };
    let now = Again { at_ms: NOW, ..soon.clone() };
    let timed = |due| facts(Way::Timed, due, &free);
    let at = |due: i64, passed| started(Cause::Way, 1, Some(due), passed);
    let cases = [
        // The time.
        (timed(&later), Step::Rest(Some(NOW + 50))),
        (timed(&due), at(NOW - 5, None)),
        (timed(&late), at(NOW - 5, Some(span(7, 9)))),
        (timed(&skipped), Step::Pass(span(7, 9), Why::Missed)),
        // Jobs whose tables it reads.
        (facts(Way::Timed, &due, &busy), Step::Wait("a".into())),
        (facts(Way::Timed, &later, &busy), Step::Rest(Some(NOW + 50))),
        (facts(Way::Timed, &late, &failed), Step::Pass(span(7, NOW - 5), Why::Needs("a".into()))),
        // Nobody starts anything, or it cannot be written down.
        (Facts { serving: false, ..timed(&due) }, Step::Rest(None)),
        (Facts { at_work: true, ..timed(&due) }, Step::Rest(None)),
        (Facts { held_until_ms: Some(NOW + 1), ..timed(&due) }, Step::Rest(Some(NOW + 1))),
        (Facts { held_until_ms: Some(NOW), ..timed(&due) }, at(NOW - 5, None)),
        // Paused: times pass, but who asks gets a run.
        (Facts { paused: true, ..timed(&late) }, Step::Pass(span(7, NOW - 5), Why::Paused)),
        (Facts { paused: true, ..timed(&skipped) }, Step::Pass(span(7, 9), Why::Paused)),
        (Facts { paused: true, ..timed(&later) }, Step::Rest(Some(NOW + 50))),
        (Facts { paused: true, again: Some(&now), ..timed(&later) }, Step::Rest(Some(NOW + 50))),
        (
            Facts { paused: true, asked: Some("reload"), ..timed(&due) },
            started(told("reload"), 1, None, None),
        ),
        // A failed run is tried again before the next time is served.
        (Facts { again: Some(&soon), ..timed(&due) }, Step::Rest(Some(NOW + 9))),
        (Facts { again: Some(&now), ..timed(&due) }, started(told("schedule"), 2, None, None)),
        // By hand, after others, all the time.
        (facts(Way::Manual, &never, &free), Step::Rest(None)),
        (facts(Way::After, &never, &free), Step::Rest(None)),
        (
            Facts { others_ended: true, ..facts(Way::After, &never, &free) },
            started(Cause::Way, 1, None, None),
        ),
        (Facts { others_ended: true, ..facts(Way::After, &never, &busy) }, Step::Wait("a".into())),
        (facts(Way::Continuous, &never, &free), started(Cause::Way, 1, None, None)),
        (Facts { given_up: true, ..facts(Way::Continuous, &never, &free) }, Step::Rest(None)),
    ];
    for (facts, step) in cases {
        assert_eq!(decide(&facts), step, "{facts:?}");
    }
}

#[test]
fn how_a_run_ended_follows_from_what_came_of_it() {
    let came = Came { error: None, timed_out: None, reason: None, follows: false };
    let follows = Came { follows: true, ..came.clone() };
    let (cancelled, paused) = (Reason::Cancelled("anna".into()), Reason::Paused("anna".into()));
    let (changed, removed, stopped) = (Reason::Changed, Reason::Removed, Reason::Stopped);
    let by = |reason| Came { reason: Some(reason), ..came.clone() };
    let follows_by = |reason| Came { reason: Some(reason), ..follows.clone() };
    let failed = |kind| Came { error: Some((kind, "why")), ..by(&cancelled) };
    let slow = Came { timed_out: Some(Duration::from_secs(90)), ..by(&cancelled) };
    let cases = [
        (came.clone(), outcome::DONE, None),
        (by(&cancelled), outcome::CANCELLED, Some("cancelled by anna")),
        (follows_by(&cancelled), outcome::CANCELLED, Some("cancelled by anna")),
        (follows_by(&paused), outcome::DONE, None),
        (by(&changed), outcome::CANCELLED, Some("its definition changed")),
        (follows_by(&changed), outcome::DONE, None),
        (by(&removed), outcome::CANCELLED, Some("the job was removed")),
        (by(&stopped), outcome::INTERRUPTED, Some("the server stopped")),
        (follows_by(&stopped), outcome::DONE, None),
        (slow.clone(), outcome::TIMED_OUT, Some("it took longer than 90 s")),
        (
            Came { error: Some((Kind::Unavailable, "why")), ..slow },
            outcome::TIMED_OUT,
            Some("it took longer than 90 s: why"),
        ),
        (failed(Kind::Unavailable), outcome::FAILED, Some("why")),
        (failed(Kind::Data), outcome::FAILED, Some("why")),
    ];
    for (came, outcome, error) in cases {
        let end = decide_end(&came);
        assert_eq!((end.outcome, end.error.as_deref()), (outcome, error), "{came:?}");
    }
    for (kind, may_pass) in [
        (Kind::Config, false),
        (Kind::Data, false),
        (Kind::Unreadable, true),
        (Kind::Unavailable, true),
        (Kind::Conflict, true),
        (Kind::Bug, true),
    ] {
        assert_eq!(decide_end(&failed(kind)).may_pass, may_pass, "{kind:?}");
    }
}

#[test]
fn failures_are_tried_again_as_often_as_the_job_says() {
    let retry = retry();
    let end = |outcome, may_pass| End { outcome, error: None, may_pass };
    let (failed, slow) = (end(outcome::FAILED, true), end(outcome::TIMED_OUT, true));
    let (broken, done) = (end(outcome::FAILED, false), end(outcome::DONE, true));
    let (cancelled, cut) = (end(outcome::CANCELLED, true), end(outcome::INTERRUPTED, true));
    let of = |end, attempt, way| Ended {
        end,
        attempt,
        way,
        by_hand: false,
        told: false,
        cancelled: false,
        sealed: false,
        retry: &retry,
    };
    let again = |attempt, failures| Next::Again { attempt, failures };
    let (timed, continuous) = (Way::Timed, Way::Continuous);
    let cases = [
        (of(&done, 1, timed), Next::Way),
        (of(&failed, 1, timed), again(2, 1)),
        (of(&slow, 2, timed), again(3, 2)),
        (of(&failed, 3, timed), Next::Way),
        (of(&failed, 1, Way::After), again(2, 1)),
        (of(&broken, 1, timed), Next::Way),
        (Ended { by_hand: true, ..of(&failed, 1, timed) }, Next::Way),
        (of(&cancelled, 1, timed), Next::Way),
        (of(&cut, 1, timed), Next::Way),
        // What runs all the time has no last try; an epoch begins the count anew.
        (of(&failed, 70, continuous), again(71, 70)),
        (Ended { sealed: true, ..of(&failed, 70, continuous) }, again(2, 1)),
        (of(&broken, 1, continuous), Next::GiveUp),
        // Nor is there another try of what somebody cancelled, also where it failed at its end.
        (Ended { cancelled: true, ..of(&cancelled, 1, continuous) }, Next::Way),
        (Ended { cancelled: true, ..of(&failed, 1, continuous) }, Next::Way),
        (Ended { cancelled: true, ..of(&failed, 1, timed) }, Next::Way),
        // Another definition while it ran on its way of before.
        (of(&cancelled, 1, continuous), Next::Way),
        (Ended { told: true, ..of(&done, 1, continuous) }, Next::Way),
        (of(&done, 1, continuous), again(2, 1)),
    ];
    for (ended, next) in cases {
        assert_eq!(decide_next(&ended), next, "{ended:?}");
    }
}

#[test]
fn waits_double_up_to_the_longest_and_lose_up_to_half() {
    let seconds = |failures, chance| back_off(&retry(), failures, chance, false).as_secs_f64();
    let whole: Vec<f64> = (1..6).map(|failures| seconds(failures, 0.0)).collect();
    assert_eq!(whole, [10.0, 20.0, 40.0, 60.0, 60.0]);
    assert_eq!((seconds(1, 1.0), seconds(2, 0.5), seconds(u32::MAX, 1.0)), (5.0, 15.0, 30.0));
}

#[test]
fn an_outage_is_not_waited_for_longer_than_needed_unless_the_job_says_so() {
    let longest = |retry: &Retry, outage| back_off(retry, 99, 0.0, outage).as_secs();
    let silent = Retry::default();
    assert_eq!((longest(&silent, true), longest(&silent, false)), (30, 600));
    let slow = Retry { base: Duration::from_secs(90), ..silent };
    assert_eq!((longest(&slow, true), longest(&slow, false)), (90, 600));
    assert_eq!((longest(&retry(), true), longest(&retry(), false)), (60, 60));
}

/// What a process remembers durably, and what only it knows.
struct Process {
    last_ms: i64,
    at_work: Option<i64>,
}

/// Numbers that look random, the same each time.
fn numbers(mut seed: u64) -> impl FnMut(i64) -> i64 {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(seed >> 33).unwrap_or(0) % below.max(1)
    }
}

#[test]
fn weeks_of_a_process_that_dies_now_and_then_start_each_time_once() {
    let texts = ["*/5 * * * *", "30 2,14 * * *", "0 * * * *"];
    for (seed, text) in texts.into_iter().enumerate() {
        for missed in [Missed::Skip, Missed::Once, Missed::All] {
            // Two weeks around the end of summer time in Paris, a week before and one behind.
            let table =
                Timetable::new(&Schedule::Cron(text.into()), "Europe/Paris".parse().unwrap());
            let (table, clock) = (table.unwrap(), ManualClock::at(1_792_281_600_000));
            let (began, until) = (clock.wall_ms(), clock.wall_ms() + 14 * 24 * 3_600_000);
            let mut random = numbers(seed as u64);
            let mut process = Process { last_ms: table.begin(began), at_work: None };
            let (mut starts, mut passed): (Vec<i64>, Vec<Passed>) = (Vec::new(), Vec::new());
            while clock.wall_ms() < until {
                let now_ms = clock.wall_ms();
                let due = table.due(process.last_ms, now_ms, missed);
                let free = Upstream::Free;
                let at_work = process.at_work.is_some_and(|ends| now_ms < ends);
                let facts = Facts { now_ms, at_work, ..facts(Way::Timed, &due, &free) };
                match decide(&facts) {
                    Step::Start(start) => {
                        // Written down first, then started: to die in between serves it too.
                        passed.extend(start.passed);
                        process.last_ms = start.due_ms.unwrap();
                        starts.push(process.last_ms);
                        process.at_work = Some(now_ms + random(20 * 60_000));
                        continue;
                    }
                    Step::Pass(times, Why::Missed) => {
                        passed.push(times);
                        process.last_ms = times.last_ms;
                        continue;
                    }
                    Step::Rest(until) => {
                        let next = until.or(process.at_work).unwrap_or(now_ms + 1_000);
                        clock.advance_ms((next - now_ms).clamp(1, 3_600_000) + random(1_500));
                    }
                    other => unreachable!("{other:?}"),
                }
                if random(40) == 0 {
                    // It dies, and another is there after a while.
                    process.at_work = None;
                    clock.advance_ms(random(12 * 3_600_000));
                }
            }
            let unique: BTreeSet<i64> = starts.iter().copied().collect();
            assert_eq!(unique.len(), starts.len(), "no time twice: {text} {missed:?}");
            let mut expected = Vec::new();
            let mut at = began;
            while let Some(next) = table.next(at).filter(|next| *next <= process.last_ms) {
                expected.push(next);
                at = next;
            }
            let is_passed =
                |time: &i64| passed.iter().any(|p| (p.first_ms..=p.last_ms).contains(time));
            let lost = expected.iter().filter(|time| !unique.contains(*time) && !is_passed(time));
            assert_eq!(lost.count(), 0, "no time lost: {text} {missed:?}");
            assert!(unique.iter().all(|time| expected.contains(time) && !is_passed(time)));
        }
    }
}
