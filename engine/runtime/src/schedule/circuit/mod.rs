//! The circuit breakers of a run: one for the store, one for each of its sources.
//!
//! In: failures, answers, sealed epochs. Out: how long to wait, and news of what is left alone: in logs,
//! figures and the run's bulletin. When a breaker opens and closes is [`breaker`]'s.

mod breaker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_core::{Clock, Error, Ids};

use super::tell::Teller;
use crate::epoch::Environment;
use crate::status::Circuit;

pub(super) use breaker::backed_off;
use breaker::{Breaker, State};

/// What stands for the store; sources stand for themselves, as `source:<name>`.
const STORE: &str = "store";

/// The breakers of one run.
#[derive(Debug)]
pub(super) struct Circuits {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    teller: Teller,
    kept: Mutex<BTreeMap<String, Kept>>,
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
        let (clock, ids) = (env.clock.clone(), env.ids.clone());
        Self { clock, ids, teller: teller.clone(), kept: Mutex::default() }
    }

    /// Something failed that may pass. Gives how long to leave it alone.
    pub fn failed(&self, error: &Error) -> Duration {
        let dependency = error.source_name().map(|name| format!("source:{name}"));
        let dependency = dependency.unwrap_or_else(|| STORE.to_string());
        let (now, now_ms) = (self.clock.monotonic(), self.clock.wall_ms());
        let chance = self.ids.chance();
        let (wait, open, failures) = {
            let mut all = self.kept.lock();
            let kept = all.entry(dependency.clone()).or_default();
            let wait = kept.breaker.failed(now, chance);
            let open = kept.breaker.state(now) == State::Open;
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

    /// All sources answered.
    pub fn sources_answered(&self) {
        self.close(|name, breaker, now| name != STORE && breaker.answered(now));
    }

    /// The store answered.
    pub fn store_answered(&self) {
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
