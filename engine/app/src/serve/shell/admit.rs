//! Who is let in, and for how much: the layers between a request's head and its route.
//!
//! In: requests, the rules in force. Out: the answer of whoever is behind, or a refusal. The order
//! matters: nobody's body is read before it is known that they may ask.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use sluice_connectors::webhook::RequestId;
use sluice_core::metric::{CIRCUIT_OPEN, DEPENDENCY_MISSING, HTTP_BYTES, SINK_FAILURES, Series};
use sluice_runtime::job::Project;
use tokio::sync::watch;
use tower::ServiceExt as _;
use tower_http::compression::predicate::{NotForContentType, Predicate as _};
use tower_http::compression::{CompressionLayer, CompressionLevel, DefaultPredicate};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::auth::{Caller, permitted};
use super::body::Arriving;
use super::error::{ApiError, screen};
use super::health::{self, Reason};
use super::limit::{Client, Left};
use super::listen::Peer;
use super::request::{self, Counted, Origin, observe};
use super::rules::{self, Class, Rules};
use super::{Shell, limiter};
use crate::metrics::Board;
use crate::serve::Parts;
use crate::serve::schedule::State as JobStatus;

/// How long browsers may remember what a preflight said.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// Failures of a job in a row that are a trouble: one may be chance.
const FAILURES_LEAST: u32 = 2;

/// A run that works for so long is well, with nothing to take as well.
const WELL_AFTER_MS: i64 = 60_000;

/// Lets webhooks out of the way of everything that is not theirs.
pub(super) async fn hooks(
    State(shell): State<Arc<Shell>>,
    request: Request,
    next: Next,
) -> Response {
    let hook = shell.hook(request.uri().path());
    let (Some(template), Some(hooks)) = (hook, &shell.hooks) else {
        return next.run(request).await;
    };
    let (mut request, arriving) = match Arriving::watch(request, u64::MAX, &shell.clock) {
        Ok(watched) => watched,
        Err(refused) => return refused.into_response(),
    };
    if let Some(id) = request::current() {
        request.extensions_mut().insert(RequestId(id));
    }
    let answered = hooks.router.clone().oneshot(request).await;
    let response = answered.unwrap_or_else(|never| match never {});
    let mut response = arriving.verdict(response);
    shell.metrics.count(&HTTP_BYTES, &["in"], arriving.bytes());
    response.extensions_mut().insert(Counted(template));
    response
}

/// Finds out who asks, whether they may, and whether they ask too often.
pub(super) async fn admit(
    State(shell): State<Arc<Shell>>,
    mut request: Request,
    next: Next,
) -> Response {
    let address = request.extensions().get::<Origin>().and_then(|origin| origin.0);
    let client = Client::at(address);
    let class = class(&shell, &request);
    if class == Class::Probe {
        return next.run(request).await;
    }
    let caller = match known(&shell, &request, class, &client) {
        Ok(caller) => caller,
        Err(refused) => return refusal(refused, request.headers()),
    };
    let bucket = caller.as_ref().map_or(client, |caller| bucket(&shell, caller, address));
    let limiter = shell.limiter.read().clone();
    let left = match limiter.take(&bucket) {
        Ok(left) => left,
        Err((left, wait)) => {
            let refused = ApiError::too_many("too many requests of one client", wait)
                .hint("ask less often, or raise serve.limits.requests");
            return marked(refused.into_response(), left, caller);
        }
    };
    if let Err(refused) = allowed(&shell, &request, class, caller.as_ref()) {
        return marked(refusal(refused, request.headers()), left, caller);
    }
    if let Some(caller) = &caller {
        request.extensions_mut().insert(caller.clone());
    }
    let mut response = marked(next.run(request).await, left, caller);
    if matches!(class, Class::Guarded(_)) {
        // What needs a token is nobody else's to keep.
        let private = HeaderValue::from_static("private, no-cache");
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(private);
    }
    response
}

