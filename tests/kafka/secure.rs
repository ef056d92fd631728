//! Brokers that want TLS and a password: options of librdkafka and secrets reach every client that a
//! job makes, what is wrong with them is told with what to do, and a password is told nowhere.

use std::collections::{BTreeMap, BTreeSet};

use super::stream::rows;
use crate::support::cli::{Output, Sluice};
use crate::support::kafka::{Cluster, witness};
use crate::support::place::Place;
use crate::support::{clients, root};

/// The job file in the place's folder.
const JOB: &str = "secured.yaml";

const USER: &str = "sluice";
const PASSWORD: &str = "quartz-lantern-4711";
const ANOTHER: &str = "velvet-harbour-0815";

/// A job that reads a topic and writes another one, each with a password of its own.
const TEXT: &str = r#"job: secured
lake: "${vars.lake}"
vars: {lake: ./lake}
secrets: {reader: {env: READER_PASSWORD}, writer: {env: WRITER_PASSWORD}}
sources:
  samples:
    connector: kafka
    bootstrap: "BOOTSTRAP"
    topics: [TOPIC]
    format: json
    options: OPTIONS(reader)
    schema:
      fields: [{name: id, type: int64}, {name: site, type: string}, {name: amount, type: int64}]
tables:
  kept: {sql: "SELECT id, site, amount FROM samples"}
sinks:
  given:
    connector: kafka
    from: kept
    bootstrap: "BOOTSTRAP"
    topic: TOPIC-given
    control_topic: TOPIC-control
    key: id
    options: OPTIONS(writer)
"#;

/// A broker, and a job that knows how to get in.
struct Secured {
    cluster: Cluster,
    /// The address of those who say who they are.
    bootstrap: String,
    place: Place,
    topic: String,
}

impl Secured {
    fn start() -> Self {
        let place = Place::local();
        let folder = place.path("tls").display().to_string();
        clients::python(&root().join("tests/clients/tls.py"), &["make", &folder], &BTreeMap::new());
        let pem = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
        let both = format!("{}{}", pem("tls/key.pem"), pem("tls/cert.pem"));
        let store = place.write("tls/node.pem", &both);
        let (cluster, bootstrap) = Cluster::secured(&store, USER, PASSWORD);
        let topic = cluster.broker().topic("secured", 2, &[]);
        cluster.broker().create(&format!("{topic}-given"), 2, &[]);
        Self { cluster, bootstrap, place, topic }
    }

    /// Writes the job file, with options beside those that say who it is.
    fn write(&self, more: &str) {
        let options = |secret: &str| {
            format!(
                "{{security.protocol: SASL_SSL, sasl.mechanisms: PLAIN, sasl.username: {USER}, \
                 sasl.password: \"${{secrets.{secret}}}\", {more}}}"
            )
        };
        let text = TEXT.replace("BOOTSTRAP", &self.bootstrap).replace("TOPIC", &self.topic);
        let text = text.replace("OPTIONS(reader)", &options("reader"));
        self.place.write(JOB, &text.replace("OPTIONS(writer)", &options("writer")));
    }

    /// A run that logs all there is, librdkafka's words among it.
    fn run(&self, [reader, writer]: [&str; 2]) -> Sluice {
        let run = self.place.job("run", JOB).arg("--log").arg("debug,rdkafka=debug");
        run.env("READER_PASSWORD", reader).env("WRITER_PASSWORD", writer)
    }

    /// What was written into the one topic is in the other, once.
    fn holds(&self, rows: usize) {
        let given = format!("{}-given", self.topic);
        let seen = witness::consume(self.cluster.broker(), &[&given]);
        let keys: BTreeSet<_> = seen.iter().map(|record| &record.key).collect();
        assert_eq!((seen.len(), keys.len()), (rows, rows));
    }
}

/// Nothing that was said holds a password, the right one or another.
fn is_silent(output: &Output) {
    for password in [PASSWORD, ANOTHER] {
        assert!(!output.text().contains(password), "a password is told\n{}", output.text());
    }
}

#[test]
fn a_job_gets_in_with_its_password_and_says_why_it_does_not() {
    let secured = Secured::start();
    let broker = secured.cluster.broker();
    let certificate = secured.place.path("tls/cert.pem");
    secured.write(&format!("ssl.ca.location: \"{}\"", certificate.display()));
    broker.produce(&secured.topic, &rows(0, 200, 2));
    is_silent(&secured.run([PASSWORD; 2]).ok());
    secured.holds(200);
    broker.produce(&secured.topic, &rows(200, 100, 2));
    for passwords in [[ANOTHER, PASSWORD], [PASSWORD, ANOTHER]] {
        let refused = secured.run(passwords).expect(1);
        refused.says(&["Invalid username or password", "hint: ", "`sasl.password`"]);
        is_silent(&refused);
    }
    is_silent(&secured.run([PASSWORD; 2]).ok());
    secured.holds(300);
    // The machine's own authorities did not sign the broker's certificate.
    secured.write("client.id: stranger");
    let refused = secured.run([PASSWORD; 2]).expect(1);
    refused.says(&["certificate", "hint: ", "`ssl.ca.location`"]);
    is_silent(&refused);
}
