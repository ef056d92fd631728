//! Requests one by one: what is let in, what is refused and how, what is kept of it.

use axum::http::header::RETRY_AFTER;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use sluice_core::{Held, Scan, Split};

use super::*;

fn signed(body: &str) -> String {
    let key = b"It's a Secret to Everybody";
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap();
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

fn github() -> Value {
    json!({
        "path": "/hooks/orders",
        "verify": {"github": {"secret": "${secrets.hook}"}},
        "limits": {"body": "1KiB"},
    })
}

fn request(pairs: &[(&str, &str)], body: &str) -> Request {
    let mut request = Http::post("/hooks/orders").header("content-type", "application/json");
    for (name, value) in pairs {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_string())).unwrap()
}

#[tokio::test]
async fn each_kind_of_delivery_is_answered_and_counted() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path(), github()).await;
    let (good, other) = ("{\"id\": 1}", "{\"id\": 2}");
    let signs = [good, other, "{\"id\": 1"].map(signed);
    let [sign, sign_other, cut] = signs.each_ref().map(String::as_str);
    let long = format!("{{\"id\": 1, \"text\": \"{}\"}}", "x".repeat(2000));
    let sign_long = signed(&long);
    let sign_long = sign_long.as_str();
    let name = "x-hub-signature-256";
    let delivery = |id| ("x-github-delivery", id);
    let cases: Vec<(Request, u16, &str)> = vec![
        (request(&[(name, sign), delivery("a")], good), 200, "accepted"),
        (request(&[(name, sign), delivery("a")], good), 200, "duplicate"),
        (request(&[(name, sign_other), delivery("b")], other), 200, "accepted"),
        (request(&[delivery("c")], good), 401, "missing"),
        (request(&[(name, sign), delivery("c")], other), 401, "wrong"),
        (request(&[(name, "sha256=00"), delivery("c")], good), 401, "wrong"),
        (request(&[(name, cut), delivery("c")], "{\"id\": 1"), 400, "not JSON"),
        (request(&[(name, sign_long), delivery("c")], &long), 413, "1.0 KiB"),
    ];
    for (request, status, text) in cases {
        let (found, body) = process.send(request).await;
        assert_eq!(found, status, "{text} {body}");
        assert!(body.to_string().contains(text), "{text} {body}");
        if status >= 400 {
            assert_eq!(body["status"], json!(status));
        }
    }
    let mut typed = request(&[(name, sign)], good);
    typed.headers_mut().insert("content-type", "text/xml".parse().unwrap());
    assert_eq!(process.send(typed).await.0, 415);
    let mut packed = request(&[(name, sign)], good);
    packed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(process.send(packed).await.0, 415);
    let get = Http::get("/hooks/orders").body(Body::empty()).unwrap();
    assert_eq!(process.send(get).await.0, 405);
    let elsewhere = Http::post("/hooks/other").body(Body::empty()).unwrap();
    assert!(process.hub.handle(elsewhere).await.is_none());
    let info = process.hub.routes().remove(0);
    assert_eq!((info.accepted, info.duplicates, info.refused), (2, 1, 8));
    assert_eq!((info.rows, info.verify, info.ack), (2, Some("github"), "durable"));
    assert_eq!(process.hub.template("/hooks/orders/").as_deref(), Some("/hooks/orders"));
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    assert_eq!(drain(&mut source).await.0, [1, 2]);
}

#[tokio::test]
async fn whoever_comes_too_often_or_too_late_is_put_off() {
    let state = tempfile::tempdir().unwrap();
    let settings = json!({"path": "/hooks/orders", "limits": {"rate": "2/min"}});
    let process = Process::start(state.path(), settings).await;
    let statuses = async |count| {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(process.post("a", "{\"id\": 1}").await);
        }
        statuses
    };
    assert_eq!(statuses(2).await, [200, 429]);
    process.clock.0.advance_ms(30_000);
    assert_eq!(statuses(2).await, [200, 429]);
    let answer = process.hub.handle(request(&[], "{\"id\": 1}")).await.unwrap();
    assert_eq!(answer.headers()[RETRY_AFTER], "30");
    process.clock.0.advance_ms(60_000);
    process.hub.close().await;
    let answer = process.hub.handle(request(&[], "{\"id\": 1}")).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[RETRY_AFTER]),
        (503, &"1".parse().unwrap())
    );
}

#[tokio::test]
async fn a_full_log_puts_off_until_it_is_read() {
    let state = tempfile::tempdir().unwrap();
    let settings = json!({"path": "/hooks/orders", "limits": {"backlog": 20}});
    let process = Process::start(state.path(), settings).await;
    for expected in [200, 200, 200, 503, 503] {
        assert_eq!(process.post("a", "{\"id\": 1}").await, expected);
    }
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    let (rows, offsets, _) = drain(&mut source).await;
    assert_eq!(rows, [1, 1, 1], "without an id nothing is a double");
    source.acknowledge(&offsets).await.unwrap();
    assert_eq!(process.post("a", "{\"id\": 1}").await, 200);
}

