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

    /// Its name for programs, as the server's own problems have them.
    fn code(&self) -> &'static str {
        match self {
            Refusal::Unverified(Refused::Stale) => "stale",
            Refusal::Unverified(_) => "unauthenticated",
            Refusal::Forbidden => "forbidden",
            Refusal::Malformed(_) => "bad_request",
            Refusal::TooLarge(_) => "too_large",
            Refusal::Unsupported(_) => "unsupported_media_type",
            Refusal::NotAllowed => "method_not_allowed",
            Refusal::Slow => "too_slow",
            Refusal::Throttled(_) => "too_many_requests",
            Refusal::Busy(..) => "unavailable",
        }
    }

    /// What the sender can do about it.
    fn hint(&self) -> &'static str {
        match self {
            Refusal::Unverified(Refused::Missing) => "send what was agreed on",
            Refusal::Unverified(Refused::Forged) => {
                "sign the body byte for byte as it is sent, with the secret that was agreed on"
            }
            Refusal::Unverified(Refused::Stale) => "sign it when it is sent, and set the clock",
            Refusal::Forbidden => "ask with the token that was agreed on",
            Refusal::Malformed(_) => "send what Content-Type says: JSON, JSON lines or a form",
            Refusal::TooLarge(_) => "send less at once",
            Refusal::Unsupported(_) => "send Content-Type: application/json, and no encoding",
            Refusal::NotAllowed => "send it with POST",
            Refusal::Slow => "send it again",
            Refusal::Throttled(_) | Refusal::Busy(..) => "wait as long as Retry-After says",
        }
    }

    /// The problem as it is written, with the request's id where a server gave it one.
    fn problem(&self, request_id: Option<&str>) -> serde_json::Value {
        let status = self.status();
        let mut problem = json!({
            "type": "about:blank",
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "code": self.code(),
            "detail": self.detail(),
            "hint": self.hint(),
        });
        if let Some(id) = request_id {
            problem["request_id"] = id.into();
        }
        problem
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
    pub(super) fn response(self, methods: &'static str, request_id: Option<&str>) -> Response {
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
                let problem = refusal.problem(request_id).to_string();
                let mut response = document(refusal.status(), "application/problem+json", problem);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_problems_as_the_servers_own_are() {
        let wait = Duration::from_secs(1);
        let cases = [
            (Refusal::Unverified(Refused::Missing), 401, "unauthenticated"),
            (Refusal::Unverified(Refused::Stale), 401, "stale"),
            (Refusal::Malformed("no JSON".into()), 400, "bad_request"),
            (Refusal::NotAllowed, 405, "method_not_allowed"),
            (Refusal::Throttled(wait), 429, "too_many_requests"),
            (Refusal::Busy("full", wait), 503, "unavailable"),
        ];
        for (refusal, status, code) in cases {
            let problem = refusal.problem(Some("r-1"));
            assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)));
            assert_eq!(problem["request_id"], "r-1");
            assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{problem}");
            assert!(refusal.problem(None).get("request_id").is_none(), "{problem}");
        }
    }
}
