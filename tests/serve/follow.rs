//! `run --follow` over a webhook source: the same deliveries without a server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::place::Place;
use crate::support::proxy::free_port;
use crate::support::wait;

const JOB: &str = "hooks.yaml";

const TEXT: &str = r#"job: hooks
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  orders:
    connector: webhook
    path: /hooks/orders
    listen: "LISTEN"
    schema: {fields: [{name: id, type: int64, required: true}]}
    idempotency: {json: $.id}
tables:
  kept: {sql: SELECT id FROM orders}
epoch: {every: 100ms}
"#;

/// How long something may take that takes a moment.
const SECONDS_MAX: u64 = 120;

/// Posts an order. None where nobody listens, else the head and the body of the answer.
fn post(address: &str, id: u32) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let body = format!("{{\"id\": {id}}}");
    let length = body.len();
    write!(
        stream,
        "POST /hooks/orders HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_string(), body.to_string()))
}

#[test]
fn a_run_that_follows_takes_deliveries_in() {
    let place = Place::local();
    let address = format!("127.0.0.1:{}", free_port());
    place.write(JOB, &TEXT.replace("LISTEN", &address));
    let state = place.path("state").display().to_string();
    let run = place.job("run", JOB).arg("--follow").env("SLUICE_STATE", state);
    let running = run.start();
    let first = wait::until("the listener", SECONDS_MAX, || post(&address, 1));
    assert!(first.0.starts_with("HTTP/1.1 200") && first.1.contains("accepted"), "{first:?}");
    // Who sends no more than a part of a head does not stay.
    let mut slow = TcpStream::connect(&address).unwrap();
    slow.write_all(b"POST /hooks").unwrap();
    let again = post(&address, 1).unwrap();
    assert!(again.0.starts_with("HTTP/1.1 200") && again.1.contains("duplicate"), "{again:?}");
    let count = || place.cell(JOB, "SELECT count(*) FROM kept");
    wait::until("the row", SECONDS_MAX, || (count() == "1").then_some(()));
    slow.set_read_timeout(Some(Duration::from_secs(SECONDS_MAX))).unwrap();
    let ended = slow.read(&mut [0]);
    let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
    assert!(ended.as_ref().map_or_else(reset, |read| *read == 0), "{ended:?}");
    running.signal("TERM");
    let output = running.wait();
    assert_eq!(output.code, Some(0), "{}", output.text());
    assert_eq!(count(), "1");
    place.holds(JOB);
}

#[test]
fn others_are_not_let_in_unless_they_prove_who_they_are() {
    let place = Place::local();
    let text = TEXT.replace("LISTEN", "0.0.0.0:8088");
    place.write(JOB, &text);
    let refused = place.job("validate", JOB).expect(2);
    refused.says(&["hooks.yaml:8", "others can reach this address", "`verify`"]);
    let verified = text.replace(
        "    idempotency",
        "    verify: {bearer: {secret: \"${secrets.hooks}\"}}\n    idempotency",
    );
    place.write(JOB, &verified.replace("sources:", "secrets: {hooks: {env: HOOKS}}\nsources:"));
    place.job("validate", JOB).env("HOOKS", "a secret").ok();
}
