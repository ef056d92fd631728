//! What the driver does: taking over, starting and ending runs, remembering.
//!
//! Each start is written down before it happens, and what was served is remembered before the run
//! begins: a process that dies in between leaves a record, which the next one ends. In: what was
//! decided. Out: tasks, records, remembered times.

use std::collections::BTreeMap;

use sluice_core::metric::{RUN_SECONDS, RUNS};
use sluice_core::{Error, Kind, Result};
use sluice_runtime::job::Missed;
use sluice_runtime::query::Readable;
use sluice_runtime::schedule::Passed;

use super::decide::{
    Again, Came, Cause, End, Ended, Next, Reason, Start, Way, Why, back_off, decide_end,
    decide_next,
};
use super::desk::{Cut, Kept, Written};
use super::driver::{Command, Driver, Serving};
use super::record::{RunRecord, outcome};
use super::slot::{AtWork, Planned, Slot};
use super::work::{Done, Order, Told, work};

/// How long a job rests whose start could not be written down: the disk may have room again then.
const HOLD_MS: i64 = 5_000;

/// Ends that wait to be written down at most; more are told in the log only.
const UNWRITTEN_MAX: usize = 1_000;

/// What a run is called that goes on with another definition.
const RELOAD: &str = "reload";

impl Driver {
    /// Takes the state folder, if no other process has it, and ends what died with one. An error
    /// leaves it to others.
    pub(super) async fn take_over(&mut self) -> Result<()> {
        let why = match self.try_to_take_over().await {
            Ok(true) => return Ok(()),
            Ok(false) => "another process of this project is at work".to_string(),
            Err(error) => {
                self.desk.give_back();
                self.stand_by(error.chain());
                return Err(error);
            }
        };
        self.stand_by(why);
        Ok(())
    }

    fn stand_by(&mut self, why: String) {
        if self.serving != Serving::Standby(why.clone()) {
            tracing::warn!("no runs are started: {why}");
            self.serving = Serving::Standby(why);
        }
    }

    /// False while another process has it.
    async fn try_to_take_over(&mut self) -> Result<bool> {
        if !self.desk.take()? {
            return Ok(false);
        }
        let now_ms = self.environment.clock.wall_ms();
        let mut kept = self.desk.kept().await?;
        let died = self.desk.at_work().await?;
        for slot in &mut self.slots {
            let mut job = kept.jobs.remove(slot.name()).unwrap_or_default();
            let of_job = |written: &&Written| written.record.job == slot.name();
            for written in died.iter().filter(of_job) {
                job.last_due_ms = job.last_due_ms.max(written.due_ms);
                let attempt = written.record.attempt;
                let by_hand = written.record.trigger.starts_with(BY_HAND);
                let left = attempt <= slot.job().timing.retry.times;
                if !by_hand && left && slot.way() != Way::Continuous {
                    let trigger = written.record.trigger.clone();
                    job.cut = Some(Cut { attempt: attempt + 1, trigger });
                }
            }
            slot.remember(job, now_ms);
        }
        self.events = self.events.max(kept.events);
        self.keep().await?;
        for record in self.desk.interrupt(&died, now_ms).await? {
            tracing::warn!(job = record.job, run = record.id, "a run was interrupted");
            self.count(&record);
            self.historian.ended(record);
        }
        self.serving = Serving::Active;
        self.may_write.send_replace(true);
        Ok(true)
    }

    /// Starts a run and gives its id. An error starts nothing.
    pub(super) async fn start(&mut self, at: usize, start: Start, by_hand: bool) -> Result<String> {
        let slot = &self.slots[at];
        let trigger = match start.cause {
            Cause::Told(trigger) => trigger,
            Cause::Way => slot.trigger(),
        };
        let record = RunRecord {
            id: self.environment.ids.fresh(),
            job: slot.name().to_string(),
            trigger,
            attempt: start.attempt,
            started_ms: self.environment.clock.wall_ms(),
            outcome: outcome::RUNNING.to_string(),
            definition: slot.job().definition_hash(),
            ..RunRecord::default()
        };
        self.desk.begin(&record, start.due_ms).await?;
        let before = (self.events, slot.kept.clone());
        self.events += 1;
        let slot = &mut self.slots[at];
        slot.kept.started = self.events;
        slot.kept.last_due_ms = start.due_ms.or(slot.kept.last_due_ms);
        slot.kept.cut = None;
        if let Err(error) = self.keep().await {
            (self.events, self.slots[at].kept) = before;
            // If it stays, the next process ends it.
            drop(self.desk.forget(&record.id).await);
            return Err(error);
        }
        // What one run makes up for was not missed.
        let made_up = self.slots[at].job().timing.missed == Missed::Once;
        if let Some(passed) = start.passed.filter(|_| !made_up) {
            self.missed(at, passed, None).await;
        }
        let id = record.id.clone();
        self.set_to_work(at, record, by_hand);
        Ok(id)
    }

