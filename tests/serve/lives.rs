//! One process follows another: nobody is refused, nothing is lost, broken definitions change nothing.

use serde_json::Value;

use super::{Hub, known, started, stopped};
use crate::support::{clients, root, wait};

/// How often the process is replaced under load.
const RESTARTS: u32 = 4;

#[test]
fn a_restart_refuses_no_request() {
    let hub = Hub::new();
    let mut server = hub.start();
    hub.client("api.py", &["fill"]);
    let (acked, flag) = (hub.place.path("acked"), hub.place.path("flag"));
    std::fs::write(&flag, "").unwrap();
    let load = {
        let url = hub.url();
        let (acked, flag) = (acked.display().to_string(), flag.display().to_string());
        std::thread::spawn(move || {
            let script = root().join("tests/clients/load.py");
            let args = [url.as_str(), acked.as_str(), flag.as_str()];
            clients::python(&script, &args, &known())
        })
    };
    let lines = || std::fs::read_to_string(&acked).unwrap_or_default().lines().count();
    for _ in 0..RESTARTS {
        let before = lines();
        wait::until("requests to be answered", 60, || (lines() > before + 100).then_some(()));
        let next = started(hub.serve().start());
        stopped(server);
        server = next;
    }
    let before = lines();
    wait::until("requests to be answered", 60, || (lines() > before + 100).then_some(()));
    std::fs::remove_file(&flag).unwrap();
    let said = load.join().unwrap();
    println!("{said}");
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(told["refused"], 0, "{told:#}");
    assert!(told["answered"].as_u64().unwrap() > 0, "{told:#}");
    // Behind those that were there before.
    let total = lines().to_string();
    hub.until("SELECT count(*) FROM kept WHERE id >= 1000000", &total);
    hub.until("SELECT count(DISTINCT id) FROM kept WHERE id >= 1000000", &total);
    stopped(server);
    hub.command("audit").ok();
}

#[test]
fn a_changed_definition_is_taken_and_a_broken_one_refused() {
    let hub = Hub::new();
    let server = hub.start();
    hub.client("api.py", &["fill"]);
    let text = std::fs::read_to_string(hub.place.path("jobs/hub.yaml")).unwrap();
    hub.place
        .write("jobs/hub.yaml", &text.replace("sum(amount) AS amount", "summ(amount) AS amount"));
    hub.client("api.py", &["broken"]);
    hub.place.write(
        "jobs/hub.yaml",
        &text.replace("count(*) AS orders", "count(*) AS orders, max(amount) AS largest"),
    );
    hub.client("api.py", &["changed"]);
    // The same by a signal; what is broken is told and changes nothing.
    hub.place.write("sluice.yaml", "project: [");
    server.signal("HUP");
    wait::until("a refusal", 60, || server.said().contains("sluice.yaml").then_some(()));
    hub.client("api.py", &["changed"]);
    stopped(server);
}

/// A supervisor keeps the socket: who connects while there is no process waits for the next one.
#[test]
fn a_socket_that_is_handed_over_outlives_the_process() {
    let hub = Hub::new();
    let folder = hub.place.path("").display().to_string();
    let command = hub.serve().command().join("\t");
    hub.client("handed.py", &[&folder, &command]);
}
