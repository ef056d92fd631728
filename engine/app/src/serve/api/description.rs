//! The OpenAPI 3.1 description: what the handlers' own attributes do not say, and its page.
//!
//! In: the description that the routes were collected with, the endpoints of the project. Out: JSON at
//! `/v1/openapi.json`, a page at `/docs`, links at `/v1`. What all operations have in common (problems, roles, forms of
//! rows) is written here once; paths, parameters and bodies stand at the handlers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use sluice_runtime::job::Role;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    Operation, Parameter, ParameterBuilder, ParameterIn, ParameterStyle, PathItem, Paths,
};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, ObjectBuilder, SchemaType, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{Info, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder, Schema};
use utoipa::{IntoParams, IntoResponses, PartialSchema as _};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::Desk;
use super::answer::Format;
use super::ask::{Asked, Nothing};
use super::page::{OFFSET_MAX, ROWS_DEFAULT, ROWS_MAX};
use crate::serve::Parts;
use crate::serve::endpoint;
use crate::serve::shell::{ApiError, Problem};

/// Where the description is.
const PLACE: &str = "/v1/openapi.json";

/// The name of the problems' schema.
const PROBLEM: &str = "Problem";

/// A description without paths.
pub(super) fn empty() -> OpenApi {
    let mut info = Info::new("Sluice", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Jobs, tables and views of a Sluice project. Rows come as JSON, CSV, an Arrow stream or \
         Parquet: say so in `Accept`. Every answer about rows is of one published epoch. Not in \
         here are the routes of webhooks, which stand in the job files, and what everybody may \
         ask: `/health`, `/health/startup`, `/health/live`, `/health/ready`, `/metrics`."
            .to_string(),
    );
    let mut api = OpenApi::new(info, Paths::new());
    let tag =
        |(name, what): (&str, &str)| TagBuilder::new().name(name).description(Some(what)).build();
    let tags = [
        ("jobs", "Jobs, their runs and epochs."),
        ("data", "Rows of tables and views, and of what did not become rows of them."),
        ("sql", "Queries."),
        ("live", "Changes as they are published."),
        ("server", "The process itself."),
    ];
    api.tags = Some(tags.into_iter().map(tag).collect());
    api
}

/// The parameters of a page of rows.
pub(super) enum PageParams {}

impl IntoParams for PageParams {
    fn into_params(_place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let whole = |min: u64, max: u64| {
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(min)).maximum(Some(max))
        };
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let filters = ObjectBuilder::new().additional_properties(Some(text()));
        let limit = format!("rows at most; default: {ROWS_DEFAULT}");
        let filters = parameter(
            "filters",
            filters,
            "conditions on columns: `site=Berlin`, or a comparison behind a column's name: `.eq` \
             `.ne` `.gt` `.ge` `.lt` `.le`, `.like` (`%` and `_`), `.in` (values with commas \
             between), `.null` (true or false); all must hold",
        );
        let filters = filters.style(Some(ParameterStyle::Form)).explode(Some(true));
        let columns = "the columns wanted: `day,site`; default: all";
        let order = "`-day,site`: the latest day first, then by site; default: none, and then \
                     there is no next page to ask for";
        let all = [
            parameter("columns", text(), columns),
            parameter("order", text(), order),
            parameter("limit", whole(1, ROWS_MAX), &limit),
            parameter("offset", whole(0, OFFSET_MAX), "rows to skip; wants an order"),
            parameter("cursor", text(), "as in the link to the next page"),
            filters,
        ];
        all.map(ParameterBuilder::build).into()
    }
}

fn parameter(name: &str, schema: ObjectBuilder, what: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(what))
        .schema(Some(schema))
}

/// What a page of rows is answered with.
pub(super) enum PageRows {}

impl IntoResponses for PageRows {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let header = |what: &str| HeaderBuilder::new().description(Some(what)).build();
        let page = object([
            ("epoch", nullable(Type::Integer)),
            ("rows", objects()),
            ("more", ObjectBuilder::new().schema_type(Type::Boolean).into()),
            ("next", nullable(Type::String)),
        ]);
        let page = rows("a page of rows", page)
            .header("ETag", header("changes when the rows' job publishes"))
            .header("Link", header("the next page, `rel=\"next\"`"));
        let known = ResponseBuilder::new().description("the client has these rows already");
        let problems = [(406, "no form of rows is accepted"), (422, "the query takes too much")];
        let mut all = problems_of(problems);
        all.insert("200".to_string(), page.into());
        all.insert("304".to_string(), known.into());
        all
    }
}

/// What a query is answered with.
pub(super) enum SqlRows {}

impl IntoResponses for SqlRows {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let answer = object([
            ("columns", objects()),
            ("rows", objects()),
            ("more", ObjectBuilder::new().schema_type(Type::Boolean).into()),
        ]);
        let mut all = problems_of([
            (406, "no form of rows is accepted"),
            (415, "the body is neither JSON nor text"),
            (422, "the query fails on its data, or takes too much"),
        ]);
        all.insert("200".to_string(), rows("the rows", answer).into());
        all
    }
}

/// A schema of an object with all these members.
fn object<const N: usize>(members: [(&str, RefOr<Schema>); N]) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new();
    for (name, schema) in members {
        object = object.property(name, schema).required(name);
    }
    object.into()
}

fn nullable(kind: Type) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([kind, Type::Null])).into()
}

/// A list of objects with members that the columns name.
fn objects() -> RefOr<Schema> {
    let any = ObjectBuilder::new()
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)));
    ArrayBuilder::new().items(any).into()
}