    fn set_to_work(&mut self, at: usize, record: RunRecord, by_hand: bool) {
        let slot = &mut self.slots[at];
        let follows = slot.way() == Way::Continuous;
        let (job, run) = (record.job.clone(), record.id.clone());
        let told = Told::new(&job, self.shown.changes.clone());
        let stop = tokio_util::sync::CancellationToken::new();
        let order = Order {
            environment: self.environment.clone(),
            job: slot.planned.job.clone(),
            follows,
            timeout: slot.job().timing.timeout,
            take_over: std::mem::take(&mut slot.planned.take_over),
            stop: stop.clone(),
            told: told.clone(),
        };
        slot.run = Some(AtWork { record, follows, by_hand, stop, reason: None, told });
        (slot.again, slot.asked, slot.given_up, slot.waits_for) = (None, None, false, None);
        slot.cancelled_by = None;
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let done = tokio::spawn(work(order)).await.unwrap_or_else(Done::lost);
            // Nobody listens only when the process is about to end.
            drop(sender.send(Command::Ended { job, run, done: Box::new(done) }).await);
        });
    }

    /// Takes note of a run's end.
    pub(super) async fn ended(&mut self, job: &str, run: &str, done: Done) {
        let is_it = |slot: &Slot| slot.run.as_ref().is_some_and(|at| at.record.id == run);
        let Some(at) = self.slots.iter().position(is_it) else { return };
        let now_ms = self.environment.clock.wall_ms();
        let chance = self.environment.ids.chance();
        let slot = &mut self.slots[at];
        let Some(run) = slot.run.take() else { return };
        let error = done.error.as_ref().map(|error| (error.kind(), told(error)));
        let end = decide_end(&Came {
            error: error.as_ref().map(|(kind, text)| (*kind, text.as_str())),
            timed_out: done.timed_out,
            reason: run.reason.as_ref(),
            follows: run.follows,
        });
        let next = decide_next(&Ended {
            end: &end,
            attempt: run.record.attempt,
            way: slot.way(),
            by_hand: run.by_hand,
            told: run.reason.is_some(),
            cancelled: matches!(run.reason, Some(Reason::Cancelled(_))),
            sealed: done.epochs > 0,
            retry: &slot.job().timing.retry,
        });
        let before = slot.kept.clone();
        let End { outcome: how, error, .. } = end;
        let trigger = run.record.trigger.clone();
        if how == outcome::INTERRUPTED && !run.by_hand {
            let (attempt, trigger) = (run.record.attempt, trigger.clone());
            slot.kept.cut = Some(Cut { attempt, trigger });
        }
        match next {
            Next::Way => {}
            Next::GiveUp => slot.given_up = true,
            Next::Again { attempt, failures } => {
                let outage = run.follows && done.error.as_ref().is_some_and(is_outage);
                let wait = back_off(&slot.job().timing.retry, failures, chance, outage);
                let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
                let at_ms = now_ms.saturating_add(wait_ms);
                if !run.follows {
                    // The next process goes on with it, if this one ends before.
                    slot.kept.cut = Some(Cut { attempt, trigger: trigger.clone() });
                }
                slot.again = Some(Again { at_ms, attempt, trigger });
            }
        }
        if how == outcome::DONE {
            self.events += 1;
            (slot.kept.succeeded, slot.warned) = (self.events, None);
        }
        let record = RunRecord {
            ended_ms: Some(now_ms.max(run.record.started_ms)),
            epochs: done.epochs,
            rows: done.rows,
            bytes: done.bytes,
            outcome: how.to_string(),
            error: error.or(done.unreadable),
            ..run.record
        };
        tracing::info!(job, run = record.id, outcome = how, error = record.error, "a run ended");
        slot.warn(&record, now_ms);
        let (gone, changed) = (slot.removed, slot.kept != before);
        if gone {
            self.slots.remove(at);
        }
        self.finish(record).await;
        if gone || changed {
            self.remember().await;
        }
    }

    /// Takes note of times at which no run starts.
    pub(super) async fn pass(&mut self, at: usize, passed: Passed, why: Why) -> Result<()> {
        let before = self.slots[at].kept.last_due_ms.replace(passed.last_ms);
        // Of a paused job there is nothing to know: it is passed by the clock.
        if why == Why::Paused {
            return Ok(());
        }
        if let Err(error) = self.keep().await {
            self.slots[at].kept.last_due_ms = before;
            return Err(error);
        }
        let needs = match why {
            Why::Needs(job) => Some(job),
            Why::Paused | Why::Missed => None,
        };
        self.missed(at, passed, needs).await;
        Ok(())
    }

    async fn missed(&mut self, at: usize, passed: Passed, needs: Option<String>) {
        let slot = &self.slots[at];
        let error = match needs {
            Some(job) => format!("it needs {job}, whose last run failed"),
            None if passed.first_ms == passed.last_ms => {
                "no run could start when it was due".into()
            }
            None => "no run could start at the times from the first to the last".to_string(),
        };
        let record = RunRecord {
            id: self.environment.ids.fresh(),
            job: slot.name().to_string(),
            trigger: slot.trigger(),
            attempt: 0,
            started_ms: passed.first_ms,
            ended_ms: Some(passed.last_ms),
            outcome: outcome::MISSED.to_string(),
            error: Some(error),
            definition: slot.job().definition_hash(),
            ..RunRecord::default()
        };
        tracing::info!(job = record.job, error = record.error, "a run was missed");
        self.finish(record).await;
    }

    /// Rests a job whose start could not be written down.
    pub(super) fn hold(&mut self, at: usize, error: &Error) {
        let slot = &mut self.slots[at];
        tracing::error!(job = slot.name(), error = error.chain(), "a run cannot be written down");
        let until_ms = self.environment.clock.wall_ms().saturating_add(HOLD_MS);
        slot.held = Some((until_ms, error.chain()));
    }

    /// Writes down how a run ended, now or as soon as that is possible.
    async fn finish(&mut self, record: RunRecord) {
        self.count(&record);
        if self.unwritten.len() < UNWRITTEN_MAX {
            self.unwritten.push(record);
        }
        self.write_down().await;
    }

    /// Writes down what waits for it, in the order in which it ended.
    pub(super) async fn write_down(&mut self) {
        while let Some(record) = self.unwritten.first() {
            if let Err(error) = self.desk.end(record).await {
                tracing::error!(error = error.chain(), "the end of a run cannot be written down");
                return;
            }
            self.historian.ended(self.unwritten.remove(0));
        }
    }

    fn count(&self, record: &RunRecord) {
        let metrics = &self.environment.metrics;
        metrics.count(&RUNS, &[&record.job, &record.outcome], 1);
        if let (Some(ended), true) = (record.ended_ms, record.attempt > 0) {
            let ms = ended.saturating_sub(record.started_ms);
            metrics.observe(&RUN_SECONDS, &[&record.job], ms as f64 / 1e3);
        }
    }

    /// Remembers how things are.
    pub(super) async fn keep(&self) -> Result<()> {
        let jobs = self.slots.iter().filter(|slot| !slot.removed);
        let jobs = jobs.map(|slot| (slot.name().to_string(), slot.kept.clone()));
        self.desk.keep(&Kept { events: self.events, jobs: jobs.collect() }).await
    }

    async fn remember(&self) {
        if let Err(error) = self.keep().await {
            tracing::error!(error = error.chain(), "what the schedule did cannot be written down");
        }
    }

    /// Goes on with these jobs, in this order.
    pub(super) async fn reload(&mut self, jobs: Vec<Planned>) -> Result<()> {
        if self.serving == Serving::Draining {
            return Err(Error::conflict("the server is stopping"));
        }
        let now_ms = self.environment.clock.wall_ms();
        let slots = std::mem::take(&mut self.slots).into_iter();
        let mut old: BTreeMap<String, Slot> =
            slots.map(|slot| (slot.name().to_string(), slot)).collect();
        for planned in jobs {
            let slot = match old.remove(&planned.job.graph.job.name) {
                Some(mut slot) => {
                    switch(&mut slot, planned, now_ms);
                    slot
                }
                None => {
                    let mut slot = Slot::new(planned.clone());
                    slot.plan(planned, now_ms);
                    slot
                }
            };
            self.slots.push(slot);
        }
        for mut gone in old.into_values() {
            // It goes when its run has ended, at once when none is at work.
            if gone.tell(Reason::Removed) {
                gone.removed = true;
                self.slots.push(gone);
            }
        }
        match self.serving {
            Serving::Active => self.keep().await,
            Serving::Standby(_) | Serving::Draining => Ok(()),
        }
    }
}

