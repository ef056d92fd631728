//! What every request goes through first and last: its id, the access log, figures.
//!
//! In: a request. Out: its answer with `X-Request-Id` and the headers that keep browsers from guessing,
//! framing and leaking; and, when the answer has left, one log line and the figures of its route.
//! Neither has query strings or headers: callers put secrets there. While the process drains, answers
//! say that their connection ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use sluice_core::metric::{HTTP_BYTES, HTTP_REFUSED, HTTP_REQUESTS, HTTP_SECONDS};

use super::Shell;
use super::auth::Caller;
use super::body::{self, Leaving};
use super::error::ApiError;
use super::listen::Peer;
use super::stream::Busy;

/// The header with a request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of an id that a caller gives.
const ID_MAX: usize = 128;

/// Characters of a path in the log.
const PATH_MAX: usize = 512;

/// The route of requests that no route took: paths are the callers', and without number.
const NO_ROUTE: &str = "other";

/// For pages of ours: nothing from elsewhere, and in nobody's frame.
const OUR_PAGES: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'",
);

/// For pages of the project's front end, which may use what it likes.
const OTHER_PAGES: HeaderValue =
    HeaderValue::from_static("object-src 'none'; frame-ancestors 'none'");

tokio::task_local! {
    /// The id of the request that this task answers.
    static CURRENT: Arc<str>;
}

/// The id of the request that this task answers, if it answers one.
pub(super) fn current() -> Option<String> {
    CURRENT.try_with(|id| id.to_string()).ok()
}

/// Does `work` to its end, whether or not the caller stays, as part of the request that this task
/// answers. Errors: it broke in the middle.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, ApiError> {
    let task = match CURRENT.try_with(Arc::clone) {
        Ok(id) => tokio::spawn(CURRENT.scope(id, work)),
        Err(_) => tokio::spawn(work),
    };
    task.await.map_err(|error| {
        tracing::error!(%error, "a change broke off");
        ApiError::internal()
    })
}

/// Adds what browsers are to be told, unless the answer says it itself.
fn guard(headers: &mut HeaderMap, ours: bool) {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let page = kind.is_some_and(|kind| kind.starts_with(b"text/html"));
    let mut set = |name: HeaderName, value: HeaderValue| {
        headers.entry(name).or_insert(value);
    };
    set(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    set(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    set(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if page {
        let policy = if ours { OUR_PAGES } else { OTHER_PAGES };
        set(header::CONTENT_SECURITY_POLICY, policy);
    }
}

/// Where a request comes from, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin(pub(super) Option<IpAddr>);

/// The name under which an answer is counted, where it is not that of a route.
#[derive(Debug, Clone)]
pub(super) struct Counted(pub(super) Arc<str>);

/// Observes one request.
pub(super) async fn observe(
    State(shell): State<Arc<Shell>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id: Arc<str> = given_id(&request).unwrap_or_else(|| shell.ids.fresh()).into();
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0.clone());
    let address = peer.as_ref().map(|peer| peer.address.ip());
    let rules = shell.rules();
    let origin = Origin(rules.client(address, request.headers()));
    let multiplexed = request.version() >= Version::HTTP_2;
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let ours = matched.is_some();
    // Endpoints come and go with definitions, and are no routes of the router's.
    let declared = rules.template(request.method(), request.uri().path());
    let route: Option<Arc<str>> = declared.or(matched).map(Into::into);
    let mut seen = Seen {
        method: method_name(request.method()),
        path: request.uri().path().chars().take(PATH_MAX).collect(),
        route,
        id: id.clone(),
        origin,
        caller: None,
        status: gone(),
        started: shell.clock.monotonic(),
        head: Duration::ZERO,
        sent: 0,
        whole: false,
        busy: peer.map(|peer| peer.connection.begin(multiplexed)),
        shell: shell.clone(),
    };
    shell.at_work.fetch_add(1, Ordering::SeqCst);
    request.extensions_mut().insert(origin);
    let mut response = CURRENT.scope(id.clone(), next.run(request)).await;
    seen.head = shell.clock.monotonic().saturating_sub(seen.started);
    seen.status = response.status();
    seen.caller = response.extensions().get::<Caller>().map(|caller| caller.name.clone());
    if let Some(counted) = response.extensions().get::<Counted>() {
        seen.route = Some(counted.0.clone());
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    guard(headers, ours);
    if shell.stop.is_cancelled() && !multiplexed {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    body::watched(response, seen, &shell.stop)
}

/// What the log says of callers who went before there was an answer, as other servers have it.
fn gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT)
}

/// The id that a caller gives, if it can be written everywhere.
fn given_id(request: &Request) -> Option<String> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let fine = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    let fits = !id.is_empty() && id.len() <= ID_MAX && id.chars().all(fine);
    fits.then(|| id.to_string())
}

/// The method's name where it is one of those that are used; names are the callers' too.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => NO_ROUTE,
    }
}