/// Rows in all forms there are.
fn rows(what: &str, json: RefOr<Schema>) -> ResponseBuilder {
    let text = Content::new(Some(ObjectBuilder::new().schema_type(Type::String)));
    ResponseBuilder::new()
        .description(what)
        .content(Format::Json.media_type(), Content::new(Some(json)))
        .content(Format::Csv.media_type(), text)
        .content(Format::Arrow.media_type(), ContentBuilder::new().build())
        .content(Format::Parquet.media_type(), ContentBuilder::new().build())
}

/// A response with problem details.
fn problem(what: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name(PROBLEM)));
    ResponseBuilder::new().description(what).content("application/problem+json", content).build()
}

fn problems_of<const N: usize>(told: [(u16, &str); N]) -> BTreeMap<String, RefOr<Response>> {
    told.into_iter().map(|(status, what)| (status.to_string(), problem(what).into())).collect()
}

/// Tells of all operations which role they want, and how they are refused.
pub(super) fn tell_common(api: &mut OpenApi, role: Role) {
    for (path, item) in &mut api.paths.paths {
        for operation in operations(item) {
            let told = format!("Role: `{}`.", role.name());
            operation.description = Some(match operation.description.take() {
                Some(before) if !before.is_empty() => format!("{before}\n\n{told}"),
                _ => told,
            });
            let mut all = problems_of([
                (400, "the request is wrong; the problem says how"),
                (401, "a token is wanted, or the one sent is not known"),
                (403, "the token's role is not enough"),
                (409, "something is in the way; the problem says what"),
                (422, "rows or files are not what they should be"),
                (429, "too many requests, or queries; Retry-After says when to come again"),
                (503, "something this needs is away; Retry-After says when to come again"),
            ]);
            if path.contains('{') {
                all.extend(problems_of([(404, "there is no such thing")]));
            }
            if operation.request_body.is_some() {
                let body = [(408, "the body came too slowly"), (413, "the body is too large")];
                all.extend(problems_of(body));
            }
            // What a handler says of a status itself is more exact.
            all.extend(std::mem::take(&mut operation.responses.responses));
            operation.responses.responses = all;
        }
    }
    let components = api.components.get_or_insert_default();
    components.schemas.insert(PROBLEM.to_string(), Problem::schema());
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// What there is
#[utoipa::path(get, path = "/v1", tag = "server", operation_id = "index",
    responses((status = 200, description = "names and links", body = Object,
        content_type = "application/json")))]
pub(super) async fn index(
    State(parts): State<Arc<Parts>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Json<Value> {
    let project = parts.project.borrow().clone();
    Json(json!({
        "name": "sluice",
        "version": env!("CARGO_PKG_VERSION"),
        "project": project.name,
        "target": project.target,
        "links": {
            "jobs": "/v1/jobs",
            "runs": "/v1/runs",
            "tables": "/v1/tables",
            "views": "/v1/views",
            "sql": "/v1/sql",
            "events": "/v1/events",
            "activity": "/v1/activity",
            "description": "/v1/openapi.json",
            "docs": "/docs/",
        },
    }))
}

/// This description
///
/// With the project's endpoints.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "server", operation_id = "description",
    responses((status = 200, description = "OpenAPI 3.1", body = Object,
        content_type = "application/json")))]
pub(super) async fn openapi(
    State(parts): State<Arc<Parts>>,
    Extension(desk): Extension<Arc<Desk>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<OpenApi>, ApiError> {
    let mut api = desk.description.clone();
    let project = parts.project.borrow().clone();
    api.paths.merge(endpoint::openapi_paths(&project));
    if !parts.access.is_open() {
        secure(&mut api);
    }
    Ok(Json(api))
}

/// Tells how to say who asks. A server without users does not ask.
fn secure(api: &mut OpenApi) {
    let scheme = |scheme: HttpAuthScheme, what: &str| {
        SecurityScheme::Http(HttpBuilder::new().scheme(scheme).description(Some(what)).build())
    };
    let components = api.components.get_or_insert_default();
    let bearer = scheme(HttpAuthScheme::Bearer, "an API token");
    let basic = scheme(HttpAuthScheme::Basic, "any user name, an API token as the password");
    components.security_schemes.insert("bearer".to_string(), bearer);
    components.security_schemes.insert("basic".to_string(), basic);
    let none: [&str; 0] = [];
    let one = |name: &str| SecurityRequirement::new(name, none);
    api.security = Some(vec![one("bearer"), one("basic")]);
}

/// The page that shows the description.
pub(super) fn page<S: Clone + Send + Sync + 'static>() -> Router<S> {
    SwaggerUi::new("/docs").config(Config::from(PLACE)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::api;

    fn described() -> Value {
        let (_, mut description) = api::routes();
        secure(&mut description);
        serde_json::to_value(description).expect("JSON")
    }

    #[test]
    fn every_operation_tells_its_refusals_and_has_a_name_of_its_own() {
        let described = described();
        assert_eq!(described["openapi"], "3.1.0");
        let mut names = std::collections::BTreeSet::new();
        for (path, item) in described["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let name = operation["operationId"].as_str().expect("a name");
                assert!(names.insert(name.to_string()), "{name} twice");
                let responses = operation["responses"].as_object().expect("responses");
                for status in ["400", "401", "403", "429"] {
                    assert!(responses.contains_key(status), "{method} {path} {status}");
                }
                assert_eq!(responses.contains_key("404"), path.contains('{'), "{path}");
            }
        }
        assert!(names.len() > 15);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(|r| r.as_str()));
                    members.values().for_each(|member| walk(member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
                _ => {}
            }
        }
        let described = described();
        let mut found = Vec::new();
        walk(&described, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(described.pointer(pointer).is_some(), "{reference}");
        }
    }
}
