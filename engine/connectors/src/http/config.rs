//! The settings of an `http` sink.
//!
//! In: a `sinks:` entry, with or without the values of its secrets. Out: settings without an open
//! question, or everything that is wrong with the entry. Nothing is connected here.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_core::{Config, parse_duration};

use super::sign::{SignConfig, Signer};
use crate::settings::{Faults, Size, size};

/// A receiver that takes longer is as good as down. Receivers are told to answer within 5 to 30 s.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Rows of a request of several when nobody says: a few hundred kilobytes.
const BATCH: usize = 500;

/// More rows in a request help nobody: its bytes end it before.
const BATCH_MAX: usize = 100_000;

/// Bytes of a request's rows when nobody says: what receivers take without being told.
const BODY_BYTES: u64 = 1_000_000;

/// A larger body does not fit beside what else is in memory.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Requests at once: more are a load test.
const CONCURRENCY_MAX: usize = 256;

/// The header that the key of a request goes into when nobody says.
const KEY_HEADER: &str = "Idempotency-Key";

/// What a job file says about an `http` sink.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// Where rows go: `https://host/path`. May be a secret.
    pub url: String,
    /// How: `POST` or `PUT`. Default: `POST`.
    #[serde(default)]
    pub method: Verb,
    /// Headers of each request. Values may be secrets. Default: none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A bearer token. Default: none.
    #[serde(default)]
    pub token: Option<String>,
    /// A user of basic authentication. Default: none.
    #[serde(default)]
    pub user: Option<String>,
    /// The user's password. Default: none.
    #[serde(default)]
    pub password: Option<String>,
    /// What a body is: `row`, a JSON object; `lines`, an object per line; `array`, a list of
    /// objects; or `{column: …}`, the text of a column. Default: `row`.
    #[serde(default)]
    pub body: BodyConfig,
    /// Columns that are not in the objects. Default: none.
    #[serde(default)]
    pub omit: Vec<String>,
    /// Rows of a request, at most, with `lines` and `array`. Default: 500.
    #[serde(default)]
    pub batch: Option<usize>,
    /// Bytes of a request's rows, at most; a row that is larger is refused, and kept. Default:
    /// `1MB`.
    #[serde(default)]
    pub max_bytes: Option<Size>,
    /// The header with the request's key, the same whenever its rows are given again; `none` sends
    /// none. Default: `Idempotency-Key`.
    #[serde(default)]
    pub idempotency_header: Option<String>,
    /// How bodies are signed. Default: not at all.
    #[serde(default)]
    pub sign: Option<SignConfig>,
    /// How long a request may take. Default: `30s`.
    #[serde(default)]
    pub timeout: Option<String>,
    /// Requests at once; with more than one, rows may come in another order. Default: 1.
    #[serde(default)]
    pub concurrency: Option<usize>,
}

/// How rows go to a URL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// `POST`
    #[default]
    Post,
    /// `PUT`
    Put,
}

/// What a body is, as it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum BodyConfig {
    /// JSON objects.
    Objects(Objects),
    /// The text of a column.
    Column(BodyColumn),
}

impl Default for BodyConfig {
    fn default() -> Self {
        BodyConfig::Objects(Objects::Row)
    }
}

/// How JSON objects make a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Objects {
    /// One object.
    Row,
    /// An object per line.
    Lines,
    /// A list of objects.
    Array,
}

/// The column whose texts are the bodies.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyColumn {
    /// Its name.
    pub column: String,
}

/// What a body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Objects(Objects),
    Column(String),
}

/// Who we say we are.
#[derive(Clone)]
pub(super) enum Login {
    Nobody,
    Token(String),
    User(String, Option<String>),
}

/// What an `http` sink is to do.
#[derive(Clone)]
pub(super) struct Settings {
    /// None where the URL is a secret whose value is not known yet.
    pub url: Option<Url>,
    /// The URL, as it may be shown.
    pub shown: String,
    pub method: Method,
    pub headers: HeaderMap,
    pub login: Login,
    pub body: Body,
    pub omit: Vec<String>,
    pub batch: usize,
    pub body_bytes_max: usize,
    pub key_header: Option<HeaderName>,
    pub signer: Option<Signer>,
    pub timeout: Duration,
    pub concurrency: usize,
}

