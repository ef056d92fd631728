//! What changes something: runs, pauses, a reload. And who did it: the activity log.
//!
//! In: requests of operators and admins. Out: what the scheduler or the reload says, and an entry
//! in the activity log either way, also where the caller leaves before the answer. What the caller
//! may do was decided before.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ask::{Asked, Entries, Named, Nothing};
use super::jobs::{known, state_name};
use crate::serve::Parts;
use crate::serve::reload::{self, ReloadError, Reloaded};
use crate::serve::schedule::Scheduler;
use crate::serve::shell::{ApiError, Caller, Entry, to_its_end};

/// A run that was begun.
#[derive(Serialize, ToSchema)]
pub(super) struct Begun {
    /// Its job.
    job: String,
    /// Its id.
    run: String,
}

/// What became of a job.
#[derive(Serialize, ToSchema)]
pub(super) struct Changed {
    /// The job.
    job: String,
    /// Its state now.
    state: &'static str,
    /// What that means, if there is more to say: a run at work ends after its epoch.
    note: Option<String>,
}

/// The activity log.
#[derive(Serialize, ToSchema)]
pub(super) struct ActivityLog {
    /// The newest first.
    entries: Vec<Entry>,
}

/// Whether definitions are only looked at.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Whether nothing is changed and only told what would be; default: false.
    #[serde(default)]
    dry_run: bool,
}

/// Run a job now
#[utoipa::path(post, path = "/v1/jobs/{job}/run", tag = "jobs", operation_id = "run",
    params(("job" = String, Path, description = "the job's name")),
    responses((status = 202, description = "the run has begun", body = Begun),
        (status = 409, description = "a run is at work", body = ref("#/components/schemas/Problem"),
            content_type = "application/problem+json")))]
pub(super) async fn run(
    State(parts): State<Arc<Parts>>,
    Named(job): Named,
    caller: Caller,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<(StatusCode, Json<Begun>), ApiError> {
    known(&parts, &job)?;
    let begin: Act<String> = |scheduler, job, who| scheduler.run(job, who).boxed();
    let run = recorded(&parts, caller, "run", &job, begin).await?;
    Ok((StatusCode::ACCEPTED, Json(Begun { job, run })))
}

/// Pause a job
///
/// What runs all the time ends after its epoch, other runs end by themselves; none is begun until the
/// job is resumed, also after a restart. Until a run at work has ended the state is `running`, and
/// `note` says so.
#[utoipa::path(post, path = "/v1/jobs/{job}/pause", tag = "jobs", operation_id = "pause",
    params(("job" = String, Path, description = "the job's name")),
    responses((status = 200, description = "the job is paused, or will be when its run has ended",
            body = Changed),
        (status = 409, description = "it cannot be now", body = ref("#/components/schemas/Problem"),
            content_type = "application/problem+json")))]
pub(super) async fn pause(
    State(parts): State<Arc<Parts>>,
    Named(job): Named,
    caller: Caller,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Changed>, ApiError> {
    known(&parts, &job)?;
    let pause: Act<()> = |scheduler, job, who| scheduler.pause(job, who).boxed();
    recorded(&parts, caller, "pause", &job, pause).await?;
    changed(&parts, job)
}

/// Resume a job
///
/// It is neither paused nor cancelled any more. What runs all the time starts at once, or when a run
/// that was told to end has ended.
#[utoipa::path(post, path = "/v1/jobs/{job}/resume", tag = "jobs", operation_id = "resume",
    params(("job" = String, Path, description = "the job's name")),
    responses((status = 200, description = "the job goes on", body = Changed),
        (status = 409, description = "it cannot be now", body = ref("#/components/schemas/Problem"),
            content_type = "application/problem+json")))]
