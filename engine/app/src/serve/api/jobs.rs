//! Jobs as they stand: state, schedule, last and next run, how far they are, what their tables hold.
//!
//! In: the scheduler's view of a job, and the lake's, which is kept for a moment. Out: JSON. Nothing
//! is changed here: see `control`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use chrono::{DateTime, SecondsFormat};
use datafusion::common::ScalarValue;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sluice_runtime::query::Readable;
use sluice_runtime::status::{Status, status};
use utoipa::{IntoParams, ToSchema};

use super::Desk;
use super::ask::{Asked, Entries, Named, Nothing, limit};
use crate::output::{json_names, json_rows};
use crate::serve::Parts;
use crate::serve::query::Ask;
use crate::serve::schedule::{JobState, RunRecord, State as At, outcome};
use crate::serve::shell::{ApiError, Caller, scrubbed};

/// How long a request waits for what the lake and the sources say of a job: then it is answered with
/// what they said before, and with what the scheduler knows in any case.
const PATIENCE: Duration = Duration::from_secs(1);

/// Jobs that are looked at side by side.
const AT_ONCE: usize = 4;

/// All jobs.
#[derive(Serialize, ToSchema)]
pub(super) struct Jobs {
    jobs: Vec<Job>,
}

/// A job as it stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Job {
    /// Its name.
    job: String,
    /// `idle`, `running`, `waiting`, `paused` or `failed`.
    state: &'static str,
    /// Why it waits, or what holds it up.
    note: Option<String>,
    /// When it runs, in words of its job file.
    schedule: String,
    /// When it is due next.
    #[schema(format = DateTime)]
    next_run_at: Option<String>,
    /// The run at work.
    run: Option<AtWork>,
    /// The run that ended last.
    last_run: Option<Run>,
    /// Runs in a row that failed.
    failures: u32,
    /// The last failure, as long as nothing has succeeded since.
    last_error: Option<String>,
    /// The last published epoch.
    epoch: Option<u64>,
    /// When it was published.
    #[schema(format = DateTime)]
    published_at: Option<String>,
    /// How long ago that was, in milliseconds.
    freshness_ms: Option<u64>,
    /// Positions of its sources that are not taken yet, where they can be counted.
    lag: Option<u64>,
    /// Why there is no more output, the nearest cause first.
    reasons: Vec<String>,
    /// Its tables and views that exist.
    tables: Vec<Table>,
    /// Why the lake's part is missing, if it is.
    unknown: Option<String>,
}

/// A run at work.
#[derive(Serialize, ToSchema)]
pub(super) struct AtWork {
    /// Its id.
    id: String,
    /// What started it.
    trigger: String,
    /// Which attempt it is.
    attempt: u32,
    /// When it began.
    #[schema(format = DateTime)]
    started_at: Option<String>,
}

/// A run of the history.
#[derive(Serialize, ToSchema)]
pub(super) struct Run {
    /// Its id.
    id: String,
    /// Its job.
    job: String,
    /// What started it.
    trigger: String,
    /// Which attempt it was.
    attempt: u32,
    /// When it began.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// When it ended; not told while it is at work.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// Epochs it sealed.
    epochs: u64,
    /// Rows it took.
    rows: u64,
    /// Bytes it wrote.
    bytes: u64,
    /// `done`, `failed`, `cancelled`, `timed_out`, `interrupted`, `missed` …
    outcome: String,
    /// Why it failed.
    error: Option<String>,
    /// The hash of the definition it ran.
    definition: String,
}

/// A table as it stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Table {
    /// Its name.
    name: String,
    /// `table`, `view`, `rejected` or `quarantine`.
    kind: &'static str,
    /// Its rows.
    rows: u64,
    /// Its files.
    files: u64,
    /// Bytes of all files.
    bytes: u64,
}

/// Runs.
#[derive(Serialize, ToSchema)]
pub(super) struct Runs {
    runs: Vec<Run>,
}

/// Epochs.
#[derive(Serialize, ToSchema)]
pub(super) struct Epochs {
    /// As in `_sluice.epochs`.
    #[schema(value_type = Vec<Object>)]
    epochs: Vec<Map<String, Value>>,
}

