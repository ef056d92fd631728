//! Endpoints in the description of the API.
//!
//! In: the endpoints of a project. Out: OpenAPI paths with their parameters and the forms of their
//! answers. What columns an answer has is known only when it is asked for, and left open.

use arrow::datatypes::DataType;
use sluice_runtime::job::{EndpointSpec, Method, ParamFrom, ParamSpec, Project, Shape};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, Paths,
    PathsBuilder,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat,
    SchemaType, Type,
};
use utoipa::openapi::{ContentBuilder, PathItem, Ref, Required};

/// The heading that endpoints stand under.
const TAG: &str = "endpoints";

const JSON: &str = "application/json";

/// The paths of all endpoints of `project`.
pub(crate) fn openapi_paths(project: &Project) -> Paths {
    paths(&project.endpoints)
}

fn paths(endpoints: &[EndpointSpec]) -> Paths {
    let mut paths = PathsBuilder::new();
    for spec in endpoints {
        let method = match spec.method {
            Method::Get => HttpMethod::Get,
            Method::Post => HttpMethod::Post,
        };
        paths = paths.path(&spec.path, PathItem::new(method, operation(spec)));
    }
    paths.build()
}

fn operation(spec: &EndpointSpec) -> Operation {
    let first = spec.doc.lines().next().unwrap_or_default().trim();
    let summary = if first.is_empty() { spec.name.as_str() } else { first };
    let is_body = |param: &&ParamSpec| param.from == ParamFrom::Body;
    let parameters = spec.params.iter().filter(|param| !is_body(param)).map(parameter);
    let mut operation = OperationBuilder::new()
        .tag(TAG)
        .operation_id(Some(format!("endpoint_{}", spec.name)))
        .summary(Some(summary))
        .description((!spec.doc.is_empty()).then_some(spec.doc.as_str()))
        .parameters(Some(parameters))
        .response("200", answer(spec));
    if spec.forward.is_some() {
        operation = operation.request_body(Some(question()));
    } else if spec.params.iter().any(|param| is_body(&param)) {
        let named = spec.params.iter().filter(is_body);
        operation = operation.request_body(Some(body(named)));
    }
    for (status, what) in refusals(spec) {
        operation = operation.response(status, problem(what));
    }
    if spec.role.is_none() {
        // Nobody has to say who asks.
        operation = operation.securities(Some([]));
    }
    operation.build()
}

/// What else may be answered.
fn refusals(spec: &EndpointSpec) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("400", "a parameter is wrong or missing")];
    if spec.role.is_some() {
        all.push(("401", "a token is needed"));
        all.push(("403", "another role is needed"));
    }
    if spec.shape == Shape::Object && spec.forward.is_none() {
        all.push(("404", "there is no row"));
    }
    if spec.method == Method::Get {
        all.push(("304", "nothing changed since If-None-Match"));
    } else {
        all.push(("413", "the body is too large"));
        all.push(("415", "the body is not JSON"));
    }
    all.push(("422", "the question cannot be answered"));
    all.push(("429", "too many requests, or queries; Retry-After says when to come again"));
    if spec.forward.is_some() {
        all.push(("502", "the model cannot be reached, or does not speak the protocol"));
        all.push(("504", "the model does not answer in time"));
    }
    all.push(("503", "a store or the model is away; the reason says which"));
    all
}

fn problem(what: &str) -> Response {
    if what.starts_with("nothing changed") {
        return ResponseBuilder::new().description(what).build();
    }
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(what).content("application/problem+json", problem).build()
}

fn parameter(param: &ParamSpec) -> Parameter {
    let place = match param.from {
        ParamFrom::Path => ParameterIn::Path,
        _ => ParameterIn::Query,
    };
    ParameterBuilder::new()
        .name(&param.name)
        .parameter_in(place)
        .required(required(param))
        .schema(Some(schema(param)))
        .build()
}

fn required(param: &ParamSpec) -> Required {
    let needed = param.from == ParamFrom::Path || param.default.is_none();
    if needed { Required::True } else { Required::False }
}

fn schema(param: &ParamSpec) -> Schema {
    let (kind, format) = kind(&param.data_type);
    let default = param.default.clone().filter(|default| !default.is_null());
    let kind = match param.default.as_ref().is_some_and(|d| d.is_null()) {
        true if param.from == ParamFrom::Body => SchemaType::from_iter([kind, Type::Null]),
        _ => SchemaType::new(kind),
    };
    ObjectBuilder::new().schema_type(kind).format(format).default(default).into()
}

