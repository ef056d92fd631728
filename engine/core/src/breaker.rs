//! When something that failed is tried again, and when it is left alone: back-off with jitter and a
//! circuit breaker, one for each source, store, sink or model that somebody depends on.
//!
//! In: failures and answers, with the time of a monotonic clock and a random number. Out: how long to
//! wait, and a state. Pure: it neither waits nor looks at a clock.
//!
//! ```text
//!          failures in a row < 5                 a pause later
//!            ┌────────┐      the 5th                ┌───────┐
//!            ▼        │ ┌──────────────► Open ──────┘       ▼
//!          Closed ────┴─┘                ▲  ▲           HalfOpen
//!            ▲                           │  └── a failure ──┤
//!            │        a failure before it is proved         │
//!            └───────────────── an answer ──────────────────┘
//! ```
//!
//! An answer closes it on probation: only what is proved (a sealed epoch, rows delivered, or a minute
//! without a failure) makes it forget, so that a server that answers reads and refuses writes is not
//! hammered.

use std::time::Duration;

/// Failures in a row that open it: with the waits between them about a quarter of a minute.
const FAILURES_TO_OPEN: u32 = 5;

/// The most that is waited before the first retry; it doubles.
const WAIT_FIRST: Duration = Duration::from_secs(1);

/// The least that is waited: enough not to burn a core on an error that comes at once.
const WAIT_MIN: Duration = Duration::from_millis(50);

/// The longest pause while it is open: what an operator accepts to wait for after an outage.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// So long without a failure is as good as a proof.
const CALM: Duration = Duration::from_secs(60);

/// Whether what it guards is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// It is used as if nothing had happened.
    Closed,
    /// It is left alone.
    Open,
    /// It is tried once.
    HalfOpen,
}

/// What is remembered of one dependency.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    /// In a row, without proof of the contrary.
    failures: u32,
    /// When it failed last.
    failed_at: Option<Duration>,
    /// Until when it is left alone; none while it is closed.
    until: Option<Duration>,
}

impl Breaker {
    /// What it is at `now`.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.until {
            None => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            Some(_) => BreakerState::HalfOpen,
        }
    }

    /// How long it is left alone yet.
    pub fn left(&self, now: Duration) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_sub(now))
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed; `chance` is a random number from 0 to 1. Gives how long to wait until the next try.
    pub fn failed(&mut self, now: Duration, chance: f64) -> Duration {
        self.forget_if_calm(now);
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        if self.failures < FAILURES_TO_OPEN {
            return jittered(backed_off(self.failures), chance);
        }
        // At least half a pause: while it is open, it is left alone.
        let half = backed_off(self.failures) / 2;
        let pause = half + half.mul_f64(chance.clamp(0.0, 1.0));
        self.until = Some(now + pause);
        pause
    }

    /// It answered. Says whether that closed it.
    pub fn answered(&mut self, now: Duration) -> bool {
        self.forget_if_calm(now);
        self.until.take().is_some()
    }

    /// It did all that is asked of it. Says whether that closed it.
    pub fn proved(&mut self) -> bool {
        let closed = self.until.is_some();
        *self = Self::default();
        closed
    }

    fn forget_if_calm(&mut self, now: Duration) {
        let quiet = self.failed_at.is_some_and(|at| now.saturating_sub(at) >= CALM);
        if quiet && self.until.is_none() {
            self.failures = 0;
        }
    }
}

/// The most to wait after so many failures.
pub fn backed_off(failures: u32) -> Duration {
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1).min(16));
    WAIT_FIRST.saturating_mul(doubled).min(PAUSE_MAX)
}

/// Anything up to `most`, so that runs that failed together do not come back together.
fn jittered(most: Duration, chance: f64) -> Duration {
    most.mul_f64(chance.clamp(0.0, 1.0)).max(WAIT_MIN)
}

#[cfg(test)]
mod tests {
    use super::BreakerState::{Closed, HalfOpen, Open};
    use super::*;
    use crate::{Clock, ManualClock};

    /// What happens: time passes, or one of the three.
    enum Event {
        Pass(u64),
        Fail,
        Answer,
        Prove,
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_an_answer() {
        use Event::{Answer, Fail, Pass, Prove};
        // What happens, the state then, failures in a row.
        let story = [
            (Fail, Closed, 1),
            (Fail, Closed, 2),
            (Prove, Closed, 0),
            (Fail, Closed, 1),
            (Fail, Closed, 2),
            (Fail, Closed, 3),
            (Fail, Closed, 4),
            (Fail, Open, 5),
            (Pass(11_999), Open, 5),
            (Pass(1), HalfOpen, 5),
            (Fail, Open, 6),
            (Pass(22_500), HalfOpen, 6),
            (Answer, Closed, 6),
            // On probation: the next failure opens it at once.
            (Fail, Open, 7),
            (Pass(22_500), HalfOpen, 7),
            (Answer, Closed, 7),
            (Pass(60_000), Closed, 7),
            (Answer, Closed, 0),
            (Fail, Closed, 1),
            (Pass(60_000), Closed, 1),
            (Fail, Closed, 1),
            (Prove, Closed, 0),
        ];
        let clock = ManualClock::at(5_000);
        let mut breaker = Breaker::default();
        for (i, (event, state, failures)) in story.into_iter().enumerate() {
            match event {
                Pass(ms) => clock.advance_ms(i64::try_from(ms).unwrap()),
                Fail => drop(breaker.failed(clock.monotonic(), 0.5)),
                Answer => drop(breaker.answered(clock.monotonic())),
                Prove => drop(breaker.proved()),
            }
            let found = (breaker.state(clock.monotonic()), breaker.failures());
            assert_eq!(found, (state, failures), "step {i}");
        }
    }

    #[test]
    fn it_says_when_it_was_closed() {
        let mut breaker = Breaker::default();
        assert!(!breaker.answered(Duration::ZERO) && !breaker.proved());
        for _ in 0..FAILURES_TO_OPEN {
            breaker.failed(Duration::ZERO, 0.0);
        }
        assert!(breaker.answered(PAUSE_MAX) && !breaker.answered(PAUSE_MAX));
    }

    #[test]
    fn waits_double_up_to_a_limit_and_are_spread() {
        let waits = |chance: f64| {
            let mut breaker = Breaker::default();
            let wait = |_| breaker.failed(Duration::ZERO, chance).as_millis();
            (0..8).map(wait).collect::<Vec<_>>()
        };
        assert_eq!(waits(1.0), [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(waits(0.0), [50, 50, 50, 50, 8000, 15_000, 15_000, 15_000]);
        assert_eq!(waits(0.5), [500, 1000, 2000, 4000, 12_000, 22_500, 22_500, 22_500]);
    }
}