fn class(shell: &Shell, request: &Request) -> Class {
    let (rules, path) = (shell.rules(), request.uri().path());
    let routed = request.extensions().get::<MatchedPath>().is_some();
    // A delivery that goes astray is told that nobody is there: no token would help it.
    if !routed && !rules.is_declared(path) && shell.is_astray(path) {
        return Class::Public;
    }
    rules.class(request.method(), path, routed)
}

/// Who asks. Errors: a token that nobody has, where somebody is needed.
fn known(
    shell: &Shell,
    request: &Request,
    class: Class,
    client: &Client,
) -> Result<Option<Caller>, ApiError> {
    match shell.access.caller(request.headers()) {
        Ok(caller) => Ok(caller),
        // Whoever everybody may ask answers those too who got their token wrong.
        Err(_) if class == Class::Public => Ok(None),
        Err(refused) => Err(match shell.attempts.take(client) {
            Ok(_) => {
                tracing::warn!(?client, path = request.uri().path(), "a token that nobody has");
                refused
            }
            Err((_, wait)) => ApiError::too_many("too many tokens that nobody has", wait),
        }),
    }
}

/// Whose bucket a request is taken from: users have one each, and those of an open process, who cannot
/// be told apart, one per address.
fn bucket(shell: &Shell, caller: &Caller, address: Option<IpAddr>) -> Client {
    match shell.access.is_open() {
        true => Client::at(address),
        false => Client::User(caller.name.clone()),
    }
}

/// Errors: nobody is there where somebody is needed, or somebody who may not.
fn allowed(
    shell: &Shell,
    request: &Request,
    class: Class,
    caller: Option<&Caller>,
) -> Result<(), ApiError> {
    let Class::Guarded(role) = class else { return Ok(()) };
    permitted(caller, role)?;
    let (uri, headers) = (request.uri(), request.headers());
    if shell.access.is_open() && !(is_near(request) && rules::is_local(uri, headers)) {
        return Err(ApiError::forbidden("without users only this machine is answered").hint(
            "ask for localhost or 127.0.0.1 on the machine itself, or add `users:` to the project",
        ));
    }
    if shell.rules().is_foreign(request.method(), uri, headers) {
        return Err(ApiError::forbidden("a page of another origin sends this")
            .hint("add its origin to serve.cors if it may"));
    }
    Ok(())
}

/// Whether this machine sends it, as far as that is known: at the other end of the connection, and
/// behind proxies that are believed.
pub(super) fn is_near(request: &Request) -> bool {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0.address.ip());
    let origin = request.extensions().get::<Origin>().and_then(|origin| origin.0);
    peer.into_iter().chain(origin).all(|address| address.to_canonical().is_loopback())
}

/// A refusal; browsers are asked for a password where they show a page.
fn refusal(refused: ApiError, headers: &HeaderMap) -> Response {
    let mut response = refused.into_response();
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let page = accept.is_some_and(|accept| accept.contains("text/html"));
    if page && response.status() == StatusCode::UNAUTHORIZED {
        let basic = HeaderValue::from_static("Basic realm=\"sluice\", charset=\"UTF-8\"");
        response.headers_mut().append(header::WWW_AUTHENTICATE, basic);
    }
    response
}

/// An answer with what is left of the client's requests, and with who asked, for the log.
fn marked(mut response: Response, left: Left, caller: Option<Caller>) -> Response {
    left.tell(response.headers_mut());
    if let Some(caller) = caller {
        response.extensions_mut().insert(caller);
    }
    response
}

/// Keeps a body to its size and time, and the answer to the time until it begins.
pub(super) async fn bounded(
    State(shell): State<Arc<Shell>>,
    request: Request,
    next: Next,
) -> Response {
    let rules = shell.rules();
    let (request, arriving) = match Arriving::watch(request, rules.body, &shell.clock) {
        Ok(watched) => watched,
        Err(refused) => return refused.into_response(),
    };
    let response = tokio::select! {
        biased;
        response = next.run(request) => response,
        () = shell.clock.sleep(rules.time) => {
            ApiError::unavailable("the answer took too long").into_response()
        }
    };
    shell.metrics.count(&HTTP_BYTES, &["in"], arriving.bytes());
    arriving.verdict(response)
}