fn kind(data_type: &DataType) -> (Type, Option<SchemaFormat>) {
    let known = |format| Some(SchemaFormat::KnownFormat(format));
    match data_type {
        DataType::Boolean => (Type::Boolean, None),
        DataType::Date32 | DataType::Date64 => (Type::String, known(KnownFormat::Date)),
        DataType::Timestamp(..) => (Type::String, known(KnownFormat::DateTime)),
        t if t.is_integer() => (Type::Integer, known(KnownFormat::Int64)),
        t if t.is_numeric() => (Type::Number, known(KnownFormat::Double)),
        _ => (Type::String, None),
    }
}

fn body<'a>(params: impl Iterator<Item = &'a ParamSpec>) -> RequestBody {
    let mut object = ObjectBuilder::new();
    let mut needed = Required::False;
    for param in params {
        object = object.property(&param.name, schema(param));
        if param.default.is_none() {
            object = object.required(&param.name);
            needed = Required::True;
        }
    }
    let content = ContentBuilder::new().schema(Some(Schema::from(object))).build();
    RequestBodyBuilder::new().content(JSON, content).required(Some(needed)).build()
}

fn text() -> Schema {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).into()
}

/// What is asked of a model.
fn question() -> RequestBody {
    let turn = ObjectBuilder::new()
        .property("role", text())
        .property("content", text())
        .required("role")
        .required("content");
    let what = "instead of `message`: all turns so far, the last one the user's";
    let turns = ArrayBuilder::new().items(turn).description(Some(what));
    let object = ObjectBuilder::new()
        .property("message", text())
        .property("messages", turns)
        .property("conversation_id", text())
        .property("user_id", text());
    let content = ContentBuilder::new().schema(Some(Schema::from(object))).build();
    RequestBodyBuilder::new().content(JSON, content).required(Some(Required::True)).build()
}

fn answer(spec: &EndpointSpec) -> Response {
    let any = || ObjectBuilder::new().schema_type(SchemaType::any()).build();
    let row = || {
        let any = AdditionalProperties::<Schema>::FreeForm(true);
        ObjectBuilder::new().additional_properties(Some(any))
    };
    let list = || ArrayBuilder::new().items(any());
    let (what, schema) = match (&spec.forward, spec.shape) {
        (Some(_), _) => ("the model's reply", reply()),
        (None, Shape::Object) => ("the row", Schema::from(row())),
        (None, Shape::List) => ("the rows", Schema::from(ArrayBuilder::new().items(row()))),
        (None, Shape::Series) => {
            let lines = ObjectBuilder::new().additional_properties(Some(list()));
            let series = ObjectBuilder::new()
                .property("labels", list())
                .property("series", lines)
                .required("labels")
                .required("series");
            ("the columns: the first names the points, each other is a line", series.into())
        }
    };
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(what).content(JSON, content).build()
}

fn reply() -> Schema {
    let mut object = ObjectBuilder::new();
    for name in ["conversation_id", "message_id", "reply", "timestamp"] {
        object = object.property(name, text()).required(name);
    }
    object.into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::spec;
    use super::*;

    fn param(
        name: &str,
        data_type: DataType,
        from: ParamFrom,
        default: Option<Value>,
    ) -> ParamSpec {
        ParamSpec { name: name.to_string(), data_type, default, from }
    }

    #[test]
    fn endpoints_are_described() {
        let trends = EndpointSpec {
            params: vec![
                param("id", DataType::Utf8, ParamFrom::Path, None),
                param("days", DataType::Int64, ParamFrom::Query, Some(json!(30))),
            ],
            shape: Shape::Series,
            doc: "Trends.\n\nOver days.".to_string(),
            ..spec("trends", "/api/{id}/trends")
        };
        let order = EndpointSpec {
            method: Method::Post,
            params: vec![
                param("n", DataType::Int64, ParamFrom::Body, None),
                param("day", DataType::Date32, ParamFrom::Body, Some(Value::Null)),
            ],
            ..spec("order", "/api/{id}/trends")
        };
        let described = serde_json::to_value(paths(&[trends, order])).unwrap();
        let path = &described["/api/{id}/trends"];
        let get = &path["get"];
        assert_eq!(get["summary"], "Trends.");
        assert_eq!(get["operationId"], "endpoint_trends");
        assert_eq!(get["parameters"][0]["in"], "path");
        assert_eq!(get["parameters"][0]["required"], true);
        assert_eq!(get["parameters"][1]["required"], false);
        let schema = json!({"type": "integer", "format": "int64", "default": 30});
        assert_eq!(get["parameters"][1]["schema"], schema);
        let answer = &get["responses"]["200"]["content"]["application/json"]["schema"];
        assert_eq!(answer["properties"]["labels"]["type"], "array");
        assert!(get["responses"]["304"].is_object() && get["responses"]["404"].is_null());
        assert_eq!(get["security"], json!([]));
        let sent = &path["post"]["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(sent["required"], json!(["n"]));
        assert_eq!(sent["properties"]["day"]["type"], json!(["string", "null"]));
    }
}