pub(super) async fn resume(
    State(parts): State<Arc<Parts>>,
    Named(job): Named,
    caller: Caller,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Changed>, ApiError> {
    known(&parts, &job)?;
    let resume: Act<()> = |scheduler, job, who| scheduler.resume(job, who).boxed();
    recorded(&parts, caller, "resume", &job, resume).await?;
    changed(&parts, job)
}

/// Cancel the run at work
///
/// The epoch at work is finished, and the run is not tried again. What runs all the time stays so
/// until it is resumed, run, or the server starts anew; others run again at their next time.
#[utoipa::path(post, path = "/v1/jobs/{job}/cancel", tag = "jobs", operation_id = "cancel",
    params(("job" = String, Path, description = "the job's name")),
    responses((status = 200, description = "the run ends", body = Changed),
        (status = 409, description = "no run is at work", body = ref("#/components/schemas/Problem"),
            content_type = "application/problem+json")))]
pub(super) async fn cancel(
    State(parts): State<Arc<Parts>>,
    Named(job): Named,
    caller: Caller,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Changed>, ApiError> {
    known(&parts, &job)?;
    let cancel: Act<()> = |scheduler, job, who| scheduler.cancel(job, who).boxed();
    recorded(&parts, caller, "cancel", &job, cancel).await?;
    changed(&parts, job)
}

/// Take changed definitions
///
/// The files are read again. What is wrong with them is told, and everything stays as it is; else
/// jobs that changed are switched over between two of their epochs.
#[utoipa::path(post, path = "/v1/reload", tag = "server", operation_id = "reload", params(How),
    responses((status = 200, description = "what changed, or would change", body = Reloaded),
        (status = 409, description = "they cannot be taken now",
            body = ref("#/components/schemas/Problem"), content_type = "application/problem+json")))]
pub(super) async fn reload(
    State(parts): State<Arc<Parts>>,
    caller: Caller,
    Asked(how): Asked<How>,
) -> Result<Json<Reloaded>, ApiError> {
    // A client that leaves must not leave half a reload behind.
    let work = async move { reload::reload(&parts, &caller.name, how.dry_run).await };
    to_its_end(work).await?.map(Json).map_err(refused)
}

/// Definitions that were not taken.
fn refused(error: ReloadError) -> ApiError {
    match error {
        ReloadError::Problems(problems) => {
            let status = StatusCode::BAD_REQUEST;
            ApiError::new(status, "definitions_refused", problems.to_string())
                .hint("those in force stay; `sluice validate` tells the same")
        }
        ReloadError::Failed(error) => error.into(),
    }
}

/// Who changed what
#[utoipa::path(get, path = "/v1/activity", tag = "server", operation_id = "activity",
    params(Entries),
    responses((status = 200, description = "the newest first", body = ActivityLog)))]
pub(super) async fn activity(
    State(parts): State<Arc<Parts>>,
    Asked(entries): Asked<Entries>,
) -> Result<Json<ActivityLog>, ApiError> {
    let entries = parts.activity.last(entries.limit()?);
    Ok(Json(ActivityLog { entries }))
}

fn changed(parts: &Parts, job: String) -> Result<Json<Changed>, ApiError> {
    let now = known(parts, &job)?;
    Ok(Json(Changed { job, state: state_name(now.state), note: now.note }))
}

/// Something that is done to a job by somebody.
type Act<T> = for<'a> fn(&'a Scheduler, &'a str, &'a str) -> BoxFuture<'a, sluice_core::Result<T>>;

/// Does it, and writes down what became of it: whoever asked for a change stands in the log,
/// whether or not they wait for its end.
async fn recorded<T: Send + 'static>(
    parts: &Arc<Parts>,
    caller: Caller,
    what: &'static str,
    job: &str,
    act: Act<T>,
) -> Result<T, ApiError> {
    let (parts, job) = (parts.clone(), job.to_string());
    let work = async move {
        let done = act(&parts.scheduler, &job, &caller.name).await;
        let outcome = match &done {
            Ok(_) => "done".to_string(),
            Err(error) => format!("refused: {}", error.message()),
        };
        parts.activity.record(&caller.name, what, &job, &outcome);
        done
    };
    Ok(to_its_end(work).await??)
}
