//! Runs of a project's jobs: by the clock, after others, all the time, or because somebody says so;
//! and the history of them.
//!
//! ```text
//! Scheduler (handle) ──commands──► driver ──► decide ──► act ──► work (a task per run)
//!      ▲                             │                    │
//!      └──────── what is shown ──────┘                    └──► desk ──► historian ──► history
//!                                                         state folder         `_sluice.runs`
//! ```
//!
//! In: jobs and their schedules, commands, the clock. Out: runs, one at a time per job; records of
//! them. When a time is due is `sluice_runtime::schedule`'s to say, what a run does `run_job`'s.

mod act;
mod decide;
#[cfg(test)]
mod decide_tests;
mod desk;
mod driver;
mod historian;
mod history;
mod record;
mod rows;
mod slot;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;
use std::time::Duration;

use sluice_core::{Error, Result};
use sluice_lake::store::{self, Location};
use sluice_runtime::epoch::Environment;
use sluice_runtime::job::{Project, resolve_project};
use sluice_runtime::query::Readable;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use desk::Desk;
use driver::{Change, Command, Driver, Serving, Shown};
use historian::Historian;
pub(crate) use history::History;
pub(crate) use record::{JobState, RunRecord, State, outcome};
use slot::{Planned, Slot};

/// Commands that wait for the driver: more callers than that wait in line.
const COMMANDS_MAX: usize = 64;

/// Starts runs of jobs, and tells of them.
#[derive(Debug)]
pub(crate) struct Scheduler {
    environment: Environment,
    commands: mpsc::Sender<Command>,
    shown: Arc<Shown>,
    historian: Arc<Historian>,
    /// Ends the driver after the epochs at work.
    stop: CancellationToken,
    /// Cancelled when all has ended.
    over: CancellationToken,
}