impl Settings {
    /// Reads an entry. Errors: everything that is wrong with it.
    pub(super) fn read(config: &Config) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let written: SinkConfig = match config.parse() {
            Ok(written) => written,
            Err(error) => return Err(faults.with("", error)),
        };
        let (url, shown) = address(&mut faults, &written.url);
        let body = match &written.body {
            BodyConfig::Objects(objects) => Body::Objects(*objects),
            BodyConfig::Column(of) => Body::Column(of.column.clone()),
        };
        let headers = headers(&mut faults, &written, &body);
        let login = login(&mut faults, &written);
        let batch = batch(&mut faults, written.batch, &body);
        let bytes = size(&mut faults, "/max_bytes", written.max_bytes.as_ref());
        let bytes = bytes.unwrap_or(BODY_BYTES);
        if bytes > BODY_BYTES_MAX {
            let hint = "use a size up to 64MiB";
            faults.add("/max_bytes", &format!("no size of a request bytes={bytes}"), hint);
        }
        let key_header = key_header(&mut faults, written.idempotency_header.as_deref());
        let signer = written.sign.as_ref().and_then(|sign| Signer::read(sign, &mut faults));
        let timeout = written.timeout.as_deref().map(parse_duration);
        let timeout = timeout.and_then(|timeout| faults.keep("/timeout", timeout));
        let timeout = timeout.unwrap_or(TIMEOUT);
        if timeout.is_zero() {
            faults.add("/timeout", "a time-out of zero", "give a time such as 30s");
        }
        let concurrency = written.concurrency.unwrap_or(1);
        if !(1..=CONCURRENCY_MAX).contains(&concurrency) {
            let message = format!("no number of requests at once concurrency={concurrency}");
            faults.add("/concurrency", &message, &format!("use 1 to {CONCURRENCY_MAX}"));
        }
        if !written.omit.is_empty() && matches!(body, Body::Column(_)) {
            faults.add("/omit", "`omit` goes with JSON objects", "leave it out");
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            url,
            shown,
            method: match written.method {
                Verb::Post => Method::POST,
                Verb::Put => Method::PUT,
            },
            headers,
            login,
            body,
            omit: written.omit,
            batch,
            body_bytes_max: usize::try_from(bytes).unwrap_or(usize::MAX),
            key_header,
            signer,
            timeout,
            concurrency,
        })
    }
}

/// Whether a setting stands for a secret whose value is not known yet.
pub(super) fn is_secret(text: &str) -> bool {
    text.starts_with("${secrets.")
}

/// The URL, and how it is shown: without what may be secret in it.
fn address(faults: &mut Faults, text: &str) -> (Option<Url>, String) {
    if is_secret(text) {
        return (None, text.to_string());
    }
    let parsed = Url::parse(text).ok();
    let usable = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    let Some(url) = parsed.filter(usable) else {
        faults.add("/url", "this is no URL of HTTP", "write it like https://host/path");
        return (None, String::new());
    };
    let mut shown = url.clone();
    // Only addresses without a host cannot be without these.
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    shown.set_query(None);
    shown.set_fragment(None);
    (Some(url), shown.to_string())
}

fn headers(faults: &mut Faults, written: &SinkConfig, body: &Body) -> HeaderMap {
    let content_type = match body {
        Body::Objects(Objects::Lines) => "application/x-ndjson",
        Body::Objects(_) | Body::Column(_) => "application/json",
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in &written.headers {
        let pointer = format!("/headers/{}", name.replace('~', "~0").replace('/', "~1"));
        let Ok(key) = HeaderName::try_from(name.as_str()) else {
            faults.add(&pointer, "this is no name of a header", "use letters, digits and `-`");
            continue;
        };
        match HeaderValue::try_from(value.as_str()) {
            Ok(mut value) => {
                value.set_sensitive(key != CONTENT_TYPE);
                headers.insert(key, value);
            }
            Err(_) => {
                let hint = "a header's value is one line of ASCII";
                faults.add(&pointer, &format!("no value of a header name={name}"), hint);
            }
        }
    }
    headers
}

fn login(faults: &mut Faults, written: &SinkConfig) -> Login {
    match (&written.token, &written.user, &written.password) {
        (Some(_), Some(_), _) => {
            faults.add("/token", "there is a token and a user", "give one of them");
            Login::Nobody
        }
        (_, None, Some(_)) => {
            faults.add("/password", "there is a password and no user", "give `user` too");
            Login::Nobody
        }
        (Some(token), None, None) => Login::Token(token.clone()),
        (None, Some(user), password) => Login::User(user.clone(), password.clone()),
        (None, None, None) => Login::Nobody,
    }
}

fn batch(faults: &mut Faults, written: Option<usize>, body: &Body) -> usize {
    let several = matches!(body, Body::Objects(Objects::Lines | Objects::Array));
    let rows = written.unwrap_or(if several { BATCH } else { 1 });
    if rows > 1 && !several {
        let hint = "use `body: lines` or `body: array` for requests of several rows";
        faults.add("/batch", &format!("such a body holds one row batch={rows}"), hint);
    }
    if !(1..=BATCH_MAX).contains(&rows) {
        let hint = format!("use 1 to {BATCH_MAX}");
        faults.add("/batch", &format!("no number of rows batch={rows}"), &hint);
    }
    rows
}

fn key_header(faults: &mut Faults, written: Option<&str>) -> Option<HeaderName> {
    let name = written.unwrap_or(KEY_HEADER);
    if name == "none" {
        return None;
    }
    let parsed = HeaderName::try_from(name).ok();
    if parsed.is_none() {
        let hint = "use letters, digits and `-`, or `none`";
        faults.add("/idempotency_header", "this is no name of a header", hint);
    }
    parsed
}
