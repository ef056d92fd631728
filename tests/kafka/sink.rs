//! Rows that a job gives to a topic are there exactly once, by another client's word: under kills
//! and freezes at every step of a delivery, while brokers are away, and when nothing may wait any
//! longer. What a topic does not take is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use serde_json::json;
use sluice_core::testing::outlet_conformance;
use sluice_core::{
    BuiltSink, Config, Context, ManualClock, OutletContext, Secrets, Step, Unbounded,
};

use super::stream::SECONDS_MAX;
use crate::protocol::{frozen, killed};
use crate::support::cli::Sluice;
use crate::support::kafka::{Broker, Cluster, witness};
use crate::support::place::{Kind, Place};
use crate::support::registry::Registry;
use crate::support::scrape::Scrape;
use crate::support::wait;

/// The job file in the place's folder.
const JOB: &str = "out.yaml";

/// How long it may take until a sink is left alone: five attempts, each of which waits for the brokers.
const OPEN_SECONDS_MAX: u64 = 400;

/// Rows of one input file, each file an epoch.
const ROWS: u64 = 200;

/// Lines of the sink that differ are added to it.
const TEXT: &str = r#"job: out
lake: "${vars.lake}"
vars: {lake: ./lake}
sources:
  rows:
    connector: files
    path: ./input/*.csv
    schema:
      fields: [{name: id, type: int64}, {name: name, type: string}]
tables:
  kept: {sql: "SELECT id, name FROM rows"}
sinks:
  topic: {connector: kafka, from: kept, bootstrap: "BOOTSTRAP", topic: TOPIC, control_topic: CONTROL, key: idMORE}
epoch: {files: 1}
"#;

/// Steps of an outbox: each is gone through here, killed and frozen.
pub const STEPS: [Step; 4] =
    [Step::OutboxWritten, Step::RowsHandedOver, Step::Delivered, Step::DeliveryRecorded];

/// A job whose rows go to a topic of its own.
struct Given<'a> {
    broker: &'a Broker,
    place: Place,
    topic: String,
    files: u64,
}

impl<'a> Given<'a> {
    fn new(broker: &'a Broker, place: Place, more: &str) -> Self {
        let topic = broker.topic("given", 3, &[]);
        // Of its own, since tests that are killed leave transactions open for a while.
        let text = TEXT.replace("BOOTSTRAP", broker.bootstrap()).replace("TOPIC", &topic);
        let text = text.replace("CONTROL", &format!("{topic}-control"));
        place.write(JOB, &text.replace("MORE", more));
        Self { broker, place, topic, files: 0 }
    }

    /// Adds input files of [`ROWS`] rows each.
    fn feed(&mut self, files: u64) {
        for file in self.files..self.files + files {
            let row = |n: u64| format!("{},n{}\n", file * ROWS + n, n % 7);
            let rows: String = (0..ROWS).map(row).collect();
            self.place.write(&format!("input/{file:04}.csv"), &format!("id,name\n{rows}"));
        }
        self.files += files;
    }

    fn run(&self) -> Sluice {
        self.place.job("run", JOB)
    }

    /// The messages that committed readers see, and how many have a key of their own.
    fn seen(&self) -> (u64, u64) {
        let seen = witness::consume(self.broker, &[&self.topic]);
        let keys: BTreeSet<_> = seen.iter().filter_map(|record| record.key.clone()).collect();
        (seen.len() as u64, keys.len() as u64)
    }

    /// Every row is in the topic, once, and the audit agrees.
    fn exact(&self) {
        let rows = self.files * ROWS;
        assert_eq!(self.seen(), (rows, rows), "topic {}", self.topic);
        let audit = self.place.job("audit", JOB).ok();
        let told = format!("{rows} delivered, 0 refused, 0 waiting");
        assert!(audit.stdout.contains(&told), "{}", audit.text());
    }
}

#[test]
fn the_promises_of_an_outlet_are_kept() {
    let broker = Broker::shared();
    let topic = broker.topic("promises", 2, &[]);
    let control = format!("{topic}-control");
    let bootstrap = broker.bootstrap();
    let config = Config {
        name: "out".to_string(),
        file: JOB.into(),
        value: json!({ "bootstrap": bootstrap, "topic": topic, "control_topic": control }),
        spans: Default::default(),
        schema: None,
    };
    let numbers = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let rows = RecordBatch::try_from_iter([("n", numbers as ArrayRef)]).unwrap();
    let built = sluice_connectors::registry().sink("kafka").unwrap().build(&config).unwrap();
    let BuiltSink::Outlet(outlet) = built else { panic!("it is no outlet") };
    let context = Context {
        clock: Arc::new(ManualClock::at(0)),
        memory: Unbounded::shared(),
        secrets: Secrets::default(),
        job: "promises".to_string(),
    };
    let schema = rows.schema();
    let open = || {
        let (context, schema) = (context.clone(), schema.clone());
        let (sink, chain) = ("out".to_string(), topic.clone());
        outlet.open(OutletContext { context, sink, chain, schema })
    };
    let seen = async || Ok(witness::consume(broker, &[&topic]).len() as u64);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(outlet_conformance(open, rows, seen)).unwrap();
}

#[test]
fn every_row_is_given_once_and_a_restart_goes_on() {
    let mut given = Given::new(Broker::shared(), Place::local(), ", headers: {name: name}");
    given.feed(3);
    given.run().ok();
    given.exact();
    given.run().ok();
    given.feed(2);
    given.run().ok();
    given.exact();
    let seen = witness::consume(given.broker, &[&given.topic]);
    // 0, {"id":0,"name":"n0"}, n0
    let first = seen.iter().find(|record| record.key.as_deref() == Some("MA==")).unwrap();
    assert_eq!(first.value.as_deref(), Some("eyJpZCI6MCwibmFtZSI6Im4wIn0="));
    assert_eq!(first.headers, [("name".to_string(), Some("bjA=".to_string()))]);
}

/// Columns that say where a row goes, when it is and whether it has a value.
const COLUMNS: &str = "SELECT id, name, id % 3 AS part, id % 2 = 1 AS gone, \
                       to_timestamp_millis(1700000000000 + id) AS at FROM rows";

#[test]
fn columns_say_partition_time_and_tombstone() {
    let more = ", partition: part, timestamp: at, tombstone: gone, omit: [part, at, gone]";
    let mut given = Given::new(Broker::shared(), Place::local(), more);
    let text = std::fs::read_to_string(given.place.path(JOB)).unwrap();
    given.place.write(JOB, &text.replace("SELECT id, name FROM rows", COLUMNS));
    given.feed(2);
    given.run().ok();
    given.exact();
    let seen = witness::consume(given.broker, &[&given.topic]);
    let mut ids = BTreeSet::new();
    for record in &seen {
        let id = record.timestamp - 1_700_000_000_000;
        assert_eq!(i64::from(record.partition), id % 3, "{record:?}");
        assert_eq!(record.value.is_none(), id % 2 == 1, "{record:?}");
        ids.insert(id);
    }
    assert!(ids.into_iter().eq(0..2 * ROWS as i64), "times are other rows' {seen:?}");
    // 4, {"id":4,"name":"n4"}
    let fifth = seen.iter().find(|record| record.key.as_deref() == Some("NA==")).unwrap();
    assert_eq!((fifth.partition, fifth.timestamp), (1, 1_700_000_000_004));
    assert_eq!(fifth.value.as_deref(), Some("eyJpZCI6NCwibmFtZSI6Im40In0="));
}

/// What reads the topic of an Avro sink.
const READER: &str = r#"job: back
lake: "${vars.lake}"
vars: {lake: ./back}
sources:
  rows:
    connector: kafka
    bootstrap: "BOOTSTRAP"
    topics: TOPIC
    format: avro
    registry: {url: "REGISTRY"}
    schema:
      fields: [{name: id, type: int64}, {name: name, type: string}]
tables:
  read: {sql: "SELECT id, name FROM rows"}
"#;

#[test]
fn avro_goes_out_and_comes_back() {
    let (broker, registry) = (Broker::shared(), Registry::start());
    let more = format!(", format: avro, registry: {{url: \"{}\"}}", registry.url());
    let mut given = Given::new(broker, Place::local(), &more);
    given.feed(2);
    given.run().ok();
    given.exact();
    // A zero byte, the schema's number, then 0 and n0, each behind the place of its type in a union.
    let seen = witness::consume(broker, &[&given.topic]);
    let first = seen.iter().find(|record| record.key.as_deref() == Some("MA==")).unwrap();
    assert_eq!(first.value.as_deref(), Some("AAAAAAECAAIEbjA="));
    let text = READER.replace("BOOTSTRAP", broker.bootstrap()).replace("TOPIC", &given.topic);
    given.place.write("back.yaml", &text.replace("REGISTRY", registry.url()));
    given.place.job("run", "back.yaml").ok();
    let rows = 2 * ROWS;
    let sums = ["count(*) FROM read", "sum(id) FROM read", "count(DISTINCT name) FROM read"];
    let expected = [rows.to_string(), (rows * (rows - 1) / 2).to_string(), "7".to_string()];
    assert_eq!(given.place.figures("back.yaml", &sums), expected.each_ref().map(String::as_str));
}

fn killed_at(step: Step, kind: Kind) {
    let mut given = Given::new(Broker::shared(), Place::new(kind), "");
    given.feed(3);
    killed(given.run(), step, 1);
    given.run().ok();
    given.exact();
}

#[test]
fn killed_on_local_disk() {
    STEPS.iter().for_each(|step| killed_at(*step, Kind::Local));
}

#[test]
fn killed_on_s3() {
    STEPS.iter().for_each(|step| killed_at(*step, Kind::S3));
}

/// A second runner takes over, gives the rest and more; then the first wakes up and must stop.
fn frozen_at(step: Step, kind: Kind) {
    let mut given = Given::new(Broker::shared(), Place::new(kind), "");
    given.feed(3);
    let zombie = frozen(given.run(), step, 1);
    given.feed(2);
    given.run().arg("--take-over").ok();
    given.exact();
    let output = zombie.thaw();
    // Where everything was given by others it has nothing left to do, and nobody to be fenced from.
    if output.code != Some(0) {
        assert_eq!(output.code, Some(1), "{}", output.text());
        output.says(&["another runner"]);
    }
    given.exact();
    given.feed(1);
    given.run().ok();
    given.exact();
}

#[test]
fn frozen_on_local_disk() {
    STEPS.iter().for_each(|step| frozen_at(*step, Kind::Local));
}

#[test]
fn frozen_on_s3() {
    STEPS.iter().for_each(|step| frozen_at(*step, Kind::S3));
}

#[test]
fn brokers_that_are_away_are_waited_for() {
    let cluster = Cluster::start(1);
    let mut given = Given::new(cluster.broker(), Place::local(), "");
    given.feed(2);
    given.run().ok();
    let running = given.run().arg("--follow").arg("--metrics").arg("127.0.0.1:0").start();
    let scrape = Scrape::of(&running);
    cluster.signal(0, "STOP");
    given.feed(3);
    // Epochs go on: rows wait.
    wait::until("epochs without a broker", SECONDS_MAX, || {
        (given.place.next_epoch(JOB) >= 5).then_some(())
    });
    let status = given.place.job("status", JOB);
    let trouble = "what keeps rows waiting to be told";
    wait::until(trouble, SECONDS_MAX, || status.ok().stdout.contains("cannot").then_some(()));
    // The circuit opens, and closes with the first rows that are given.
    let open = |scrape: &Scrape| scrape.sample("sluice_circuit_open", &["\"sink:topic\""]);
    wait::until("the circuit to open", OPEN_SECONDS_MAX, || {
        (open(&scrape) == Some(1.0)).then_some(())
    });
    let left_alone = || status.ok().stdout.contains("left alone after");
    wait::until("the circuit to be told", SECONDS_MAX, || left_alone().then_some(()));
    cluster.signal(0, "CONT");
    wait::until("rows to be given", SECONDS_MAX, || {
        (given.seen() == (5 * ROWS, 5 * ROWS)).then_some(())
    });
    wait::until("the circuit to close", SECONDS_MAX, || {
        (open(&scrape) == Some(0.0) && !left_alone()).then_some(())
    });
    running.signal("TERM");
    assert_eq!(running.wait().code, Some(0));
    given.exact();
}

#[test]
fn an_outbox_that_is_full_stops_the_job_and_loses_nothing() {
    let cluster = Cluster::start(1);
    let mut given = Given::new(cluster.broker(), Place::local(), ", backlog: {epochs: 3}");
    given.feed(1);
    given.run().ok();
    cluster.signal(0, "STOP");
    given.feed(9);
    let output = given.run().arg("--follow").expect(1);
    output.says(&["the outbox of a sink is full", "sink=topic", "waiting=3 epochs", "hint:"]);
    given.place.job("audit", JOB).ok();
    // A run that is to end says what it could not give.
    let output = given.run().expect(1);
    output.says(&["sink=topic", "nothing is lost"]);
    cluster.signal(0, "CONT");
    cluster.ready();
    given.run().ok();
    given.exact();
}

#[test]
fn rows_that_a_topic_does_not_take_are_kept() {
    let given = Given::new(Broker::shared(), Place::local(), ", max_bytes: 2000");
    let long = "x".repeat(5_000);
    given.place.write("input/1.csv", &format!("id,name\n1,a\n2,{long}\n3,c\n"));
    let output = given.run().ok();
    assert!(output.stdout.contains("1 row refused by topic"), "{}", output.text());
    assert_eq!(given.seen(), (2, 2));
    let kept = given.place.sql(JOB, "SELECT id, _reason, _epoch FROM topic__undelivered");
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0][0].as_str(), kept[0][2].as_str()), ("2", "0"));
    assert!(kept[0][1].contains("too large"), "{kept:?}");
    let audit = given.place.job("audit", JOB).ok();
    assert!(audit.stdout.contains("2 delivered, 1 refused, 0 waiting"), "{}", audit.text());
}

#[test]
fn a_rebuild_gives_all_rows_again_and_a_reset_begins_anew() {
    let mut given = Given::new(Broker::shared(), Place::local(), "");
    given.feed(2);
    given.run().ok();
    given.exact();
    given.run().arg("--rebuild").ok();
    assert_eq!(given.seen(), (4 * ROWS, 2 * ROWS));
    given.place.job("audit", JOB).ok();
    given.place.job("reset", JOB).arg("out").arg("--yes").ok();
    given.run().ok();
    assert_eq!(given.seen(), (6 * ROWS, 2 * ROWS));
    given.place.job("audit", JOB).ok();
}
