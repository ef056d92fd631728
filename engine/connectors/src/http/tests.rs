//! The sink against a receiver in this process: the promises of outlets, and what answers do.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use sluice_core::testing::at_least_once_conformance;
use sluice_core::{
    Clock, Config, Context, Delivery, Kind, ManualClock, OutboxPosition, OutboxRows, Outlet,
    OutletContext, Problems, Refused, Secrets, SinkFactory, Unbounded,
};

use super::Factory;

/// What a receiver was asked, and how it answers.
#[derive(Clone, Default)]
struct Receiver {
    state: Arc<Mutex<Receipt>>,
}

#[derive(Default)]
struct Receipt {
    /// Requests that were answered with a 2xx, in order: headers and body.
    taken: Vec<(HeaderMap, String)>,
    asked: usize,
    /// The next answers; then all is taken.
    answers: VecDeque<(u16, Option<&'static str>)>,
    /// Bodies with it in them are refused.
    refused: Option<&'static str>,
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    let mut state = receiver.state.lock().unwrap();
    state.asked += 1;
    let body = String::from_utf8(body.to_vec()).unwrap();
    if state.refused.is_some_and(|part| body.contains(part)) {
        return (StatusCode::UNPROCESSABLE_ENTITY, "no such thing").into_response();
    }
    let (status, wait) = state.answers.pop_front().unwrap_or((202, None));
    if (200..300).contains(&status) {
        state.taken.push((headers, body));
    }
    let wait = wait.map(|wait| [("retry-after", wait)]);
    let status = StatusCode::from_u16(status).unwrap();
    match wait {
        Some(wait) => (status, wait).into_response(),
        None => status.into_response(),
    }
}

impl Receiver {
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?key=hidden", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", any(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn answer(&self, answers: &[(u16, Option<&'static str>)]) {
        self.state.lock().unwrap().answers.extend(answers);
    }

    fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    fn bodies(&self) -> Vec<String> {
        self.state.lock().unwrap().taken.iter().map(|(_, body)| body.clone()).collect()
    }

    fn header(&self, request: usize, name: &str) -> String {
        let state = self.state.lock().unwrap();
        let value = state.taken[request].0.get(name);
        value.map(|value| value.to_str().unwrap().to_string()).unwrap_or_default()
    }

    /// Rows under different keys, where bodies are lists.
    fn rows(&self) -> u64 {
        let state = self.state.lock().unwrap();
        let by_key = state.taken.iter().map(|(headers, body)| {
            let rows: Vec<Value> = serde_json::from_str(body).unwrap();
            (headers["idempotency-key"].to_str().unwrap().to_string(), rows.len() as u64)
        });
        by_key.collect::<BTreeMap<_, _>>().values().sum()
    }
}

fn config(url: &str, more: Value) -> Config {
    let mut entry = json!({ "url": url });
    if let (Some(entry), Value::Object(more)) = (entry.as_object_mut(), more) {
        entry.extend(more);
    }
    Config {
        name: "out".to_string(),
        file: PathBuf::from("job.yaml"),
        value: entry,
        spans: Default::default(),
        schema: None,
    }
}

fn outlet(config: &Config) -> Arc<dyn Outlet> {
    SinkFactory::build(&Factory, config).unwrap().outlet().unwrap()
}

fn open(config: &Config, clock: Arc<ManualClock>) -> Box<dyn Delivery> {
    let secrets = [("hook", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), ("token", "t0ken")];
    let secrets = secrets.map(|(name, value)| (name.to_string(), value.to_string()));
    let context = Context {
        clock,
        memory: Unbounded::shared(),
        secrets: Secrets::new(BTreeMap::from(secrets)),
        job: "travel".to_string(),
    };
    let chain = "0123456789abcdef".to_string();
    let schema = rows(0).schema();
    outlet(config).open(OutletContext { context, sink: "out".to_string(), chain, schema }).unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(1_614_265_330_000))
}

fn rows(count: i32) -> RecordBatch {
    let ids = Int32Array::from_iter_values(0..count);
    let texts = (0..count).map(|id| (id != 2).then(|| format!("text {id}")));
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new(ids)), ("text", Arc::new(StringArray::from_iter(texts)))];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .unwrap()
}

fn given(count: i32) -> OutboxRows {
    stream::iter([Ok(rows(count))]).boxed()
}

const AT: OutboxPosition = OutboxPosition { epoch: 3, file: 1 };

#[tokio::test]
async fn promises_of_outlets_are_kept() {
    for (body, batch, concurrency) in [("array", 1, 1), ("array", 4, 1), ("array", 2, 8)] {
        let (receiver, url) = Receiver::start().await;
        let more = json!({ "body": body, "batch": batch, "concurrency": concurrency });
        let config = config(&url, more);
        let opened = || Ok(open(&config, clock()));
        let received = async || Ok(receiver.rows());
        at_least_once_conformance(opened, rows(3), received).await.unwrap();
    }
}

#[tokio::test]
async fn bodies_are_what_is_wanted() {
    let cases = [
        (json!({}), vec!["{\"id\":0,\"text\":\"text 0\"}", "{\"id\":1,\"text\":\"text 1\"}"]),
        (json!({ "omit": ["text"] }), vec!["{\"id\":0}", "{\"id\":1}"]),
        (json!({ "body": "lines", "omit": ["text"] }), vec!["{\"id\":0}\n{\"id\":1}\n"]),
        (json!({ "body": "array", "omit": ["text"] }), vec!["[{\"id\":0},{\"id\":1}]"]),
        (json!({ "body": { "column": "text" } }), vec!["text 0", "text 1"]),
    ];
    for (more, expected) in cases {
        let (receiver, url) = Receiver::start().await;
        let mut delivery = open(&config(&url, more.clone()), clock());
        delivery.attach().await.unwrap();
        assert!(delivery.deliver(AT, given(2)).await.unwrap().is_empty(), "{more}");
        assert_eq!(receiver.bodies(), expected, "{more}");
        let last = receiver.header(expected.len() - 1, "idempotency-key");
        let key = if expected.len() == 1 { "0-1" } else { "1" };
        assert_eq!(last, format!("0123456789abcdef/out/3/1/{key}"), "{more}");
    }
}

#[tokio::test]
async fn requests_say_who_they_are_from() {
    let (receiver, url) = Receiver::start().await;
    let more = json!({
        "method": "PUT", "token": "${secrets.token}", "headers": { "X-Tenant": "acme" },
        "sign": { "standard_webhooks": "${secrets.hook}" }, "idempotency_header": "none",
    });
    let config = config(&url, more);
    open(&config, clock()).deliver(AT, given(1)).await.unwrap();
    assert_eq!(receiver.header(0, "authorization"), "Bearer t0ken");
    assert_eq!(receiver.header(0, "x-tenant"), "acme");
    assert_eq!(receiver.header(0, "content-type"), "application/json");
    assert_eq!(receiver.header(0, "idempotency-key"), "");
    assert_eq!(receiver.header(0, "webhook-id"), "0123456789abcdef/out/3/1/0");
    assert_eq!(receiver.header(0, "webhook-timestamp"), "1614265330");
    assert!(receiver.header(0, "webhook-signature").starts_with("v1,"));
    let target = outlet(&config).target();
    assert!(target.starts_with("PUT http://127.0.0.1:") && target.ends_with("/hook"), "{target}");
}

#[tokio::test]
async fn a_refused_row_is_found_among_others() {
    let (receiver, url) = Receiver::start().await;
    receiver.state.lock().unwrap().refused = Some("text 4");
    let config = config(&url, json!({ "body": "array", "batch": 6 }));
    let refused = open(&config, clock()).deliver(AT, given(8)).await.unwrap();
    let reason = "the receiver refuses it: no such thing status=422".to_string();
    assert_eq!(refused, [Refused { row: 4, reason }]);
    assert_eq!(receiver.rows(), 7);
}

#[tokio::test]
async fn rows_without_a_body_and_too_large_ones_are_refused() {
    let (receiver, url) = Receiver::start().await;
    let config = config(&url, json!({ "body": { "column": "text" }, "max_bytes": 6 }));
    let refused = open(&config, clock()).deliver(AT, given(11)).await.unwrap();
    let rows: Vec<u64> = refused.iter().map(|refused| refused.row).collect();
    assert_eq!((rows, receiver.bodies().len()), (vec![2, 10], 9));
    assert!(refused[1].reason.contains("too large bytes=7 max=6"), "{refused:?}");
}

#[tokio::test]
async fn a_receiver_is_waited_for_as_long_as_it_asks() {
    let (receiver, url) = Receiver::start().await;
    let until = "Thu, 25 Feb 2021 15:02:27 GMT";
    receiver.answer(&[(429, Some("7")), (503, Some(until)), (429, None), (200, None)]);
    let clock = clock();
    let mut delivery = open(&config(&url, json!({})), clock.clone());
    assert!(delivery.deliver(AT, given(1)).await.unwrap().is_empty());
    // Seven seconds, ten more until the time, and four for the third wait without one.
    assert_eq!((receiver.asked(), clock.wall_ms()), (4, 1_614_265_351_000));

    receiver.answer(&[(429, Some("1")); 20]);
    let at = OutboxPosition { epoch: 4, file: 0 };
    let error = delivery.deliver(at, given(1)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Unavailable, true));
}

