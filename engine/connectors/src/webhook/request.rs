//! One request, from its head to its answer.
//!
//! In: a request on the path of a route. Out: the answer. The order is that of what it costs: may
//! it come in at all, its body up to a limit, is it genuine, what does it say, is it new; then the
//! log. Whoever is turned away early has his body read to its end and thrown away, up to a limit:
//! else the connection would break before he reads why.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use sluice_core::metric::{WEBHOOK_ACK_SECONDS, WEBHOOK_BYTES, WEBHOOK_REQUESTS, WEBHOOK_ROWS};
use url::form_urlencoded;

use super::answer::{Answer, Refusal};
use super::body;
use super::body::challenge::{Challenge, Reply};
use super::config::{Ack, IdAt};
use super::hub::{Hub, RequestId};
use super::log::Log;
use super::log::record::{About, Entry};
use super::log::writer::Unwritten;
use super::route::Route;
use super::rows::Metadata;

/// How long a body may take: a sender that needs longer for a few MiB holds a place that others
/// wait for.
const BODY_WAIT_MAX: Duration = Duration::from_secs(30);

/// What is read and thrown away of a body that is too large, so that its sender reads the answer.
const DISCARD_BYTES: usize = 8 * 1024 * 1024;

/// Bodies in memory, of all routes: requests beyond it are put off.
const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What is kept of a request's head stands in front of each of its rows that has an id of its own:
/// beyond this a small body under large headers would take the log's room.
const HEADS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an acknowledgement waits for an epoch: what senders wait for at most.
const SEALED_WAIT_MAX: Duration = Duration::from_secs(30);

/// When to try again after the disk or the log was full.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// When to try again where a moment is enough.
const MOMENT: Duration = Duration::from_secs(1);

/// An id longer than this is known by its hash.
const ID_MAX: usize = 256;

/// Parts of names of headers that hold what nobody is to read in a table.
const SECRET_NAMES: [&str; 9] = [
    "authorization",
    "cookie",
    "signature",
    "hmac",
    "token",
    "secret",
    "password",
    "api-key",
    "apikey",
];

/// Answers a request.
pub(super) async fn serve(hub: &Hub, route: &Route, request: Request) -> Response {
    let id = request.extensions().get::<RequestId>().cloned();
    let answer = match answer(hub, route, request).await {
        Ok(answer) => answer,
        Err(refusal) => Answer::Refused(refusal),
    };
    let counters = &route.channel.counters;
    let counter = match &answer {
        Answer::Accepted { .. } => Some(&counters.accepted),
        Answer::Duplicate => Some(&counters.duplicates),
        Answer::Challenge(_) => None,
        Answer::Refused(_) => Some(&counters.refused),
    };
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    let labels = [route.job.as_str(), route.source.as_str(), answer.outcome()];
    hub.means.metrics.count(&WEBHOOK_REQUESTS, &labels, 1);
    let asked = matches!(route.settings.challenge, Some(Challenge::Query { .. }));
    let methods = if asked { "GET, POST" } else { "POST" };
    answer.response(methods, id.as_ref().map(|id| id.0.as_str()))
}

