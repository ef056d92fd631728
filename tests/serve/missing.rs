//! What jobs need besides this machine is away when the server starts: everything else is served, what
//! is missing is named, and it is used as soon as it is back. A broker that goes away later is left alone
//! after a while, and used again too.

use super::{PROJECT, known, started, stopped};
use crate::support::kafka::{Cluster, Record};
use crate::support::place::Place;
use crate::support::proxy::free_port;
use crate::support::store::{Dialect, Faults, ObjectStore};
use crate::support::{clients, root};

/// A job whose lake is at hand, and one whose lake is in the bucket.
const HOOKS: &str = r#"job: NAME
lake: "LAKE"
schedule: {continuous: true, retry_delay: {base: 1s, max: 2s}}
sources:
  NAME_source:
    connector: webhook
    path: /hooks/NAME
    schema: {fields: [{name: id, type: int64, required: true}]}
tables:
  NAME_rows: {sql: SELECT id FROM NAME_source}
epoch: {every: 100ms}
"#;

/// A job that reads a topic of the broker.
const STREAM: &str = r#"job: stream
lake: ./lake
schedule: {continuous: true, retry_delay: {base: 1s, max: 2s}}
sources:
  lines:
    connector: kafka
    bootstrap: "BROKER"
    topics: [TOPIC]
    format: json
    schema: {fields: [{name: id, type: int64}]}
tables:
  stream_rows: {sql: SELECT id FROM lines}
epoch: {every: 100ms}
"#;

/// An endpoint that a model answers.
const CHAT: &str = r#"  chat:
    path: /api/chat
    role: public
    forward: {url: "http://127.0.0.1:MODEL/v1", model: small}
"#;

#[test]
fn what_is_away_at_the_start_is_named_and_used_when_it_is_back() {
    let (cluster, network) = Cluster::behind_a_proxy();
    let topic = cluster.broker().topic("away", 1, &[]);
    cluster.broker().produce(&topic, &[Record::to(0, "{\"id\": 1}")]);
    let (store, wires) = ObjectStore::new(Dialect::S3, Faults::default()).behind_a_proxy();
    let place = Place::on(&store);
    let [http, model] = [free_port(), free_port()];
    let hooks = |name: &str, lake: &str| HOOKS.replace("NAME", name).replace("LAKE", lake);
    place.write("jobs/1-near.yaml", &hooks("near", "./lake"));
    place.write("jobs/2-far.yaml", &hooks("far", place.lake()));
    let broker = format!("127.0.0.1:{}", network.port());
    place.write("jobs/3-stream.yaml", &STREAM.replace("BROKER", &broker).replace("TOPIC", &topic));
    let (project, _) = PROJECT.split_once("endpoints:").unwrap();
    let chat = CHAT.replace("MODEL", &model.to_string());
    place.write("sluice.yaml", &format!("{project}endpoints:\n{chat}"));

    network.refuse();
    wires.refuse();
    let address = format!("127.0.0.1:{http}");
    let serve = place.sluice(&["serve", "sluice.yaml", "--log", "warn", "--http", &address]);
    let server = started(serve.envs(&known()).start());
    let client = |what: &[&str]| {
        let url = format!("http://{address}");
        let args = [&[url.as_str()], what].concat();
        clients::python(&root().join("tests/clients/missing.py"), &args, &known())
    };
    client(&["away"]);
    network.heal();
    wires.heal();
    client(&["back", &model.to_string()]);
    network.refuse();
    cluster.broker().produce(&topic, &[Record::to(0, "{\"id\": 2}")]);
    client(&["lost"]);
    network.heal();
    client(&["found"]);
    stopped(server);
}
