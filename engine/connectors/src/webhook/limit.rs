//! How many requests a route takes in a time: a bucket of tokens that fills as time goes by.
//!
//! In: a rate, and the time of a monotonic clock. Out: yes, or how long to wait. It holds at most a
//! second of its rate, so that a pause does not become a flood.

use std::time::Duration;

use parking_lot::Mutex;

use super::config::Rate;

/// What adding up parts may lack of a whole.
const ALMOST: f64 = 1e-9;

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    most: f64,
    /// What is in it, and when that was so.
    held: Mutex<(f64, Duration)>,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate, now: Duration) -> Self {
        let per_second = rate.count / rate.per.as_secs_f64();
        // A slow rate still lets one through.
        let most = per_second.max(1.0);
        Self { per_second, most, held: Mutex::new((most, now)) }
    }

    /// Takes one. Errors: how long until there is one.
    pub(super) fn take(&self, now: Duration) -> Result<(), Duration> {
        let mut held = self.held.lock();
        let (tokens, since) = *held;
        let elapsed = now.saturating_sub(since).as_secs_f64();
        let tokens = (tokens + elapsed * self.per_second).min(self.most);
        if tokens < 1.0 - ALMOST {
            *held = (tokens, now.max(since));
            return Err(Duration::from_secs_f64((1.0 - tokens) / self.per_second));
        }
        *held = (tokens - 1.0, now.max(since));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_bucket_lets_through_its_rate() {
        let bucket = Bucket::new(Rate { count: 2.0, per: Duration::from_secs(1) }, at(0));
        assert_eq!((bucket.take(at(0)), bucket.take(at(0))), (Ok(()), Ok(())));
        assert_eq!(bucket.take(at(0)), Err(at(500)));
        assert_eq!(bucket.take(at(250)), Err(at(250)));
        assert_eq!(bucket.take(at(500)), Ok(()));
        assert_eq!(bucket.take(at(400)), Err(at(500)), "a clock that stands still gives nothing");
        assert_eq!((bucket.take(at(60_000)), bucket.take(at(60_000))), (Ok(()), Ok(())));
        assert!(bucket.take(at(60_000)).is_err(), "a pause is no credit");
    }

    #[test]
    fn a_slow_rate_lets_one_through() {
        let bucket = Bucket::new(Rate { count: 6.0, per: Duration::from_secs(60) }, at(0));
        assert_eq!(bucket.take(at(0)), Ok(()));
        assert_eq!(bucket.take(at(0)), Err(at(10_000)));
        assert_eq!(bucket.take(at(10_000)), Ok(()));
    }
}
