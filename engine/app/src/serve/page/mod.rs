//! The status page: what a project is doing, for whoever opens `/`.
//!
//! In: the scheduler, the queries, what is measured; forms. Out: one page of HTML that is complete
//! without a script. A small script asks for the same page again when something happened and puts
//! new values in the place of old ones. It shows and starts runs; definitions and tables are
//! changed elsewhere.
//!
//! ```text
//! look ─┬─► sight (plot)   rows of views, kept by version
//!       └─► render         HTML          act ◄── buttons
//! ```

mod act;
mod look;
mod plot;
mod render;
mod sight;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sluice_runtime::job::Role;

use super::Parts;
use super::shell::{ApiError, Caller, require};

pub(crate) use act::Notices;
pub(crate) use sight::Sights;

/// The page as such, wherever the project's own front end is.
const PLACE: &str = "/status";

/// How the page looks.
const STYLE: &str = include_str!("style.css");

/// What keeps the page current.
const SCRIPT: &str = include_str!("live.js");

/// What a browser may do for the page: what it brings itself, and nothing else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// What the page keeps between two requests.
#[derive(Default)]
pub(crate) struct Desk {
    /// Rows of views.
    pub(crate) sights: Arc<Sights>,
    /// What became of what somebody asked for.
    pub(crate) notices: Notices,
}

/// The page, what it is made of, and its buttons.
pub(crate) fn routes() -> Router<Arc<Parts>> {
    let shown = Router::new()
        .route(PLACE, get(page))
        .route("/status/style.css", get(|| async { file(STYLE, "text/css; charset=utf-8") }))
        .route("/status/live.js", get(|| async { file(SCRIPT, "text/javascript; charset=utf-8") }))
        .route_layer(require(Role::Read));
    let acts = Router::new()
        .route("/status/jobs/{job}/{action}", post(act::act))
        .route_layer(require(Role::Operate));
    shown.merge(acts)
}

/// The page at `/`, where the project has no front end of its own.
pub(crate) async fn front(parts: Arc<Parts>, caller: Option<Caller>) -> Response {
    match caller {
        Some(caller) => page(State(parts), caller).await,
        None => ApiError::unauthenticated("this needs a token").into_response(),
    }
}

async fn page(State(parts): State<Arc<Parts>>, caller: Caller) -> Response {
    let look = look::look(&parts, &caller).await;
    let mut response = render::page(&look).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    // It is of this moment, and of this caller.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A part of the page that only changes with the program.
fn file(text: &'static str, kind: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_needs_nothing_from_elsewhere() {
        for text in [STYLE, SCRIPT] {
            assert!(text.len() < 16 << 10, "{} bytes", text.len());
            for odd in ["http://", "https://", "@import", "eval(", "innerHTML ="] {
                assert!(!text.contains(odd), "{odd}");
            }
        }
    }
}
