//! What a caller is told when there is no answer: problem details of RFC 9457.
//!
//! In: errors of the engine, of queries and of the shell itself; panics; answers that only have a status
//! or a bare text. Out: `application/problem+json` with a status, a code for programs, words for people,
//! a hint, and the request's id. What may name a store's credentials is left out or blanked here; what
//! broke inside of Sluice goes to the log only. Webhook routes speak the words of who calls them, and
//! are left as they are.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{self, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use serde::Serialize;
use sluice_core::{Error, Kind};
use utoipa::ToSchema;

use super::{Shell, request};
use crate::serve::query::QueryError;

/// How long to wait for a store or server that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Bytes of a bare text that becomes a problem's words.
const WORDS_MAX: usize = 4096;

/// The content type of problem details.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why a request was not answered.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
}

/// Problem details as they are written.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the code tells problems apart.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What the status means.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The problem's name for programs.
    code: &'static str,
    /// What is wrong.
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The request's id, which the log has too.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

impl ApiError {
    /// A problem with its code and words.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None, retry_after: None }
    }

    /// The request is wrong.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// Nobody knows who asks.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
            .hint("send a token as Authorization: Bearer <token>, or as the password of Basic")
    }

    /// Who asks may not.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// The body is larger than `bytes`.
    pub(crate) fn too_large(bytes: u64) -> Self {
        let message = format!("the body is larger than it may be bytes_max={bytes}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// The request did not arrive in time.
    pub(crate) fn too_slow() -> Self {
        let message = "the body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message)
    }

    /// There is no answer now, but may be one later.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).retry_after(RETRY_AFTER)
    }

    /// There were too many requests.
    pub(crate) fn too_many(message: impl Into<String>, wait: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message).retry_after(wait)
    }

    /// Something is broken here; what, is in the log.
    pub(crate) fn internal() -> Self {
        let message = "something broke while this was answered";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            .hint("the log tells more under this request's id")
    }

    /// Says what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says when to ask again.
    #[must_use]
    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The HTTP status.
    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The problem's name for programs.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    fn problem(&self) -> Problem {
        Problem {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: scrubbed(&self.message),
            hint: self.hint.as_deref().map(scrubbed),
            request_id: request::current(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM);
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"sluice\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Seconds of a wait, rounded up: whoever comes earlier comes in vain.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (status, code) = match error.kind() {
            Kind::Config => (StatusCode::BAD_REQUEST, "bad_request"),
            Kind::Data | Kind::Unreadable => (StatusCode::UNPROCESSABLE_ENTITY, "data"),
            Kind::Conflict => (StatusCode::CONFLICT, "conflict"),
            Kind::Fenced => (StatusCode::CONFLICT, "fenced"),
            Kind::Unavailable => {
                tracing::warn!(error = %scrubbed(&error.chain()), "a request met an outage");
                return Self { hint: hint_of(&error), ..Self::unavailable(error.message()) };
            }
            Kind::Bug => {
                tracing::error!(error = %scrubbed(&error.chain()), "a request met a bug");
                return Self::internal();
            }
        };
        Self { hint: hint_of(&error), ..Self::new(status, code, error.chain()) }
    }
}

fn hint_of(error: &Error) -> Option<String> {
    error.hint_text().map(str::to_string)
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let refused = StatusCode::UNPROCESSABLE_ENTITY;
        match error {
            QueryError::Refused(error) => {
                Self { status: StatusCode::BAD_REQUEST, code: "query_refused", ..error.into() }
            }
            QueryError::Busy { retry_after } => {
                Self::too_many("too many queries are at work or wait", retry_after)
            }
            QueryError::TooLong => {
                Self::new(refused, "query_too_long", "the query took longer than it may")
                    .hint("ask for less at once, or raise serve.limits.query_time")
            }
            QueryError::TooLarge(what) => Self::new(refused, "query_too_large", what)
                .hint("ask for fewer rows or groups, or raise the query limits of serve.limits"),
            QueryError::Failed(error) => error.into(),
        }
    }
}

/// `text` with what addresses in it may give away blanked: user and password before the host, and
/// everything behind the question mark, where stores put signatures.
pub(crate) fn scrubbed(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = address.find(is_outside).unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        let host_end = address.find(['/', '?', '#']).unwrap_or(address.len());
        let (host, path) = address.split_at(host_end);
        match host.rsplit_once('@') {
            Some((_, host)) => clean.extend(["***@", host]),
            None => clean.push_str(host),
        }
        match path.split_once('?') {
            Some((path, _)) => clean.extend([path, "?***"]),
            None => clean.push_str(path),
        }
        rest = after;
    }
    clean.push_str(rest);
    clean
}

/// What ends an address in a sentence.
fn is_outside(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | ')' | ']' | '`' | ',')
}

