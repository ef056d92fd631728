//! A certificate in the project: what is served is served by TLS, over HTTP and the PostgreSQL wire.

use super::{Hub, PROJECT, known, stopped};
use crate::support::{clients, root};

#[test]
fn both_ports_speak_tls() {
    let hub = Hub::new();
    let state = "  state: ./state\n";
    let tls = format!("{state}  tls: {{cert: tls/cert.pem, key: tls/key.pem}}\n");
    hub.place.write("sluice.yaml", &PROJECT.replace(state, &tls));
    let script = root().join("tests/clients/tls.py");
    let folder = hub.place.path("tls").display().to_string();
    clients::python(&script, &["make", &folder], &known());
    let server = hub.start();
    let url = hub.url().replace("http://", "https://");
    clients::python(&script, &["use", &url, &hub.postgres.to_string(), &folder], &known());
    assert!(server.said().contains(&url), "{}", server.said());
    hub.until("SELECT amount FROM kept", "7");
    stopped(server);
}
