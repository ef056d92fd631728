//! All webhooks of a process: who listens on which path, and where deliveries go.
//!
//! In: sources that begin to listen, and requests. Out: answers, or nothing where no source has the
//! path. Routes are looked up with each request, so that a reload replaces them and nobody notices.
//! Whoever has a server asks [`Hub::handle`]; a run without one listens by itself (`listener`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use sluice_core::metric::Recorder;
use sluice_core::{Clock, Config, Context, Error, Ids, Result};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, Means};
use super::config::Settings;
use super::limit::Bucket;
use super::listener::Listeners;
use super::log::record::{About, Entry};
use super::log::slot::Place;
use super::request;
use super::route::{Route, Table};

/// What a hub is made with.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// The folder for what processes keep, on a disk of this machine.
    pub state: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Identifiers.
    pub ids: Arc<dyn Ids>,
    /// Told what is measured.
    pub metrics: Arc<dyn Recorder>,
    /// Whether sources of runs that follow listen by themselves, at the address of their settings:
    /// there is no server that does it.
    pub listens: bool,
}

/// The id that a server gave a request, among its extensions: refusals repeat it.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// All webhooks of a process.
pub struct Hub {
    state: PathBuf,
    listens: bool,
    pub(super) means: Means,
    table: RwLock<Arc<Table>>,
    channels: Mutex<BTreeMap<(String, String), Arc<Channel>>>,
    /// Bytes of bodies in memory.
    pub(super) bodies: AtomicUsize,
    pub(super) closing: CancellationToken,
    listeners: Listeners,
}