#[tokio::test]
async fn what_was_taken_before_an_outage_is_not_given_again() {
    let (receiver, url) = Receiver::start().await;
    receiver.answer(&[(200, None), (200, None), (500, None)]);
    let mut delivery = open(&config(&url, json!({})), clock());
    let error = delivery.deliver(AT, given(6)).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (Kind::Unavailable, true));
    assert!(!error.chain().contains("hidden"), "{error:?}");
    assert!(delivery.commit().await.is_err());
    delivery.attach().await.unwrap();
    assert!(delivery.deliver(AT, given(6)).await.unwrap().is_empty());
    delivery.commit().await.unwrap();
    assert_eq!((receiver.bodies().len(), receiver.asked()), (6, 7));
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_from_us_makes_no_row_refused() {
    let (receiver, url) = Receiver::start().await;
    receiver.answer(&[(401, None), (404, None), (307, None)]);
    let mut delivery = open(&config(&url, json!({})), clock());
    for _ in 0..3 {
        let error = delivery.deliver(AT, given(1)).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (Kind::Config, true), "{error:?}");
    }
    assert!(delivery.deliver(AT, given(1)).await.unwrap().is_empty());
    assert_eq!(receiver.bodies().len(), 1);

    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut delivery = open(&config(&format!("http://{address}/"), json!({})), clock());
    let error = delivery.deliver(AT, given(1)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
}

