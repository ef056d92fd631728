//! What is said to a request: outcomes, their status codes and texts.
//!
//! In: what became of a request. Out: a response. Refusals are problem documents (RFC 9457) that
//! say what the sender can do, and nothing of what is here.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::body::Unfit;
use super::verify::Refused;

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// Its rows are where they are promised to be.
    Accepted { rows: u64 },
    /// All of it came before.
    Duplicate,
    /// It asked for a word.
    Challenge(String),
    /// It is not taken.
    Refused(Refusal),
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    Unverified(Refused),
    /// Who asks for a word does not know the token.
    Forbidden,
    Malformed(String),
    TooLarge(String),
    Unsupported(String),
    NotAllowed,
    /// The body did not come in time.
    Slow,
    /// More come than the route takes.
    Throttled(Duration),
    /// There is no room, or nobody to take it.
    Busy(&'static str, Duration),
}

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Unknown(media) => Refusal::Unsupported(format!("not a known type: {media:?}")),
            Unfit::Malformed(reason) => Refusal::Malformed(reason),
            Unfit::TooMany => Refusal::TooLarge("the body has too many rows".into()),
        }
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::Unverified(_) => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden => StatusCode::FORBIDDEN,
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Slow => StatusCode::REQUEST_TIMEOUT,
            Refusal::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Busy(..) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn detail(&self) -> &str {
        match self {
            Refusal::Unverified(Refused::Missing) => {
                "the delivery does not say who sent it: its signature or token is missing"
            }
            Refusal::Unverified(Refused::Forged) => {
                "the delivery is not by who it says: its signature or token is wrong"
            }
            Refusal::Unverified(Refused::Stale) => {
                "the delivery was signed too long ago, or the clocks differ: sign it again"
            }
            Refusal::Forbidden => "the verify token is wrong",
            Refusal::Malformed(detail)
            | Refusal::TooLarge(detail)
            | Refusal::Unsupported(detail) => detail,
            Refusal::NotAllowed => "deliveries are posted",
            Refusal::Slow => "the body did not come in time",
            Refusal::Throttled(_) => "too many deliveries: send it again later",
            Refusal::Busy(detail, _) => detail,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::Throttled(wait) | Refusal::Busy(_, wait) => Some(*wait),
            _ => None,
        }
    }
}

impl Answer {
    /// Its name where outcomes are counted.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Answer::Accepted { .. } => "accepted",
            Answer::Duplicate => "duplicate",
            Answer::Challenge(_) => "challenge",
            Answer::Refused(refusal) => match refusal {
                Refusal::Unverified(Refused::Stale) => "stale",
                Refusal::Unverified(_) => "unauthorized",
                Refusal::Forbidden => "forbidden",
                Refusal::Malformed(_) => "malformed",
                Refusal::TooLarge(_) => "too_large",
                Refusal::Unsupported(_) => "unsupported",
                Refusal::NotAllowed => "not_allowed",
                Refusal::Slow => "slow",
                Refusal::Throttled(_) => "throttled",
                Refusal::Busy(..) => "busy",
            },
        }
    }

    /// As it is sent. `methods` are those that the route takes.
    pub(super) fn response(self, methods: &'static str) -> Response {
        let document = |status, kind, body: String| {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        };
        let json = |value: serde_json::Value| {
            document(StatusCode::OK, "application/json", value.to_string())
        };
        match self {
            Answer::Accepted { rows } => json(json!({"status": "accepted", "rows": rows})),
            Answer::Duplicate => json(json!({"status": "duplicate"})),
            Answer::Challenge(word) => document(StatusCode::OK, "text/plain; charset=utf-8", word),
            Answer::Refused(refusal) => {
                let status = refusal.status();
                let problem = json!({
                    "type": "about:blank",
                    "title": status.canonical_reason(),
                    "status": status.as_u16(),
                    "detail": refusal.detail(),
                });
                let kind = "application/problem+json";
                let mut response = document(status, kind, problem.to_string());
                let headers = response.headers_mut();
                if let Some(wait) = refusal.retry_after() {
                    // In whole seconds, and never too early.
                    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                    headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
                }
                if refusal == Refusal::NotAllowed {
                    headers.insert(ALLOW, HeaderValue::from_static(methods));
                }
                response
            }
        }
    }
}
