//! Whether the process has started, lives, and can be given work: the four probes.
//!
//! In: what starting and draining tell, the states of what the process depends on, and what runs
//! tell of their sources and stores. Out: a status and its reasons, as JSON. What the process
//! depends on and is missing (a broker, a bucket, a model) is named and leaves it ready: the rest
//! works without it. Nothing is tried here: who uses a dependency says how it is, and says it again
//! when it is back. Everybody is told what is missing; why, which may name paths and hosts, only
//! who has a token, and this machine where nobody needs one.
//!
//! | probe | 200 while |
//! |---|---|
//! | `/health` | work can be given; with a summary for people |
//! | `/health/startup` | the start is done |
//! | `/health/live` | the process answers |
//! | `/health/ready` | work can be given: started, and not draining |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use sluice_core::Clock;
use sluice_core::metric::{HTTP_AT_WORK, READY, Recorder};

use super::error::scrubbed;
use super::{Shell, admit, rules};
use crate::metrics::OPEN_METRICS;
use crate::serve::Parts;

/// Reasons that one answer lists: enough for people, whatever the number of jobs.
const REASONS_MAX: usize = 50;

/// How old the figures may be that are told: everybody may ask for them without limit, and to
/// gather those of thousands of series takes milliseconds. Scrapes are seconds apart.
const FIGURES_AGE: Duration = Duration::from_secs(1);

/// What is known of the process.
#[derive(Debug)]
pub(crate) struct Health {
    clock: Arc<dyn Clock>,
    metrics: Arc<dyn Recorder>,
    since: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    started: bool,
    draining: bool,
    /// Why each of them is missing; none while it is there, or nobody has looked.
    dependencies: BTreeMap<String, Option<String>>,
}

/// Why something does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    /// What it is about: a dependency, a job.
    pub(super) about: String,
    /// What is the matter.
    pub(super) reason: String,
}

impl Reason {
    /// `reason` is what is the matter with `about`, in words that everybody may read.
    pub(super) fn new(about: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { about: about.into(), reason: reason.into() }
    }
}

/// How it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// Everything works.
    Ready,
    /// It works without something.
    Degraded,
    /// The start is not done.
    Starting,
    /// The process is about to end.
    Draining,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Starting => "starting",
            Self::Draining => "draining",
        }
    }

    fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }

    fn code(self) -> StatusCode {
        if self.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

impl Health {
    /// A process that starts now.
    pub(crate) fn new(clock: Arc<dyn Clock>, metrics: Arc<dyn Recorder>) -> Arc<Self> {
        let since = clock.monotonic();
        metrics.set(&READY, &[], 0.0);
        Arc::new(Self { clock, metrics, since, inner: Mutex::default() })
    }

    /// The whole start is done.
    pub(crate) fn started(&self) {
        self.inner.lock().started = true;
        self.tell();
    }

    /// Nothing new is to come: the process ends.
    pub(crate) fn drain(&self) {
        self.inner.lock().draining = true;
        self.tell();
    }

    /// Something that is used, and that the rest works without.
    pub(crate) fn add_dependency(&self, name: &str) {
        self.inner.lock().dependencies.entry(name.to_string()).or_default();
    }

    /// A dependency is not used any more.
    pub(crate) fn remove_dependency(&self, name: &str) {
        self.inner.lock().dependencies.remove(name);
        self.tell();
    }

    /// How a dependency is; `reason` is why it is missing, for those who are known. The name is for
    /// everybody.
    pub(crate) fn set(&self, name: &str, ok: bool, reason: &str) {
        let missing = (!ok).then(|| scrubbed(reason));
        self.inner.lock().dependencies.insert(name.to_string(), missing);
        self.tell();
    }

    /// Whether work can be given, and what does not work, even where it can.
    pub(crate) fn is_ready(&self) -> (bool, Vec<String>) {
        let (status, reasons) = self.status(Vec::new(), true);
        let reasons = reasons.into_iter().map(|r| format!("{}: {}", r.about, r.reason));
        (status.is_ready(), reasons.collect())
    }

    fn tell(&self) {
        let (ready, _) = self.is_ready();
        self.metrics.set(&READY, &[], if ready { 1.0 } else { 0.0 });
    }

    /// How it is, with the troubles of runs. `whole` says why dependencies are missing.
    fn status(&self, troubles: Vec<Reason>, whole: bool) -> (Status, Vec<Reason>) {
        let inner = self.inner.lock();
        let mut reasons = Vec::new();
        if !inner.started {
            reasons.push(Reason::new("start", "the process is starting"));
        }
        if inner.draining {
            reasons.push(Reason::new("drain", "the process ends"));
        }
        for (name, missing) in &inner.dependencies {
            if let Some(why) = missing {
                let why = if whole && !why.is_empty() { why.as_str() } else { "it is missing" };
                reasons.push(Reason::new(name.as_str(), why));
            }
        }
        reasons.extend(troubles);
        let status = match (inner.draining, inner.started, reasons.is_empty()) {
            (true, ..) => Status::Draining,
            (_, false, _) => Status::Starting,
            (_, _, false) => Status::Degraded,
            _ => Status::Ready,
        };
        (status, reasons)
    }

    /// `/health/ready`.
    fn ready(&self, troubles: Vec<Reason>, whole: bool) -> (StatusCode, Value) {
        let (status, reasons) = self.status(troubles, whole);
        (status.code(), json!({"status": status.name(), "reasons": listed(reasons)}))
    }

    /// `/health/startup`.
    fn startup(&self) -> (StatusCode, Value) {
        match self.inner.lock().started {
            true => (StatusCode::OK, json!({"status": "started"})),
            false => (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "starting"})),
        }
    }

    /// `/health`.
    fn summary(&self, troubles: Vec<Reason>, facts: Value, whole: bool) -> (StatusCode, Value) {
        let (status, reasons) = self.status(troubles, whole);
        let dependencies: BTreeMap<String, bool> = {
            let inner = self.inner.lock();
            let all = inner.dependencies.iter();
            all.map(|(name, missing)| (name.clone(), missing.is_none())).collect()
        };
        let uptime = self.clock.monotonic().saturating_sub(self.since).as_secs();
        let body = json!({
            "status": status.name(),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": uptime,
            "reasons": listed(reasons),
            "dependencies": dependencies,
            "jobs": facts,
        });
        (status.code(), body)
    }
}

