//! `sluice serve` with real clients: deliveries, SQL by HTTP and by the PostgreSQL wire, pages, and what
//! happens to them when the process is killed, reloaded or replaced.

mod api;
mod deliveries;
mod follow;
mod hostile;
mod lives;
mod missing;
mod packs;
mod postgres;
mod schedule;
mod tls;

use std::collections::BTreeMap;

use crate::support::cli::{Output, Running, Sluice};
use crate::support::place::Place;
use crate::support::proxy::free_port;
use crate::support::{clients, root, wait};

/// What the tests serve: deliveries of GitHub, of nobody known, and of a sender that signs times.
const JOB: &str = r#"job: hub
lake: "${vars.lake}"
vars: {lake: ./lake}
schedule: {continuous: true}
secrets: {github: {env: GITHUB_SECRET}, hooks: {env: HOOKS_SECRET}}
sources:
  github:
    connector: webhook
    path: /hooks/github
    schema: {fields: [{name: action, type: string}]}
    on_new_column: rescue
    verify: {github: {secret: "${secrets.github}"}}
    metadata: [event_id, received_at]
  orders:
    connector: webhook
    path: /hooks/orders
    schema: {fields: [{name: id, type: int64, required: true}, {name: shop, type: string}, {name: amount, type: int64}]}
    idempotency: {json: $.id}
    limits: {body: 64KiB}
  signed:
    connector: webhook
    path: /hooks/signed
    schema: {fields: [{name: id, type: int64}]}
    verify: {standard_webhooks: {secret: "${secrets.hooks}"}}
tables:
  events: {sql: "SELECT action, _rescued, _event_id AS delivery, _received_at AS received_at FROM github"}
  kept: {sql: "SELECT id, shop, amount FROM orders"}
  notes: {sql: SELECT id FROM signed}
views:
  by_shop: {sql: "SELECT shop, count(*) AS orders, sum(amount) AS amount FROM kept GROUP BY shop"}
epoch: {every: 100ms}
"#;

/// Users of every role, and endpoints of a front end.
const PROJECT: &str = r#"project: shop
packs: [jobs]
secrets: {reader: {env: READER_TOKEN}, operator: {env: OPERATOR_TOKEN}, admin: {env: ADMIN_TOKEN}}
users:
  rita: {role: read, token: "${secrets.reader}"}
  olga: {role: operate, token: "${secrets.operator}"}
  ada: {role: admin, token: "${secrets.admin}"}
serve:
  state: ./state
  limits: {requests: 1000000, per: 1s}
endpoints:
  shop:
    path: /api/shops/{name}
    role: public
    params: {name: {type: TEXT, from: path}}
    shape: object
    sql: SELECT shop, orders, amount FROM by_shop WHERE shop = $name
  largest:
    path: /api/largest
    role: read
    params: ["$least INT = 0"]
    sql: SELECT id, amount FROM kept WHERE amount >= $least ORDER BY amount DESC, id LIMIT 10
"#;

/// Values that the project's secrets have in the tests.
const SECRETS: [(&str, &str); 5] = [
    ("GITHUB_SECRET", "It's a Secret to Everybody"),
    ("HOOKS_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ("READER_TOKEN", "reader-0123456789abcdef0123456789abcdef"),
    ("OPERATOR_TOKEN", "operator-0123456789abcdef0123456789abcd"),
    ("ADMIN_TOKEN", "admin-0123456789abcdef0123456789abcdef0"),
];

/// How long a server may take to begin; far more than it does on a busy machine.
const SECONDS_MAX: u64 = 120;

/// The environment of clients: they know the project's secrets.
fn known() -> BTreeMap<String, String> {
    SECRETS.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// A project in a folder of its own, and the ports it is served at.
struct Hub {
    place: Place,
    http: u16,
    postgres: u16,
}

impl Hub {
    fn new() -> Self {
        let place = Place::local();
        place.write("sluice.yaml", PROJECT);
        place.write("jobs/hub.yaml", JOB);
        Self { place, http: free_port(), postgres: free_port() }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// A command over the project.
    fn command(&self, name: &str) -> Sluice {
        let command = self.place.job(name, "sluice.yaml");
        SECRETS.iter().fold(command, |command, (name, value)| command.env(name, *value))
    }

    fn serve(&self) -> Sluice {
        let at = |port: u16| format!("127.0.0.1:{port}");
        let serve = self.command("serve").arg("--http").arg(at(self.http));
        serve.arg("--postgres").arg(at(self.postgres)).arg("--log").arg("warn")
    }

    /// A process that serves, and has said so.
    fn start(&self) -> Running {
        started(self.serve().start())
    }

    /// Runs a client with the server's address and more arguments, and gives what it printed.
    fn client(&self, script: &str, more: &[&str]) -> String {
        let script = root().join("tests/clients").join(script);
        let url = self.url();
        let args = [&[url.as_str()], more].concat();
        clients::python(&script, &args, &known())
    }

    /// The one cell of a query, asked of the lake and not of the server.
    fn cell(&self, query: &str) -> String {
        let output = self.command("sql").arg(query).arg("--format").arg("csv").ok();
        output.stdout.lines().nth(1).unwrap_or_default().to_string()
    }

    /// Waits until a query has this answer.
    fn until(&self, query: &str, answer: &str) {
        wait::until(&format!("{answer} as answer to {query}"), SECONDS_MAX, || {
            (self.cell(query) == answer).then_some(())
        });
    }
}

/// Waits until a process says that it serves.
fn started(mut running: Running) -> Running {
    wait::until("a server", SECONDS_MAX, || {
        let ended = running.ended();
        assert!(ended.is_none(), "it ended\n{}", running.said());
        running.said().contains("serving ").then_some(())
    });
    running
}

/// Ends a process in peace.
fn stopped(running: Running) -> Output {
    running.signal("TERM");
    let output = running.wait();
    assert_eq!(output.code, Some(0), "{}", output.text());
    output
}