/// `2xx` of 204.
fn class_name(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// Why a request was refused, where it says so by its status.
fn refusal(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::UNAUTHORIZED => Some("unauthenticated"),
        StatusCode::FORBIDDEN => Some("forbidden"),
        StatusCode::REQUEST_TIMEOUT => Some("too_slow"),
        StatusCode::PAYLOAD_TOO_LARGE => Some("too_large"),
        StatusCode::TOO_MANY_REQUESTS => Some("too_many"),
        _ => None,
    }
}

/// What was seen of one request. It is told when the answer has left, or its caller.
struct Seen {
    shell: Arc<Shell>,
    method: &'static str,
    path: String,
    route: Option<Arc<str>>,
    id: Arc<str>,
    origin: Origin,
    caller: Option<String>,
    status: StatusCode,
    started: Duration,
    /// Until the answer began.
    head: Duration,
    sent: u64,
    /// Whether all of it left.
    whole: bool,
    busy: Option<Busy>,
}

impl Leaving for Seen {
    fn asked(&mut self) {
        if let Some(busy) = &mut self.busy {
            busy.taken();
        }
    }

    fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
        if let Some(busy) = &mut self.busy {
            busy.offered();
        }
    }

    fn whole(&mut self) {
        self.whole = true;
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.shell.at_work.fetch_sub(1, Ordering::SeqCst);
        let route = self.route.as_deref().unwrap_or(NO_ROUTE);
        let class = class_name(self.status);
        let metrics = &self.shell.metrics;
        metrics.count(&HTTP_REQUESTS, &[self.method, route, class], 1);
        metrics.observe(&HTTP_SECONDS, &[route], self.head.as_secs_f64());
        metrics.count(&HTTP_BYTES, &["out"], self.sent);
        if let Some(reason) = refusal(self.status) {
            metrics.count(&HTTP_REFUSED, &[reason], 1);
        }
        let took = self.shell.clock.monotonic().saturating_sub(self.started);
        tracing::info!(
            target: "sluice::access",
            method = self.method,
            path = self.path,
            route,
            status = self.status.as_u16(),
            bytes = self.sent,
            head_ms = self.head.as_secs_f64() * 1e3,
            ms = took.as_secs_f64() * 1e3,
            whole = self.whole,
            client = self.origin.0.map(tracing::field::display),
            who = self.caller,
            request_id = &*self.id,
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn ids_that_can_be_written_everywhere_are_taken() {
        let long = "x".repeat(ID_MAX + 1);
        let cases: [(&[u8], bool); 8] = [
            (b"abc-123_x.y:z", true),
            (&b"x".repeat(ID_MAX), true),
            (b"", false),
            (long.as_bytes(), false),
            (b"a b", false),
            (b"<script>", false),
            (b"a\tb", false),
            (b"caf\xe9", false),
        ];
        for (id, taken) in cases {
            let value = HeaderValue::from_bytes(id).unwrap();
            let request = Request::builder().header(REQUEST_ID, value).body(Body::empty()).unwrap();
            assert_eq!(given_id(&request).is_some(), taken, "{}", String::from_utf8_lossy(id));
        }
    }

    #[tokio::test]
    async fn what_was_begun_ends_without_its_caller() {
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = async move {
            wait.await.unwrap();
            tell.send(current()).unwrap();
        };
        let mut asked = Box::pin(CURRENT.scope("mine-1".into(), to_its_end(work)));
        assert!(futures::poll!(asked.as_mut()).is_pending());
        drop(asked);
        go.send(()).unwrap();
        assert_eq!(told.await.unwrap().as_deref(), Some("mine-1"));
    }

    #[test]
    fn labels_are_few() {
        assert_eq!(method_name(&Method::from_bytes(b"BREW").unwrap()), NO_ROUTE);
        assert_eq!(class_name(StatusCode::NO_CONTENT), "2xx");
        assert_eq!(class_name(StatusCode::from_u16(999).unwrap()), "5xx");
        assert_eq!(refusal(StatusCode::TOO_MANY_REQUESTS), Some("too_many"));
        assert_eq!(refusal(StatusCode::OK), None);
        assert_eq!(current(), None);
    }

    #[test]
    fn pages_have_a_policy_and_may_have_their_own() {
        let policy = |kind: &'static str, own: Option<&'static str>, ours| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            if let Some(own) = own {
                headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(own));
            }
            guard(&mut headers, ours);
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            let value = headers.get(header::CONTENT_SECURITY_POLICY);
            value.map(|value| value.to_str().unwrap_or_default().to_string())
        };
        let (page, text) = ("text/html; charset=utf-8", "text/plain");
        assert!(policy(page, None, true).is_some_and(|p| p.contains("default-src")));
        assert!(policy(page, None, false).is_some_and(|p| !p.contains("default-src")));
        assert_eq!(policy(text, None, true), None);
        assert_eq!(policy(page, Some("own"), true).as_deref(), Some("own"));
    }
}
