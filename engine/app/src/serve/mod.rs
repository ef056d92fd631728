//! `sluice serve`: one process that takes webhooks, runs the jobs of a project on their schedules,
//! and answers questions over HTTP and the PostgreSQL wire.
//!
//! ```text
//! start ─► Parts ─┬─► shell ─► api, endpoint, page, webhooks      HTTP
//!                 ├─► postgres (catalog) ─────┬─► query           SQL
//!                 ├─► schedule                │
//!                 └─► watch ──────────────────┘
//! SIGHUP ─► reload        SIGTERM ─► drain
//! ```
//!
//! In: a project, signals. Out: an exit code, after everything that was begun has ended. This file
//! puts the parts together; each part is a folder of its own.

mod start;

mod parts;

mod sources;

mod shell;

mod api;

mod endpoint;

mod page;

mod query;

mod catalog;

mod postgres;

mod schedule;

mod watch;

mod reload;

mod signal;

mod token;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use sluice_core::{Error, Result};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::failure::Failure;
use start::Assembled;

pub(crate) use parts::{Given, Parts, Watch};
pub(crate) use token::token;

/// How long after its limit the end of a part is waited for: its own limit ends it before.
const BEYOND_DRAIN: Duration = Duration::from_secs(2);

/// Serves until a signal ends it, or until it cannot go on.
pub(crate) async fn serve(app: &App, given: Given) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    signal::watch_end(app.talk.clone(), stop.clone())?;
    let Assembled { parts, http, postgres } = start::assemble(app, given, stop.clone()).await?;
    signal::watch_reload(app.talk.clone(), &parts)?;
    watch::watch(&parts);
    let mut said = format!("serving {} at {}\n", parts.project.borrow().name, http.url());
    let router = shell::app(parts.clone(), routes(&parts));
    let mut servers = vec![open(http.serve(parts.clone(), router)).await?];
    if let Some(door) = postgres {
        said.push_str(&format!("PostgreSQL at {}\n", door.address()));
        servers.push(open(door.serve(parts.clone())).await?);
    }
    parts.health.started();
    app.talk.say(&said);
    let ended = until_stopped(&mut servers, &stop).await;
    drain(&parts, servers).await;
    ended.map_err(Failure::from)
}

/// Starts a server, whose first step opens its port: whoever is told of it is answered.
async fn open(
    server: impl Future<Output = Result<()>> + Send + 'static,
) -> Result<JoinHandle<Result<()>>> {
    let mut server = Box::pin(server);
    match futures::poll!(server.as_mut()) {
        Poll::Ready(ended) => ended.and(Err(Error::unavailable("a server ended at once"))),
        Poll::Pending => Ok(tokio::spawn(server)),
    }
}

/// All routes but those of the shell.
fn routes(parts: &Arc<Parts>) -> Router<Arc<Parts>> {
    let (api, _description) = api::routes();
    endpoint::around(api.merge(page::routes()), parts)
}

/// Waits for the stop. A server that ends before stops everything: half a process is not noticed.
async fn until_stopped(
    servers: &mut [JoinHandle<Result<()>>],
    stop: &CancellationToken,
) -> Result<()> {
    let any = futures::future::select_all(servers.iter_mut());
    let (ended, _, _) = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        ended = any => ended,
    };
    stop.cancel();
    let ended = ended.map_err(|e| Error::bug("a server ended in the middle").because(e))?;
    ended.and(Err(Error::unavailable("a server ended by itself")))
}

/// Ends everything in order: nothing new, then what was asked, then the logs of webhooks; runs end
/// meanwhile, each after its epoch.
async fn drain(parts: &Arc<Parts>, servers: Vec<JoinHandle<Result<()>>>) {
    parts.health.drain();
    let limit = parts.project.borrow().serve.drain;
    let clock = parts.environment.clock.clone();
    let doors = async {
        for server in servers.into_iter().filter(|server| !server.is_finished()) {
            match server.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(error = %error.chain(), "a server ended badly"),
                Err(error) => tracing::error!(%error, "a server ended in the middle"),
            }
        }
        parts.hub.close().await;
    };
    let ends = async { tokio::join!(parts.scheduler.drain(limit), doors) };
    tokio::select! {
        _ = ends => {}
        () = clock.sleep(limit + BEYOND_DRAIN) => {
            tracing::warn!("the end was cut off: what is left is ended by the next process");
        }
    }
    parts.activity.close();
}
