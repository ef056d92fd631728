//! What happens to a job next, as pure functions of what is known of it.
//!
//! ```text
//!             due, asked, others ended               done, cancelled
//!   Rest ────────────────────────────────► at work ───────────────────► Rest
//!    ▲  ▲                                     │ failed, timed out
//!    │  └── times passed, nothing started     ▼
//!    └──────── no try left ◄──────── after_failure ─── wait ──► at work
//! ```
//!
//! In: facts. Out: [`Step`], [`End`], [`Again`]. Nothing here waits, starts or remembers anything.

use std::time::Duration;

use sluice_core::Kind;
use sluice_runtime::job::Retry;
use sluice_runtime::schedule::{Due, Passed};

use super::record::outcome;

/// What starts a job's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing but a person.
    Manual,
    /// The time.
    Timed,
    /// The ends of other jobs' runs.
    After,
    /// It runs all the time.
    Continuous,
}

/// A run that is to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Again {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// Which try it will be.
    pub attempt: u32,
    /// What started the first.
    pub trigger: String,
}

/// How the jobs are that a job reads tables of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Upstream {
    /// None of them is in the way.
    Free,
    /// One is about to have new rows.
    Busy(String),
    /// The last run of one failed.
    Failed(String),
}

/// What is known of a job.
#[derive(Debug, Clone)]
pub(super) struct Facts<'a> {
    pub now_ms: i64,
    /// Whether this process starts runs.
    pub serving: bool,
    pub at_work: bool,
    pub paused: bool,
    pub way: Way,
    /// Whether its runs are of no use, or not wanted, until somebody does something.
    pub given_up: bool,
    /// Starts are not tried before this, because the last one could not be written down.
    pub held_until_ms: Option<i64>,
    /// What somebody wants to be started at once.
    pub asked: Option<&'a str>,
    pub again: Option<&'a Again>,
    pub due: &'a Due,
    /// Whether all jobs that it runs after have ended a run since its own last start.
    pub others_ended: bool,
    pub upstream: &'a Upstream,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until something happens or the time comes.
    Rest(Option<i64>),
    /// Nothing, until this job has ended.
    Wait(String),
    /// Start a run.
    Start(Start),
    /// Take note of times at which no run starts, and why not.
    Pass(Passed, Why),
}

/// Why no run starts at its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// The job is paused: nobody wanted one.
    Paused,
    /// Nobody could start one then, and the job does not make up for it.
    Missed,
    /// The last run of a job that it needs failed.
    Needs(String),
}

/// A run to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    pub cause: Cause,
    /// Which try it is, from 1.
    pub attempt: u32,
    /// The time it was due at.
    pub due_ms: Option<i64>,
    /// Times before it at which no run started.
    pub passed: Option<Passed>,
}

/// Why a run starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its way.
    Way,
    /// What was written down.
    Told(String),
}

/// Decides what happens to a job next.
pub(super) fn decide(facts: &Facts<'_>) -> Step {
    if !facts.serving || facts.at_work {
        return Step::Rest(None);
    }
    if let Some(until_ms) = facts.held_until_ms.filter(|until| facts.now_ms < *until) {
        return Step::Rest(Some(until_ms));
    }
    if let Some(trigger) = facts.asked {
        return start(Cause::Told(trigger.to_string()), 1);
    }
    if facts.paused {
        return match span(facts.due) {
            Some(passed) => Step::Pass(passed, Why::Paused),
            None => Step::Rest(facts.due.next_ms),
        };
    }
    if let Some(again) = facts.again {
        return match facts.now_ms >= again.at_ms {
            true => start(Cause::Told(again.trigger.clone()), again.attempt),
            false => Step::Rest(Some(again.at_ms)),
        };
    }
    match facts.way {
        Way::Manual => Step::Rest(None),
        Way::Continuous if facts.given_up => Step::Rest(None),
        Way::Continuous => start(Cause::Way, 1),
        Way::After if !facts.others_ended => Step::Rest(None),
        Way::After => match facts.upstream {
            Upstream::Busy(job) => Step::Wait(job.clone()),
            Upstream::Free | Upstream::Failed(_) => start(Cause::Way, 1),
        },
        Way::Timed => timed(facts),
    }
}

fn timed(facts: &Facts<'_>) -> Step {
    let Due { run, passed, next_ms } = facts.due;
    match (run.first(), *passed, facts.upstream) {
        (None, None, _) => Step::Rest(*next_ms),
        (None, Some(passed), _) => Step::Pass(passed, Why::Missed),
        (Some(_), _, Upstream::Busy(job)) => Step::Wait(job.clone()),
        (Some(due), passed, Upstream::Failed(job)) => {
            let first_ms = passed.map_or(*due, |passed| passed.first_ms);
            Step::Pass(Passed { first_ms, last_ms: *due }, Why::Needs(job.clone()))
        }
        (Some(due), passed, Upstream::Free) => {
            Step::Start(Start { cause: Cause::Way, attempt: 1, due_ms: Some(*due), passed })
        }
    }
}

fn start(cause: Cause, attempt: u32) -> Step {
    Step::Start(Start { cause, attempt, due_ms: None, passed: None })
}

