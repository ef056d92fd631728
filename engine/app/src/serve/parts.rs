//! What all parts of a serving process share.
//!
//! In: `serve` makes them in the order they need each other. Out: [`Parts`], one `Arc` that every
//! request and task holds. What a reload changes is behind a watch or a lock of its own part.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use sluice_connectors::webhook::Hub;
use sluice_runtime::epoch::Environment;
use sluice_runtime::job::{LoadOptions, Project};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::page;
use super::query::Queries;
use super::schedule::Scheduler;
use super::shell::{Access, Activity, Health};
use crate::metrics::Board;

/// A value that is replaced as a whole, and whose changes can be waited for.
pub(crate) type Watch<T> = watch::Sender<T>;

/// What all parts of a serving process share.
pub(crate) struct Parts {
    /// Clock, ids, metrics, memory, and the connectors with the hub among them.
    pub(crate) environment: Environment,
    /// What is measured.
    pub(crate) board: Arc<Board>,
    /// The webhook routes and their durable logs.
    pub(crate) hub: Arc<Hub>,
    /// SQL over the published snapshots.
    pub(crate) queries: Arc<Queries>,
    /// Runs of jobs.
    pub(crate) scheduler: Arc<Scheduler>,
    /// Where it can be reached, as the sockets say it.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Tokens and roles.
    pub(crate) access: Arc<Access>,
    /// Who changed what.
    pub(crate) activity: Arc<Activity>,
    /// The definitions in force.
    pub(crate) project: Watch<Arc<Project>>,
    /// What is ready, and what is missing.
    pub(crate) health: Arc<Health>,
    /// What the status page keeps.
    pub(crate) page: page::Desk,
    /// Cancelled when draining begins.
    pub(crate) stop: CancellationToken,
    /// Where definitions are read from again.
    pub(crate) given: Given,
    /// Held while definitions are replaced, so that two reloads do not mix.
    pub(crate) switching: tokio::sync::Mutex<()>,
}

/// What the command line said.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// The project, pack or job file.
    pub(crate) path: PathBuf,
    /// `--target` and `--set`.
    pub(crate) options: LoadOptions,
    /// `--http`, in place of the project's.
    pub(crate) http: Option<String>,
    /// `--postgres`, in place of the project's.
    pub(crate) postgres: Option<String>,
    /// `--state`, in place of the project's.
    pub(crate) state: Option<PathBuf>,
    /// Whether jobs are run although other runners hold them.
    pub(crate) take_over: bool,
}

impl Given {
    /// `project` as it is served: what the command line says wins.
    pub(crate) fn over(&self, mut project: Project) -> Project {
        let serve = &mut project.serve;
        serve.take_over = self.take_over;
        if let Some(http) = &self.http {
            serve.http.clone_from(http);
        }
        if self.postgres.is_some() {
            serve.postgres.clone_from(&self.postgres);
        }
        if let Some(state) = &self.state {
            serve.state.clone_from(state);
        }
        project
    }
}
