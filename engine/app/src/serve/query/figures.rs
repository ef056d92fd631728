//! What is measured of queries.

use std::sync::Arc;
use std::time::Duration;

use sluice_core::Clock;
use sluice_core::metric::{
    QUERIES, QUERIES_RUNNING, QUERIES_WAITING, QUERY_CACHE, QUERY_CACHE_BYTES, QUERY_ROWS,
    QUERY_SECONDS, Recorder,
};

use super::QueryError;
use super::gate::{Gate, Permit};

/// Where figures go.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    recorder: Arc<dyn Recorder>,
}

impl Figures {
    pub fn new(recorder: Arc<dyn Recorder>) -> Self {
        Self { recorder }
    }

    /// Whether an answer was there.
    pub fn looked(&self, found: bool, kept_bytes: u64) {
        self.recorder.count(&QUERY_CACHE, &[if found { "hit" } else { "miss" }], 1);
        self.recorder.set(&QUERY_CACHE_BYTES, &[], kept_bytes as f64);
    }

    /// Somebody was sent away.
    pub fn sent_away(&self) {
        self.recorder.count(&QUERIES, &["busy"], 1);
    }

    /// How many are at work and wait.
    pub fn crowd(&self, gate: &Gate) {
        let (running, waiting) = gate.counts();
        self.recorder.set(&QUERIES_RUNNING, &[], running as f64);
        self.recorder.set(&QUERIES_WAITING, &[], waiting as f64);
    }
}

/// One query at work, which tells how it ended when it is dropped, and leaves its place: cancelled,
/// if nobody said otherwise.
pub(super) struct Told {
    figures: Figures,
    clock: Arc<dyn Clock>,
    gate: Arc<Gate>,
    permit: Option<Permit>,
    /// When it was asked, and when its turn came, by the monotonic clock.
    asked: Duration,
    began: Duration,
    who: String,
    /// Rows that it gave so far.
    pub rows: u64,
    outcome: &'static str,
    /// Whether it counts as no query.
    silent: bool,
}

impl Told {
    /// A query of `who` that was asked at `asked` and has its turn now.
    pub fn begin(
        (figures, clock, gate): (&Figures, &Arc<dyn Clock>, &Arc<Gate>),
        permit: Permit,
        asked: Duration,
        who: String,
    ) -> Self {
        Self {
            figures: figures.clone(),
            began: clock.monotonic(),
            clock: clock.clone(),
            gate: gate.clone(),
            permit: Some(permit),
            asked,
            who,
            rows: 0,
            outcome: "cancelled",
            silent: false,
        }
    }

    /// How long ago it was asked.
    pub fn age(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.asked)
    }

    /// What was only planned, which is told where it is refused: if it is not, it is asked yet.
    pub fn planned<T>(mut self, planned: Result<T, QueryError>) -> Result<T, QueryError> {
        match &planned {
            Ok(_) => self.silent = true,
            Err(error) => self.outcome = outcome(error),
        }
        planned
    }

    /// How it ended.
    pub fn ended(&mut self, ended: &Result<(), QueryError>) {
        self.outcome = ended.as_ref().map_or_else(outcome, |()| "done");
    }
}

fn outcome(error: &QueryError) -> &'static str {
    match error {
        QueryError::Refused(_) => "refused",
        QueryError::Busy { .. } => "busy",
        QueryError::TooLong => "too_long",
        QueryError::TooLarge(_) => "too_large",
        QueryError::Failed(_) => "failed",
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.figures.crowd(&self.gate);
        if self.silent {
            return;
        }
        let now = self.clock.monotonic();
        let seconds = now.saturating_sub(self.asked).as_secs_f64();
        let recorder = &self.figures.recorder;
        recorder.count(&QUERIES, &[self.outcome], 1);
        recorder.count(&QUERY_ROWS, &[], self.rows);
        recorder.observe(&QUERY_SECONDS, &[], seconds);
        self.gate.took(now.saturating_sub(self.began).as_secs_f64());
        let (who, rows, outcome) = (&self.who, self.rows, self.outcome);
        tracing::debug!(%who, seconds, rows, outcome, "query ended");
    }
}