/// Takes on the rules of each new definition until the process ends.
pub(super) async fn follow(shell: Arc<Shell>, mut projects: watch::Receiver<Arc<Project>>) {
    loop {
        tokio::select! {
            () = shell.stop.cancelled() => return,
            changed = projects.changed() => if changed.is_err() { return },
        }
        let rules = Rules::of(&projects.borrow_and_update());
        shell.take_on(rules);
    }
}

impl Shell {
    /// `routes` with probes and all layers; the last one is the first that a request meets.
    pub(super) fn wrap(self: Arc<Self>, routes: Router) -> Router {
        let cors = cors(self.clone());
        let ready_made = NotForContentType::new("application/vnd.apache.parquet");
        let compression = CompressionLayer::new()
            .quality(CompressionLevel::Fastest)
            .compress_when(DefaultPredicate::new().and(ready_made));
        health::probes(self.clone())
            .merge(routes)
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(self.clone(), bounded))
            .layer(from_fn_with_state(self.clone(), admit))
            .layer(compression)
            .layer(cors)
            .layer(from_fn_with_state(self.clone(), hooks))
            .layer(from_fn_with_state(self.clone(), screen))
            .layer(from_fn_with_state(self, observe))
    }

    /// Judges by `rules` from now on. Buckets are kept unless their size changed.
    pub(super) fn take_on(&self, rules: Rules) {
        let same = self.limiter.read().is(rules.requests, rules.per);
        if !same {
            *self.limiter.write() = Arc::new(limiter(&rules, &self.clock));
        }
        *self.rules.write() = Arc::new(rules);
    }
}

/// What runs tell: what they do without, jobs that fail again and again or were cancelled; and how
/// many jobs are in which state.
pub(super) fn told(parts: &Parts) -> (Vec<Reason>, Value) {
    let jobs = parts.scheduler.jobs();
    let now_ms = parts.environment.clock.wall_ms();
    let mut reasons = missing(&parts.board, |name| {
        jobs.iter().any(|job| job.job == name && job.state != JobStatus::Paused)
    });
    let mut counts = [("idle", 0), ("running", 0), ("waiting", 0), ("paused", 0), ("failed", 0)];
    for job in jobs {
        let at = match job.state {
            JobStatus::Idle => 0,
            JobStatus::Running => 1,
            JobStatus::Waiting => 2,
            JobStatus::Paused => 3,
            JobStatus::Failed => 4,
        };
        if let Some((_, count)) = counts.get_mut(at) {
            *count += 1;
        }
        let since_ms = job.run.as_ref().map(|run| run.since_ms);
        let goes_on = since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= WELL_AFTER_MS);
        let is_well = at == 1 && goes_on;
        if at == 4 || (job.failures >= FAILURES_LEAST && !is_well) {
            let reason = format!("it failed {} times in a row", job.failures.max(1));
            reasons.push(Reason::new(format!("job {}", job.job), reason));
        }
        if job.cancelled {
            // By whom, everybody need not know.
            let reason = "it was cancelled: resume or run it";
            reasons.push(Reason::new(format!("job {}", job.job), reason));
        }
    }
    let counts = counts.into_iter().map(|(name, count)| (name.to_string(), json!(count)));
    (reasons, Value::Object(counts.collect()))
}

