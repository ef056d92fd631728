//! How many requests a client may make, and how many places it may hold.
//!
//! In: who asks. Out: what is left of the client's bucket, or how long to wait; a share of places
//! that all clients want. Buckets are refilled evenly (`governor`); of clients the ones seen last
//! are kept, so that a flood of addresses cannot take memory. It decides nothing about who is asked
//! to wait: see `auth`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use sluice_core::Clock;

use super::error::whole_seconds;

/// Clients whose buckets are kept; a client that is not among the last half of them starts anew. Enough
/// for every client of a busy server within a minute, and about 10 MiB.
const CLIENTS_MAX: usize = 65_536;

/// Who shares a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// Somebody who is known.
    User(String),
    /// An address; of IPv6 the network, of which one household has 2^64.
    Address(IpAddr),
    /// Who cannot be told apart.
    Unknown,
}

impl Client {
    /// The client at an address.
    pub(super) fn at(address: Option<IpAddr>) -> Self {
        match address.map(|a| a.to_canonical()) {
            Some(IpAddr::V6(address)) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                Self::Address(Ipv6Addr::from(network).into())
            }
            Some(address) => Self::Address(address),
            None => Self::Unknown,
        }
    }
}

/// What a client has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    limit: u32,
    remaining: u32,
    /// When the bucket is full again.
    reset: Duration,
}

impl Left {
    /// Says it in the headers of an answer.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let mut set = |name: &'static str, value: u64| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        };
        set("ratelimit-limit", self.limit.into());
        set("ratelimit-remaining", self.remaining.into());
        let full = self.remaining >= self.limit;
        set("ratelimit-reset", if full { 0 } else { whole_seconds(self.reset) });
    }
}

/// The clock of the process, for `governor`.
#[derive(Debug, Clone)]
struct Ticks(Arc<dyn Clock>);

impl GovernorClock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

/// The buckets of all clients.
pub(super) struct Limiter {
    buckets: RateLimiter<Client, Recent, Ticks, StateInformationMiddleware>,
    clock: Ticks,
    requests: NonZeroU32,
    per: Duration,
}

impl Limiter {
    /// `requests` for each client within `per`.
    pub(super) fn new(requests: u32, per: Duration, clock: Arc<dyn Clock>) -> Self {
        Self::keeping(CLIENTS_MAX, requests, per, clock)
    }

    fn keeping(clients: usize, requests: u32, per: Duration, clock: Arc<dyn Clock>) -> Self {
        let requests = NonZeroU32::new(requests).unwrap_or(NonZeroU32::MIN);
        // Beyond a thousand million requests a second there is no limit to keep.
        let each = (per / requests.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(each)
            .unwrap_or_else(|| Quota::per_second(requests))
            .allow_burst(requests);
        let clock = Ticks(clock);
        let buckets = RateLimiter::new(quota, Recent::new(clients / 2), clock.clone());
        Self { buckets, clock, requests, per }
    }

    /// Whether these are its numbers.
    pub(super) fn is(&self, requests: u32, per: Duration) -> bool {
        self.requests.get() == requests.max(1) && self.per == per
    }

    /// Takes one from the client's bucket. Errors: it is empty; how long until there is one.
    pub(super) fn take(&self, client: &Client) -> Result<Left, (Left, Duration)> {
        match self.buckets.check_key(client) {
            Ok(state) => Ok(self.left(state.remaining_burst_capacity())),
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                Err((self.left(0), wait))
            }
        }
    }

    fn left(&self, remaining: u32) -> Left {
        let limit = self.requests.get();
        let taken = limit.saturating_sub(remaining);
        Left { limit, remaining, reset: (self.per / limit).saturating_mul(taken) }
    }
}

/// How many places each client holds, of some that all want.
#[derive(Debug)]
pub(crate) struct Shares {
    held: Mutex<HashMap<Client, usize>>,
    most: usize,
}

impl Shares {
    /// Nobody holds one yet; `most` are a client's share.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), most })
    }

    /// One more place for `client`, until it is dropped; none where it has its share, unless it is
    /// `trusted` with more.
    pub(crate) fn take(self: &Arc<Self>, client: Client, trusted: bool) -> Option<Share> {
        let mut all = self.held.lock();
        let held = all.get(&client).copied().unwrap_or_default();
        if held >= self.most && !trusted {
            return None;
        }
        all.insert(client.clone(), held + 1);
        Some(Share { shares: self.clone(), client })
    }
}