/// Which runs are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those of this job.
    job: Option<String>,
    /// Runs at most, the newest first; default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// What the lake and the sources say of a job, or why they do not.
pub(super) type Looked = Result<Arc<Status>, String>;

/// All jobs and how they stand
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", operation_id = "jobs",
    responses((status = 200, description = "all jobs", body = Jobs)))]
pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    Extension(desk): Extension<Arc<Desk>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Json<Jobs> {
    let look = |state: JobState| {
        let (parts, desk) = (parts.clone(), desk.clone());
        async move { job(&parts, &desk, state).await }
    };
    let states = parts.scheduler.jobs();
    Json(Jobs { jobs: stream::iter(states).map(look).buffered(AT_ONCE).collect().await })
}

/// A job and how it stands
#[utoipa::path(get, path = "/v1/jobs/{job}", tag = "jobs", operation_id = "job",
    params(("job" = String, Path, description = "the job's name")),
    responses((status = 200, description = "the job", body = Job)))]
pub(super) async fn one(
    State(parts): State<Arc<Parts>>,
    Extension(desk): Extension<Arc<Desk>>,
    Named(name): Named,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Job>, ApiError> {
    let state = known(&parts, &name)?;
    Ok(Json(job(&parts, &desk, state).await))
}

/// The history of runs
#[utoipa::path(get, path = "/v1/runs", tag = "jobs", operation_id = "runs", params(Which),
    responses((status = 200, description = "runs, the newest first", body = Runs)))]
pub(super) async fn runs(
    State(parts): State<Arc<Parts>>,
    Asked(which): Asked<Which>,
) -> Result<Json<Runs>, ApiError> {
    let limit = limit(which.limit)?;
    let runs = parts.scheduler.runs(which.job.as_deref(), limit).await?;
    Ok(Json(Runs { runs: runs.into_iter().map(Run::from).collect() }))
}

/// The epochs of a job
#[utoipa::path(get, path = "/v1/jobs/{job}/epochs", tag = "jobs", operation_id = "epochs",
    params(("job" = String, Path, description = "the job's name"), Entries),
    responses((status = 200, description = "epochs, the newest first", body = Epochs)))]
pub(super) async fn epochs(
    State(parts): State<Arc<Parts>>,
    Named(name): Named,
    caller: Caller,
    Asked(entries): Asked<Entries>,
) -> Result<Json<Epochs>, ApiError> {
    let limit = entries.limit()?;
    known(&parts, &name)?;
    let sql =
        format!("SELECT * FROM _sluice.epochs WHERE job = $job ORDER BY epoch DESC LIMIT {limit}");
    let params = vec![("job".to_string(), ScalarValue::from(name.as_str()))];
    let rows = parts.queries.run(Ask { sql, params, rows_max: None, who: caller.name }).await?;
    let names = json_names(&rows.schema);
    let batches: Vec<_> = rows.stream.try_collect().await?;
    let mut epochs = Vec::new();
    for batch in &batches {
        epochs.extend(json_rows(&names, batch)?);
    }
    Ok(Json(Epochs { epochs }))
}

/// The scheduler's view of a job.
pub(super) fn known(parts: &Parts, name: &str) -> Result<JobState, ApiError> {
    parts.scheduler.job(name).ok_or_else(|| {
        ApiError::not_found(format!("there is no such job job={name:?}"))
            .hint("GET /v1/jobs lists them")
    })
}

async fn job(parts: &Arc<Parts>, desk: &Arc<Desk>, state: JobState) -> Job {
    let looked = match parts.queries.jobs().into_iter().find(|j| j.graph.job.name == state.job) {
        Some(readable) => looked(parts, desk, readable).await,
        None => Err("its definition is being replaced".to_string()),
    };
    Job::new(state, &looked, parts.environment.clock.wall_ms())
}