/// A source that is sent to.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteInfo {
    /// The job.
    pub job: String,
    /// The source.
    pub source: String,
    /// Its path, as the job file says it.
    pub path: String,
    /// How deliveries prove themselves; none where they do not.
    pub verify: Option<&'static str>,
    /// When they are acknowledged: `durable` or `sealed`.
    pub ack: &'static str,
    /// Deliveries that were accepted since the process began.
    pub accepted: u64,
    /// Deliveries that had come before.
    pub duplicates: u64,
    /// Deliveries that were refused.
    pub refused: u64,
    /// Rows that were accepted.
    pub rows: u64,
    /// Bytes that were accepted.
    pub bytes: u64,
    /// When the last delivery was accepted, in milliseconds since 1970.
    pub last_ms: Option<i64>,
    /// Rows that wait in this process's log.
    pub backlog_rows: u64,
    /// Bytes of them.
    pub backlog_bytes: u64,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub that nobody sends to yet. Nothing is opened.
    pub fn new(settings: HubSettings) -> Arc<Self> {
        let HubSettings { state, clock, ids, metrics, listens } = settings;
        Arc::new(Self {
            state,
            listens,
            means: Means { clock, ids, metrics },
            table: RwLock::default(),
            channels: Mutex::default(),
            bodies: AtomicUsize::new(0),
            closing: CancellationToken::new(),
            listeners: Listeners::default(),
        })
    }

    /// Answers a request; nothing where no source has its path.
    pub async fn handle(&self, request: Request) -> Option<Response> {
        let table = self.table.read().clone();
        let route = table.find(request.uri().path())?;
        Some(request::serve(self, &route, request).await)
    }

    /// A router for a listener that serves nothing else: other paths are not found.
    pub fn router(self: &Arc<Self>) -> Router {
        let hub = self.clone();
        Router::new().fallback(move |request: Request| {
            let hub = hub.clone();
            async move {
                let answer = hub.handle(request).await;
                answer.unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
            }
        })
    }

    /// The path that the source of a request's path has in its job file; none where no source has
    /// it.
    pub fn template(&self, path: &str) -> Option<Arc<str>> {
        self.table.read().find(path).map(|route| route.settings.pattern.text().clone())
    }

    /// Whether a path begins with the same word as that of a source: a delivery that goes there
    /// and that no source has was meant for one.
    pub fn is_near(&self, path: &str) -> bool {
        self.table.read().is_near(path)
    }

    /// All sources that are sent to.
    pub fn routes(&self) -> Vec<RouteInfo> {
        let table = self.table.read().clone();
        table.all().iter().map(|route| info(route)).collect()
    }

    /// Listens no more for sources that are not to stay, and lets go of their logs: what is in them
    /// stays there.
    pub async fn retain(&self, stays: impl Fn(&str, &str) -> bool + Send + Sync) {
        {
            let mut table = self.table.write();
            *table = Arc::new(table.retain(&stays));
        }
        let mut gone = Vec::new();
        self.channels.lock().retain(|(job, source), channel| {
            let stay = stays(job, source);
            if !stay {
                gone.push(channel.clone());
            }
            stay
        });
        close(gone).await;
    }

    /// Puts rows into the log of a source, as if they had been delivered: they are on the disk when
    /// this returns. Errors: `Config` when there is no such source, `Unavailable` when the log
    /// cannot be written.
    pub async fn append(&self, job: &str, source: &str, rows: Vec<Value>) -> Result<()> {
        let table = self.table.read().clone();
        let route = table.all().iter().find(|r| r.job == job && r.source == source);
        let route = route.ok_or_else(|| {
            Error::config(format!("no webhook listens for this source job={job} source={source}"))
        })?;
        if rows.is_empty() {
            return Ok(());
        }
        let about = About { received_ms: self.means.clock.wall_ms(), ..About::default() };
        let rows = rows.iter().map(|row| Bytes::from(row.to_string())).collect();
        let entry = Entry { id: None, about: Arc::new(about), rows };
        let backlog = route.settings.limits.backlog_bytes;
        let appended = route.channel.append(vec![entry], backlog).await;
        appended.map(drop).map_err(|_| {
            Error::unavailable(format!("the log cannot be written job={job} source={source}"))
                .hint("is there room on the disk, and does the job run?")
        })
    }

    /// Takes nothing in any more, and lets go of all logs when what is under way is written. Call
    /// it when no connection is left that may bring a delivery.
    pub async fn close(&self) {
        self.closing.cancel();
        let channels = self.channels.lock().values().cloned().collect();
        close(channels).await;
    }

    /// Whether requests are turned away because the process ends.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Listens for a source from now on; its log is open when this returns. What listened for it
    /// before is replaced. Errors: `Config` when another source has the path; `Unavailable` when
    /// the log cannot be opened: then deliveries are put off until it can.
    pub(super) async fn listen(&self, config: &Config, context: &Context) -> Result<()> {
        let route = self.route(config, context)?;
        let channel = route.channel.clone();
        {
            let mut table = self.table.write();
            *table = Arc::new(table.with(route)?);
        }
        channel.open().await
    }

    fn route(&self, config: &Config, context: &Context) -> Result<Route> {
        let settings = Settings::of(config, &context.secrets)?;
        let (job, source) = (context.job.clone(), config.name.clone());
        let now = self.means.clock.monotonic();
        Ok(Route {
            bucket: settings.limits.rate.map(|rate| Bucket::new(rate, now)),
            permits: Arc::new(Semaphore::new(settings.limits.concurrent)),
            channel: self.channel(&job, &source),
            job,
            source,
            settings,
        })
    }

    /// Listens for exactly these sources from now on, all at once; the logs of others are let go
    /// of. What keeps a log from being opened is told by job and source: deliveries are put off
    /// until it can be. Errors: `Config` when two sources have one path; then everything stays as
    /// it was.
    pub async fn replace(
        &self,
        sources: &[(Config, Context)],
    ) -> Result<Vec<(String, String, Error)>> {
        let mut table = Table::default();
        for (config, context) in sources {
            table = table.with(self.route(config, context)?)?;
        }
        let routes = table.all().to_vec();
        *self.table.write() = Arc::new(table);
        self.retain(|job, source| routes.iter().any(|r| r.job == job && r.source == source)).await;
        let mut closed = Vec::new();
        for route in routes {
            if let Err(error) = route.channel.open().await {
                closed.push((route.job.clone(), route.source.clone(), error));
            }
        }
        Ok(closed)
    }

    /// Listens by itself for a source of a run that follows, if no server does.
    pub(super) async fn listen_alone(
        self: &Arc<Self>,
        config: &Config,
        context: &Context,
        address: &str,
    ) -> Result<()> {
        if !self.listens {
            return Ok(());
        }
        self.listen(config, context).await?;
        self.listeners.listen(self, address).await
    }

    /// What takes in deliveries of a source, and what it reads.
    pub(super) fn channel(&self, job: &str, source: &str) -> Arc<Channel> {
        let mut channels = self.channels.lock();
        let channel = channels.entry((job.to_string(), source.to_string())).or_insert_with(|| {
            let place = Place::new(&self.state, job, source);
            Channel::new(place, job, source, self.means.clone())
        });
        channel.clone()
    }
}

fn info(route: &Route) -> RouteInfo {
    let counters = &route.channel.counters;
    let (backlog_rows, backlog_bytes) = route.channel.backlog();
    let last = counters.last_ms.load(Ordering::Relaxed);
    RouteInfo {
        job: route.job.clone(),
        source: route.source.clone(),
        path: route.settings.pattern.text().to_string(),
        verify: route.settings.verify_name,
        ack: route.settings.ack.name(),
        accepted: counters.accepted.load(Ordering::Relaxed),
        duplicates: counters.duplicates.load(Ordering::Relaxed),
        refused: counters.refused.load(Ordering::Relaxed),
        rows: counters.rows.load(Ordering::Relaxed),
        bytes: counters.bytes.load(Ordering::Relaxed),
        last_ms: (last > 0).then_some(last),
        backlog_rows,
        backlog_bytes,
    }
}

async fn close(channels: Vec<Arc<Channel>>) {
    let closed = tokio::task::spawn_blocking(move || {
        for channel in &channels {
            channel.close();
        }
    });
    if let Err(error) = closed.await {
        tracing::error!(%error, "closing the logs of webhooks broke off");
    }
}