/// One of the places that a client holds.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    client: Client,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.shares.held.lock();
        match all.get_mut(&self.client) {
            Some(held) if *held > 1 => *held -= 1,
            _ => {
                all.remove(&self.client);
            }
        }
    }
}

/// The buckets of the clients seen last, in two halves: when the young one is full it becomes the old
/// one, whose place is given up.
#[derive(Debug)]
struct Recent {
    halves: Mutex<Halves>,
    half_max: usize,
}

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<Client, Nanos>,
    old: HashMap<Client, Nanos>,
}

impl Recent {
    fn new(half_max: usize) -> Self {
        Self { halves: Mutex::default(), half_max: half_max.max(1) }
    }
}

impl Halves {
    fn get(&self, client: &Client) -> Option<Nanos> {
        self.young.get(client).or_else(|| self.old.get(client)).copied()
    }

    fn put(&mut self, client: &Client, state: Nanos, half_max: usize) {
        if let Some(known) = self.young.get_mut(client) {
            *known = state;
            return;
        }
        if self.young.len() >= half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(client.clone(), state);
    }
}

impl StateStore for Recent {
    type Key = Client;

    fn measure_and_replace<T, F, E>(&self, client: &Client, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut halves = self.halves.lock();
        let before = halves.get(client);
        match decide(before) {
            Ok((answer, state)) => {
                halves.put(client, state, self.half_max);
                Ok(answer)
            }
            Err(refused) => {
                // Whoever goes on asking is not forgotten for it.
                if let Some(state) = before {
                    halves.put(client, state, self.half_max);
                }
                Err(refused)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_core::ManualClock;

    use super::*;

    fn user(name: &str) -> Client {
        Client::User(name.to_string())
    }

    #[test]
    fn a_bucket_is_taken_at_once_and_refilled_evenly() {
        let clock = Arc::new(ManualClock::at(1_000));
        let limiter = Limiter::new(3, Duration::from_secs(60), clock.clone());
        for remaining in [2, 1, 0] {
            assert_eq!(limiter.take(&user("a")).map(|left| left.remaining), Ok(remaining));
        }
        let (left, wait) = limiter.take(&user("a")).unwrap_err();
        assert_eq!((left.remaining, wait), (0, Duration::from_secs(20)));
        assert!(limiter.take(&user("b")).is_ok());
        clock.advance_ms(20_000);
        assert!(limiter.take(&user("a")).is_ok());
        assert!(limiter.take(&user("a")).is_err());
        clock.advance_ms(60_000);
        assert_eq!(limiter.take(&user("a")).map(|left| left.remaining), Ok(2));
    }

    #[test]
    fn headers_tell_what_is_left() {
        let limiter = Limiter::new(4, Duration::from_secs(60), Arc::new(ManualClock::at(0)));
        let mut headers = HeaderMap::new();
        limiter.take(&user("a")).unwrap().tell(&mut headers);
        let told = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
        assert_eq!(told.map(|name| headers[name].to_str().unwrap()), ["4", "3", "15"]);
    }

    #[test]
    fn buckets_are_bounded_and_those_in_use_are_kept() {
        let clock = Arc::new(ManualClock::at(0));
        let limiter = Limiter::keeping(20, 1, Duration::from_secs(60), clock);
        assert!(limiter.take(&user("busy")).is_ok());
        for n in 0..100 {
            assert!(limiter.take(&user(&n.to_string())).is_ok());
            assert!(limiter.take(&user("busy")).is_err(), "forgotten after {n}");
        }
        assert!(limiter.take(&user("0")).is_ok());
    }

    #[test]
    fn nobody_takes_the_places_of_all() {
        let shares = Shares::new(2);
        let first = shares.take(user("a"), false).unwrap();
        let second = shares.take(user("a"), false);
        assert!(second.is_some() && shares.take(user("a"), false).is_none());
        assert!(shares.take(user("b"), false).is_some(), "somebody else");
        let third = shares.take(user("a"), true).unwrap();
        drop(first);
        assert!(shares.take(user("a"), false).is_none(), "the trusted one counts too");
        drop(third);
        assert!(shares.take(user("a"), false).is_some());
        drop(second);
        assert!(shares.held.lock().is_empty());
    }

    #[test]
    fn one_network_is_one_client() {
        let client = |text: &str| Client::at(Some(text.parse().unwrap()));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
        assert_ne!(client("10.0.0.1"), client("10.0.0.2"));
        assert_eq!(Client::at(None), Client::Unknown);
    }
}
