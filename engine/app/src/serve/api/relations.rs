//! Tables and views: which there are, and what they hold.
//!
//! In: the snapshots that queries read. Out: JSON lists, and the search by name for those who read
//! rows. Rows are read in `rows`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sluice_core::type_name;
use utoipa::ToSchema;

use super::ask::{Asked, Nothing};
use crate::serve::Parts;
use crate::serve::query::RelationInfo;
use crate::serve::shell::ApiError;

/// What a relation is to its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    View,
    Rejected,
    Quarantine,
    Undelivered,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::View => "view",
            Self::Rejected => "rejected",
            Self::Quarantine => "quarantine",
            Self::Undelivered => "undelivered",
        }
    }
}

/// Tables.
#[derive(Serialize, ToSchema)]
pub(super) struct Tables {
    tables: Vec<Relation>,
}

/// Views.
#[derive(Serialize, ToSchema)]
pub(super) struct Views {
    views: Vec<Relation>,
}

/// A table or a view.
#[derive(Serialize, ToSchema)]
pub(super) struct Relation {
    /// Its name.
    name: String,
    /// The job that makes it.
    job: String,
    /// What it is, for people.
    doc: String,
    /// The epoch its rows are of; none before the first.
    epoch: Option<u64>,
    /// Its rows, where they are known without counting.
    rows: Option<u64>,
    /// Its files.
    files: Option<u64>,
    /// Its columns, in order.
    columns: Vec<Column>,
    /// Where its rows are.
    link: String,
}

/// A column.
#[derive(Serialize, ToSchema)]
pub(super) struct Column {
    /// Its name.
    name: String,
    /// Its type.
    #[serde(rename = "type")]
    data_type: String,
    /// Whether it may be NULL.
    nullable: bool,
}

/// All tables
#[utoipa::path(get, path = "/v1/tables", tag = "data", operation_id = "tables",
    responses((status = 200, description = "all tables", body = Tables)))]
pub(super) async fn tables(
    State(parts): State<Arc<Parts>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Json<Tables> {
    Json(Tables { tables: list(&parts, Kind::Table) })
}

/// All views
#[utoipa::path(get, path = "/v1/views", tag = "data", operation_id = "views",
    responses((status = 200, description = "all views", body = Views)))]
pub(super) async fn views(
    State(parts): State<Arc<Parts>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Json<Views> {
    Json(Views { views: list(&parts, Kind::View) })
}

/// The relation of this kind and name; the name is that of SQL.
pub(super) fn find(parts: &Parts, kind: Kind, name: &str) -> Result<RelationInfo, ApiError> {
    let all: Vec<_> =
        parts.queries.relations().into_iter().filter(|r| r.kind == kind.name()).collect();
    let others: Vec<&str> = all.iter().map(|r| r.name.as_str()).collect();
    let missing = missing(kind, name, &others);
    all.into_iter().find(|r| r.name == name).ok_or(missing)
}

/// There is no relation of this name, but `others` of its kind.
fn missing(kind: Kind, name: &str, others: &[&str]) -> ApiError {
    let what = kind.name();
    let hint = match kind {
        Kind::Table | Kind::View => format!("GET /v1/{what}s lists what there is"),
        _ if others.is_empty() => "no job of the project keeps rows of this kind".to_string(),
        _ => format!("those there are: {}", others.join(", ")),
    };
    ApiError::not_found(format!("there is nothing of this kind kind={what} name={name:?}"))
        .hint(hint)
}

fn list(parts: &Parts, kind: Kind) -> Vec<Relation> {
    let all = parts.queries.relations().into_iter();
    let mut list: Vec<_> = all.filter(|r| r.kind == kind.name()).map(Relation::from).collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

impl From<RelationInfo> for Relation {
    fn from(info: RelationInfo) -> Self {
        let column = |field: &Arc<arrow::datatypes::Field>| Column {
            name: field.name().clone(),
            data_type: type_name(field.data_type()),
            nullable: field.is_nullable(),
        };
        Self {
            columns: info.schema.fields().iter().map(column).collect(),
            link: format!("/v1/{}s/{}", info.kind, info.name),
            name: info.name,
            job: info.job,
            doc: info.doc,
            epoch: info.epoch,
            rows: info.rows,
            files: info.files,
        }
    }
}