async fn answer(hub: &Hub, route: &Route, request: Request) -> Result<Answer, Refusal> {
    let (head, body) = request.into_parts();
    let stream = body.into_data_stream();
    // Held until the answer is made: what is worked on at once is bounded.
    let _permit = match admit(hub, route, &head.method, &head.uri) {
        Ok(Admitted::Work(permit)) => permit,
        Ok(Admitted::Said(answer)) => return Ok(answer),
        Err(refusal) => {
            discard(hub, stream).await;
            return Err(refusal);
        }
    };
    let declared = head.headers.get(CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let max = route.settings.limits.body_bytes;
    if declared.is_some_and(|length| length > max.saturating_add(DISCARD_BYTES)) {
        return Err(too_large(max));
    }
    let room = Room::of(hub, declared.unwrap_or(max).min(max));
    if room.is_none() {
        discard(hub, stream).await;
        return Err(Refusal::Busy("too many bodies at once: send it again", MOMENT));
    }
    let read = read(stream, max);
    let body = tokio::select! {
        biased;
        body = read => body?,
        () = hub.means.clock.sleep(BODY_WAIT_MAX) => return Err(Refusal::Slow),
    };
    let began = hub.means.clock.monotonic();
    let answer = take(hub, route, &head.headers, &head.uri, body).await;
    if matches!(answer, Ok(Answer::Accepted { .. })) {
        let spent = hub.means.clock.monotonic().saturating_sub(began).as_secs_f64();
        let labels = [route.job.as_str(), route.source.as_str()];
        hub.means.metrics.observe(&WEBHOOK_ACK_SECONDS, &labels, spent);
    }
    answer
}

/// What comes of a request's head.
enum Admitted {
    /// Its body may be read, as long as this is held.
    Work(tokio::sync::OwnedSemaphorePermit),
    /// It is answered.
    Said(Answer),
}

fn admit(hub: &Hub, route: &Route, method: &Method, uri: &Uri) -> Result<Admitted, Refusal> {
    if hub.is_closing() {
        return Err(Refusal::Busy("the server is about to end: send it again", MOMENT));
    }
    let asks = method == Method::GET || method == Method::POST;
    let reply = route.settings.challenge.as_ref().filter(|_| asks);
    match reply.and_then(|challenge| challenge.ask_query(uri.query().unwrap_or_default())) {
        Some(Reply::Word(word)) => return Ok(Admitted::Said(Answer::Challenge(word))),
        Some(Reply::Stranger) => return Err(Refusal::Forbidden),
        None => {}
    }
    if method != Method::POST {
        return Err(Refusal::NotAllowed);
    }
    if let Some(bucket) = &route.bucket {
        bucket.take(hub.means.clock.monotonic()).map_err(Refusal::Throttled)?;
    }
    let permit = route.permits.clone().try_acquire_owned();
    permit.map(Admitted::Work).map_err(|_| Refusal::Throttled(MOMENT))
}

/// What a delivery says, once it is all there.
async fn take(
    hub: &Hub,
    route: &Route,
    headers: &HeaderMap,
    uri: &Uri,
    body: Bytes,
) -> Result<Answer, Refusal> {
    let settings = &route.settings;
    let now_ms = hub.means.clock.wall_ms();
    settings.verifier.verify(headers, &body, now_ms).map_err(Refusal::Unverified)?;
    if let Some(encoding) = headers.get(CONTENT_ENCODING).filter(|e| *e != "identity") {
        return Err(Refusal::Unsupported(format!("not a known encoding: {encoding:?}")));
    }
    let word = settings.challenge.as_ref().and_then(|challenge| challenge.ask_body(&body));
    if let Some(word) = word {
        return Ok(Answer::Challenge(word));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let rows = body::rows(settings.format, content_type, &body)?;
    let mut entries = entries(route, headers, about(route, headers, uri, now_ms), rows);
    let heads = entries.iter().map(|entry| entry.about.bytes()).sum::<usize>();
    if heads > HEADS_BYTES_MAX {
        let max = sluice_core::format_bytes(HEADS_BYTES_MAX as u64);
        let detail = format!("headers, path and query with each row are more than {max}");
        return Err(Refusal::TooLarge(format!("{detail}: send fewer rows at once")));
    }
    let came = entries.len();
    if let (Ack::Durable, Some(idempotency)) = (settings.ack, &settings.idempotency) {
        // Those that wait for an epoch are written again: the double is found when it is read, and
        // its answer comes when the first one is sealed.
        entries.retain(|entry| {
            let known = |id: &String| route.channel.is_known(id, now_ms, idempotency.window_ms);
            !entry.id.as_ref().is_some_and(known)
        });
    }
    let count: u64 = entries.iter().map(|entry| entry.rows.len() as u64).sum();
    if entries.is_empty() {
        return Ok(if came == 0 { Answer::Accepted { rows: 0 } } else { Answer::Duplicate });
    }
    let appended = route.channel.append(entries, settings.limits.backlog_bytes).await;
    let (log, end) = appended.map_err(|unwritten| match unwritten {
        Unwritten::Full => Refusal::Busy("too much waits to be taken: send it again", BUSY_WAIT),
        Unwritten::Broken => Refusal::Busy("the log cannot be written: send it again", BUSY_WAIT),
    })?;
    let (labels, counters) = ([route.job.as_str(), route.source.as_str()], &route.channel.counters);
    hub.means.metrics.count(&WEBHOOK_ROWS, &[labels[0], labels[1], "accepted"], count);
    hub.means.metrics.count(&WEBHOOK_BYTES, &labels, body.len() as u64);
    counters.rows.fetch_add(count, Ordering::Relaxed);
    counters.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
    counters.last_ms.store(now_ms, Ordering::Relaxed);
    if settings.ack == Ack::Sealed {
        sealed(hub, &log, end).await?;
    }
    Ok(Answer::Accepted { rows: count })
}

/// Waits until an epoch with all rows before `end` is published.
async fn sealed(hub: &Hub, log: &Arc<Log>, end: u64) -> Result<(), Refusal> {
    let mut published = log.published();
    let late = "the rows are in no epoch yet: send them again, they are taken once";
    tokio::select! {
        biased;
        done = published.wait_for(|row| *row >= end) => {
            done.map(drop).map_err(|_| Refusal::Busy(late, MOMENT))
        }
        () = hub.closing.cancelled() => Err(Refusal::Busy(late, MOMENT)),
        () = hub.means.clock.sleep(SEALED_WAIT_MAX) => Err(Refusal::Busy(late, MOMENT)),
    }
}

/// What is kept of a delivery besides its rows.
fn about(route: &Route, headers: &HeaderMap, uri: &Uri, received_ms: i64) -> About {
    let keeps = |column| route.settings.keeps(column);
    About {
        received_ms,
        headers: keeps(Metadata::Headers).then(|| shown(headers, &route.settings.hidden)),
        path: keeps(Metadata::Path).then(|| uri.path().to_string()),
        query: keeps(Metadata::Query).then(|| query(uri.query().unwrap_or_default())),
    }
}

/// Rows that are taken or passed over together: those with one id.
fn entries(route: &Route, headers: &HeaderMap, about: About, rows: Vec<Bytes>) -> Vec<Entry> {
    let about = Arc::new(about);
    if rows.is_empty() {
        return Vec::new();
    }
    match route.settings.idempotency.as_ref().map(|idempotency| &idempotency.at) {
        None => vec![Entry { id: None, about, rows }],
        Some(IdAt::Header(names)) => {
            let found = names.iter().find_map(|name| headers.get(name)?.to_str().ok());
            vec![Entry { id: found.and_then(id), about, rows }]
        }
        Some(IdAt::Json(path)) => {
            let entry = |row: Bytes| {
                let id = path.pick(&row).and_then(|text| id(&text));
                Entry { id, about: about.clone(), rows: vec![row] }
            };
            rows.into_iter().map(entry).collect()
        }
    }
}

fn id(text: &str) -> Option<String> {
    let text = text.trim();
    match text.len() {
        0 => None,
        1..=ID_MAX => Some(text.to_string()),
        _ => Some(format!("sha256:{}", hex::encode(Sha256::digest(text)))),
    }
}

/// Headers as the text of a JSON object, without those that are secret.
fn shown(headers: &HeaderMap, hidden: &[String]) -> String {
    let mut shown: Map<String, Value> = Map::new();
    for (name, value) in headers {
        let name = name.as_str();
        let secret = SECRET_NAMES.iter().any(|part| name.contains(part));
        if secret || hidden.iter().any(|hidden| hidden == name) {
            continue;
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        match shown.get_mut(name) {
            Some(Value::String(before)) => *before = format!("{before}, {value}"),
            _ => drop(shown.insert(name.to_string(), Value::String(value.into_owned()))),
        }
    }
    Value::Object(shown).to_string()
}

/// Parameters as the text of a JSON object; of one that comes twice the last counts.
fn query(text: &str) -> String {
    let pairs = form_urlencoded::parse(text.as_bytes());
    let pairs = pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())));
    Value::Object(pairs.collect()).to_string()
}

