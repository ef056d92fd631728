//! Live changes as server-sent events: the rows of a view, and the state of jobs and views.
//!
//! In: ticks of the snapshots and of the scheduler. Out: an event when something is different,
//! named by its epoch, and a comment now and then so that nobody on the way takes the line for
//! dead. All listeners of the same rows share one query. Streams end when the process drains, and
//! when whoever listens would not be let in any more.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::future::ready;
use futures::stream::{self, Stream};
use futures::{FutureExt as _, StreamExt as _};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Desk;
use super::ask::{Asked, Named, Nothing};
use super::description::PageParams;
use super::jobs::{instant, state_name};
use super::page::Page;
use super::relations::{Kind, find};
use super::rows::{Snapshot, snapshot};
use crate::output::{json_names, json_rows};
use crate::serve::Parts;
use crate::serve::query::{QueryError, RelationInfo};
use crate::serve::shell::{Access, ApiError, Caller, Client, Pass, Share};

/// How often a comment is sent: proxies cut lines that are silent for a minute, some for 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a listener waits when there are too many queries, or the store is away.
const WAIT: Duration = Duration::from_secs(1);

/// How close two events of `/v1/events` may be: people do not read faster.
const GAP: Duration = Duration::from_millis(200);

/// When somebody comes again who found no seat.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The header that says which event was seen last.
const LAST_EVENT_ID: &str = "last-event-id";

/// Changes of a view
///
/// An event `rows` with the first rows now, and again whenever an epoch has moved them; its id is the
/// epoch. Who sends `Last-Event-ID` is spared what it has seen. An event `problem` ends the stream.
#[utoipa::path(get, path = "/v1/views/{name}/changes", tag = "live", operation_id = "changes",
    params(("name" = String, Path, description = "the view's name"), PageParams),
    responses((status = 200, description = "events", content_type = "text/event-stream",
        body = String)))]
pub(super) async fn changes(
    State(parts): State<Arc<Parts>>,
    Extension(desk): Extension<Arc<Desk>>,
    Named(name): Named,
    caller: Caller,
    headers: HeaderMap,
    Asked(pairs): Asked<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let info = find(&parts, Kind::View, &name)?;
    let page = Page::parse(&info.name, &info.schema, &pairs)?;
    page.refuse_offset()?;
    let (seat, who) = (seat(&parts, &desk, &caller)?, caller.name.clone());
    let seen = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).map(str::to_string);
    let moved = parts.queries.moved();
    let watched = Watched { _seat: seat, moved, info, page, who, seen, version: None };
    let found = stream::unfold((parts.clone(), Some(watched)), Watched::step);
    Ok(events(&parts, parts.access.pass(caller, &headers), found))
}

/// State of jobs and views
///
/// An event `state` now, and again whenever a job's state or the epoch of a view is different.
#[utoipa::path(get, path = "/v1/events", tag = "live", operation_id = "events",
    responses((status = 200, description = "events", content_type = "text/event-stream",
        body = String)))]