/// What the lake and the sources say, at most a moment old. Requests at the same time look once; what
/// takes too long is looked at to its end, and shown to who asks later.
async fn looked(parts: &Arc<Parts>, desk: &Arc<Desk>, job: Readable) -> Looked {
    let name = job.graph.job.name.clone();
    let look = {
        let (parts, desk, name) = (parts.clone(), desk.clone(), name.clone());
        async move {
            let found = async {
                let found = status(&parts.environment, &job).await;
                found.map(Arc::new).map_err(|e| scrubbed(&e.chain()))
            };
            let looked = desk.statuses.get_with(name.clone(), found).await;
            if let Ok(found) = &looked {
                desk.seen.insert(name, found.clone()).await;
            }
            looked
        }
    };
    tokio::select! {
        looked = tokio::spawn(look) => looked.unwrap_or_else(|_| Err("the look broke off".into())),
        () = parts.environment.clock.sleep(PATIENCE) => desk.seen.get(&name).await.ok_or_else(|| {
            format!("the lake or a source did not answer within {} s", PATIENCE.as_secs())
        }),
    }
}

impl Job {
    fn new(state: JobState, looked: &Looked, now_ms: i64) -> Self {
        let found = looked.as_ref().ok();
        let behind =
            found.map(|s| s.partitions.iter().filter_map(|p| p.behind).collect::<Vec<_>>());
        let published_ms = found.and_then(|s| s.published_at_ms);
        let since = |ms: i64| u64::try_from(now_ms.saturating_sub(ms)).unwrap_or(0);
        Self {
            last_error: last_error(&state, found),
            state: state_name(state.state),
            note: state.note,
            schedule: state.schedule,
            next_run_at: state.next_ms.and_then(instant),
            run: state.run.map(|run| AtWork {
                id: run.id,
                trigger: run.trigger,
                attempt: run.attempt,
                started_at: instant(run.since_ms),
            }),
            last_run: state.last.map(Run::from),
            failures: state.failures,
            epoch: found.and_then(|s| s.epoch),
            published_at: published_ms.and_then(instant),
            freshness_ms: published_ms.map(since),
            lag: behind.filter(|all| !all.is_empty()).map(|all| all.iter().sum()),
            reasons: found.into_iter().flat_map(|s| &s.reasons).map(|r| r.text.clone()).collect(),
            tables: found.into_iter().flat_map(|s| &s.tables).map(Table::from).collect(),
            unknown: looked.as_ref().err().cloned(),
            job: state.job,
        }
    }
}

/// The error of the last run, or the trouble that a run goes on after.
fn last_error(state: &JobState, found: Option<&Arc<Status>>) -> Option<String> {
    let of_run = state.failed().and_then(|run| run.error.clone());
    let succeeded = state.last.as_ref().filter(|run| run.outcome == outcome::DONE);
    let succeeded_ms = succeeded.and_then(|run| run.ended_ms).unwrap_or(i64::MIN);
    let note = found.and_then(|s| s.runner.as_ref());
    let trouble = note.and_then(|note| {
        let trouble = note.trouble.as_ref()?;
        let since_ms = note.sealed_at_ms.unwrap_or(i64::MIN).max(succeeded_ms);
        (trouble.at_ms >= since_ms).then(|| trouble.message.clone())
    });
    of_run.or(trouble).as_deref().map(scrubbed)
}

/// A state's name for programs.
pub(super) fn state_name(state: At) -> &'static str {
    match state {
        At::Idle => "idle",
        At::Running => "running",
        At::Waiting => "waiting",
        At::Paused => "paused",
        At::Failed => "failed",
    }
}

/// Milliseconds since 1970 as ISO 8601; none for what no calendar has.
pub(super) fn instant(ms: i64) -> Option<String> {
    let time = DateTime::from_timestamp_millis(ms)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

impl From<RunRecord> for Run {
    fn from(run: RunRecord) -> Self {
        Self {
            started_at: instant(run.started_ms),
            ended_at: run.ended_ms.and_then(instant),
            id: run.id,
            job: run.job,
            trigger: run.trigger,
            attempt: run.attempt,
            epochs: run.epochs,
            rows: run.rows,
            bytes: run.bytes,
            outcome: run.outcome,
            error: run.error.as_deref().map(scrubbed),
            definition: run.definition,
        }
    }
}

impl From<&sluice_runtime::query::TableFacts> for Table {
    fn from(facts: &sluice_runtime::query::TableFacts) -> Self {
        let (name, kind) = (facts.name.clone(), facts.kind);
        Self { name, kind, rows: facts.rows, files: facts.files, bytes: facts.bytes }
    }
}
