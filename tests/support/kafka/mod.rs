//! A real Kafka broker for the tests, and what they do with it: topics, records, transactions,
//! retention, offsets of groups.
//!
//! All tests of a run share one broker, started when the first of them asks: the one that
//! `KAFKA_BOOTSTRAP` names; else Docker Compose's where an engine runs; else Apache Kafka's own jars
//! with the JDK. None of them is a failure that says so. Topics are named per test. Nothing here
//! consumes: what a topic holds is said by another client (`witness`).

mod cluster;
mod node;
mod records;
pub mod witness;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{root, wait};
use node::{Node, Ports};

pub use cluster::Cluster;
pub use records::{Outcome, Record};

/// How long a broker may take to do what it is told; far more than it does on a busy machine.
const SECONDS_MAX: u64 = 120;
const ANSWER_MAX: Duration = Duration::from_secs(60);
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// Where the composition's broker can be reached from this machine.
const COMPOSED: &str = "127.0.0.1:9092";

/// A broker, or several, and what the tests ask of it.
pub struct Broker {
    bootstrap: String,
    /// What is to end with the tests where this process started it.
    _node: Option<Node>,
}

/// The first and the next offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    pub first: i64,
    pub next: i64,
}

impl Broker {
    /// The broker that all tests share.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| {
            if let Ok(bootstrap) = std::env::var("KAFKA_BOOTSTRAP") {
                let broker = Self::at(bootstrap);
                let found = broker.brokers(ANSWER_MAX);
                assert!(found > 0, "no broker answers at KAFKA_BOOTSTRAP={}", broker.bootstrap);
                return broker;
            }
            if docker_runs() {
                return composed();
            }
            assert!(
                node::can_run(),
                "there is no Kafka broker for the tests: set KAFKA_BOOTSTRAP=host:port, or start \
                 Docker (docker/compose.yaml has one), or run tests/setup, which fetches Apache \
                 Kafka's jars with Maven for a JDK to run"
            );
            by_the_jars()
        })
    }

    /// Whoever listens there.
    pub fn at(bootstrap: String) -> Self {
        Self { bootstrap, _node: None }
    }

    /// Addresses as `host:port`, with commas between them.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A name that no other test has, in this run of the tests or in another.
    pub fn name(&self, what: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("{what}-{}-{count}", std::process::id())
    }

    /// A new topic with a name of its own that begins with `what`.
    pub fn topic(&self, what: &str, partitions: i32, configs: &[(&str, &str)]) -> String {
        let name = self.name(what);
        self.create(&name, partitions, configs);
        name
    }

    /// A new topic of just this name. Its replicas are as many as the brokers have by default; its
    /// records stay for ever, however old they say they are, unless `configs` want it otherwise.
    pub fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        if !configs.iter().any(|(key, _)| *key == "retention.ms") {
            topic.config.push(("retention.ms", "-1"));
        }
        topic.config.extend(configs);
        // A topic of that name may have been deleted and not be gone yet.
        wait::until(&format!("topic {name} to be made"), SECONDS_MAX, || {
            let made = block_on(self.admin().create_topics([&topic], &options()));
            match made.unwrap().remove(0) {
                Ok(_) => Some(()),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => None,
                Err((name, code)) => panic!("{name}: {code}"),
            }
        });
        let what = format!("leaders of {name}");
        wait::until(&what, SECONDS_MAX, || (self.led(name) == partitions).then_some(()));
    }

    /// More partitions for a topic: `partitions` in all.
    pub fn widen(&self, topic: &str, partitions: i32) {
        let wanted = NewPartitions::new(topic, partitions as usize);
        let widened = block_on(self.admin().create_partitions([&wanted], &options()));
        widened.unwrap().remove(0).unwrap();
        let what = format!("leaders of {topic}");
        wait::until(&what, SECONDS_MAX, || (self.led(topic) == partitions).then_some(()));
    }

    /// Deletes a topic and waits until it is gone.
    pub fn delete(&self, topic: &str) {
        let deleted = block_on(self.admin().delete_topics(&[topic], &options()));
        deleted.unwrap().remove(0).unwrap();
        let what = format!("topic {topic} to go");
        wait::until(&what, SECONDS_MAX, || (self.led(topic) == 0).then_some(()));
    }

    /// Deletes the records of a partition before an offset, as retention would.
    pub fn lose(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
        let lost = block_on(self.admin().delete_records(&list, &options())).unwrap();
        lost.elements_for_topic(topic)[0].error().unwrap();
        assert_eq!(self.ends(topic)[&partition].first, before);
    }

    /// The first and the next offset of each partition, open transactions included.
    pub fn ends(&self, topic: &str) -> BTreeMap<i32, Ends> {
        let ends = |partition| {
            // A client that has asked a leader waits for it, even where there is another by now: each
            // attempt is a new client's.
            let (first, next) = wait::until("a leader's answer", SECONDS_MAX, || {
                self.client().fetch_watermarks(topic, partition, ATTEMPT_MAX).ok()
            });
            (partition, Ends { first, next })
        };
        (0..self.led(topic)).map(ends).collect()
    }

    /// Which node of a cluster leads a partition, from 0; waits while none does.
    pub fn leader(&self, topic: &str, partition: i32) -> usize {
        wait::until(&format!("a leader of {topic}/{partition}"), SECONDS_MAX, || {
            let metadata = self.client().fetch_metadata(Some(topic), ATTEMPT_MAX).ok()?;
            let found = metadata.topics().iter().find(|found| found.name() == topic)?;
            let found = found.partitions().iter().find(|found| found.id() == partition)?;
            // Nodes' own numbers begin with 1; nobody is -1.
            usize::try_from(found.leader() - 1).ok()
        })
    }

    /// How many partitions of a topic have a leader; none where it is not there.
    fn led(&self, topic: &str) -> i32 {
        let metadata = self.client().fetch_metadata(Some(topic), ANSWER_MAX).unwrap();
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let led = found.map(|t| t.partitions().iter().filter(|p| p.leader() >= 0).count());
        led.unwrap_or(0) as i32
    }

    /// How many brokers there are, as far as one answers in time.
    pub(crate) fn brokers(&self, within: Duration) -> usize {
        self.client().fetch_metadata(None, within).map_or(0, |found| found.brokers().len())
    }

    fn client(&self) -> BaseConsumer {
        self.config().create().unwrap()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    /// Settings of every client. What they say while a broker is away is nobody's concern.
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("reconnect.backoff.max.ms", "500").set("log_level", "0");
        config
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(ANSWER_MAX)).request_timeout(Some(ANSWER_MAX))
}

