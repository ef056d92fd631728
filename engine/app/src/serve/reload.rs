//! Changed definitions, taken by a running process.
//!
//! ```text
//! read and plan ─► broken: refused, what runs stays
//!    └─► compare ─► ask the lakes ─► dry run: told, nothing else
//!                       └─► webhooks ─► jobs ─► users ─► tables, limits, endpoints
//! ```
//!
//! In: the files, once more. Out: what changed and why, or all that is wrong. Everything that may
//! be refused is asked first; jobs are switched by the scheduler, each between two of its epochs.

mod changes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sluice_core::{Error, Problems};
use sluice_runtime::job::UserSpec;
use sluice_runtime::query::Readable;
use sluice_runtime::recover::{definition_changes, replan};
use utoipa::ToSchema;

use self::changes::{changes, foretell, moves_relations};
use super::Parts;
use super::shell::{Access, refuse_strangers};
use super::sources;
use crate::definitions::{Columns, define};
use crate::failure::Failure;

/// How long the lakes of changed jobs may take to say what that means for them: who reloads is not
/// kept waiting by one that is away, and is told only the names then.
const FORESIGHT_MAX: Duration = Duration::from_secs(5);

/// Settings of `serve` that a process takes at its start.
const AT_START: [&str; 4] = ["http", "postgres", "state", "history"];

/// What a reload changed, or would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Reloaded {
    /// The changes; none: the files say what is in force already.
    pub(crate) changes: Vec<Change>,
    /// Whether they are in force.
    pub(crate) applied: bool,
    /// Settings of `serve` among them that count only when the process is started again.
    pub(crate) at_start: Vec<String>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Change {
    /// `job`, `user`, `endpoint` or `serve`.
    pub(crate) kind: &'static str,
    /// What has changed.
    pub(crate) name: String,
    /// `added`, `removed` or `changed`.
    pub(crate) how: &'static str,
    /// What of it is another, such as `schedule` or `table facts changed`; behind a colon what a
    /// run would do about that, as `sluice plan` says it.
    pub(crate) reasons: Vec<String>,
}

/// Why definitions were not taken. Those in force stay.
#[derive(Debug)]
pub(crate) enum ReloadError {
    /// The files are wrong.
    Problems(Problems),
    /// They are right and cannot be taken.
    Failed(Error),
}

impl From<Failure> for ReloadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Problems(problems) => Self::Problems(problems),
            Failure::Usage(error) | Failure::Failed(error) => Self::Failed(error),
            Failure::Found | Failure::Closed => {
                Self::Failed(Error::bug("definitions ended without an answer"))
            }
        }
    }
}

impl From<Error> for ReloadError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads the definitions again, and takes them unless `dry_run`. Errors: what is wrong with them,
/// which leaves everything as it was; or a disk that failed while the scheduler took them, after
/// which the next reload takes the rest.
pub(crate) async fn reload(
    parts: &Parts,
    who: &str,
    dry_run: bool,
) -> Result<Reloaded, ReloadError> {
    let _switching = parts.switching.lock().await;
    let result = work(parts, dry_run).await;
    let outcome = match &result {
        Ok(reloaded) => counted(reloaded.changes.len(), "change"),
        Err(ReloadError::Problems(problems)) => {
            format!("refused: {}", counted(problems.sorted().len(), "problem"))
        }
        Err(ReloadError::Failed(error)) => format!("refused: {}", error.message()),
    };
    tracing::info!(who, dry_run, outcome, "definitions were read again");
    if !dry_run {
        parts.activity.record(who, "reload", &parts.project.borrow().name, &outcome);
    }
    result
}

