//! The loop around `decide`: it waits for the next time or the next command, and acts.
//!
//! ```text
//! standby ── lock of the state folder taken ──► active ── stop ──► draining ──► over
//!    ▲         and ended what died with one        │
//!    └ another process has it                      └ decide, start, end, remember
//! ```
//!
//! In: commands, ends of runs, the clock. Out: runs, records, [`JobState`]s. What is decided stands
//! in `decide`; what is done about it in `act`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use sluice_core::metric::{
    CIRCUIT_OPEN, DEPENDENCY_MISSING, JOB_PAUSED, Metric, NEXT_RUN, RUN_FAILURES, SINK_FAILURES,
};
use sluice_core::{Error, Result};
use sluice_runtime::epoch::Environment;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::decide::{Cause, Reason, Start, Step, Upstream, Way, decide};
use super::desk::Desk;
use super::historian::Historian;
use super::record::{JobState, RunRecord};
use super::slot::{Planned, Slot};
use super::work::{Done, Told};

/// The longest sleep: the wall clock may jump, and the state folder's lock is let go without a
/// sign.
const LOOK: Duration = Duration::from_secs(1);

/// What is not told any more of jobs that are gone.
const OF_JOBS: [&Metric; 6] =
    [&NEXT_RUN, &JOB_PAUSED, &RUN_FAILURES, &CIRCUIT_OPEN, &DEPENDENCY_MISSING, &SINK_FAILURES];

/// What the driver is told.
pub(super) enum Command {
    /// Start a run.
    Run { job: String, who: String, reply: oneshot::Sender<Result<String>> },
    /// Do something to a job.
    Change { job: String, who: String, what: Change, reply: oneshot::Sender<Result<()>> },
    /// Go on with these jobs.
    Reload { jobs: Vec<Planned>, reply: oneshot::Sender<Result<()>> },
    /// A run has ended.
    Ended { job: String, run: String, done: Box<Done> },
}

/// What can be done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Pause,
    Resume,
    Cancel,
}

/// Whether this process starts runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Serving {
    /// Not yet, and why.
    Standby(String),
    Active,
    /// Not any more.
    Draining,
}

/// What callers see.
#[derive(Debug)]
pub(super) struct Shown {
    pub jobs: RwLock<Vec<JobState>>,
    /// Runs at work, with what they tell.
    pub runs: RwLock<Vec<(RunRecord, Arc<Told>)>>,
    pub changes: watch::Sender<u64>,
}

impl Shown {
    /// Nothing yet.
    pub fn new() -> Arc<Self> {
        let (jobs, runs) = (RwLock::default(), RwLock::default());
        Arc::new(Self { jobs, runs, changes: watch::Sender::new(0) })
    }
}

/// The task that starts and ends runs.
pub(super) struct Driver {
    pub(super) environment: Environment,
    pub(super) desk: Arc<Desk>,
    pub(super) historian: Arc<Historian>,
    pub(super) slots: Vec<Slot>,
    /// Starts and successes so far.
    pub(super) events: u64,
    pub(super) serving: Serving,
    /// Whether the history may be written.
    pub(super) may_write: watch::Sender<bool>,
    /// Records of runs that ended and could not be written down yet.
    pub(super) unwritten: Vec<RunRecord>,
    pub(super) shown: Arc<Shown>,
    /// To tell itself of ends.
    pub(super) sender: mpsc::Sender<Command>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) stop: CancellationToken,
}

impl Driver {
    /// Works until it is stopped and no run is at work.
    pub async fn work(mut self) {
        loop {
            let wake_ms = self.advance().await;
            self.publish();
            if self.serving == Serving::Draining && self.slots.iter().all(|s| s.run.is_none()) {
                break;
            }
            let sleep = wake_ms.map_or(LOOK, |wake| {
                let left = wake.saturating_sub(self.environment.clock.wall_ms()).max(1);
                Duration::from_millis(u64::try_from(left).unwrap_or(1)).min(LOOK)
            });
            let draining = self.serving == Serving::Draining;
            tokio::select! {
                command = self.commands.recv() => {
                    if let Some(command) = command {
                        self.handle(command).await;
                    }
                }
                () = self.stop.cancelled(), if !draining => self.drain(),
                () = self.environment.clock.sleep(sleep) => {}
            }
        }
    }

