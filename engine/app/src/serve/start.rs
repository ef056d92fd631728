//! The start: everything is read and made before a port is opened, so that the first request finds
//! all of it.
//!
//! ```text
//! files ─► secrets ─► users ─► ports taken ─┬─► webhooks ─► runs ─► records ─► ports opened
//!    what is wrong ends it: exit code 2     └─► a log, lake or broker that is away ends nothing
//! ```
//!
//! In: what the command line says. Out: the parts, and ports that are taken and not yet open.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluice_connectors::registry_with;
use sluice_core::{Error, Result};
use sluice_runtime::epoch::Environment;
use tokio_util::sync::CancellationToken;

use super::postgres::Door;
use super::query::Queries;
use super::schedule::{History, Scheduler};
use super::shell::{Access, Activity, Health, Port};
use super::{Given, Parts, Watch, page, sources};
use crate::app::App;
use crate::definitions::{Columns, Definitions, define};
use crate::environment::hub;
use crate::failure::Failure;
use crate::metrics::Board;

/// How long the first look at published records may take before the ports are opened: readers are
/// to see rows from the first moment on, but a lake that does not answer keeps nobody waiting.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(5);

/// The system table of runs.
const RUNS: &str = "runs";

/// What is ready to be opened.
pub(super) struct Assembled {
    pub parts: Arc<Parts>,
    pub http: Port,
    pub postgres: Option<Door>,
}

/// Makes all parts.
pub(super) async fn assemble(
    app: &App,
    given: Given,
    stop: CancellationToken,
) -> Result<Assembled, Failure> {
    let board = Board::new(app.pool.clone());
    let environment = Environment { metrics: board.clone(), ..app.environment.clone() };
    let found = define(&environment, &given.path, &given.options, Columns::Declared).await?;
    let Definitions { project, graphs } = found;
    let project = Arc::new(given.over(project));
    make_folder(&project.serve.state)?;
    let (jobs, secrets) = sources::with_secrets(graphs, project.clone()).await?;
    let access = Arc::new(Access::new(&project.users, &secrets)?);
    let http = Port::take(&project.serve, &access)?;
    let postgres = Door::take(&project.serve, &access)?;
    let of_postgres = postgres.as_ref().map(Door::address);
    let addresses = std::iter::once(http.address()).chain(of_postgres).collect();
    let health = Health::new(environment.clock.clone(), board.clone());
    let activity =
        Activity::open(&project.serve.state, environment.clock.clone(), environment.ids.as_ref())?;
    let hub = hub(&environment, &project.serve.state, false);
    let environment = Environment { registry: registry_with(hub.clone()), ..environment };
    let queries = Queries::new(&environment, (&project.serve.limits).into())?;
    queries.set_jobs(jobs.clone());
    sources::listen(&hub, &environment, &jobs).await?;
    let scheduler = Scheduler::start(environment.clone(), &project, jobs, stop.clone()).await?;
    let history = scheduler.history();
    queries.add_system_table(RUNS, History::schema(), move || history.table());
    first_look(&environment, &queries).await;
    let parts = Parts {
        environment,
        board,
        hub,
        queries,
        scheduler,
        addresses,
        access,
        activity,
        project: Watch::new(project),
        health,
        page: page::Desk::default(),
        stop,
        given,
        switching: tokio::sync::Mutex::default(),
    };
    Ok(Assembled { parts: Arc::new(parts), http, postgres })
}

/// Makes the state folder, on the disk before anything is put into it.
fn make_folder(state: &Path) -> Result<()> {
    let missing: Vec<&Path> = state.ancestors().take_while(|folder| !folder.is_dir()).collect();
    let made = std::fs::create_dir_all(state).and_then(|()| {
        // The name of a folder lies in the one around it.
        missing.iter().try_for_each(|folder| {
            let around = folder.parent().filter(|around| !around.as_os_str().is_empty());
            File::open(around.unwrap_or(Path::new(".")))?.sync_all()
        })
    });
    made.map_err(|e| {
        Error::config(format!("the state folder cannot be made folder={}", state.display()))
            .hint("`serve.state` or --state names a folder on a local disk to write to")
            .because(e)
    })
}

/// Looks for published records once; whatever keeps it from them, the watch says and tries again.
async fn first_look(environment: &Environment, queries: &Queries) {
    tokio::select! {
        _ = queries.refresh() => {}
        () = environment.clock.sleep(FIRST_LOOK_MAX) => {}
    }
}