fn too_large(max: usize) -> Refusal {
    let max = sluice_core::format_bytes(max as u64);
    Refusal::TooLarge(format!("the body is larger than {max}"))
}

/// A body of at most `max` bytes.
async fn read(mut stream: BodyDataStream, max: usize) -> Result<Bytes, Refusal> {
    let cut = || Refusal::Malformed("the body broke off".into());
    let Some(first) = stream.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(|_| cut())?;
    let (mut whole, mut length) = (BytesMut::new(), first.len());
    let mut single = Some(first);
    while let Some(next) = stream.next().await {
        let next = next.map_err(|_| cut())?;
        length += next.len();
        if length > max.saturating_add(DISCARD_BYTES) {
            break;
        }
        if length > max {
            // The rest is only waited for.
            (whole, single) = (BytesMut::new(), None);
            continue;
        }
        whole.extend_from_slice(&single.take().unwrap_or_default());
        whole.extend_from_slice(&next);
    }
    match single {
        _ if length > max => Err(too_large(max)),
        Some(single) => Ok(single),
        None => Ok(whole.freeze()),
    }
}

/// Reads what is left of a body and throws it away.
async fn discard(hub: &Hub, mut stream: BodyDataStream) {
    let all = async {
        let mut length = 0;
        while let Some(Ok(next)) = stream.next().await {
            length += next.len();
            if length > DISCARD_BYTES {
                break;
            }
        }
    };
    tokio::select! {
        biased;
        () = all => {}
        () = hub.means.clock.sleep(MOMENT) => {}
    }
}

/// Bytes of bodies that a request may hold; given back when it is dropped.
struct Room<'h> {
    hub: &'h Hub,
    bytes: usize,
}

impl<'h> Room<'h> {
    fn of(hub: &'h Hub, bytes: usize) -> Option<Self> {
        let held = hub.bodies.fetch_add(bytes, Ordering::Relaxed);
        let room = Self { hub, bytes };
        (held.saturating_add(bytes) <= BODIES_BYTES_MAX).then_some(room)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.hub.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