/// From the first to the last of the times that are due.
fn span(due: &Due) -> Option<Passed> {
    let first = due.passed.map(|p| p.first_ms).or(due.run.first().copied())?;
    let last = due.run.last().copied().or(due.passed.map(|p| p.last_ms))?;
    Some(Passed { first_ms: first, last_ms: last })
}

/// Why a run was told to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// Somebody cancelled it.
    Cancelled(String),
    /// It runs all the time, and somebody paused the job.
    Paused(String),
    /// The job has another definition now.
    Changed,
    /// The job is gone.
    Removed,
    /// The process ends.
    Stopped,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub(super) struct Came<'a> {
    /// What went wrong, with who has to act.
    pub error: Option<(Kind, &'a str)>,
    /// How long it was allowed to take, if it took longer.
    pub timed_out: Option<Duration>,
    /// Why it was told to end, if it was.
    pub reason: Option<&'a Reason>,
    /// Whether it has no end of its own.
    pub follows: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// One of [`outcome`].
    pub outcome: &'static str,
    /// Why, if there is more to say.
    pub error: Option<String>,
    /// Whether trying again may help.
    pub may_pass: bool,
}

/// How a run ended, by what came of it.
pub(super) fn decide_end(came: &Came<'_>) -> End {
    // Fixing a file or rows is somebody's work: doing the same once more is of no use.
    let may_pass = came.error.is_none_or(|(kind, _)| !matches!(kind, Kind::Config | Kind::Data));
    let end = |outcome, error: Option<String>| End { outcome, error, may_pass };
    if let Some(limit) = came.timed_out {
        let beside = came.error.map_or(String::new(), |(_, error)| format!(": {error}"));
        let text = format!("it took longer than {} s{beside}", limit.as_secs_f64());
        return end(outcome::TIMED_OUT, Some(text));
    }
    if let Some((_, error)) = came.error {
        return end(outcome::FAILED, Some(error.to_string()));
    }
    let told = |text: &str| Some(text.to_string());
    match (came.reason, came.follows) {
        (Some(Reason::Cancelled(who)), _) => {
            end(outcome::CANCELLED, Some(format!("cancelled by {who}")))
        }
        (Some(_), true) | (None, _) => end(outcome::DONE, None),
        (Some(Reason::Changed), false) => end(outcome::CANCELLED, told("its definition changed")),
        (Some(Reason::Removed), false) => end(outcome::CANCELLED, told("the job was removed")),
        (Some(Reason::Paused(who)), false) => {
            end(outcome::CANCELLED, Some(format!("paused by {who}")))
        }
        (Some(Reason::Stopped), false) => end(outcome::INTERRUPTED, told("the server stopped")),
    }
}

/// What follows the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// What its way says.
    Way,
    /// Try number so and so, after so many failures in a row.
    Again { attempt: u32, failures: u32 },
    /// Nothing, until somebody acts.
    GiveUp,
}

/// What is known of a run that ended.
#[derive(Debug, Clone)]
pub(super) struct Ended<'a> {
    pub end: &'a End,
    pub attempt: u32,
    pub way: Way,
    /// Whether a person started it, who looks after it.
    pub by_hand: bool,
    /// Whether it was told to end.
    pub told: bool,
    /// Whether somebody cancelled it: then it is not tried again, however it ended.
    pub cancelled: bool,
    /// Whether it sealed an epoch.
    pub sealed: bool,
    pub retry: &'a Retry,
}

/// Decides whether a run that ended is tried again.
pub(super) fn decide_next(ended: &Ended<'_>) -> Next {
    let continuous = ended.way == Way::Continuous;
    let attempt = ended.attempt.saturating_add(1);
    if ended.cancelled {
        return Next::Way;
    }
    match ended.end.outcome {
        outcome::FAILED | outcome::TIMED_OUT if continuous && ended.end.may_pass => {
            // What it sealed shows that it was well in between.
            let failures = if ended.sealed { 1 } else { ended.attempt };
            Next::Again { attempt: if ended.sealed { 2 } else { attempt }, failures }
        }
        outcome::FAILED | outcome::TIMED_OUT if continuous => Next::GiveUp,
        outcome::FAILED | outcome::TIMED_OUT => {
            let left = ended.attempt <= ended.retry.times;
            match left && ended.end.may_pass && !ended.by_hand {
                true => Next::Again { attempt, failures: ended.attempt },
                false => Next::Way,
            }
        }
        // It has no end of its own and yet ended: not to be started in a circle.
        outcome::DONE if continuous && !ended.told => Next::Again { attempt: 2, failures: 1 },
        _ => Next::Way,
    }
}

/// The longest wait where a job names none.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// The same where only an outage is waited for that somebody may end at any moment: what runs all
/// the time is to be back soon after it, as it is from one that comes later.
const OUTAGE_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long to wait before a run is tried again after so many failures in a row. `chance` is a
/// random number from 0 to 1: up to half of the wait is left out, so that what failed together does
/// not come back together. `outage` is whether it runs all the time and something did not answer.
pub(super) fn back_off(retry: &Retry, failures: u32, chance: f64, outage: bool) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(31));
    let most = if outage { OUTAGE_WAIT_MAX } else { WAIT_MAX };
    let most = retry.max.unwrap_or_else(|| most.max(retry.base));
    let whole = retry.base.saturating_mul(doubled).min(most);
    whole.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}
