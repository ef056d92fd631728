//! Time and identifiers, injected: wall clock for people, monotonic clock for durations and leases.
//!
//! The real clock is made in `app`; tests use [`ManualClock`].

mod phase;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;

pub use phase::{Phase, Phases};

/// Where time comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since 1970-01-01 UTC. May jump; nothing may depend on it never going back.
    fn wall_ms(&self) -> i64;

    /// Time since an arbitrary start; never goes back.
    fn monotonic(&self) -> Duration;

    /// Waits. Cancel-safe: dropping the future ends the wait.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Where identifiers come from.
pub trait Ids: Send + Sync + std::fmt::Debug {
    /// A new one: at least 16 lower-case hexadecimal digits, never given before.
    fn fresh(&self) -> String;

    /// A random number from 0 to 1, for waits that are not to end together.
    fn chance(&self) -> f64 {
        chance_of(&self.fresh())
    }
}

fn chance_of(fresh: &str) -> f64 {
    let digits = fresh.get(..8).and_then(|text| u32::from_str_radix(text, 16).ok());
    digits.map_or(0.5, |digits| f64::from(digits) / f64::from(u32::MAX))
}

/// A clock that moves only when told to; `sleep` moves it and returns at once.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: std::sync::Arc<AtomicI64>,
}

impl ManualClock {
    /// A clock that shows `now_ms` milliseconds since 1970.
    pub fn at(now_ms: i64) -> Self {
        Self { now_ms: std::sync::Arc::new(AtomicI64::new(now_ms)) }
    }

    /// Moves the clock; a negative amount moves it back.
    pub fn advance_ms(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.wall_ms()).unwrap_or(0))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let now = self.now_ms.clone();
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Box::pin(async move {
            now.fetch_add(ms, Ordering::SeqCst);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_give_numbers_between_0_and_1() {
        let chances = ["00000000", "ffffffff1", "?"].map(chance_of);
        assert_eq!(chances, [0.0, 1.0, 0.5]);
    }
}
