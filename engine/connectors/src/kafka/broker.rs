//! Questions to a cluster: which topics and partitions there are, from where to where they go.
//!
//! In: a connection. Out: facts. Every call blocks until the broker answers or the wait is over: they
//! are made off the runtime's threads. Nothing is read or remembered here.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use regex::Regex;
use sluice_core::{Error, Result};

use super::connection::{ANSWER_WAIT_MS, Connection, failed, is_silence, refused};
use super::events::Events;
use super::topic_id::topic_ids;

/// Which topics are read.
#[derive(Debug, Clone)]
pub(super) enum Topics {
    /// These.
    Named(String),
    /// All whose names fit, those that come later too.
    Pattern(Regex),
}

/// A topic that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub name: String,
    /// What tells it from an earlier or later topic of the same name; none with brokers that do not
    /// know.
    pub id: Option<String>,
    pub partitions: Vec<Bounds>,
}

/// From where to where a partition goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub number: i32,
    /// The first offset that can be read.
    pub low: u64,
    /// The offset behind the last that may be read: with `read_committed`, behind the last that is
    /// decided.
    pub high: u64,
}

/// What was said besides answers is there already when it is listened to.
const HEAR: Duration = Duration::from_millis(1);

/// A client that asks.
#[derive(Clone)]
pub(super) struct Broker {
    client: Arc<BaseConsumer<Events>>,
    bootstrap: String,
}

fn wait() -> Duration {
    Duration::from_millis(ANSWER_WAIT_MS)
}

fn unsigned(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

impl Broker {
    /// A client for questions; it connects with the first. Errors: `Config`.
    pub(super) fn new(connection: &Connection, isolation: &str) -> Result<Self> {
        let mut config = connection.client();
        config.set("isolation.level", isolation);
        // A broker that is not there is told by the answers, not by the log.
        let client = config
            .create_with_context(Events::default())
            .map_err(|e| failed("no client can be made", connection.bootstrap(), &e))?;
        let bootstrap = connection.bootstrap().to_string();
        Ok(Self { client: Arc::new(client), bootstrap })
    }

    /// Addresses of the brokers, for people.
    pub(super) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Everything that fits `topics` and is there, in the order of names.
    pub(super) fn look(&self, topics: &[Topics]) -> Result<Vec<Topic>> {
        let names = self.names(topics)?;
        // Before ids, which are none where nobody answers: that is told after one wait, not two.
        let numbers = names.iter().map(|name| self.numbers(name)).collect::<Result<Vec<_>>>()?;
        let ids = topic_ids(self.client.client(), &names, wait());
        let mut found = Vec::new();
        for (name, numbers) in names.into_iter().zip(numbers) {
            let bounds = numbers.into_iter().map(|number| self.bounds(&name, number));
            let partitions = bounds.collect::<Result<Vec<_>>>()?;
            found.push(Topic { id: ids.get(&name).cloned(), partitions, name });
        }
        self.hear();
        self.client.context().set_welcome();
        Ok(found)
    }

    fn names(&self, topics: &[Topics]) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for topic in topics {
            match topic {
                Topics::Named(name) => names.push(name.clone()),
                Topics::Pattern(pattern) => {
                    let all = self.client.fetch_metadata(None, wait());
                    let all = all.map_err(|e| self.failed("topics cannot be listed", &e))?;
                    let fit = all.topics().iter().map(|t| t.name().to_string());
                    names.extend(fit.filter(|name| pattern.is_match(name) && !is_internal(name)));
                }
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The partitions of a topic; none when it is not there.
    pub(super) fn numbers(&self, topic: &str) -> Result<Vec<i32>> {
        let told = self.client.fetch_metadata(Some(topic), wait());
        let what = format!("a topic cannot be looked at topic={topic}");
        let told = told.map_err(|e| self.failed(&what, &e))?;
        let Some(entry) = told.topics().iter().find(|t| t.name() == topic) else {
            return Ok(Vec::new());
        };
        if let Some(error) = entry.error() {
            use rdkafka::types::RDKafkaErrorCode as Code;
            let code = Code::from(error);
            return match code {
                Code::UnknownTopicOrPartition | Code::UnknownTopic => Ok(Vec::new()),
                code => Err(self.failed(&what, &rdkafka::error::KafkaError::MetadataFetch(code))),
            };
        }
        let mut numbers: Vec<i32> = entry.partitions().iter().map(|p| p.id()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// From where to where one partition goes.
    pub(super) fn bounds(&self, topic: &str, number: i32) -> Result<Bounds> {
        let marks = self.client.fetch_watermarks(topic, number, wait());
        let what = format!("a partition cannot be looked at partition={topic}/{number}");
        let (low, high) = marks.map_err(|e| self.failed(&what, &e))?;
        Ok(Bounds { number, low: unsigned(low), high: unsigned(high) })
    }

    /// The first offset at or after a time, per partition; the end where nothing is as late.
    pub(super) fn at_time(&self, topic: &Topic, ms: i64) -> Result<Vec<u64>> {
        let mut asked = TopicPartitionList::new();
        for bounds in &topic.partitions {
            let added = asked.add_partition_offset(&topic.name, bounds.number, Offset::Offset(ms));
            added.map_err(|e| self.failed("a time is out of range", &e))?;
        }
        let what = format!("offsets cannot be looked up by time topic={}", topic.name);
        let told = self.client.offsets_for_times(asked, wait());
        let told = told.map_err(|e| self.failed(&what, &e))?;
        let offset = |bounds: &Bounds| {
            let found = told.find_partition(&topic.name, bounds.number);
            match found.map(|f| f.offset()) {
                Some(Offset::Offset(offset)) => unsigned(offset),
                _ => bounds.high,
            }
        };
        Ok(topic.partitions.iter().map(offset).collect())
    }

    fn failed(&self, what: &str, error: &rdkafka::error::KafkaError) -> Error {
        let silence = is_silence(error);
        let error = failed(what, &self.bootstrap, error);
        // Who answers that a leader is being chosen has let us in, whatever another broker said.
        if !silence {
            return error;
        }
        self.hear();
        let refusal = self.client.context().refusal();
        refusal.map_or(error, |refusal| refused(what, &self.bootstrap, &refusal))
    }

    /// Takes what was said besides answers: lines for the log, and why nobody answers.
    fn hear(&self) {
        while self.client.poll(HEAR).is_some() {}
    }
}

/// Topics of the broker's own, and of sinks of this engine: a pattern does not mean them.
fn is_internal(name: &str) -> bool {
    name.starts_with("__") || name.starts_with("_sluice")
}
