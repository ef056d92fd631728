//! What is known of one job: its definition, its way, the run at work, what it waits for.
//!
//! In: what happens. Out: facts for `decide`, a [`JobState`] for callers. Nothing is started or
//! written here.

use std::sync::Arc;

use sluice_core::Result;
use sluice_runtime::job::{Job, Project, Schedule};
use sluice_runtime::query::Readable;
use sluice_runtime::schedule::{Due, Timetable};
use tokio_util::sync::CancellationToken;

use super::decide::{Again, Facts, Reason, Upstream, Way};
use super::desk::KeptJob;
use super::historian::Last;
use super::record::{JobState, RunRecord, Running, State};
use super::work::Told;

/// A job and the times at which it is due.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub job: Readable,
    pub table: Timetable,
    /// Whether its next run begins although another runner has the job.
    pub take_over: bool,
}

impl Planned {
    /// The jobs of a project with their times.
    pub fn all(project: &Project, jobs: Vec<Readable>) -> Result<Vec<Self>> {
        let planned = |job: Readable| {
            let own = &job.graph.job;
            let zone = own.timing.timezone.unwrap_or(project.serve.timezone);
            let table = Timetable::new(&own.schedule, zone).map_err(|e| e.of("job", &own.name))?;
            Ok(Self { job, table, take_over: project.serve.take_over })
        };
        jobs.into_iter().map(planned).collect()
    }
}

/// A run at work.
#[derive(Debug)]
pub(super) struct AtWork {
    pub record: RunRecord,
    /// Whether it has no end of its own.
    pub follows: bool,
    /// Whether a person started it.
    pub by_hand: bool,
    /// Cancelled when it is to end after its epoch.
    pub stop: CancellationToken,
    /// Why, once it is.
    pub reason: Option<Reason>,
    pub told: Arc<Told>,
}

/// One job.
#[derive(Debug)]
pub(super) struct Slot {
    pub planned: Planned,
    pub kept: KeptJob,
    pub run: Option<AtWork>,
    pub again: Option<Again>,
    /// What is to be started at once.
    pub asked: Option<String>,
    /// Whether its runs are of no use until somebody does something.
    pub given_up: bool,
    /// Who cancelled it, where it runs all the time, until somebody resumes it or runs it.
    pub cancelled_by: Option<String>,
    /// The failure that the log was told of last, until one succeeds.
    pub warned: Option<String>,
    /// The job that has to end first.
    pub waits_for: Option<String>,
    /// Until when no start is tried, and why not.
    pub held: Option<(i64, String)>,
    /// When the next run starts by itself.
    pub next_ms: Option<i64>,
    /// Whether it goes when its run has ended.
    pub removed: bool,
}

impl Slot {
    /// A job of which nothing is known yet.
    pub fn new(planned: Planned) -> Self {
        Self {
            planned,
            kept: KeptJob::default(),
            run: None,
            again: None,
            asked: None,
            given_up: false,
            cancelled_by: None,
            warned: None,
            waits_for: None,
            held: None,
            next_ms: None,
            removed: false,
        }
    }

    /// The job.
    pub fn job(&self) -> &Job {
        &self.planned.job.graph.job
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.job().name
    }

    /// What starts its runs.
    pub fn way(&self) -> Way {
        match &self.job().schedule {
            Schedule::Manual => Way::Manual,
            Schedule::Cron(_) | Schedule::Every(_) => Way::Timed,
            Schedule::After(_) => Way::After,
            Schedule::Continuous => Way::Continuous,
        }
    }

    /// What starts its runs, as their records say it.
    pub fn trigger(&self) -> String {
        match &self.job().schedule {
            Schedule::Manual => "manual".to_string(),
            Schedule::Cron(_) | Schedule::Every(_) => "schedule".to_string(),
            Schedule::After(_) => self.words(),
            Schedule::Continuous => "continuous".to_string(),
        }
    }