#[tokio::test]
async fn a_sealed_acknowledgement_waits_for_the_epoch() {
    let state = tempfile::tempdir().unwrap();
    let mut settings = by_header();
    settings["ack"] = json!("sealed");
    let process = Process::start(state.path(), settings).await;
    let work = async {
        let mut source = process.source(Start::default()).await.unwrap();
        let mut all = Vec::new();
        let mut offsets = Offsets::new();
        while all.len() < 2 {
            let (rows, taken, _) = drain(&mut source).await;
            all.extend(rows);
            offsets.extend(taken);
            process.clock.0.advance_ms(1_000);
            tokio::task::yield_now().await;
        }
        source.acknowledge(&offsets).await.unwrap();
        all
    };
    let posts =
        futures::future::join(process.post("a", "{\"id\": 1}"), process.post("b", "{\"id\": 2}"));
    let (mut rows, statuses) = futures::future::join(work, posts).await;
    rows.sort_unstable();
    assert_eq!((rows, statuses), (vec![1, 2], (200, 200)));
    // Nobody reads, and the process ends: the sender is told to come again.
    let late = async {
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        process.hub.closing.cancel();
    };
    let (status, ()) = futures::future::join(process.post("c", "{\"id\": 3}"), late).await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn what_comes_with_a_delivery_is_kept_but_for_secrets() {
    let state = tempfile::tempdir().unwrap();
    let settings = json!({
        "path": "/hooks/{shop}",
        "verify": {"bearer": {"secret": "${secrets.hook}", "header": "X-Mine"}},
        "idempotency": {"json": "$.id"},
        "metadata": ["headers", "path", "query", "received_at", "event_id"],
    });
    let process = Process::start(state.path(), settings).await;
    let request = Http::post("/hooks/north?a=1&b=x%20y")
        .header("content-type", "application/json")
        .header("x-kind", "one")
        .header("x-kind", "two")
        .header("authorization", "Basic x")
        .header("cookie", "x")
        .header("x-some-signature", "x")
        .header("x-mine", "It's a Secret to Everybody")
        .body(Body::from("[{\"id\": 1}, {\"id\": 2}, {\"id\": 1}]"))
        .unwrap();
    assert_eq!(process.send(request).await.0, 200);
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    let intake = source.poll(EVERYTHING).await.unwrap();
    assert_eq!(intake.gaps, Some(1), "each row has an id of its own");
    let (batches, _) = read_all(source.as_ref(), &intake).await.unwrap();
    let text = |name: &str, row| {
        batches[0].column_by_name(name).unwrap().as_string::<i32>().value(row).to_string()
    };
    let headers: Value = serde_json::from_str(&text("_headers", 0)).unwrap();
    assert_eq!(headers, json!({"content-type": "application/json", "x-kind": "one, two"}));
    assert_eq!(
        (text("_path", 1).as_str(), text("_query", 1).as_str()),
        ("/hooks/north", "{\"a\":\"1\",\"b\":\"x y\"}")
    );
    assert_eq!((text("_event_id", 0).as_str(), text("_event_id", 1).as_str()), ("1", "2"));
    let received = batches[0].column_by_name("_received_at").unwrap();
    let received = received.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    assert_eq!(received.value(0), 1_800_000_000_000_000);
}

#[tokio::test]
async fn headers_count_once_for_each_row_that_they_stand_in_front_of() {
    let state = tempfile::tempdir().unwrap();
    let settings = json!({
        "path": "/hooks/orders",
        "idempotency": {"json": "$.id"},
        "metadata": ["headers"],
    });
    let process = Process::start(state.path(), settings).await;
    let large = "x".repeat(16 * 1024);
    let send = async |rows: usize| {
        let rows: Vec<Value> = (0..rows).map(|id| json!({"id": id})).collect();
        process.send(request(&[("x-large", large.as_str())], &json!(rows).to_string())).await
    };
    let (status, answer) = send(5_000).await;
    assert_eq!(status, 413, "{answer}");
    assert!(answer.to_string().contains("fewer rows"), "{answer}");
    assert_eq!(send(200).await.0, 200);
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    let intake = source.poll(EVERYTHING).await.unwrap();
    let (batches, _) = read_all(source.as_ref(), &intake).await.unwrap();
    let counts: Vec<usize> = batches.iter().map(|batch| batch.num_rows()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 200);
    assert!(counts.iter().all(|count| *count < 100), "{counts:?}");
}

#[tokio::test]
async fn rows_that_do_not_fit_are_set_aside_and_taken_again() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path(), by_header()).await;
    let body = "[{\"id\": 1}, {\"id\": \"x\"}, 5, {\"id\": 2, \"new\": 3}, {\"id\": 4}]";
    assert_eq!(process.post("a", body).await, 200);
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    let intake = source.poll(EVERYTHING).await.unwrap();
    let (batches, rejected) = read_all(source.as_ref(), &intake).await.unwrap();
    assert_eq!(batches[0].num_rows(), 2);
    let shown: Vec<_> = rejected.iter().map(|r| (r.position, r.bytes.as_slice())).collect();
    let expected: [(u64, &[u8]); 3] =
        [(1, b"{\"id\": \"x\"}"), (2, b"5"), (3, b"{\"id\": 2, \"new\": 3}")];
    assert_eq!(shown, expected);
    assert!(rejected[0].reason.contains("column id"), "{}", rejected[0].reason);
    assert_eq!(rejected[0].object, intake.advances[0].partition);
    let mut wider = process.config.clone();
    wider.value["on_new_column"] = json!("ignore");
    let factory = Factory::new(process.hub.clone());
    let again = factory.again(&wider, &process.context()).await.unwrap().unwrap();
    let rows = arrow::array::RecordBatch::try_from_iter([
        ("source_file", Arc::new(arrow::array::StringArray::from(vec!["0-1"; 3])) as _),
        ("position", Arc::new(arrow::array::Int64Array::from(vec![1, 2, 3])) as _),
        (
            "bytes",
            Arc::new(rejected.iter().map(|r| Some(&r.bytes)).collect::<arrow::array::BinaryArray>())
                as _,
        ),
    ]);
    let split = Split {
        ordinal: 0,
        object: String::new(),
        range: (0, 3),
        rows: 3,
        bytes: 0,
        detail: Value::Null,
        held: Held::new(Arc::new(rows.unwrap())),
    };
    let mut chunks = again.open(split, &Scan::default());
    let decoded = futures::StreamExt::next(&mut chunks).await.unwrap().unwrap();
    assert_eq!(decoded.rows.column(0).as_primitive::<Int64Type>().values(), &[2]);
    assert_eq!(decoded.rejected.iter().map(|r| r.position).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn senders_that_ask_first_are_answered() {
    let state = tempfile::tempdir().unwrap();
    let settings = json!({
        "path": "/hooks/orders",
        "challenge": {
            "query": "hub.challenge", "token": "hub.verify_token", "secret": "${secrets.hook}",
        },
    });
    let process = Process::start(state.path(), settings).await;
    let token = "It%27s%20a%20Secret%20to%20Everybody";
    for (token, status, word) in [(token, 200, "17"), ("x", 403, "")] {
        let uri = format!("/hooks/orders?hub.challenge=17&hub.verify_token={token}");
        let response = process.hub.handle(Http::get(uri).body(Body::empty()).unwrap()).await;
        let response = response.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert!(status != 200 || &body[..] == word.as_bytes());
    }
    let get = Http::get("/hooks/orders").body(Body::empty()).unwrap();
    let response = process.hub.handle(get).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"GET, POST".parse().unwrap())
    );
}