/// A node of one's own, whose folder goes with it.
fn by_the_jars() -> Broker {
    let folder = tempfile::tempdir().unwrap().keep();
    let ports = Ports::free();
    let bootstrap = format!("127.0.0.1:{}", ports.client);
    let mut nodes = [Node::new(0, &[ports], &folder, true)];
    cluster::start(&mut nodes);
    let broker = Broker::at(bootstrap);
    cluster::ready(&broker, 1, &nodes);
    let [node] = nodes;
    Broker { _node: Some(node), ..broker }
}

fn docker_runs() -> bool {
    let mut command = Command::new("docker");
    command.arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The composition's broker, under a project's name of the tests' own, which is taken down with them.
fn composed() -> Broker {
    let file = root().join("docker/compose.yaml");
    let compose = format!("docker compose -p sluice-tests -f '{}'", file.display());
    let up = format!("{compose} up --detach --wait kafka");
    let started = Command::new("sh").args(["-c", &up]).stdin(Stdio::null()).status().unwrap();
    assert!(started.success(), "failed: {up}");
    let down = format!("cat >/dev/null; {compose} down --volumes");
    let mut command = Command::new("sh");
    command.args(["-c", &down]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // Its standard input is open as long as this process lives: that is all it is for.
    std::mem::forget(command.spawn().unwrap());
    let broker = Broker::at(COMPOSED.to_string());
    cluster::ready(&broker, 1, &[]);
    broker
}