/// Sources, stores and sinks that do not answer, from their first failure on. What only jobs need
/// that are paused or gone is not missed: `used` says of a job that it is neither.
fn missing(board: &Board, used: impl Fn(&str) -> bool) -> Vec<Reason> {
    let of = |metric| {
        let all: Vec<Series> = board.gauge(metric);
        // A chain of a job is its name and more.
        let is_used = |labels: &[String]| {
            let job = labels.first().and_then(|chain| chain.split('@').next());
            job.is_some_and(&used)
        };
        let told = all.into_iter().filter(|(labels, value)| *value > 0.0 && is_used(labels));
        told.map(|(labels, _)| labels).collect::<Vec<_>>()
    };
    let open = of(&CIRCUIT_OPEN);
    let mut reasons = Vec::new();
    for labels in of(&DEPENDENCY_MISSING) {
        let reason = match open.contains(&labels) {
            true => "it failed again and again and is left alone for a while",
            false => "it does not answer",
        };
        if let [job, dependency] = labels.as_slice() {
            reasons.push(Reason::new(format!("{dependency} of job {job}"), reason));
        }
    }
    for labels in of(&SINK_FAILURES) {
        if let [job, sink] = labels.as_slice() {
            reasons.push(Reason::new(format!("sink:{sink} of job {job}"), "it takes no rows"));
        }
    }
    reasons
}

fn cors(shell: Arc<Shell>) -> CorsLayer {
    let name = HeaderName::from_static;
    let allowed = [
        header::ACCEPT,
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_NONE_MATCH,
        name("last-event-id"),
        name("x-request-id"),
    ];
    let exposed = [
        header::CONTENT_DISPOSITION,
        header::ETAG,
        header::LINK,
        header::RETRY_AFTER,
        name("ratelimit-limit"),
        name("ratelimit-remaining"),
        name("ratelimit-reset"),
        name("x-request-id"),
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| {
            origin.to_str().is_ok_and(|origin| shell.rules().allows(origin))
        }))
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers(allowed)
        .expose_headers(exposed)
        .max_age(PREFLIGHT_AGE)
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use sluice_core::ManualClock;
    use sluice_core::metric::Recorder as _;

    use super::super::stream::Connection;
    use super::super::tests::{ask, request, shell, with};
    use super::*;

    #[tokio::test]
    async fn without_users_the_other_end_of_the_connection_has_to_be_here() {
        let routes = Router::new().route("/v1/reload", post(|| async { "reloaded" }));
        let app = Arc::new(shell(Rules::plain(1_000), true)).wrap(routes);
        for (address, expected) in [("127.0.0.1:9", 200), ("[::1]:9", 200), ("192.0.2.7:9", 403)] {
            let mut asked = with(request("POST", "/v1/reload", ""), "host", "localhost");
            let connection = Connection::new(Arc::new(ManualClock::at(1_000)));
            let peer = Peer { address: address.parse().unwrap(), connection };
            asked.extensions_mut().insert(ConnectInfo(peer));
            let status = ask(&app, asked).await.status().as_u16();
            assert_eq!(status, expected, "{address}");
        }
    }

    #[test]
    fn what_does_not_answer_is_named_while_a_job_needs_it() {
        let board = Board::new(crate::memory::pool(64 << 20));
        let told = || -> Vec<String> {
            let reasons = missing(&board, |job| job != "paused").into_iter();
            reasons.map(|reason| format!("{}: {}", reason.about, reason.reason)).collect()
        };
        assert!(told().is_empty());
        board.set(&DEPENDENCY_MISSING, &["shop", "source:orders"], 1.0);
        board.set(&DEPENDENCY_MISSING, &["shop", "store"], 0.0);
        board.set(&DEPENDENCY_MISSING, &["shop@0of2", "store"], 1.0);
        board.set(&DEPENDENCY_MISSING, &["paused", "store"], 1.0);
        board.set(&CIRCUIT_OPEN, &["shop@0of2", "store"], 1.0);
        board.set(&SINK_FAILURES, &["shop", "crm"], 2.0);
        let expected = [
            "source:orders of job shop: it does not answer",
            "store of job shop@0of2: it failed again and again and is left alone for a while",
            "sink:crm of job shop: it takes no rows",
        ];
        assert_eq!(told(), expected);
        board.set(&DEPENDENCY_MISSING, &["shop", "source:orders"], 0.0);
        assert_eq!(told(), expected[1..]);
    }
}