/// Answers panics, and puts bare problems into words.
pub(super) async fn screen(
    State(shell): State<Arc<Shell>>,
    request: Request,
    next: Next,
) -> Response {
    let webhook = shell.hook(request.uri().path()).is_some();
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    match answered {
        Ok(response) if webhook => response,
        Ok(response) => put_into_words(response).await,
        Err(panic) => {
            tracing::error!(panic = words(panic.as_ref()), "a handler panicked");
            ApiError::internal().into_response()
        }
    }
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

/// Makes a problem of an answer that only has a status, or a bare text.
async fn put_into_words(response: Response) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let kind = response.headers().get(header::CONTENT_TYPE);
    let bare = match kind.map(HeaderValue::as_bytes) {
        None => response.body().is_end_stream(),
        Some(kind) => kind.starts_with(b"text/plain"),
    };
    if !bare {
        return response;
    }
    let (head, text) = response.into_parts();
    let text = body::to_bytes(text, WORDS_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let text = text.trim();
    let reason = status.canonical_reason().unwrap_or("error").to_lowercase();
    let words = if text.is_empty() { reason } else { text.to_string() };
    let mut problem = ApiError::new(status, code(status), words).into_response();
    if let Some(allow) = head.headers.get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    // Who asked, which the log wants to know.
    *problem.extensions_mut() = head.extensions;
    problem
}

/// The name of a problem of which only the status is known.
fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        status if status.is_client_error() => "bad_request",
        _ => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_statuses_and_bugs_stay_inside() {
        let cases = [
            (Error::config("no such column column=x"), 400, "no such column column=x"),
            (Error::data("not a number"), 422, "not a number"),
            (Error::conflict("a run is at work"), 409, "a run is at work"),
            (Error::fenced("another runner"), 409, "another runner"),
            (Error::unavailable("the store is away").because("key=abc"), 503, "the store is away"),
            (Error::bug("a secret place"), 500, "something broke while this was answered"),
        ];
        for (error, status, detail) in cases {
            let api = ApiError::from(error);
            assert_eq!((api.status().as_u16(), api.problem().detail.as_str()), (status, detail));
            assert_eq!(api.retry_after.is_some(), status == 503);
        }
    }

    #[test]
    fn queries_that_are_refused_say_why() {
        let wait = Duration::from_millis(1500);
        let cases = [
            (QueryError::Refused(Error::config("only SELECT")), 400, "query_refused"),
            (QueryError::Busy { retry_after: wait }, 429, "too_many_requests"),
            (QueryError::TooLong, 422, "query_too_long"),
            (QueryError::TooLarge("rows".into()), 422, "query_too_large"),
            (QueryError::Failed(Error::unavailable("away")), 503, "unavailable"),
        ];
        for (error, status, code) in cases {
            let api = ApiError::from(error);
            assert_eq!((api.status().as_u16(), api.code()), (status, code));
        }
        let response = ApiError::from(QueryError::Busy { retry_after: wait }).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn addresses_lose_what_they_give_away() {
        let cases = [
            ("no address", "no address"),
            ("s3://b/k is gone", "s3://b/k is gone"),
            ("at https://me:pw@host:1/p?sig=1&x=2, twice", "at https://***@host:1/p?***, twice"),
            ("(http://a?b) http://u@c", "(http://a?***) http://***@c"),
        ];
        for (text, clean) in cases {
            assert_eq!(scrubbed(text), clean);
        }
    }
    #[tokio::test]
    async fn bare_answers_become_problems() {
        let problem = "application/problem+json";
        let cases = [
            (StatusCode::NOT_FOUND.into_response(), Some(problem)),
            ((StatusCode::BAD_REQUEST, "no JSON").into_response(), Some(problem)),
            (StatusCode::NO_CONTENT.into_response(), None),
            ((StatusCode::OK, "text").into_response(), Some("text/plain; charset=utf-8")),
            (ApiError::not_found("x").into_response(), Some(problem)),
            (axum::Json(1).into_response(), Some("application/json")),
        ];
        for (response, kind) in cases {
            let status = response.status();
            let response = put_into_words(response).await;
            let found = response.headers().get(header::CONTENT_TYPE);
            assert_eq!(found.map(|k| k.to_str().unwrap_or_default()), kind, "{status}");
            assert_eq!(response.status(), status);
        }
    }

    #[test]
    fn panics_have_words() {
        let text: Box<dyn Any + Send> = Box::new("static");
        let owned: Box<dyn Any + Send> = Box::new("owned".to_string());
        let other: Box<dyn Any + Send> = Box::new(7);
        let found = [&text, &owned, &other].map(|panic| words(panic.as_ref()).to_string());
        assert_eq!(found, ["static", "owned", "no words"]);
    }
}