    /// Does whatever is to be done now. Gives when there is more.
    async fn advance(&mut self) -> Option<i64> {
        if matches!(self.serving, Serving::Standby(_)) {
            // Why not is what callers are shown.
            drop(self.take_over().await);
        }
        self.write_down().await;
        loop {
            let (mut wake_ms, mut acted) = (None, false);
            for at in 0..self.slots.len() {
                match self.look(at) {
                    Step::Rest(until) => wake_ms = wake_ms.into_iter().chain(until).min(),
                    Step::Wait(_) => {}
                    Step::Start(start) => {
                        acted = true;
                        if let Err(error) = self.start(at, start, false).await {
                            self.hold(at, &error);
                        }
                    }
                    Step::Pass(passed, why) => {
                        acted = true;
                        if let Err(error) = self.pass(at, passed, why).await {
                            self.hold(at, &error);
                        }
                    }
                }
            }
            if !acted {
                return wake_ms;
            }
        }
    }

    /// What is to be done about one job.
    fn look(&mut self, at: usize) -> Step {
        let now_ms = self.environment.clock.wall_ms();
        let serving = self.serving == Serving::Active;
        let upstream = self.upstream(at);
        let others_ended = self.others_ended(at);
        let slot = &mut self.slots[at];
        let due = slot.due(now_ms);
        let step = decide(&slot.facts(now_ms, serving, &due, others_ended, &upstream));
        slot.waits_for = match &step {
            Step::Wait(job) => Some(job.clone()),
            _ => None,
        };
        slot.held = slot.held.take().filter(|(until, _)| now_ms < *until);
        slot.next_ms = slot.again.as_ref().map(|again| again.at_ms).or(due.next_ms);
        step
    }

    /// How the jobs are whose tables a job reads.
    fn upstream(&self, at: usize) -> Upstream {
        let slot = &self.slots[at];
        let reads = |other: &&Slot| slot.reads().any(|job| job == other.name());
        for other in self.slots.iter().filter(reads) {
            if other.is_busy() {
                return Upstream::Busy(other.name().to_string());
            }
        }
        let failed = |other: &&Slot| {
            let last = self.historian.last(other.name()).run;
            other.way() != Way::Continuous && last.is_some_and(|run| run.is_failure())
        };
        let failed = self.slots.iter().filter(reads).find(failed);
        failed.map_or(Upstream::Free, |other| Upstream::Failed(other.name().to_string()))
    }

    /// Whether all jobs that a job runs after have ended a run since its own last start.
    fn others_ended(&self, at: usize) -> bool {
        let slot = &self.slots[at];
        let sluice_runtime::job::Schedule::After(jobs) = &slot.job().schedule else { return false };
        let since = slot.kept.started;
        let ended = |name: &String| {
            let other = self.slots.iter().find(|other| other.name() == name);
            other.is_some_and(|other| other.kept.succeeded > since)
        };
        jobs.iter().all(ended)
    }

    async fn handle(&mut self, command: Command) {
        match command {
            // Whoever does not wait for the answer any more is not told.
            Command::Run { job, who, reply } => {
                let begun = self.run(&job, &who).await;
                self.publish();
                drop(reply.send(begun));
            }
            Command::Change { job, who, what, reply } => {
                let changed = self.change(&job, &who, what).await;
                // Who asked sees what came of it: what is resumed may be at work already.
                self.advance().await;
                self.publish();
                drop(reply.send(changed));
            }
            Command::Reload { jobs, reply } => drop(reply.send(self.reload(jobs).await)),
            Command::Ended { job, run, done } => self.ended(&job, &run, *done).await,
        }
    }

