//! The circuit breakers of a run: one for the store, one for each of its sources. Those of sinks are
//! their deliverers' ([`crate::outbox`]).
//!
//! In: failures, answers, sealed epochs. Out: how long to wait, and news of what does not answer,
//! from its first failure on, and of what is left alone: in logs, figures and the run's bulletin.
//! When a breaker opens and closes is [`Breaker`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sluice_core::{Breaker, BreakerState, Clock, Error, Ids, Kind};

use super::tell::Teller;
use crate::epoch::Environment;
use crate::status::Circuit;

/// What stands for the store; sources stand for themselves, as `source:<name>`.
const STORE: &str = "store";

/// The breakers of one run.
#[derive(Debug)]
pub(super) struct Circuits {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    teller: Teller,
    kept: Mutex<BTreeMap<String, Kept>>,
    /// Whether it was told that all sources answer.
    told: AtomicBool,
}

#[derive(Debug, Default)]
struct Kept {
    breaker: Breaker,
    /// Since when it is open, milliseconds since 1970.
    since_ms: Option<i64>,
    until_ms: i64,
}

impl Circuits {
    /// All closed.
    pub fn new(env: &Environment, teller: &Teller) -> Self {
        let (clock, ids, teller) = (env.clock.clone(), env.ids.clone(), teller.clone());
        teller.no_circuit();
        Self { clock, ids, teller, kept: Mutex::default(), told: AtomicBool::new(false) }
    }

    /// Something failed. Whoever asks what the process does without is told at once, also where the
    /// job was never open; errors that no waiting mends are not about something that is missing.
    pub fn missed(&self, error: &Error) {
        if is_outage(error) {
            self.told.store(false, Ordering::Relaxed);
            self.teller.missing(&dependency_of(error), true);
        }
    }

    /// Something failed that may pass. Gives how long to leave it alone.
    pub fn failed(&self, error: &Error) -> Duration {
        let dependency = dependency_of(error);
        let (now, now_ms) = (self.clock.monotonic(), self.clock.wall_ms());
        let chance = self.ids.chance();
        let (wait, open, failures) = {
            let mut all = self.kept.lock();
            let kept = all.entry(dependency.clone()).or_default();
            let wait = kept.breaker.failed(now, chance);
            let open = kept.breaker.state(now) == BreakerState::Open;
            kept.since_ms = open.then(|| kept.since_ms.unwrap_or(now_ms));
            let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            kept.until_ms = now_ms.saturating_add(wait_ms);
            (wait, open, kept.breaker.failures())
        };
        let (job, wait_s) = (&self.teller.job, wait.as_secs_f64());
        let error = error.chain();
        match open {
            true => tracing::warn!(job, dependency, failures, wait_s, error, "circuit open"),
            false => tracing::warn!(job, dependency, failures, wait_s, error, "trying again"),
        }
        self.tell(&dependency, open);
        wait
    }

    /// All sources answered, which are these.
    pub fn sources_answered<'n>(&self, names: impl Iterator<Item = &'n str>) {
        self.close(|name, breaker, now| name != STORE && breaker.answered(now));
        if !self.told.swap(true, Ordering::Relaxed) {
            let sources = names.map(source);
            let all: Vec<String> = sources.chain([STORE.to_string()]).collect();
            self.teller.nothing_missing(&all);
        }
    }

    /// The store answered.
    pub fn store_answered(&self) {
        self.teller.missing(STORE, false);
        self.close(|name, breaker, now| name == STORE && breaker.answered(now));
    }

    /// An epoch was sealed: sources gave rows, and the store takes writes.
    pub fn proved(&self) {
        self.close(|_, breaker, _| breaker.proved());
    }

    fn close(&self, closes: impl Fn(&str, &mut Breaker, Duration) -> bool) {
        let mut closed = Vec::new();
        {
            let mut all = self.kept.lock();
            if all.is_empty() {
                return;
            }
            let now = self.clock.monotonic();
            for (name, kept) in all.iter_mut() {
                if closes(name, &mut kept.breaker, now) {
                    kept.since_ms = None;
                    closed.push(name.clone());
                }
            }
            all.retain(|_, kept| kept.breaker.failures() > 0);
        }
        for dependency in closed {
            tracing::info!(job = self.teller.job, dependency, "circuit closed");
            self.tell(&dependency, false);
        }
    }

    fn tell(&self, dependency: &str, open: bool) {
        self.teller.circuit(dependency, open);
        let circuits = {
            let all = self.kept.lock();
            let open = all.iter().filter_map(|(name, kept)| {
                Some(Circuit {
                    dependency: name.clone(),
                    failures: kept.breaker.failures(),
                    since_ms: kept.since_ms?,
                    until_ms: kept.until_ms,
                })
            });
            open.collect()
        };
        self.teller.bulletin.say(|note| note.circuits = circuits);
    }
}

/// Whether something did not answer that may answer later.
pub(super) fn is_outage(error: &Error) -> bool {
    error.kind() == Kind::Unavailable && error.retry()
}

fn dependency_of(error: &Error) -> String {
    error.source_name().map_or_else(|| STORE.to_string(), source)
}

fn source(name: &str) -> String {
    format!("source:{name}")
}
