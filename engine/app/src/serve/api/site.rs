//! The project's own front end: files of one folder, behind all other paths.
//!
//! In: a request that no route took. Out: a file of `serve.site`, its `index.html` for pages that a
//! front end draws itself, the status page at `/` where there is no front end, or a problem. Nothing
//! outside of the folder is ever served, wherever links in it lead, and nothing whose name starts with
//! a dot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, ALLOW, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tower::ServiceExt as _;
use tower_http::services::{ServeDir, ServeFile};

use crate::serve::shell::{ApiError, Caller};
use crate::serve::{Parts, page};

/// The page of a folder.
const INDEX: &str = "index.html";

/// Paths of ours: what is not there is no page of a front end.
const OURS: [&str; 3] = ["/v1", "/docs", "/status"];

/// Answers what no route took.
pub(super) async fn serve(State(parts): State<Arc<Parts>>, request: Request) -> Response {
    let site = parts.project.borrow().serve.site.clone();
    if site.is_none() && request.uri().path() == "/" && reads(&request) {
        let caller = request.extensions().get::<Caller>().cloned();
        return page::front(parts, caller).await;
    }
    match file(site.as_deref(), request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

/// Refuses a method that a path does not have.
pub(super) async fn not_allowed() -> ApiError {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    ApiError::new(status, "method_not_allowed", "this path has no such method")
        .hint("the Allow header lists those it has")
}

async fn file(site: Option<&Path>, request: Request) -> Result<Response, ApiError> {
    let path = request.uri().path().to_string();
    let missing = || {
        ApiError::not_found(format!("there is nothing here path={path:?}"))
            .hint("/docs, and GET /v1/openapi.json for programs, list all paths there are")
    };
    let Some(site) = site.filter(|_| !is_ours(&path)) else { return Err(missing()) };
    let segments = segments(&path).ok_or_else(missing)?;
    let root = tokio::fs::canonicalize(site).await.map_err(|_| missing())?;
    let reads = reads(&request);
    if is_inside(&root, &segments).await {
        return if reads { of_folder(&root, request).await } else { Ok(reads_only().await) };
    }
    let index = [INDEX.to_string()];
    if reads && is_navigation(request.headers(), &segments) && is_inside(&root, &index).await {
        let served = ServeFile::new(root.join(INDEX)).oneshot(request).await;
        return Ok(finished(
            served.map(|r| r.map(Body::new)).unwrap_or_else(|never| match never {}),
        ));
    }
    Err(missing())
}

async fn of_folder(root: &Path, request: Request) -> Result<Response, ApiError> {
    let served = ServeDir::new(root).oneshot(request).await;
    Ok(finished(served.map(|r| r.map(Body::new)).unwrap_or_else(|never| match never {})))
}

/// A file is read, never changed.
async fn reads_only() -> Response {
    let mut response = not_allowed().await.into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

/// Files may change at any time, and are what their names say.
fn finished(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn reads(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

fn is_ours(path: &str) -> bool {
    let below = |ours: &str| {
        path.strip_prefix(ours).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    OURS.into_iter().any(below)
}

/// The names on the way to a file; none for a path that cannot be one of the folder's.
fn segments(path: &str) -> Option<Vec<String>> {
    let decoded = decoded(path)?;
    let names: Vec<_> = decoded.split('/').filter(|name| !name.is_empty()).collect();
    let fine = |name: &&str| !name.starts_with('.') && !name.contains(['\\', '\0', ':']);
    names.iter().all(fine).then(|| names.into_iter().map(str::to_string).collect())
}

/// The path without percent signs; none when one is wrong or the bytes are not text.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
        let code = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(code).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Whether there is such a file in the folder, after all links are followed.
async fn is_inside(root: &Path, segments: &[String]) -> bool {
    let mut wanted: PathBuf =
        segments.iter().fold(root.to_path_buf(), |path, name| path.join(name));
    for _ in 0..2 {
        let Ok(found) = tokio::fs::canonicalize(&wanted).await else { return false };
        if !found.starts_with(root) {
            return false;
        }
        match tokio::fs::metadata(&found).await {
            Ok(facts) if facts.is_file() => return true,
            Ok(facts) if facts.is_dir() => wanted = found.join(INDEX),
            _ => return false,
        }
    }
    false
}

/// Whether a browser goes to a page, rather than a page asking for a part of itself.
fn is_navigation(headers: &HeaderMap, segments: &[String]) -> bool {
    let is_file = segments.last().is_some_and(|name| name.contains('.'));
    let says = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    match says("sec-fetch-mode") {
        Some(mode) => mode == "navigate" && !is_file,
        None => !is_file && says(ACCEPT.as_str()).is_some_and(|a| a.contains("text/html")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn request(method: &str, path: &str, accept: &'static str) -> Request {
        let request = Request::builder().method(method).uri(path).header(ACCEPT, accept);
        request.body(Body::empty()).expect("a request")
    }

    async fn status(site: &Path, request: Request) -> (u16, String) {
        match file(Some(site), request).await {
            Ok(response) => {
                let status = response.status().as_u16();
                let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
                (status, String::from_utf8_lossy(&body.expect("a body")).into_owned())
            }
            Err(error) => (error.status().as_u16(), String::new()),
        }
    }

    #[tokio::test]
    async fn only_what_lies_in_the_folder_is_served() {
        let outer = tempfile::tempdir().expect("a folder");
        let site = outer.path().join("site");
        fs::create_dir_all(site.join("sub")).expect("a folder");
        fs::write(outer.path().join("secret.txt"), "secret").expect("a file");
        fs::write(site.join(INDEX), "home").expect("a file");
        fs::write(site.join(".env"), "secret").expect("a file");
        fs::write(site.join("a b.js"), "script").expect("a file");
        fs::write(site.join("sub").join(INDEX), "below").expect("a file");
        std::os::unix::fs::symlink(outer.path().join("secret.txt"), site.join("out.txt"))
            .expect("a link");
        std::os::unix::fs::symlink(outer.path(), site.join("up")).expect("a link");
        let cases = [
            ("GET", "/", "*/*", 200, "home"),
            ("HEAD", "/", "*/*", 200, ""),
            ("GET", "/index.html", "*/*", 200, "home"),
            ("GET", "/a%20b.js", "*/*", 200, "script"),
            ("GET", "/sub/", "*/*", 200, "below"),
            ("GET", "/bookings/7", "text/html", 200, "home"),
            ("GET", "/bookings/7", "application/json", 404, ""),
            ("GET", "/missing.js", "text/html", 404, ""),
            ("GET", "/.env", "text/html", 404, ""),
            ("GET", "/%2eenv", "text/html", 404, ""),
            ("GET", "/sub/../../secret.txt", "*/*", 404, ""),
            ("GET", "/..%2fsecret.txt", "*/*", 404, ""),
            ("GET", "/sub%2f..%2f..%2fsecret.txt", "*/*", 404, ""),
            ("GET", "/out.txt", "*/*", 404, ""),
            ("GET", "/up/secret.txt", "*/*", 404, ""),
            ("GET", "/%ff", "*/*", 404, ""),
            ("GET", "/%0", "*/*", 404, ""),
            ("GET", "/v1/nothing", "text/html", 404, ""),
            ("POST", "/index.html", "*/*", 405, ""),
            ("POST", "/missing", "text/html", 404, ""),
        ];
        for (method, path, accept, code, body) in cases {
            let (found, text) = status(&site, request(method, path, accept)).await;
            assert_eq!(found, code, "{method} {path}");
            if found == 200 {
                assert_eq!(text, body, "{method} {path}");
            }
        }
    }

    #[tokio::test]
    async fn without_a_folder_there_is_nothing() {
        let answer = file(None, request("GET", "/", "text/html")).await;
        assert_eq!(answer.err().map(|e| e.status().as_u16()), Some(404));
    }
}