impl Scheduler {
    /// Begins. While another process of the project has the state folder, nothing is started but
    /// what the jobs are is told. When `stop` is cancelled, runs end after their epochs. Errors:
    /// `Config` for a state folder or history that cannot be used, `Conflict` for files there that
    /// are not ours.
    pub(crate) async fn start(
        environment: Environment,
        project: &Project,
        jobs: Vec<Readable>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>> {
        let desk = Arc::new(Desk::new(&project.serve.state, environment.ids.fresh())?);
        let history = Arc::new(History::new(&environment, &lake_of(project).await?));
        let historian = Historian::new(&environment, desk.clone(), history);
        let now_ms = environment.clock.wall_ms();
        let slot = |planned: Planned| {
            let mut slot = Slot::new(planned.clone());
            slot.plan(planned, now_ms);
            slot
        };
        let slots = Planned::all(project, jobs)?.into_iter().map(slot).collect();
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (shown, stop) = (Shown::new(), stop.child_token());
        let mut driver = Driver {
            environment: environment.clone(),
            desk: desk.clone(),
            historian: historian.clone(),
            slots,
            events: 0,
            serving: Serving::Standby(String::new()),
            may_write: watch::Sender::new(false),
            unwritten: Vec::new(),
            shown: shown.clone(),
            sender: sender.clone(),
            commands,
            stop: stop.clone(),
        };
        driver.take_over().await?;
        driver.publish();
        let over = CancellationToken::new();
        let scheduler = Self {
            environment,
            commands: sender,
            shown,
            historian: historian.clone(),
            stop,
            over: over.clone(),
        };
        let (may_write, written) = (driver.may_write.clone(), CancellationToken::new());
        let writing = tokio::spawn(historian.work(may_write.subscribe(), written.clone()));
        tokio::spawn(async move {
            driver.work().await;
            // Now all records are in the state folder; what the history does not take waits there.
            written.cancel();
            drop(writing.await);
            desk.give_back();
            drop(may_write);
            over.cancel();
        });
        Ok(Arc::new(scheduler))
    }

    /// All jobs, in the order in which they run.
    pub(crate) fn jobs(&self) -> Vec<JobState> {
        self.shown.jobs.read().clone()
    }

    /// One job.
    pub(crate) fn job(&self, name: &str) -> Option<JobState> {
        self.shown.jobs.read().iter().find(|job| job.job == name).cloned()
    }

    /// Starts a run and gives its id. Errors: `Config` for an unknown job, `Conflict` while a run
    /// of it is at work, or while this process starts none.
    pub(crate) async fn run(&self, job: &str, who: &str) -> Result<String> {
        let (job, who) = (job.to_string(), who.to_string());
        self.ask(|reply| Command::Run { job, who, reply }).await
    }

    /// Keeps runs from starting by themselves, also after a restart. What runs all the time ends
    /// after its epoch, other runs end by themselves. Times that are due meanwhile are not made up
    /// for.
    pub(crate) async fn pause(&self, job: &str, who: &str) -> Result<()> {
        self.change(job, who, Change::Pause).await
    }

    /// Takes a pause back, and a cancellation of what runs all the time.
    pub(crate) async fn resume(&self, job: &str, who: &str) -> Result<()> {
        self.change(job, who, Change::Resume).await
    }

    /// Ends the run at work after its epoch, and does not try it again. What runs all the time
    /// stays so until it is run or resumed, or the process starts anew. Errors: `Conflict` when there
    /// is nothing to cancel.
    pub(crate) async fn cancel(&self, job: &str, who: &str) -> Result<()> {
        self.change(job, who, Change::Cancel).await
    }

    async fn change(&self, job: &str, who: &str, what: Change) -> Result<()> {
        let (job, who) = (job.to_string(), who.to_string());
        self.ask(|reply| Command::Change { job, who, what, reply }).await
    }

    /// Goes on with these jobs: runs of changed ones end after their epochs and start anew, those
    /// of jobs that are gone end. Errors: `Config` for a schedule that cannot be read; then nothing
    /// changes.
    pub(crate) async fn reload(&self, project: &Project, jobs: Vec<Readable>) -> Result<()> {
        let jobs = Planned::all(project, jobs)?;
        self.ask(|reply| Command::Reload { jobs, reply }).await
    }

    /// The newest runs, of one job or of all, newest first; those at work are among them.
    pub(crate) async fn runs(&self, job: Option<&str>, limit: usize) -> Result<Vec<RunRecord>> {
        let mut runs = self.historian.newest(job, limit).await?;
        for (record, told) in self.shown.runs.read().iter() {
            let wanted = job.is_none_or(|job| record.job == job);
            if wanted && runs.iter().all(|run| run.id != record.id) {
                let (epochs, rows) = told.so_far();
                runs.push(RunRecord { epochs, rows, ..record.clone() });
            }
        }
        runs.sort_by_key(|run| std::cmp::Reverse(run.started_ms));
        runs.truncate(limit);
        Ok(runs)
    }

    /// The table of runs that ended.
    pub(crate) fn history(&self) -> Arc<History> {
        self.historian.history.clone()
    }

    /// Why the history is not written, while it is not: its store does not answer. Runs go on.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.historian.trouble()
    }

    /// Ticks whenever something changed about a job.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shown.changes.subscribe()
    }

    /// Starts nothing any more, ends what is at work after its epoch, and waits for it up to
    /// `limit`.
    pub(crate) async fn drain(&self, limit: Duration) {
        self.stop.cancel();
        tokio::select! {
            () = self.over.cancelled() => {}
            () = self.environment.clock.sleep(limit) => {
                tracing::warn!("runs are cut off: the next process goes on with them");
            }
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let over = || Error::conflict("the server is stopping");
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| over())?;
        answer.await.map_err(|_| over())?
    }
}

/// Where the history lies: where the project says, else in its lake, else in the state folder.
async fn lake_of(project: &Project) -> Result<Location> {
    let serve = &project.serve;
    let own = || serve.state.join("history").display().to_string();
    let lake = serve.history.clone().or_else(|| project.lake.clone()).unwrap_or_else(own);
    let project = project.clone();
    // Programs that print secrets take their time.
    let looked_up = move || resolve_project(&project, crate::environment::secret).0;
    let secrets = tokio::task::spawn_blocking(looked_up).await;
    let secrets =
        secrets.map_err(|e| Error::bug("looking up secrets ended in the middle").because(e))?;
    store::open(&lake, &secrets)
}
