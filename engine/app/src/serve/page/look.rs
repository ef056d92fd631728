//! What there is to see of a project at one moment.
//!
//! In: the parts, who looks. Out: plain facts, which `render` makes a page of. Nothing that has to
//! be asked of a lake or a broker is waited for: the page shows what this process knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_core::metric::{LAG_ROWS, LAG_SECONDS, Metric, WEBHOOK_BACKLOG_ROWS};
use sluice_runtime::job::Role;

use super::sight::{self, Shown};
use super::words::Moment;
use crate::serve::Parts;
use crate::serve::query::RelationInfo;
use crate::serve::schedule::{JobState, State};
use crate::serve::shell::{Caller, concerns, scrubbed};

/// Characters of an error: its first sentence, the rest is in the history.
const ERROR_MAX: usize = 300;

/// Everything on the page.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// The project's name.
    pub project: String,
    /// Its target, if it has one.
    pub target: Option<String>,
    /// The version of the program.
    pub version: &'static str,
    /// How long the process has been there, in milliseconds.
    pub uptime_ms: u64,
    /// When it is, milliseconds since 1970.
    pub now_ms: i64,
    /// Who looks.
    pub who: String,
    /// Whether they may start and stop runs.
    pub may_operate: bool,
    /// What became of what they asked for last.
    pub notice: Option<(bool, String)>,
    /// The jobs.
    pub jobs: Vec<Job>,
    /// The views.
    pub views: Vec<Shown>,
    /// Views that are not shown.
    pub views_beyond: usize,
    /// Tables and views with their rows.
    pub tables: Vec<RelationInfo>,
    /// Rows that were rejected, quarantined or refused.
    pub aside: Vec<RelationInfo>,
    /// What the process does without, as its health tells it: about what, and why.
    pub troubles: Vec<(String, String)>,
}

/// A job as it stands.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Its name.
    pub name: String,
    /// What it is at.
    pub state: State,
    /// Why it waits.
    pub note: Option<String>,
    /// When it runs.
    pub schedule: String,
    /// Since when a run is at work.
    pub since: Option<Moment>,
    /// When its newest rows were published.
    pub fresh: Option<Moment>,
    /// The epoch of those.
    pub epoch: Option<u64>,
    /// Rows that wait in its sources, and for how many seconds; none where nobody knows.
    pub behind: Option<(f64, f64)>,
    /// When it runs next.
    pub next: Option<Moment>,
    /// How the last run ended, and when.
    pub last: Option<(String, Option<Moment>)>,
    /// Rows that the last run took.
    pub last_rows: u64,
    /// Failures in a row.
    pub failures: u32,
    /// Why the last run failed.
    pub error: Option<String>,
    /// Whether it runs all the time and was cancelled.
    pub cancelled: bool,
}

/// Looks at everything.
pub(super) async fn look(parts: &Arc<Parts>, caller: &Caller) -> Look {
    let (views, views_beyond) = sight::views(parts).await;
    let project = parts.project.borrow().clone();
    let clock = &parts.environment.clock;
    let now_ms = clock.wall_ms();
    let zone = project.serve.timezone;
    let moment = |ms: i64| Moment::of(ms, now_ms, &zone);
    let (rows, seconds) = (by_job(parts, &LAG_ROWS), by_job(parts, &LAG_SECONDS));
    let backlog = by_job(parts, &WEBHOOK_BACKLOG_ROWS);
    let job = |state: JobState| {
        // What a run said is old when none is at work; what webhooks took meanwhile is not.
        let waits = backlog.get(&state.job).filter(|_| state.run.is_none());
        let behind = waits.or_else(|| rows.get(&state.job)).map(|rows| {
            (rows.iter().sum(), seconds.get(&state.job).map_or(0.0, |all| greatest(all)))
        });
        let published = parts.queries.published_ms_of(&state.job);
        let epoch = parts.queries.epoch_of(&state.job);
        Job { behind, epoch, fresh: published.and_then(moment), ..told(state, &moment) }
    };
    let jobs = parts.scheduler.jobs().into_iter().map(job).collect();
    let is_set_aside =
        |one: &RelationInfo| ["rejected", "quarantine", "undelivered"].contains(&one.kind);
    let (aside, tables) = parts.queries.relations().into_iter().partition(is_set_aside);
    let mut troubles = concerns(parts);
    troubles.iter_mut().for_each(|(_, why)| *why = shortened(why));
    Look {
        project: project.name.clone(),
        target: project.target.clone(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: u64::try_from(clock.monotonic().as_millis()).unwrap_or(u64::MAX),
        now_ms,
        who: caller.name.clone(),
        may_operate: caller.role >= Role::Operate,
        notice: parts.page.notices.take(&caller.name),
        jobs,
        views,
        views_beyond,
        tables,
        aside,
        troubles,
    }
}

/// A job as the scheduler tells of it.
fn told(state: JobState, moment: &impl Fn(i64) -> Option<Moment>) -> Job {
    let error = state.failed().and_then(|run| run.error.as_deref()).map(shortened);
    let last = state.last;
    Job {
        error,
        last_rows: last.as_ref().map_or(0, |run| run.rows),
        last: last.map(|run| (run.outcome, run.ended_ms.and_then(moment))),
        name: state.job,
        state: state.state,
        note: state.note.as_deref().map(shortened),
        schedule: state.schedule,
        since: state.run.and_then(|run| moment(run.since_ms)),
        fresh: None,
        epoch: None,
        behind: None,
        next: state.next_ms.and_then(moment),
        failures: state.failures,
        cancelled: state.cancelled,
    }
}

fn shortened(text: &str) -> String {
    let clean = scrubbed(text);
    match clean.char_indices().nth(ERROR_MAX) {
        Some((at, _)) => format!("{}…", &clean[..at]),
        None => clean,
    }
}

/// The series of a gauge, by the job that is their first label.
fn by_job(parts: &Parts, metric: &'static Metric) -> BTreeMap<String, Vec<f64>> {
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (labels, value) in parts.board.gauge(metric) {
        if let Some(job) = labels.into_iter().next() {
            found.entry(job).or_default().push(value);
        }
    }
    found
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::serve::schedule::RunRecord;

    #[test]
    fn errors_are_shown_until_a_run_succeeds() {
        let failed = RunRecord {
            outcome: "failed".into(),
            error: Some("at https://me:pw@host/p?sig=1".into()),
            ended_ms: Some(1_000),
            rows: 7,
            ..RunRecord::default()
        };
        let state = |last: Option<RunRecord>, failures| JobState {
            job: "shop".into(),
            schedule: "manual".into(),
            state: State::Idle,
            note: None,
            run: None,
            next_ms: Some(9_000),
            last,
            failures,
            cancelled: false,
        };
        let moment = |ms| Moment::of(ms, 5_000, &Utc);
        let job = told(state(Some(failed.clone()), 1), &moment);
        assert_eq!(job.error.as_deref(), Some("at https://***@host/p?***"));
        assert_eq!(job.next.map(|next| next.words), Some("in 4 s".to_string()));
        assert_eq!((job.last_rows, job.failures), (7, 1));
        // A run at work has sealed an epoch since.
        assert_eq!(told(state(Some(failed.clone()), 0), &moment).error, None);
        let done = RunRecord { outcome: "done".into(), error: None, ..failed };
        assert_eq!(told(state(Some(done), 0), &moment).error, None);
        assert_eq!(told(state(None, 0), &moment).last, None);
        assert_eq!(shortened(&"x".repeat(1_000)).chars().count(), ERROR_MAX + 1);
    }
}
