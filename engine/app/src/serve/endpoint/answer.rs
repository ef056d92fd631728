//! One request to an endpoint: its parameters, its rows, the headers that let clients keep them.
//!
//! In: a request. Out: JSON. A GET has an entity tag that changes when the rows may have changed,
//! so that who asks again is told in a few bytes that nothing did. With `cache:` the answer is used
//! again for that long, here and by clients, although newer rows are there.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Query, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use datafusion::common::ScalarValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use sluice_runtime::job::{EndpointSpec, Method, ParamFrom, Role};

use super::param::{self, Given};
use super::route::Route;
use super::shape;
use crate::serve::query::{Answer, Ask, Queries};
use crate::serve::shell::{ApiError, Caller};

/// Rows up to which JSON is written at once: more are written where they hold nobody up.
const ROWS_AT_ONCE: usize = 1_000;

/// Characters of an entity tag.
const TAG_CHARS: usize = 24;

/// An answer as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub body: Bytes,
    pub tag: String,
}

/// A request that may be answered.
pub(super) struct Wanted {
    /// Who asks, for the log.
    pub who: String,
    pub given: Given,
    pub headers: HeaderMap,
}

/// Who asks, if they may.
pub(super) fn allowed(spec: &EndpointSpec, request: &Request) -> Result<String, ApiError> {
    let caller = request.extensions().get::<Caller>();
    let name = caller.map_or("everybody", |caller| caller.name.as_str()).to_string();
    match (spec.role, caller) {
        (None, _) => Ok(name),
        (Some(role), Some(caller)) if caller.role >= role => Ok(name),
        (Some(role), Some(_)) => {
            Err(ApiError::forbidden(format!("this needs another role needed={}", Role::name(role))))
        }
        (Some(_), None) => Err(ApiError::unauthenticated("this needs a token")),
    }
}

/// What `request` says, where `open` are the segments of its path.
pub(super) async fn wanted(
    route: &Route,
    open: Vec<(String, String)>,
    who: String,
    request: Request,
    body_max: u64,
) -> Result<Wanted, ApiError> {
    let query = pairs(request.uri())?;
    let headers = request.headers().clone();
    let spec = &route.spec;
    let reads_body =
        spec.forward.is_some() || spec.params.iter().any(|p| p.from == ParamFrom::Body);
    let body = match reads_body {
        true => object(request, body_max).await?,
        false => Map::new(),
    };
    Ok(Wanted { who, given: Given { path: open, query, body }, headers })
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let Query(pairs) = pairs.map_err(|_| ApiError::bad_request("the query string is no text"))?;
    Ok(pairs)
}

/// The body as a JSON object; no body is one without keys.
async fn object(request: Request, body_max: u64) -> Result<Map<String, Value>, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let body = Bytes::from_request(request, &()).await.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(body_max),
        _ => ApiError::bad_request("the body broke off"),
    })?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    if !kind.as_ref().and_then(|kind| kind.to_str().ok()).is_some_and(is_json) {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(ApiError::new(status, "unsupported_media_type", "the body is not JSON")
            .hint("send Content-Type: application/json"));
    }
    match serde_json::from_slice(&body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::bad_request("the body is no JSON object")),
        Err(e) => Err(ApiError::bad_request(format!("the body is no JSON: {e}"))),
    }
}

fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}

/// The values of an endpoint's parameters.
pub(super) fn values(
    spec: &EndpointSpec,
    given: &Given,
) -> Result<Vec<(String, ScalarValue)>, ApiError> {
    param::values(&spec.params, given)
}

/// The question that an endpoint asks.
pub(super) fn ask(
    spec: &EndpointSpec,
    params: Vec<(String, ScalarValue)>,
    who: &str,
) -> Result<Ask, ApiError> {
    let sql = spec.sql.clone().ok_or_else(|| {
        tracing::error!(endpoint = %spec.name, "an endpoint has neither a statement nor a model");
        ApiError::internal()
    })?;
    Ok(Ask { sql, params, rows_max: None, who: who.to_string() })
}

/// Asks, and makes a body of the rows.
pub(super) async fn made(
    queries: &Queries,
    spec: &EndpointSpec,
    ask: Ask,
) -> Result<Sent, ApiError> {
    let params = ask.params.clone();
    let answer = queries.answer(ask).await?;
    let tag = tag(spec, &params, &answer.version);
    let body = shaped(queries, spec, answer).await?;
    let body = body.ok_or_else(|| {
        ApiError::not_found(format!("there is no row for this endpoint={}", spec.name))
    })?;
    Ok(Sent { body, tag })
}

async fn shaped(
    queries: &Queries,
    spec: &EndpointSpec,
    answer: Arc<Answer>,
) -> Result<Option<Bytes>, ApiError> {
    let shape = spec.shape;
    let rows: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
    let write = move || shape::body(shape, &answer.schema, &answer.batches);
    match rows <= ROWS_AT_ONCE {
        true => Ok(write()?),
        false => Ok(queries.aside(async move { write() }).await??),
    }
}

/// Tells answers of an endpoint apart: by its definition, its parameters, and what it read.
pub(super) fn tag(spec: &EndpointSpec, params: &[(String, ScalarValue)], version: &str) -> String {
    let mut hash = Sha256::new();
    let sql = spec.sql.as_deref().unwrap_or_default();
    hash.update(format!("{version}\n{:?}\n{params:?}\n{sql}", spec.shape));
    let text: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("W/\"{}\"", text.get(..TAG_CHARS).unwrap_or(&text))
}

/// Whether answers of an endpoint have tags: those of a POST are never kept by clients.
pub(super) fn has_tag(spec: &EndpointSpec) -> bool {
    spec.method == Method::Get
}

/// Whether who asks has the answer with this tag.
pub(super) fn is_known(tag: &str, headers: &HeaderMap) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_string();
    let lists = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(','));
    tags.any(|other| other.trim() == "*" || bare(other) == bare(tag))
}

/// The answer to who sent `headers`; `left` is how long it may be used again.
pub(super) fn sent(
    spec: &EndpointSpec,
    sent: &Sent,
    headers: &HeaderMap,
    left: Option<Duration>,
) -> Response {
    if !has_tag(spec) {
        let headers = [(header::CACHE_CONTROL, "no-store"), (header::CONTENT_TYPE, JSON)];
        return (headers, Body::from(sent.body.clone())).into_response();
    }
    if is_known(&sent.tag, headers) {
        return unchanged(spec, &sent.tag, left);
    }
    let mut response = Body::from(sent.body.clone()).into_response();
    let kind = HeaderValue::from_static(JSON);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    keepable(response, spec, &sent.tag, left)
}

/// The answer to who has it already.
pub(super) fn unchanged(spec: &EndpointSpec, tag: &str, left: Option<Duration>) -> Response {
    keepable(StatusCode::NOT_MODIFIED.into_response(), spec, tag, left)
}

const JSON: &str = "application/json";

fn keepable(
    mut response: Response,
    spec: &EndpointSpec,
    tag: &str,
    left: Option<Duration>,
) -> Response {
    let whose = if spec.role.is_some() { "private" } else { "public" };
    let keep = match left {
        Some(left) => format!("{whose}, max-age={}", left.as_secs()),
        None => "no-cache".to_string(),
    };
    let headers = response.headers_mut();
    for (name, text) in [(header::ETAG, tag), (header::CACHE_CONTROL, keep.as_str())] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
    if spec.role.is_some() {
        headers.append(header::VARY, HeaderValue::from_static("authorization"));
    }
    response
}
