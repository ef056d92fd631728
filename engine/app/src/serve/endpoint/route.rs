//! Which endpoint a request is for.
//!
//! In: the endpoints of a project, a method and a path. Out: one of them with the segments that its
//! path leaves open; or what else the path may be asked by. Where several fit, the one that leaves
//! least open is meant; what is served in any case is no endpoint's, whatever it leaves open. Paths
//! are compared as they were sent: `%61` is not `a`.

use std::sync::Arc;

use axum::http::Method as Asked;
use sluice_runtime::job::{EndpointSpec, Method};

use crate::serve::shell::is_own;

/// An endpoint and the segments of its path.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub spec: Arc<EndpointSpec>,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Is(String),
    Any(String),
}

/// What is at a path.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// No endpoint.
    Nothing,
    /// Endpoints that are asked by other methods.
    Otherwise(Vec<&'static str>),
    /// This one, with the values of its path's parameters.
    Here(&'a Route, Vec<(String, String)>),
}

impl Route {
    pub fn new(spec: EndpointSpec) -> Self {
        let segment = |text: &str| match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            Some(name) => Segment::Any(name.to_string()),
            None => Segment::Is(text.to_string()),
        };
        let segments = spec.path.trim_start_matches('/').split('/').map(segment).collect();
        Self { spec: Arc::new(spec), segments }
    }

    /// The open segments of `path`, where it is one of this endpoint's.
    fn matched(&self, path: &str) -> Option<Vec<(String, String)>> {
        let sent: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if sent.len() != self.segments.len() {
            return None;
        }
        let mut open = Vec::new();
        for (segment, sent) in self.segments.iter().zip(sent) {
            match segment {
                Segment::Is(text) if text == sent => {}
                Segment::Any(name) if !sent.is_empty() => {
                    open.push((name.clone(), sent.to_string()));
                }
                _ => return None,
            }
        }
        Some(open)
    }
}

/// What is at `path`, asked by `method`.
pub(super) fn find<'a>(routes: &'a [Route], method: &Asked, path: &str) -> Found<'a> {
    if is_own(path) {
        return Found::Nothing;
    }
    let fit = routes.iter().filter_map(|route| Some((route, route.matched(path)?)));
    let mut fit: Vec<_> = fit.collect();
    fit.sort_by_key(|(_, open)| open.len());
    let wanted = match *method {
        Asked::GET | Asked::HEAD => Some(Method::Get),
        Asked::POST => Some(Method::Post),
        _ => None,
    };
    if fit.is_empty() {
        return Found::Nothing;
    }
    let here = fit.iter().position(|(route, _)| Some(route.spec.method) == wanted);
    match here {
        Some(at) => {
            let (route, open) = fit.swap_remove(at);
            Found::Here(route, open)
        }
        None => {
            let mut methods: Vec<_> = fit.iter().map(|(r, _)| r.spec.method.name()).collect();
            methods.sort_unstable();
            methods.dedup();
            Found::Otherwise(methods)
        }
    }
}

/// A segment or value with its `%xx` taken for what they stand for; none where that is no text.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = rest.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::spec;
    use super::*;

    #[test]
    fn the_most_particular_endpoint_answers() {
        let post = EndpointSpec { method: Method::Post, ..spec("post", "/api/{what}") };
        let routes: Vec<Route> = [
            spec("any", "/api/{what}"),
            spec("trips", "/api/trips"),
            spec("trip", "/api/trips/{id}/legs/{leg}"),
            spec("wide", "/{a}/{b}"),
            post,
        ]
        .into_iter()
        .map(Route::new)
        .collect();
        let found = |method: Asked, path: &str| match find(&routes, &method, path) {
            Found::Nothing => "nothing".to_string(),
            Found::Otherwise(methods) => methods.join(","),
            Found::Here(route, open) => {
                let open = open.iter().map(|(name, value)| format!(" {name}={value}"));
                format!("{}{}", route.spec.name, open.collect::<String>())
            }
        };
        let cases = [
            (Asked::GET, "/api/trips", "trips"),
            (Asked::HEAD, "/api/trips", "trips"),
            (Asked::POST, "/api/trips", "post what=trips"),
            (Asked::GET, "/api/x%20y", "any what=x%20y"),
            (Asked::GET, "/api/trips/7/legs/2", "trip id=7 leg=2"),
            (Asked::POST, "/api/trips/7/legs/2", "GET"),
            (Asked::DELETE, "/api/x", "GET,POST"),
            (Asked::GET, "/api/", "nothing"),
            (Asked::GET, "/api/trips/", "nothing"),
            (Asked::GET, "/api/trips/7", "nothing"),
            (Asked::GET, "/api//legs", "nothing"),
            (Asked::GET, "/x/y", "wide a=x b=y"),
            (Asked::GET, "/v1/jobs", "nothing"),
            (Asked::POST, "/v1/sql", "nothing"),
            (Asked::GET, "/docs/x", "nothing"),
            (Asked::GET, "/health/ready", "nothing"),
            (Asked::GET, "/", "nothing"),
            (Asked::GET, "", "nothing"),
            (Asked::GET, "*", "nothing"),
        ];
        for (method, path, expected) in cases {
            assert_eq!(found(method.clone(), path), expected, "{method} {path}");
        }
    }

    #[test]
    fn percent_signs_stand_for_bytes() {
        let cases = [
            ("", Some("")),
            ("a+b", Some("a+b")),
            ("%C3%A9t%c3%A9", Some("été")),
            ("100%25", Some("100%")),
            ("%2e%2E%2F", Some("../")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%+1", None),
            ("%ff", None),
        ];
        for (text, expected) in cases {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
    }
}
