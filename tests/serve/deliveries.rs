//! Deliveries: what is valid is in the table once, what is not is refused with the right status; and
//! whatever was acknowledged outlives kills.

use super::{Hub, stopped};
use crate::support::{root, wait};

/// How often the process is killed while clients post; `SLUICE_KILLS` asks for more.
const KILLS: u64 = 12;

/// Valid ones, some twice at once, beside forged, stale and broken ones, of several clients: each gets
/// its status and is counted.
#[test]
fn every_valid_delivery_is_kept_once() {
    let bodies = root().join("../shared/data/webhooks/github");
    if !bodies.is_dir() {
        eprintln!("skipped: there are no bodies at {}", bodies.display());
        return;
    }
    let hub = Hub::new();
    let server = hub.start();
    let said = hub.client("deliveries.py", &["mix", &bodies.display().to_string()]);
    let (events, notes) = said.trim().split_once(' ').unwrap();
    hub.until("SELECT count(*) FROM events", events);
    hub.until("SELECT count(DISTINCT delivery) FROM events", events);
    hub.until("SELECT count(*) FROM notes", notes);
    hub.until("SELECT count(DISTINCT id) FROM notes", notes);
    stopped(server);
    hub.command("audit").ok();
    assert_eq!(hub.cell("SELECT count(*) FROM events"), events);
    assert_eq!(hub.cell("SELECT count(*) FROM notes"), notes);
}

#[test]
fn what_is_no_delivery_is_refused() {
    let hub = Hub::new();
    let server = hub.start();
    hub.client("deliveries.py", &["refused"]);
    hub.until("SELECT count(*) FROM notes", "1");
    hub.until("SELECT count(*) FROM kept", "5");
    stopped(server);
    hub.command("audit").ok();
}

#[test]
fn what_was_acknowledged_outlives_kills() {
    let wanted = std::env::var("SLUICE_KILLS").ok();
    let kills = wanted.map_or(KILLS, |text| text.parse().unwrap());
    let hub = Hub::new();
    let acked = hub.place.path("acked");
    let flood = hub.place.path("flood");
    std::fs::write(&flood, "").unwrap();
    let posts = {
        let (url, acked, flood) =
            (hub.url(), acked.display().to_string(), flood.display().to_string());
        std::thread::spawn(move || {
            let script = root().join("tests/clients/deliveries.py");
            let args = [url.as_str(), "flood", acked.as_str(), flood.as_str()];
            crate::support::clients::python(&script, &args, &Default::default())
        })
    };
    let lines = || std::fs::read_to_string(&acked).unwrap_or_default().lines().count();
    for kill in 0..kills {
        let server = hub.start();
        let before = lines();
        wait::until("deliveries to be acknowledged", 60, || (lines() > before + 200).then_some(()));
        wait::pause(37 * (kill % 7));
        server.signal("KILL");
        server.wait();
    }
    std::fs::remove_file(&flood).unwrap();
    posts.join().unwrap();
    let acked = std::fs::read_to_string(&acked).unwrap();
    let server = hub.start();
    let total = acked.lines().count();
    let ids: std::collections::BTreeSet<i64> =
        acked.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(ids.len(), total);
    // What was not acknowledged may be there too, but nothing twice.
    let kept = || hub.cell("SELECT count(*) FROM kept").parse::<usize>().unwrap_or_default();
    wait::until("what was acknowledged", 120, || (kept() >= total).then_some(()));
    stopped(server);
    let query = hub.command("sql").arg("SELECT id FROM kept ORDER BY id");
    let rows = query.arg("--format").arg("csv").ok().stdout;
    let found: Vec<i64> = rows.lines().skip(1).map(|row| row.parse().unwrap()).collect();
    let once: std::collections::BTreeSet<i64> = found.iter().copied().collect();
    assert_eq!(found.len(), once.len(), "some are there twice");
    let lost: Vec<&i64> = ids.difference(&once).collect();
    assert!(lost.is_empty(), "of {total} acknowledged {} are lost: {lost:?}", lost.len());
    println!("{kills} kills, {total} acknowledged, {} kept", found.len());
    hub.command("audit").ok();
}
