//! From a path to planned jobs: what a command or a server works with.
//!
//! In: a job file, a pack or a project, `--target`, `--set`. Out: the project and the graphs of its
//! jobs in run order, or everything that is wrong. No store is opened, unless what sources learned
//! is asked for.

use std::path::Path;
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use sluice_connectors::webhook;
use sluice_core::{Problems, Result};
use sluice_runtime::epoch::Environment;
use sluice_runtime::function::{EpochTime, SessionOptions, session};
use sluice_runtime::job::{LoadOptions, Loaded, Project, read_all, resolve_secrets};
use sluice_runtime::plan::{Graph, build_pack};
use sluice_runtime::query::{Readable, check_endpoints};
use sluice_runtime::recover::remember;

use crate::environment::secret;
use crate::failure::Failure;

/// Which columns a job is planned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Those of its schemas.
    Declared,
    /// Also those that its sources learned, as far as the lake knows.
    Learned,
}

/// What was read, planned.
pub(crate) struct Definitions {
    /// The project, or one with defaults around a pack or job file.
    pub(crate) project: Project,
    /// The jobs of all its packs, each pack's in run order.
    pub(crate) graphs: Vec<Arc<Graph>>,
}

/// Reads and plans what `path` names, or says everything that is wrong with it.
pub(crate) async fn define(
    environment: &Environment,
    path: &Path,
    options: &LoadOptions,
    columns: Columns,
) -> Result<Definitions, Failure> {
    let registry = &environment.registry;
    let (mut loaded, mut problems) = read_all(path, options, registry);
    if columns == Columns::Learned && problems.is_empty() {
        learn(environment, &mut loaded).await;
    }
    // Statements are planned even when something else is wrong, so that all is told at once.
    let mut graphs = Vec::new();
    let mut wrong = Problems::new();
    for pack in &loaded.packs {
        match build_pack(&context(environment)?, pack, registry).await {
            Ok(of_pack) => graphs.extend(of_pack.into_iter().map(Arc::new)),
            Err(found) => wrong.extend(found),
        }
    }
    let project = loaded.whole(path);
    // A job that cannot be read takes its relations with it.
    let of_project = project.file.as_deref();
    let all = problems.sorted().iter().all(|p| Some(p.file.as_path()) == of_project);
    check_webhooks(&loaded, &project, &mut problems);
    // Without its relations a query cannot be judged.
    if wrong.is_empty() {
        let context = context(environment)?;
        check_endpoints(&context, &project.endpoints, &graphs, all, &mut wrong).await;
    }
    problems.extend(wrong);
    if problems.is_empty() { Ok(Definitions { project, graphs }) } else { Err(problems.into()) }
}

/// A path belongs to one webhook, or to an endpoint.
fn check_webhooks(loaded: &Loaded, project: &Project, problems: &mut Problems) {
    let jobs = loaded.packs.iter().flat_map(|pack| &pack.jobs);
    let webhooks = jobs.flat_map(|job| {
        let sources = job.sources.iter().filter(|source| source.connector == "webhook");
        sources.map(|source| (job.name.as_str(), &source.config))
    });
    let endpoints = project.endpoints.iter().map(|e| (e.name.as_str(), e.path.as_str()));
    let endpoints: Vec<(&str, &str)> = endpoints.collect();
    webhook::check_paths(webhooks.clone(), problems);
    webhook::check_endpoints(webhooks, &endpoints, problems);
}

/// Gives jobs the columns that their sources learned. Whatever keeps a lake from being read, the
/// command itself will meet and say.
async fn learn(environment: &Environment, loaded: &mut Loaded) {
    for job in loaded.packs.iter_mut().flat_map(|pack| &mut pack.jobs) {
        let Ok(secrets) = resolve_secrets(job, secret) else { continue };
        if let Ok(learned) = remember(environment, job, &secrets).await {
            *job = learned;
        }
    }
}

fn context(environment: &Environment) -> Result<SessionContext> {
    let time = EpochTime::default();
    time.set_ms(environment.clock.wall_ms());
    session(&SessionOptions {
        memory: environment.pool.clone(),
        partitions: environment.partitions,
        time,
    })
}

/// Looks up the secrets of all jobs; one that has no value stops the command before it begins.
pub(crate) fn readable(graphs: Vec<Arc<Graph>>) -> Result<Vec<Readable>, Failure> {
    let with = |graph: Arc<Graph>| {
        let secrets = resolve_secrets(&graph.job, secret)?;
        Ok(Readable { graph, secrets })
    };
    graphs.into_iter().map(with).collect()
}