#[tokio::test]
async fn rows_of_our_own_go_the_same_way_and_routes_come_and_go() {
    let state = tempfile::tempdir().unwrap();
    let process = Process::start(state.path(), by_header()).await;
    process.hub.append("shop", "orders", vec![json!({"id": 7, "text": "é"})]).await.unwrap();
    process.hub.append("shop", "orders", Vec::new()).await.unwrap();
    let unknown = process.hub.append("shop", "other", vec![json!({})]).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::Config);
    // A changed definition takes its place, and another source cannot have its path.
    let mut changed = process.config.clone();
    changed.value["path"] = json!("/hooks/{any}");
    let factory = Factory::new(process.hub.clone());
    factory.listen(&changed, &process.context()).await.unwrap();
    assert_eq!(process.hub.routes()[0].path, "/hooks/{any}");
    let other = config("others", json!({"path": "/hooks/{all}"}));
    let clash = factory.listen(&other, &process.context()).await.unwrap_err();
    assert_eq!(clash.kind(), Kind::Config);
    let other = config("others", json!({"path": "/hooks/others"}));
    factory.listen(&other, &process.context()).await.unwrap();
    assert_eq!(process.hub.template("/hooks/others").as_deref(), Some("/hooks/others"));
    process.hub.retain(|_, source| source == "orders").await;
    assert_eq!(process.hub.template("/hooks/others").as_deref(), Some("/hooks/{any}"));
    let mut source = process.source(bounded(Offsets::new())).await.unwrap();
    assert_eq!(drain(&mut source).await.0, [7]);
}