/// What the process does without, as `/health` tells those who are told why: about what, and what
/// is the matter.
pub(crate) fn concerns(parts: &Parts) -> Vec<(String, String)> {
    let (_, reasons) = parts.health.status(admit::told(parts).0, true);
    listed(reasons).into_iter().map(|reason| (reason.about, reason.reason)).collect()
}

fn listed(mut reasons: Vec<Reason>) -> Vec<Reason> {
    let more = reasons.len().saturating_sub(REASONS_MAX);
    reasons.truncate(REASONS_MAX);
    if more > 0 {
        reasons.push(Reason::new("more", format!("{more} others are not listed")));
    }
    reasons
}

fn answer((status, body): (StatusCode, Value)) -> Response {
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, headers, Json(body)).into_response()
}

/// The probes and `/metrics`.
pub(super) fn probes(shell: Arc<Shell>) -> Router {
    Router::new()
        .route("/health", get(summary))
        .route("/health/startup", get(startup))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shell)
}

async fn metrics(State(shell): State<Arc<Shell>>) -> Response {
    match figures(&shell).await {
        Some(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The figures as text; who asks meanwhile gets the same. None: they cannot be written.
async fn figures(shell: &Shell) -> Option<Bytes> {
    let mut kept = shell.figures.lock().await;
    let now = shell.clock.monotonic();
    if let Some((_, text)) = kept.as_ref().filter(|(at, _)| now.saturating_sub(*at) < FIGURES_AGE) {
        return Some(text.clone());
    }
    let at_work = shell.at_work.load(Ordering::SeqCst);
    shell.metrics.set(&HTTP_AT_WORK, &[], at_work as f64);
    let text = Bytes::from(shell.board.text().ok()?);
    *kept = Some((now, text.clone()));
    Some(text)
}

/// Whether who asks is told everything.
fn is_known(shell: &Shell, request: &Request) -> bool {
    if shell.access.is_open() {
        return admit::is_near(request) && rules::is_local(request.uri(), request.headers());
    }
    shell.access.caller(request.headers()).is_ok_and(|caller| caller.is_some())
}

async fn summary(State(shell): State<Arc<Shell>>, request: Request) -> Response {
    let (troubles, facts) = shell.facts();
    answer(shell.health.summary(troubles, facts, is_known(&shell, &request)))
}

async fn startup(State(shell): State<Arc<Shell>>) -> Response {
    answer(shell.health.startup())
}

async fn live() -> Response {
    answer((StatusCode::OK, json!({"status": "live"})))
}

async fn ready(State(shell): State<Arc<Shell>>, request: Request) -> Response {
    answer(shell.health.ready(shell.facts().0, is_known(&shell, &request)))
}

#[cfg(test)]
mod tests {
    use sluice_core::ManualClock;
    use sluice_core::metric::Unrecorded;

    use super::super::rules::Rules;
    use super::super::tests::{READER, ask, request, shell, text, with};
    use super::*;

    fn health() -> Arc<Health> {
        Health::new(Arc::new(ManualClock::at(0)), Arc::new(Unrecorded))
    }

    fn told(health: &Health, troubles: Vec<Reason>) -> (u16, String, usize) {
        let (code, body) = health.ready(troubles, false);
        let status = body["status"].as_str().unwrap_or_default().to_string();
        (code.as_u16(), status, body["reasons"].as_array().map_or(0, Vec::len))
    }

    #[test]
    fn it_is_ready_from_start_to_drain() {
        let health = health();
        assert_eq!(told(&health, vec![]), (503, "starting".into(), 1));
        assert_eq!(health.startup().0.as_u16(), 503);
        assert_eq!(health.is_ready(), (false, vec!["start: the process is starting".to_string()]));
        health.started();
        assert_eq!(health.startup().0.as_u16(), 200);
        assert_eq!(told(&health, vec![]), (200, "ready".into(), 0));
        health.drain();
        assert_eq!(told(&health, vec![]), (503, "draining".into(), 1));
        assert_eq!(health.startup().0.as_u16(), 200);
    }

    #[test]
    fn what_is_missing_is_named_until_it_is_back() {
        let health = health();
        health.started();
        health.add_dependency("kafka");
        assert_eq!(told(&health, vec![]), (200, "ready".into(), 0));
        health.set("kafka", false, "no broker answers at https://me:secret@host");
        health.set("model", false, "");
        assert_eq!(told(&health, vec![]), (200, "degraded".into(), 2));
        let named = ["kafka: no broker answers at https://***@host", "model: it is missing"];
        assert_eq!(health.is_ready(), (true, named.map(str::to_string).to_vec()));
        health.set("kafka", true, "");
        health.remove_dependency("model");
        assert_eq!(told(&health, vec![]), (200, "ready".into(), 0));
        let trouble = Reason::new("job bookings", "it failed 3 times in a row");
        assert_eq!(told(&health, vec![trouble]), (200, "degraded".into(), 1));
    }

    #[test]
    fn answers_stay_short() {
        let health = health();
        health.started();
        let troubles = (0..100).map(|n| Reason::new(format!("job {n}"), "it failed"));
        assert_eq!(told(&health, troubles.collect()), (200, "degraded".into(), REASONS_MAX + 1));
        let (code, body) = health.summary(Vec::new(), json!({"running": 1}), false);
        assert_eq!((code.as_u16(), &body["jobs"]["running"]), (200, &json!(1)));
    }

    #[tokio::test]
    async fn strangers_are_told_what_is_missing_and_not_why() {
        let cases = [
            (false, "", "localhost", false),
            (false, "forged", "localhost", false),
            (false, READER, "far.example", true),
            (true, "", "localhost:8080", true),
            (true, "", "far.example", false),
        ];
        for (open, token, host, whole) in cases {
            let shell = Arc::new(shell(Rules::plain(1_000), open));
            shell.health.set("lake of job shop", false, "cannot list /mnt/lake on host-7");
            let app = shell.wrap(Router::new());
            for path in ["/health", "/health/ready"] {
                let asked = with(request("GET", path, token), "host", host);
                let body = text(ask(&app, asked).await).await;
                assert!(body.contains("lake of job shop"), "{body}");
                assert_eq!(body.contains("/mnt/lake"), whole, "{open} {token} {host}: {body}");
                assert_eq!(body.contains("it is missing"), !whole, "{body}");
            }
        }
    }

    #[tokio::test]
    async fn figures_are_gathered_once_a_second() {
        let shell = Arc::new(shell(Rules::plain(1_000), false));
        let app = shell.clone().wrap(Router::new());
        let figures = async || text(ask(&app, request("GET", "/metrics", "")).await).await;
        let first = figures().await;
        assert_eq!(figures().await, first);
        shell.clock.sleep(FIGURES_AGE).await;
        let later = figures().await;
        // Those two requests are in it.
        let counted = r#"sluice_http_requests_total{method="GET",route="/metrics",status="2xx"} 2"#;
        assert!(!first.contains(counted) && later.contains(counted), "{later}");
    }
}
