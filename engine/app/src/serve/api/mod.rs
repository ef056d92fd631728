//! The HTTP API under `/v1`, its description, its page of documentation, and the project's own front
//! end behind all of it.
//!
//! In: requests whose callers the shell has let in. Out: JSON, rows in four forms, events, problems.
//!
//! ```text
//! request ─▶ ask ─▶ jobs, relations, control      what there is; what changes something
//!                ├▶ page (filter) ─▶ rows ─┐
//!                ├▶ sql ───────────────────┼▶ encode, answer ─▶ body, headers
//!                ├▶ changes ◀─ rows        │  events
//!                └▶ site                   ┘  files
//! ```
//!
//! The description is collected from the same attributes that make the routes. Queries are `query`'s,
//! who may ask is `shell`'s.

mod answer;
mod ask;
mod changes;
mod control;
mod description;
mod encode;
mod filter;
mod jobs;
mod page;
mod relations;
mod rows;
mod site;
mod sql;

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use moka::future::Cache;
use sluice_runtime::job::Role;
use sluice_runtime::status::Status;
use tokio::sync::Semaphore;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::serve::Parts;
use crate::serve::shell::{Shares, require};

/// Listeners to changes at a time: each holds a connection and is told of every epoch.
const LISTENERS_MAX: usize = 256;

/// Listeners of one caller: the pages of a team that shares a token, and an eighth of all.
const LISTENERS_EACH: usize = 32;

/// How old what the lake says of a job may be: people who look at the same page look once.
const STATUS_AGE: Duration = Duration::from_secs(2);

/// How old it may be when the lake does not answer any more: older news are none.
const SEEN_AGE: Duration = Duration::from_secs(300);

/// Jobs whose status is kept.
const STATUSES_MAX: u64 = 1_000;

/// What requests share besides the parts of the process.
pub(crate) struct Desk {
    description: OpenApi,
    listeners: Arc<Semaphore>,
    /// What each caller has of them.
    shares: Arc<Shares>,
    /// What the lake said of each job just now.
    statuses: Cache<String, jobs::Looked>,
    /// What it said when it said something.
    seen: Cache<String, Arc<Status>>,
}

/// All routes, and the description of those that have one.
pub(crate) fn routes() -> (Router<Arc<Parts>>, OpenApi) {
    let mut all = OpenApiRouter::with_openapi(description::empty());
    for (role, group) in
        [(Role::Read, reading()), (Role::Operate, operating()), (Role::Admin, administering())]
    {
        let mut group = group.route_layer(require(role));
        description::tell_common(group.get_openapi_mut(), role);
        all = all.merge(group);
    }
    let (router, description) = all.split_for_parts();
    let desk = Desk {
        description: description.clone(),
        listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
        shares: Shares::new(LISTENERS_EACH),
        statuses: Cache::builder().max_capacity(STATUSES_MAX).time_to_live(STATUS_AGE).build(),
        seen: Cache::builder().max_capacity(STATUSES_MAX).time_to_live(SEEN_AGE).build(),
    };
    let page = description::page::<Arc<Parts>>().route_layer(require(Role::Read));
    let router = router
        .merge(page)
        .layer(Extension(Arc::new(desk)))
        .method_not_allowed_fallback(site::not_allowed)
        .fallback(site::serve);
    (router, description)
}

fn reading() -> OpenApiRouter<Arc<Parts>> {
    OpenApiRouter::with_openapi(description::empty())
        .routes(routes!(description::index))
        .routes(routes!(description::openapi))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::one))
        .routes(routes!(jobs::epochs))
        .routes(routes!(jobs::runs))
        .routes(routes!(relations::tables))
        .routes(routes!(relations::views))
        .routes(routes!(rows::table))
        .routes(routes!(rows::view))
        .routes(routes!(rows::rejected))
        .routes(routes!(rows::quarantine))
        .routes(routes!(rows::undelivered))
        .routes(routes!(changes::changes))
        .routes(routes!(changes::all))
        .routes(routes!(sql::ask))
}

fn operating() -> OpenApiRouter<Arc<Parts>> {
    OpenApiRouter::with_openapi(description::empty())
        .routes(routes!(control::run))
        .routes(routes!(control::pause))
        .routes(routes!(control::resume))
        .routes(routes!(control::cancel))
}

fn administering() -> OpenApiRouter<Arc<Parts>> {
    OpenApiRouter::with_openapi(description::empty())
        .routes(routes!(control::activity))
        .routes(routes!(control::reload))
}