    async fn run(&mut self, job: &str, who: &str) -> Result<String> {
        let at = self.find(job)?;
        self.refuse_unless_active()?;
        if let Some(run) = &self.slots[at].run {
            let id = &run.record.id;
            return Err(Error::conflict(format!("a run is at work job={job} run={id}"))
                .hint("wait until it ends, or cancel it"));
        }
        let cause = Cause::Told(format!("manual by {who}"));
        let start = Start { cause, attempt: 1, due_ms: None, passed: None };
        let id = self.start(at, start, true).await?;
        tracing::info!(job, run = id, who, "a run was started by hand");
        Ok(id)
    }

    async fn change(&mut self, job: &str, who: &str, what: Change) -> Result<()> {
        let at = self.find(job)?;
        self.refuse_unless_active()?;
        let slot = &mut self.slots[at];
        match what {
            Change::Cancel => {
                let waited = slot.again.take().is_some() | slot.asked.take().is_some();
                let at_work = slot.tell(Reason::Cancelled(who.to_string()));
                if !waited && !at_work {
                    return Err(Error::conflict(format!("no run is at work job={job}"))
                        .hint("`pause` keeps the next one from starting"));
                }
                slot.kept.cut = None;
                if slot.way() == Way::Continuous {
                    // It would start by itself at once.
                    slot.cancelled_by = Some(who.to_string());
                }
            }
            Change::Pause => {
                slot.kept.paused_by.get_or_insert_with(|| who.to_string());
                if slot.run.as_ref().is_some_and(|run| run.follows) {
                    slot.tell(Reason::Paused(who.to_string()));
                }
            }
            Change::Resume => {
                slot.kept.paused_by = None;
                (slot.given_up, slot.cancelled_by) = (false, None);
            }
        }
        tracing::info!(job, who, ?what, "a job was changed by hand");
        self.keep().await
    }

    fn refuse_unless_active(&self) -> Result<()> {
        match &self.serving {
            Serving::Active => Ok(()),
            Serving::Standby(why) => Err(Error::conflict(format!("no run can start yet: {why}"))
                .hint("try again in a moment")),
            Serving::Draining => {
                Err(Error::conflict("the server is stopping")
                    .hint("ask the one that takes its place"))
            }
        }
    }

    pub(super) fn find(&self, job: &str) -> Result<usize> {
        self.slots.iter().position(|slot| slot.name() == job && !slot.removed).ok_or_else(|| {
            let names: Vec<&str> = self.slots.iter().map(Slot::name).collect();
            Error::config(format!("there is no such job job={job}"))
                .hint(format!("there are: {}", names.join(", ")))
        })
    }

    fn drain(&mut self) {
        self.serving = Serving::Draining;
        for slot in &mut self.slots {
            slot.tell(Reason::Stopped);
        }
    }

    /// Shows callers how the jobs are.
    pub(super) fn publish(&self) {
        let standby = match &self.serving {
            Serving::Standby(why) => Some(why.as_str()),
            Serving::Draining => Some("the server is stopping"),
            Serving::Active => None,
        };
        let state = |slot: &Slot| slot.state(self.historian.last(slot.name()), standby);
        let jobs: Vec<JobState> = self.slots.iter().map(state).collect();
        let runs = self.slots.iter().filter_map(|slot| slot.run.as_ref());
        *self.shown.runs.write() = runs.map(|run| (run.record.clone(), run.told.clone())).collect();
        if *self.shown.jobs.read() == jobs {
            return;
        }
        let metrics = &self.environment.metrics;
        for job in &jobs {
            let labels = [job.job.as_str()];
            let paused =
                self.slots.iter().any(|s| s.name() == job.job && s.kept.paused_by.is_some());
            metrics.set(&NEXT_RUN, &labels, job.next_ms.unwrap_or(0) as f64 / 1e3);
            metrics.set(&JOB_PAUSED, &labels, f64::from(u8::from(paused)));
            metrics.set(&RUN_FAILURES, &labels, f64::from(job.failures));
        }
        for gone in
            self.shown.jobs.read().iter().filter(|old| jobs.iter().all(|j| j.job != old.job))
        {
            for metric in OF_JOBS {
                metrics.replace(metric, &[gone.job.as_str()], Vec::new());
            }
        }
        *self.shown.jobs.write() = jobs;
        self.shown.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}