async fn work(parts: &Parts, dry_run: bool) -> Result<Reloaded, ReloadError> {
    let given = &parts.given;
    let found = define(&parts.environment, &given.path, &given.options, Columns::Declared).await?;
    let mut project = given.over(found.project);
    // That was for the first runs of the process.
    project.serve.take_over = false;
    let project = Arc::new(project);
    let (jobs, secrets) = sources::with_secrets(found.graphs, project.clone()).await?;
    let before = parts.project.borrow().clone();
    let mut changes = changes(&before, &project, &parts.queries.jobs(), &jobs);
    // What it would say when it is done, said before anything is.
    Access::new(&project.users, &secrets)?;
    refuse_open(&project.users, &parts.addresses)?;
    foresee(parts, &jobs, &mut changes).await;
    let at_start = at_start(&changes);
    if dry_run {
        return Ok(Reloaded { changes, applied: false, at_start });
    }
    if !at_start.is_empty() {
        let settings = at_start.join(", ");
        tracing::warn!(settings, "settings of `serve` that changed count at the next start");
    }
    sources::listen(&parts.hub, &parts.environment, &jobs).await?;
    parts.scheduler.reload(&project, jobs.clone()).await?;
    parts.access.replace(&project.users, &secrets)?;
    parts.queries.set_jobs(jobs);
    parts.queries.set_limits((&project.serve.limits).into());
    parts.project.send_replace(project);
    Ok(Reloaded { changes, applied: true, at_start })
}

/// `1 change`, `2 changes`.
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Refuses to take all users away while others can reach the process: at the addresses that it has,
/// whatever the files say now.
fn refuse_open(users: &[UserSpec], addresses: &[SocketAddr]) -> Result<(), Error> {
    for address in addresses {
        refuse_strangers(&address.to_string(), *address, users.is_empty()).map_err(|error| {
            error.hint("keep `users:`; to go without, start again with `serve` at 127.0.0.1")
        })?;
    }
    Ok(())
}

/// Which settings of `serve` changed and are not taken now.
fn at_start(changes: &[Change]) -> Vec<String> {
    let of_serve = changes.iter().filter(|change| change.kind == "serve");
    let late = of_serve.flat_map(|c| &c.reasons).filter(|r| AT_START.contains(&r.as_str()));
    late.cloned().collect()
}

/// Asks the lakes of changed jobs what a run would do. What they do not say in time, or cannot, is
/// left out.
async fn foresee(parts: &Parts, jobs: &[Readable], changes: &mut [Change]) {
    let environment = &parts.environment;
    let clock = &environment.clock;
    let end = clock.monotonic() + FORESIGHT_MAX;
    for change in changes {
        let job = jobs.iter().find(|job| job.graph.job.name == change.name);
        let job = job.filter(|_| moves_relations(change));
        let Some(Readable { graph, secrets }) = job else { continue };
        let planned = async {
            let graph = replan(environment, graph, secrets).await?;
            definition_changes(environment, &graph, secrets).await
        };
        let said = tokio::select! {
            said = planned => said.unwrap_or_default(),
            () = clock.sleep(end.saturating_sub(clock.monotonic())) => Vec::new(),
        };
        foretell(change, &said);
    }
}

#[cfg(test)]
mod tests {
    use sluice_core::Kind;
    use sluice_runtime::job::{Role, TokenRef};

    use super::*;

    #[test]
    fn what_counts_at_the_next_start_is_told() {
        let change = |kind, reasons: &[&str]| Change {
            kind,
            name: "shop".to_string(),
            how: "changed",
            reasons: reasons.iter().map(|reason| reason.to_string()).collect(),
        };
        let changes = [change("job", &["http"]), change("serve", &["http", "drain", "postgres"])];
        assert_eq!(at_start(&changes), ["http", "postgres"]);
        assert_eq!([counted(1, "change"), counted(0, "problem")], ["1 change", "0 problems"]);
    }

    #[test]
    fn users_stay_while_others_can_reach_the_process() {
        let token = TokenRef::Sha256("0".repeat(64));
        let users = [UserSpec { name: "ana".to_string(), role: Role::Read, token }];
        let at = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let (near, far) =
            (at(&["127.0.0.1:80", "[::1]:5432"]), at(&["127.0.0.1:80", "0.0.0.0:5432"]));
        assert!(refuse_open(&[], &near).is_ok());
        assert!(refuse_open(&users, &far).is_ok());
        let error = refuse_open(&[], &far).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.message().contains("0.0.0.0:5432"), "{error:?}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("users")), "{error:?}");
    }
}