pub(super) async fn all(
    State(parts): State<Arc<Parts>>,
    Extension(desk): Extension<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Response, ApiError> {
    let seat = seat(&parts, &desk, &caller)?;
    let (moved, runs) = (parts.queries.moved(), parts.scheduler.changes());
    let board = Board { _seat: seat, moved, runs, told: None };
    let found = stream::unfold((parts.clone(), board), Board::step);
    Ok(events(&parts, parts.access.pass(caller, &headers), found))
}

/// A place among the listeners, and of the caller's share of them.
struct Seat {
    _place: OwnedSemaphorePermit,
    _share: Share,
}

fn seat(parts: &Parts, desk: &Desk, caller: &Caller) -> Result<Seat, ApiError> {
    // Without users nobody is told apart.
    let share = desk.shares.take(Client::User(caller.name.clone()), parts.access.is_open());
    let share = share.ok_or_else(|| {
        ApiError::too_many("this user listens to changes too often already", RETRY_AFTER)
            .hint("end a stream of events first, or give each page a user of its own")
    })?;
    let place = desk.listeners.clone().try_acquire_owned();
    let place =
        place.map_err(|_| ApiError::too_many("too many listen to changes already", RETRY_AFTER))?;
    Ok(Seat { _place: place, _share: share })
}

/// Events until the process drains, the client leaves, or its `pass` is not valid any more.
fn events(
    parts: &Parts,
    pass: Pass,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Response {
    let stop = parts.stop.clone().cancelled_owned();
    let events = while_let_in(events, parts.access.clone(), pass, parts.project.subscribe());
    let events = events.map(Ok::<_, Infallible>).take_until(stop.boxed());
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // Proxies that gather answers would gather events for ever.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response.headers_mut().extend([unbuffered]);
    response
}

/// What comes for as long as `pass` is valid: looked at before each event, and whenever there is
/// other news of the project.
fn while_let_in<E: Send + 'static, T: Send + Sync + 'static>(
    events: impl Stream<Item = E> + Send + 'static,
    access: Arc<Access>,
    pass: Pass,
    mut news: watch::Receiver<T>,
) -> impl Stream<Item = E> + Send + 'static {
    let (door, kept) = (access.clone(), pass.clone());
    let lost = async move {
        while access.is_valid(&pass) {
            if news.changed().await.is_err() {
                // The process is about to end.
                return;
            }
        }
    };
    events.take_while(move |_| ready(door.is_valid(&kept))).take_until(lost.boxed())
}

/// One listener of a view's rows.
struct Watched {
    _seat: Seat,
    moved: watch::Receiver<u64>,
    info: RelationInfo,
    page: Page,
    who: String,
    /// The epoch that the client says it has seen.
    seen: Option<String>,
    /// The version of the rows sent last.
    version: Option<String>,
}

impl Watched {
    /// The next event, and the listener, unless it was the last one.
    async fn step(
        (parts, watched): (Arc<Parts>, Option<Self>),
    ) -> Option<(Event, (Arc<Parts>, Option<Self>))> {
        let mut watched = watched?;
        loop {
            match watched.look(&parts).await {
                Ok(Some(event)) => return Some((event, (parts, Some(watched)))),
                Ok(None) => watched.moved.changed().await.ok()?,
                Err(QueryError::Busy { .. }) => parts.environment.clock.sleep(WAIT).await,
                Err(QueryError::Failed(error)) if error.retry() => {
                    parts.environment.clock.sleep(WAIT).await;
                }
                Err(error) => {
                    let code = ApiError::from(error).code();
                    let event = Event::default().event("problem");
                    let event = event.data(json!({ "code": code }).to_string());
                    return Some((event, (parts, None)));
                }
            }
        }
    }

    /// The rows, if they are others than those sent last.
    async fn look(&mut self, parts: &Parts) -> Result<Option<Event>, QueryError> {
        self.moved.borrow_and_update();
        let version = parts.queries.version_of(std::slice::from_ref(&self.info.name));
        if self.version.as_ref() == Some(&version) {
            return Ok(None);
        }
        let epoch = parts.queries.epoch_of(&self.info.job).map(|epoch| epoch.to_string());
        if let Some(seen) = self.seen.take()
            && epoch.as_ref() == Some(&seen)
        {
            self.version = Some(version);
            return Ok(None);
        }
        let found = snapshot(parts, &self.info, &self.page, &self.who).await?;
        let event = rows_event(&found, self.page.limit)?;
        self.version = Some(found.answer.version.clone());
        Ok(Some(event))
    }
}

/// `rows`, with the epoch they are of as id.
fn rows_event(found: &Snapshot, limit: u64) -> Result<Event, QueryError> {
    let names = json_names(&found.answer.schema);
    let mut rows = Vec::new();
    for batch in &found.answer.batches {
        rows.extend(json_rows(&names, batch).map_err(QueryError::Failed)?);
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let data = json!({ "epoch": found.epoch, "rows": rows, "more": more });
    let event = Event::default().event("rows").data(data.to_string());
    Ok(match found.epoch {
        Some(epoch) => event.id(epoch.to_string()),
        None => event,
    })
}

/// One listener of jobs and views.
struct Board {
    _seat: Seat,
    moved: watch::Receiver<u64>,
    runs: watch::Receiver<u64>,
    told: Option<Value>,
}

/// A job in few words.
#[derive(Serialize)]
struct Brief {
    job: String,
    state: &'static str,
    epoch: Option<u64>,
    next_run_at: Option<String>,
    last_outcome: Option<String>,
    failures: u32,
}

impl Board {
    /// The next event that differs from the one before.
    async fn step((parts, mut board): (Arc<Parts>, Self)) -> Option<(Event, (Arc<Parts>, Self))> {
        loop {
            board.moved.borrow_and_update();
            board.runs.borrow_and_update();
            let state = state(&parts);
            if board.told.as_ref() != Some(&state) {
                let event = Event::default().event("state").data(state.to_string());
                board.told = Some(state);
                return Some((event, (parts, board)));
            }
            tokio::select! {
                changed = board.moved.changed() => changed.ok()?,
                changed = board.runs.changed() => changed.ok()?,
            }
            parts.environment.clock.sleep(GAP).await;
        }
    }
}

/// What the status page shows at once.
fn state(parts: &Parts) -> Value {
    let brief = |state: crate::serve::schedule::JobState| Brief {
        epoch: parts.queries.epoch_of(&state.job),
        state: state_name(state.state),
        next_run_at: state.next_ms.and_then(instant),
        last_outcome: state.last.map(|run| run.outcome),
        failures: state.failures,
        job: state.job,
    };
    let jobs: Vec<Brief> = parts.scheduler.jobs().into_iter().map(brief).collect();
    let all = parts.queries.relations().into_iter();
    let views = all.filter(|r| r.kind == "view").map(|r| (r.name, r.epoch));
    json!({ "jobs": jobs, "views": views.collect::<BTreeMap<_, _>>() })
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use sluice_core::Secrets;
    use sluice_runtime::job::{Role, TokenRef, UserSpec};

    use super::*;
    use crate::serve::shell::digest_text;

    #[tokio::test]
    async fn streams_end_with_the_token_that_opened_them() {
        let (token, none) = ("reader-token-0123", Secrets::default());
        let user = |name: &str, token: &str| UserSpec {
            name: name.to_string(),
            role: Role::Read,
            token: TokenRef::Sha256(digest_text(token)),
        };
        let access = Arc::new(Access::new(&[user("ana", token)], &none).unwrap());
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        headers.insert(header::AUTHORIZATION, value);
        let pass = access.pass(access.check(token).unwrap(), &headers);
        let (told, news) = watch::channel(());
        let busy = stream::repeat(1).boxed();
        let mut busy = while_let_in(busy, access.clone(), pass.clone(), news.clone()).boxed();
        let quiet = stream::pending::<u8>();
        let mut quiet = while_let_in(quiet, access.clone(), pass, news).boxed();
        assert_eq!(busy.next().await, Some(1));
        assert!(futures::poll!(quiet.next()).is_pending());
        access.replace(&[user("ana", "another-token-4567")], &none).unwrap();
        assert_eq!(busy.next().await, None, "the next event is not sent");
        told.send(()).unwrap();
        assert_eq!(quiet.next().await, None, "it does not wait for an event");
    }
}
