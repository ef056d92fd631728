//! Rows of one relation, page by page: tables, views, and what was rejected, quarantined, refused.
//!
//! In: a name, filters, an order, a form. Out: a page whose entity tag changes when its job publishes
//! an epoch that moves it; who has that state already is told so without a query.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use futures::{StreamExt as _, stream};
use sluice_runtime::plan::{quarantine_name, rejected_name, undelivered_name};

use super::answer::{self, Tag, not_modified};
use super::ask::{Named, Reading};
use super::description::{PageParams, PageRows};
use super::encode::{Around, Outgoing, body};
use super::page::{Page, Statement};
use super::relations::{Kind, find};
use crate::serve::Parts;
use crate::serve::query::{Answer, Ask, QueryError, RelationInfo};
use crate::serve::shell::{ApiError, Caller};

/// How often an answer is taken again when an epoch was published while it was made.
const TRIES: usize = 4;

/// Rows of a table
#[utoipa::path(get, path = "/v1/tables/{name}", tag = "data", operation_id = "table",
    params(("name" = String, Path, description = "the table\'s name"), PageParams), responses(PageRows))]
pub(super) async fn table(
    State(parts): State<Arc<Parts>>,
    Named(name): Named,
    caller: Caller,
    reading: Reading,
) -> Result<Response, ApiError> {
    rows(&parts, Kind::Table, &name, caller, reading).await
}

/// Rows of a view
#[utoipa::path(get, path = "/v1/views/{name}", tag = "data", operation_id = "view",
    params(("name" = String, Path, description = "the view\'s name"), PageParams), responses(PageRows))]
pub(super) async fn view(
    State(parts): State<Arc<Parts>>,
    Named(name): Named,
    caller: Caller,
    reading: Reading,
) -> Result<Response, ApiError> {
    rows(&parts, Kind::View, &name, caller, reading).await
}

/// Rows of a source that could not be decoded
#[utoipa::path(get, path = "/v1/rejected/{name}", tag = "data", operation_id = "rejected",
    params(("name" = String, Path, description = "the source\'s name"), PageParams), responses(PageRows))]
pub(super) async fn rejected(
    State(parts): State<Arc<Parts>>,
    Named(name): Named,
    caller: Caller,
    reading: Reading,
) -> Result<Response, ApiError> {
    rows(&parts, Kind::Rejected, &rejected_name(&name), caller, reading).await
}

/// Rows of a table that broke an expectation
#[utoipa::path(get, path = "/v1/quarantine/{name}", tag = "data", operation_id = "quarantine",
    params(("name" = String, Path, description = "the table\'s name"), PageParams), responses(PageRows))]
pub(super) async fn quarantine(
    State(parts): State<Arc<Parts>>,
    Named(name): Named,
    caller: Caller,
    reading: Reading,
) -> Result<Response, ApiError> {
    rows(&parts, Kind::Quarantine, &quarantine_name(&name), caller, reading).await
}

/// Rows that the target of a sink refused
#[utoipa::path(get, path = "/v1/undelivered/{name}", tag = "data", operation_id = "undelivered",
    params(("name" = String, Path, description = "the sink\'s name"), PageParams), responses(PageRows))]
pub(super) async fn undelivered(
    State(parts): State<Arc<Parts>>,
    Named(name): Named,
    caller: Caller,
    reading: Reading,
) -> Result<Response, ApiError> {
    rows(&parts, Kind::Undelivered, &undelivered_name(&name), caller, reading).await
}

async fn rows(
    parts: &Parts,
    kind: Kind,
    name: &str,
    caller: Caller,
    reading: Reading,
) -> Result<Response, ApiError> {
    let info = find(parts, kind, name)?;
    let page = Page::parse(&info.name, &info.schema, &reading.pairs)?;
    let reads = [info.name.clone()];
    let tag = Tag::new(&parts.queries.version_of(&reads), reading.format);
    if tag.is_known(&reading.headers) {
        return Ok(not_modified(&tag));
    }
    let Snapshot { answer, epoch } = snapshot(parts, &info, &page, &caller.name).await?;
    let tag = Tag::new(&answer.version, reading.format);
    let found: u64 = answer.batches.iter().map(|b| b.num_rows() as u64).sum();
    let next = page.next(&reading.path).filter(|_| found > page.limit);
    let around = Around { epoch, next: next.clone(), ..Around::default() };
    let body = body(reading.format, outgoing(&answer, page.limit), &around)?;
    Ok(answer::rows(reading.format, Some(&tag), next.as_deref(), body))
}

/// A page of rows, and the epoch they are of.
pub(super) struct Snapshot {
    pub(super) answer: Arc<Answer>,
    /// None in the rare case that an epoch was published each time it was looked at.
    pub(super) epoch: Option<u64>,
}

/// Reads a page so that the epoch told is the one of its rows.
pub(super) async fn snapshot(
    parts: &Parts,
    info: &RelationInfo,
    page: &Page,
    who: &str,
) -> Result<Snapshot, QueryError> {
    let reads = [info.name.clone()];
    let mut answer = None;
    for _ in 0..TRIES {
        let epoch = parts.queries.epoch_of(&info.job);
        let version = parts.queries.version_of(&reads);
        let Statement { sql, params } = page.statement(&info.sql, &info.schema);
        let ask = Ask { sql, params, rows_max: None, who: who.to_string() };
        let found = parts.queries.answer(ask).await?;
        // Epochs only grow: one that is the same before and after was there in between.
        if found.version == version && parts.queries.epoch_of(&info.job) == epoch {
            return Ok(Snapshot { answer: found, epoch });
        }
        answer = Some(found);
    }
    match answer {
        Some(answer) => Ok(Snapshot { answer, epoch: None }),
        None => Err(QueryError::Failed(sluice_core::Error::bug("an answer was never taken"))),
    }
}

/// The rows of an answer, ready to go out.
pub(super) fn outgoing(answer: &Answer, limit: u64) -> Outgoing {
    let batches: Vec<_> = answer.batches.iter().cloned().map(Ok).collect();
    Outgoing {
        schema: answer.schema.clone(),
        rows: stream::iter(batches).boxed(),
        limit: Some(limit),
    }
}
