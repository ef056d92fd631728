//! What tests of endpoints share.

use sluice_runtime::job::{EndpointSpec, Method, Shape};

/// An endpoint that is asked by GET, by everybody, without parameters.
pub(super) fn spec(name: &str, path: &str) -> EndpointSpec {
    EndpointSpec {
        name: name.to_string(),
        path: path.to_string(),
        method: Method::Get,
        sql: Some("SELECT 1 AS n".to_string()),
        statement: None,
        params: Vec::new(),
        shape: Shape::List,
        role: None,
        cache: None,
        forward: None,
        doc: String::new(),
        pointer: format!("/endpoints/{name}"),
    }
}
