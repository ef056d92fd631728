//! Paths of endpoints: `/api/trips/{id}`, and which of them cannot stand beside each other.
//!
//! In: a path as written. Out: the names of its parameters, or what is wrong. Routing is up to who
//! serves; two paths that pass here can be routed side by side.

use std::collections::BTreeMap;

use super::model::Method;

/// What is served under paths of its own.
const RESERVED: [&str; 6] = ["/v1", "/health", "/metrics", "/docs", "/hooks", "/status"];

/// Message and hint.
pub(super) type Wrong = (String, String);

/// The parameters of `path`, in order.
pub(super) fn parameters(path: &str) -> Result<Vec<String>, Wrong> {
    let wrong = |what: &str, hint: &str| Err((format!("{what} path={path}"), hint.to_string()));
    let Some(inner) = path.strip_prefix('/') else {
        return wrong("a path begins with a slash", "write it like /api/trips/{id}");
    };
    if inner.is_empty() {
        return wrong("the path is served already", "write a path of its own, such as /api/trips");
    }
    let taken = |reserved: &&str| {
        path.strip_prefix(*reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(reserved) = RESERVED.into_iter().find(taken) {
        let what = "the path is served already";
        let hint = format!("paths below {reserved} are Sluice's own: begin with /api, for example");
        return Err((format!("{what} path={path}"), hint));
    }
    if inner.starts_with('{') {
        let hint = "begin with a word, such as /api/{id}: other paths are served too";
        return wrong("the path begins with anything", hint);
    }
    let mut names: Vec<String> = Vec::new();
    for segment in inner.split('/') {
        if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            if !is_name(name) {
                let hint = "names are snake_case and begin with a letter: /api/trips/{trip_id}";
                return wrong("not a parameter of a path", hint);
            }
            if names.iter().any(|other| other == name) {
                return wrong("the path names a parameter twice", "rename one of the two");
            }
            names.push(name.to_string());
        } else if segment.is_empty() {
            return wrong("the path has an empty segment", "take the slash too many away");
        } else if !segment.chars().all(is_plain) || segment.chars().all(|c| c == '.') {
            let hint = "segments have letters, digits, `-`, `_`, `.` and `~`; a parameter is a whole \
                        segment: /api/trips/{id}";
            return wrong("not a path that can be served", hint);
        }
    }
    Ok(names)
}

/// A name that can stand behind a dollar and between braces.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(inner)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~')
}

/// The paths that are taken.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// By the path with nameless parameters: the path as it was written first, and who has it by
    /// which method.
    taken: BTreeMap<String, (String, BTreeMap<Method, String>)>,
}

impl Routes {
    /// Takes `path` for the endpoint `name`, or says who has it.
    pub(super) fn take(&mut self, method: Method, path: &str, name: &str) -> Result<(), Wrong> {
        let (first, by_method) =
            self.taken.entry(nameless(path)).or_insert_with(|| (path.to_string(), BTreeMap::new()));
        if first != path {
            let message = format!("two names for one parameter paths={first}, {path}");
            return Err((message, "name the parameters of both alike".to_string()));
        }
        if let Some(other) = by_method.insert(method, name.to_string()) {
            let message = format!("the path is taken path={path} method={}", method.name());
            return Err((message, format!("change one: endpoint {other} has it too")));
        }
        Ok(())
    }
}

fn nameless(path: &str) -> String {
    let segments = path.split('/').map(|s| if s.starts_with('{') { "{}" } else { s });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_whole_segments() {
        let names = |path: &str| parameters(path).map_err(|(message, _)| message);
        assert_eq!(names("/api/trips"), Ok(vec![]));
        assert_eq!(names("/api/{a}/x/{b_2}"), Ok(vec!["a".to_string(), "b_2".to_string()]));
        assert_eq!(names("/healthy"), Ok(vec![]));
        for (path, message) in [
            ("api", "a path begins with a slash path=api"),
            ("/", "the path is served already path=/"),
            ("/v1/x", "the path is served already path=/v1/x"),
            ("/health", "the path is served already path=/health"),
            ("/{a}", "the path begins with anything path=/{a}"),
            ("/{a}/jobs", "the path begins with anything path=/{a}/jobs"),
            ("/a//b", "the path has an empty segment path=/a//b"),
            ("/a/", "the path has an empty segment path=/a/"),
            ("/a/{Id}", "not a parameter of a path path=/a/{Id}"),
            ("/a/{*rest}", "not a parameter of a path path=/a/{*rest}"),
            ("/a/{id}/{id}", "the path names a parameter twice path=/a/{id}/{id}"),
            ("/a/{id}.json", "not a path that can be served path=/a/{id}.json"),
            ("/a/..", "not a path that can be served path=/a/.."),
            ("/a/b c", "not a path that can be served path=/a/b c"),
        ] {
            assert_eq!(names(path), Err(message.to_string()), "{path}");
        }
    }

    #[test]
    fn a_path_and_method_has_one_owner_and_parameters_one_name() {
        let mut routes = Routes::default();
        assert!(routes.take(Method::Get, "/a/{id}", "one").is_ok());
        assert!(routes.take(Method::Post, "/a/{id}", "two").is_ok());
        assert!(routes.take(Method::Get, "/a/b", "three").is_ok());
        let again = routes.take(Method::Get, "/a/{id}", "four").err().unwrap();
        assert_eq!(again.0, "the path is taken path=/a/{id} method=GET");
        assert!(again.1.contains("endpoint one"), "{}", again.1);
        let other = routes.take(Method::Get, "/a/{name}", "five").err().unwrap();
        assert_eq!(other.0, "two names for one parameter paths=/a/{id}, /a/{name}");
    }
}
