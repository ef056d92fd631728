//! How a Kafka cluster is reached: addresses, and librdkafka's own options passed through.
//!
//! In: settings of a job file. Out: configurations of clients. Options that the
//! engine rests on are refused by name. Nothing is connected here.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_core::Error;

use crate::settings::OneOrMany;

/// A broker that says nothing for this long is asked again: longer than a leader election takes.
pub(super) const ANSWER_WAIT_MS: u64 = 15_000;

/// Options that are the engine's to set, and what to write instead.
const OWN: [(&str, &str); 14] = [
    ("bootstrap.servers", "use `bootstrap:`"),
    ("metadata.broker.list", "use `bootstrap:`"),
    ("group.id", "use `group:`"),
    ("enable.auto.commit", "offsets are committed when an epoch is published"),
    ("enable.auto.offset.store", "offsets are sealed with each epoch"),
    ("auto.offset.reset", "use `start:`; a lost offset is never reset in silence"),
    ("enable.partition.eof", "the source rests on it"),
    ("isolation.level", "use `isolation:`"),
    ("queued.max.messages.kbytes", "use `queue:`, which counts in the run's memory"),
    ("transactional.id", "it names the job and the sink"),
    ("enable.idempotence", "the sink rests on it"),
    ("acks", "the sink needs all"),
    ("request.required.acks", "the sink needs all"),
    ("group.instance.id", "runners are members for as long as they live"),
];

/// What stands in a job file about the cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ConnectionConfig {
    /// Addresses of brokers, `host:port`.
    pub bootstrap: OneOrMany,
    /// Options of librdkafka, such as `security.protocol` and `sasl.password`; values may be secrets.
    #[serde(default)]
    pub options: BTreeMap<String, Plain>,
}

/// A text, a number or true and false.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Plain {
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl std::fmt::Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Plain::Bool(value) => value.fmt(f),
            Plain::Number(value) => value.fmt(f),
            Plain::Text(value) => f.write_str(value),
        }
    }
}

/// A cluster and how to talk to it.
#[derive(Clone)]
pub struct Connection {
    bootstrap: String,
    options: BTreeMap<String, String>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

/// What is wrong with one setting: where it stands, and why.
pub(super) type Fault = (String, Error);

impl ConnectionConfig {
    /// Finds what is wrong, without connecting.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let addresses = self.addresses();
        if addresses.is_empty() {
            let error = Error::config("no broker is given").hint("write `bootstrap: host:9092`");
            faults.push(("/bootstrap".to_string(), error));
        }
        for address in addresses.iter().filter(|a| !is_address(a)) {
            let error = Error::config(format!("not the address of a broker address={address}"))
                .hint("write host:port, as in broker.example:9092");
            faults.push(("/bootstrap".to_string(), error));
        }
        let mut client = ClientConfig::new();
        for (name, value) in &self.options {
            let pointer = format!("/options/{}", name.replace('~', "~0").replace('/', "~1"));
            if let Some((_, instead)) = OWN.iter().find(|(own, _)| own == name) {
                let error = Error::config(format!("this option is not yours to set option={name}"));
                faults.push((pointer, error.hint(*instead)));
                continue;
            }
            let value = value.to_string();
            if value.starts_with("${secrets.") {
                continue;
            }
            client.set(name, &value);
            if let Err(e) = client.create_native_config() {
                let error = Error::config(format!("librdkafka refuses an option option={name}"));
                let hint = "see the list of options of librdkafka's configuration";
                faults.push((pointer, error.because(e).hint(hint)));
            }
            client.remove(name);
        }
        faults
    }

    fn addresses(&self) -> Vec<String> {
        let parts = self.bootstrap.as_slice().iter().flat_map(|text| text.split(','));
        parts.map(|part| part.trim().to_string()).filter(|part| !part.is_empty()).collect()
    }

    /// The cluster.
    pub fn connection(&self) -> Connection {
        let options = self.options.iter();
        let options = options.map(|(name, value)| (name.clone(), value.to_string()));
        Connection { bootstrap: self.addresses().join(","), options: options.collect() }
    }
}

fn is_address(text: &str) -> bool {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

impl Connection {
    /// Addresses of the brokers, for people.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The value of an option, if it is given.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// A configuration with nothing but how the cluster is reached.
    pub fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        // Without the level nothing of what librdkafka says reaches the log.
        client.set_log_level(rdkafka::config::RDKafkaLogLevel::Warning);
        for (name, value) in &self.options {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.bootstrap);
        client.set("client.id", self.options.get("client.id").map_or("sluice", String::as_str));
        // A cluster that comes back is found within a second; the default backs off to ten.
        if !self.options.contains_key("reconnect.backoff.max.ms") {
            client.set("reconnect.backoff.max.ms", "1000");
        }
        client
    }
}

/// An error of librdkafka while something was done with `bootstrap`: who is wrong decides whether it
/// is tried again.
pub(super) fn failed(what: &str, bootstrap: &str, error: &rdkafka::error::KafkaError) -> Error {
    use rdkafka::types::RDKafkaErrorCode as Code;
    let message = format!("{what} bootstrap={bootstrap}");
    let cause = error.to_string();
    match error.rdkafka_error_code() {
        Some(
            Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed,
        ) => Error::config(message)
            .because(cause)
            .hint("the broker refuses these credentials: see `options:` and the topic's rights"),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            Error::config(message).because(cause).hint("create the topic, or mend its name")
        }
        _ => match error {
            rdkafka::error::KafkaError::ClientConfig(..) => Error::config(message).because(cause),
            _ => Error::unavailable(message).because(cause).hint(
                "is the broker running, and can its advertised address be reached from here?",
            ),
        },
    }
}
