//! A producer writes all the while; runner, broker, network and store fail again and again: nothing
//! is lost, nothing doubled, and two that count for themselves, the audit and another client with
//! another reader, agree.
//!
//! `SLUICE_FAULTS` asks for more faults per store and prints a report; what goes wrong follows from a
//! seed, which is printed, so that a run of the test differs from another only by what the machine
//! does.

mod failover;
mod storm;

use self::storm::Storm;
use super::stream::{JOB, Stream};
use crate::support::kafka::{Cluster, witness};
use crate::support::place::{Kind, Place};
use crate::support::store::{Dialect, Faults, ObjectStore};

/// Faults per store, unless `SLUICE_FAULTS` asks for more.
const FAULTS: u32 = 60;
/// Records a second.
const RATE: u32 = 150;
const PARTITIONS: i32 = 4;

/// Beside the table that is compared: one with keys, a dataset, and views.
const TABLES: &str = r#"latest: {sql: "SELECT site, id, amount FROM samples", key: [site], sequence_by: id}
archive: {sql: "SELECT id, amount, _partition AS part, _offset AS off FROM samples", format: parquet}"#;

/// The keyed table, and what it has to be: of each site the row with the largest number, of the table
/// that is compared with the topic.
const LATEST: &str = "SELECT site, id, amount FROM latest ORDER BY site";
const LAST: &str = "SELECT k.site, k.id, k.amount FROM kept k \
    JOIN (SELECT site, max(id) AS id FROM kept GROUP BY site) m ON k.site = m.site AND k.id = m.id \
    ORDER BY k.site";
/// Sites that the producer writes of.
const SITES: usize = 3;

const VIEWS: &str = r#"views:
  totals: {sql: "SELECT site, count(*) AS n, sum(amount) AS amount FROM kept GROUP BY site"}
epoch:"#;

fn faults() -> u32 {
    let wanted = std::env::var("SLUICE_FAULTS").ok();
    let wanted = wanted.map_or(FAULTS, |text| text.parse().unwrap());
    assert!(wanted >= FAULTS, "SLUICE_FAULTS={wanted}: {FAULTS} are the least that show anything");
    wanted
}

/// A store of the test's own behind a proxy, and a place in it.
fn store(kind: Kind) -> (Place, Option<(ObjectStore, crate::support::proxy::Proxy)>) {
    let dialect = match kind {
        Kind::Local => return (Place::local(), None),
        Kind::Gcs => Dialect::Gcs,
        _ => Dialect::S3,
    };
    let (store, proxy) = ObjectStore::new(dialect, Faults::default()).behind_a_proxy();
    (Place::on(&store), Some((store, proxy)))
}

fn survives(kind: Kind, seed: u64) {
    println!("{kind:?}: seed {seed}, {} faults", faults());
    let (mut cluster, network) = Cluster::behind_a_proxy();
    let topic = cluster.broker().topic("storm", PARTITIONS, &[]);
    let broker = crate::support::kafka::Broker::at(cluster.broker().bootstrap().to_string());
    let (place, mut store) = store(kind);
    let bootstrap = format!("127.0.0.1:{}", network.port());
    let topics = format!("[{topic}]");
    let stream = Stream::new(&broker, place, &bootstrap, &topics, "", TABLES);
    let text = std::fs::read_to_string(stream.place.path(JOB)).unwrap();
    stream.place.write(JOB, &text.replace("epoch:", VIEWS));
    let flood = witness::Flood::start(&broker, &topic, RATE, seed);
    let (done, struck) = {
        let (store, to_store) = match &mut store {
            Some((store, proxy)) => (Some(store), Some(&*proxy)),
            None => (None, None),
        };
        let networks: Vec<_> = [Some(&network), to_store].into_iter().flatten().collect();
        let mut storm = Storm::new(&stream, &mut cluster, networks, store, seed);
        storm.blow(faults());
        let struck = storm.store.as_mut().map(|store| store.struck()).unwrap_or_default();
        (storm.done.clone(), struck)
    };
    let written = flood.stop();
    stream.run().ok();
    let exact = stream.exact(&[&topic]);
    assert!(exact.consumed >= written, "{written} records were acknowledged: {exact:?}");
    let parts = ["count(*) FROM kept", "count(*) FROM archive", "sum(n) FROM totals"];
    let kept = exact.kept.to_string();
    assert_eq!(stream.place.figures(JOB, &parts), [&kept, &kept, &kept].map(String::as_str));
    let [latest, last] = [LATEST, LAST].map(|query| stream.place.sql(JOB, query));
    assert_eq!((&latest, latest.len()), (&last, SITES), "the keyed table");
    stream.place.holds(JOB);
    stream.recounted();
    let hit: u64 = struck.values().sum();
    assert!(kind == Kind::Local || hit > 0, "no request to the store went wrong");
    // As a row of benches/README.md.
    println!(
        "| {kind:?} | {seed} | {} | {done:?} | {hit} {struck:?} | {} | {} | {} | {} | {} |",
        done.values().sum::<u32>(),
        stream.place.next_epoch(JOB),
        exact.consumed,
        exact.rejected,
        exact.lost,
        exact.doubled,
    );
}

#[test]
fn nothing_is_lost_or_doubled_on_local_disk() {
    survives(Kind::Local, 11);
}

#[test]
fn nothing_is_lost_or_doubled_on_s3() {
    survives(Kind::S3, 12);
}

#[test]
fn nothing_is_lost_or_doubled_on_gcs() {
    survives(Kind::Gcs, 13);
}