    /// Its schedule, as people read it.
    pub fn words(&self) -> String {
        match &self.job().schedule {
            Schedule::Manual => "manual".to_string(),
            Schedule::Cron(text) => format!("cron {text}"),
            Schedule::Every(every) => format!("every {}", in_words(*every)),
            Schedule::After(jobs) => format!("after {}", jobs.join(", ")),
            Schedule::Continuous => "continuous".to_string(),
        }
    }

    /// Other jobs whose tables it reads.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        self.planned.job.graph.foreign.iter().map(|foreign| foreign.job.as_str())
    }

    /// Another definition of the same job. A schedule that it did not have before begins now.
    pub fn plan(&mut self, planned: Planned, now_ms: i64) {
        self.planned = planned;
        let words = self.words();
        if self.kept.schedule != words {
            self.kept.schedule = words;
            self.kept.last_due_ms = None;
        }
        if self.way() == Way::Timed && self.kept.last_due_ms.is_none() {
            self.kept.last_due_ms = Some(self.planned.table.begin(now_ms));
        }
        if self.way() != Way::Continuous {
            self.cancelled_by = None;
        }
    }

    /// Takes over what is remembered of it.
    pub fn remember(&mut self, kept: KeptJob, now_ms: i64) {
        self.kept = kept;
        self.plan(self.planned.clone(), now_ms);
        if let Some(cut) = &self.kept.cut {
            let (attempt, trigger) = (cut.attempt, cut.trigger.clone());
            self.again = Some(Again { at_ms: now_ms, attempt, trigger });
        }
    }

    /// What is due.
    pub fn due(&self, now_ms: i64) -> Due {
        let missed = self.job().timing.missed;
        let last = self.kept.last_due_ms;
        last.map_or_else(Due::default, |last| self.planned.table.due(last, now_ms, missed))
    }

    /// Whether rows of its tables are about to be written by a run that will end.
    pub fn is_busy(&self) -> bool {
        let at_work = self.run.as_ref().is_some_and(|run| !run.follows);
        let again = self.again.is_some() && self.way() != Way::Continuous;
        let stays = self.kept.paused_by.is_some();
        at_work || self.waits_for.is_some() || (again && !stays)
    }

    /// What is known of it.
    pub fn facts<'a>(
        &'a self,
        now_ms: i64,
        serving: bool,
        due: &'a Due,
        others_ended: bool,
        upstream: &'a Upstream,
    ) -> Facts<'a> {
        Facts {
            now_ms,
            serving,
            at_work: self.run.is_some() || self.removed,
            paused: self.kept.paused_by.is_some(),
            way: self.way(),
            given_up: self.given_up || self.cancelled_by.is_some(),
            held_until_ms: self.held.as_ref().map(|(until, _)| *until),
            asked: self.asked.as_deref(),
            again: self.again.as_ref(),
            due,
            others_ended,
            upstream,
        }
    }

    /// Tells the log of a run if it failed, and of what comes next. Of failures in a row that are
    /// equal only the first one is worth a line.
    pub fn warn(&mut self, record: &RunRecord, now_ms: i64) {
        if !record.is_failure() || self.warned == record.error {
            return;
        }
        self.warned.clone_from(&record.error);
        let (job, run, error) = (&record.job, &record.id, record.error.as_deref());
        tracing::warn!(job, run, error, next = self.follows_failure(now_ms), "a run failed");
    }

    /// What comes after a run that failed, for people.
    fn follows_failure(&self, now_ms: i64) -> String {
        if let Some(again) = &self.again {
            let seconds = again.at_ms.saturating_sub(now_ms).max(0) / 1_000;
            return format!("attempt {} in {seconds} s", again.attempt);
        }
        if let Some(stays) = self.stays() {
            return stays;
        }
        match self.way() {
            Way::Manual => "nothing until somebody runs it".to_string(),
            Way::Timed => "its next time".to_string(),
            Way::After => format!("a run {}", self.words()),
            Way::Continuous if self.given_up => {
                "nothing until it is changed, resumed or run".to_string()
            }
            Way::Continuous => "another run at once".to_string(),
        }
    }

    /// Tells its run to end after its epoch. False when none is at work.
    pub fn tell(&mut self, reason: Reason) -> bool {
        let Some(run) = &mut self.run else { return false };
        let overrules = matches!(reason, Reason::Cancelled(_) | Reason::Stopped);
        if overrules || run.reason.is_none() {
            run.reason = Some(reason);
        }
        run.stop.cancel();
        true
    }

    /// Why nothing starts it but a person, where that is so.
    fn stays(&self) -> Option<String> {
        let paused = self.kept.paused_by.as_ref().map(|who| format!("paused by {who}"));
        let cancelled = self.cancelled_by.as_ref();
        paused.or_else(|| cancelled.map(|who| format!("cancelled by {who}; resume or run it")))
    }

    /// What becomes of a run at work, and of the job after it, where somebody had a say.
    fn outlook(&self, run: &AtWork) -> Option<String> {
        let ends = match &run.reason {
            Some(Reason::Cancelled(who)) => format!("cancelled by {who}: it ends after its epoch"),
            Some(Reason::Paused(who)) => format!("paused by {who}: it ends after its epoch"),
            _ => return self.stays(),
        };
        match self.way() == Way::Continuous && self.stays().is_none() {
            true => Some(format!("{ends} and starts again")),
            false => Some(ends),
        }
    }

    /// As callers see it. `standby` is why this process starts no runs, where it does not.
    pub fn state(&self, last: Last, standby: Option<&str>) -> JobState {
        let holder = self.run.as_ref().and_then(|run| run.told.holder());
        let failed = last.run.as_ref().is_some_and(RunRecord::is_failure);
        let held = self.held.as_ref().map(|(_, why)| why.clone());
        let waits = self.waits_for.as_ref().map(|job| format!("{job} has to end first"));
        let again = self.again.as_ref().map(|again| format!("attempt {} follows", again.attempt));
        // What it seals shows that it is well again.
        let seals = self.run.as_ref().is_some_and(|run| run.told.so_far().0 > 0);
        let (state, note) = match (&self.run, self.stays(), standby) {
            (Some(_), _, _) if holder.is_some() => (State::Waiting, holder),
            (Some(run), _, _) => (State::Running, self.outlook(run)),
            (None, Some(stays), _) => (State::Paused, Some(stays)),
            (None, None, Some(why)) => (State::Waiting, Some(why.to_string())),
            (None, None, None) => match held.or(again).or(waits) {
                Some(note) => (State::Waiting, Some(note)),
                None if failed => (State::Failed, None),
                None if self.way() == Way::After => (State::Waiting, None),
                None => (State::Idle, None),
            },
        };
        JobState {
            job: self.name().to_string(),
            schedule: self.words(),
            state,
            note,
            run: self.run.as_ref().map(|run| Running {
                id: run.record.id.clone(),
                since_ms: run.record.started_ms,
                attempt: run.record.attempt,
                trigger: run.record.trigger.clone(),
            }),
            next_ms: self.next_ms.filter(|_| self.kept.paused_by.is_none()),
            last: last.run,
            failures: if seals { 0 } else { last.failures },
            cancelled: self.cancelled_by.is_some(),
        }
    }
}

/// A time as people write it in a job file: `10s`, `1h 30m`.
fn in_words(time: std::time::Duration) -> String {
    let (mut left, mut words) = (time.as_millis(), Vec::new());
    for (unit, ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
    {
        if left >= ms {
            words.push(format!("{}{unit}", left / ms));
            left %= ms;
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::in_words;

    #[test]
    fn intervals_are_told_as_they_are_written() {
        let cases =
            [(10_000, "10s"), (5_400_000, "1h 30m"), (1_500, "1s 500ms"), (86_400_000, "1d")];
        for (ms, words) in cases {
            assert_eq!(in_words(Duration::from_millis(ms)), words);
        }
    }
}