/// What triggers of runs begin with that a person started.
const BY_HAND: &str = "manual by ";

/// Gives a job another definition. A run that would do other things with it ends after its epoch
/// and starts anew.
fn switch(slot: &mut Slot, planned: Planned, now_ms: i64) {
    let other = slot.removed || is_other(&slot.planned.job, &planned.job);
    slot.removed = false;
    slot.plan(planned, now_ms);
    let follows = slot.way() == Way::Continuous;
    if other {
        slot.given_up = false;
        if slot.tell(Reason::Changed) && slot.cancelled_by.is_none() {
            slot.asked = Some(RELOAD.to_string());
        }
    } else if slot.run.as_ref().is_some_and(|run| run.follows && !follows) {
        slot.tell(Reason::Changed);
    }
}

/// Whether a run of `new` does anything else than one of `old`.
fn is_other(old: &Readable, new: &Readable) -> bool {
    let (before, after) = (&old.graph.job, &new.graph.job);
    let secret = |name: &str| old.secrets.get(name) != new.secrets.get(name);
    let store = |url: &str| old.secrets.store(url) != new.secrets.store(url);
    before.run_hash() != after.run_hash()
        || old.graph.foreign != new.graph.foreign
        || before.secrets.keys().chain(after.secrets.keys()).any(|name| secret(name))
        || before.stores.iter().chain(&after.stores).any(|place| store(&place.url))
}

/// Whether something did not answer that may answer later.
fn is_outage(error: &Error) -> bool {
    error.kind() == Kind::Unavailable && error.retry()
}

/// An error as the history keeps it: with its causes, and what to do.
fn told(error: &Error) -> String {
    match error.hint_text() {
        Some(hint) => format!("{}; hint: {hint}", error.chain()),
        None => error.chain(),
    }
}