#[test]
fn settings_are_told_all_that_is_wrong_with_them() {
    let cases = [
        (json!({}), 0),
        (json!({ "url": "${secrets.url}", "sign": { "github": "${secrets.x}" } }), 0),
        (json!({ "url": "ftp://host/" }), 1),
        (json!({ "url": "nowhere", "timeout": "soon" }), 2),
        (json!({ "headers": { "a b": "c", "d": "e\nf" } }), 2),
        (json!({ "token": "a", "user": "b" }), 1),
        (json!({ "password": "a" }), 1),
        (json!({ "batch": 2 }), 1),
        (json!({ "batch": 0, "body": "lines" }), 1),
        (json!({ "body": { "column": "a" }, "omit": ["b"] }), 1),
        (json!({ "concurrency": 0, "timeout": "0s", "max_bytes": "1GiB" }), 3),
        (json!({ "idempotency_header": "a b", "sign": {} }), 2),
        (json!({ "what": 1 }), 1),
    ];
    for (value, expected) in cases {
        let mut problems = Problems::new();
        let config = config("https://host/hook", value.clone());
        SinkFactory::check(&Factory, &config, &mut problems);
        assert_eq!(problems.sorted().len(), expected, "{value}: {problems}");
    }
    let shown = outlet(&config("${secrets.url}", json!({}))).target();
    assert_eq!(shown, "POST ${secrets.url}");
    assert_eq!(Factory.config_schema()["additionalProperties"], json!(false));
}

#[test]
fn columns_that_do_not_do_are_named() {
    let cases = [
        (json!({ "body": { "column": "id" } }), "a text or bytes"),
        (json!({ "body": { "column": "nothing" } }), "column=nothing"),
        (json!({ "omit": ["nothing"] }), "column=nothing"),
        (json!({ "omit": ["id", "text"] }), "no column is left"),
    ];
    for (more, expected) in cases {
        let outlet = outlet(&config("https://host/", more));
        let error = outlet.fits(&rows(0).schema()).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
