//! How a Kafka cluster is reached: addresses, and librdkafka's own options passed through.
//!
//! In: settings of a job file. Out: configurations of clients. Options that the engine sets itself are
//! refused by name, and so is what librdkafka is built without. Nothing is connected here, and no text
//! that an option holds is told: it may be a secret's.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaConfRes, RDKafkaErrorCode as Code};
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_core::{Error, Kind};

use super::events::Refusal;
use crate::settings::OneOrMany;

/// A broker that says nothing for this long is asked again: longer than a leader election takes.
pub(super) const ANSWER_WAIT_MS: u64 = 15_000;

/// Options that are the engine's to set, by all their names, and what to write instead.
const OWN: [(&str, &str); 27] = [
    ("bootstrap.servers", "use `bootstrap:`"),
    ("metadata.broker.list", "use `bootstrap:`"),
    ("group.id", "use `group:`"),
    ("group.instance.id", "runners are members for as long as they live"),
    ("group.protocol", "shards are shared out by the classic protocol"),
    ("partition.assignment.strategy", "shards are shared out in turn"),
    ("enable.auto.commit", "offsets are committed when an epoch is published"),
    ("auto.commit.enable", "offsets are committed when an epoch is published"),
    ("enable.auto.offset.store", "offsets are sealed with each epoch"),
    ("auto.offset.reset", "use `start:`; a lost offset is never reset in silence"),
    ("enable.partition.eof", "the source rests on it"),
    ("isolation.level", "use `isolation:`"),
    ("client.rack", "ends of partitions are their leaders', so that is who is read"),
    ("queued.max.messages.kbytes", "use `queue:`, which counts in the run's memory"),
    ("fetch.message.max.bytes", "use `queue:`; a larger message is fetched all the same"),
    ("max.partition.fetch.bytes", "use `queue:`; a larger message is fetched all the same"),
    ("transactional.id", "it names the job and the sink"),
    ("enable.idempotence", "the sink rests on it"),
    ("acks", "the sink needs all"),
    ("request.required.acks", "the sink needs all"),
    ("compression.codec", "use `compression:`"),
    ("compression.type", "use `compression:`"),
    ("partitioner", "use `partition:`; by key it is chosen as Java's producers do"),
    ("message.max.bytes", "a sink has `max_bytes:`; a source takes what the topic does"),
    ("batch.size", "it goes with the sink's `max_bytes:`"),
    ("queue.buffering.max.kbytes", "it is a part of the run's memory"),
    ("queue.buffering.max.messages", "bytes are counted instead, in the run's memory"),
];

/// SASL mechanisms that librdkafka is built with here. Kerberos needs libraries of the system's, and
/// tokens somebody who fetches them.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// What to do about a mechanism that is not among them.
const OF_MECHANISMS: &str = "set `sasl.mechanisms` to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or use \
                             certificates with `security.protocol: ssl`; GSSAPI (Kerberos) and \
                             OAUTHBEARER are not built in";

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
        let wrong = |(name, value): (&String, &Plain)| {
            option_fault(name, value).map(|e| (pointer_to(name), e))
        };
        faults.extend(self.options.iter().filter_map(wrong));
        faults.extend(self.mechanism_fault());
        faults
    }

    /// A SASL mechanism that is not built in, asked for or by default.
    fn mechanism_fault(&self) -> Option<Fault> {
        let text = |name: &str| self.options.get(name).map(ToString::to_string);
        let names = ["sasl.mechanisms", "sasl.mechanism"];
        let named = names.into_iter().find_map(|name| Some((name, text(name)?)));
        let is_sasl = |protocol: String| protocol.to_ascii_lowercase().starts_with("sasl");
        let (name, message) = match named {
            Some((_, how)) if is_secret(&how) || MECHANISMS.contains(&how.trim()) => return None,
            Some((name, _)) => (name, "this SASL mechanism is not built in"),
            None if text("security.protocol").is_some_and(is_sasl) => {
                ("security.protocol", "SASL without a mechanism is GSSAPI, which is not built in")
            }
            None => return None,
        };
        let error = Error::config(format!("{message} option={name}"));
        Some((pointer_to(name), error.hint(OF_MECHANISMS)))
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

/// What is wrong with one option by itself.
fn option_fault(name: &str, value: &Plain) -> Option<Error> {
    if let Some((_, instead)) = OWN.iter().find(|(own, _)| *own == name) {
        let message = format!("this option is not yours to set option={name}");
        return Some(Error::config(message).hint(*instead));
    }
    let text = value.to_string();
    // Of one whose value is not known yet, the name can be wrong.
    let unknown = is_secret(&text);
    let mut client = ClientConfig::new();
    client.set(name, if unknown { "" } else { text.as_str() });
    let error = client.create_native_config().err()?;
    let of_the_name =
        matches!(error, KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..));
    if unknown && !of_the_name {
        return None;
    }
    let message = format!("librdkafka refuses an option option={name}");
    let hint = "see the list of options of librdkafka's configuration";
    let why = match value {
        // No option that is a number is a secret; a password under a wrong name can be one.
        Plain::Bool(_) | Plain::Number(_) if !of_the_name => error.to_string(),
        _ => told(&error),
    };
    Some(Error::config(message).because(why).hint(hint))
}

/// What an error tells, without the value of an option.
fn told(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, _, value) if value.trim().is_empty() => why.clone(),
        KafkaError::ClientConfig(_, why, _, value) => why.replace(value.trim(), "…"),
        error => error.to_string(),
    }
}

/// Whether a value is a reference that was not filled yet.
fn is_secret(value: &str) -> bool {
    value.starts_with("${secrets.")
}

/// Where an option stands in its entry.
fn pointer_to(name: &str) -> String {
    format!("/options/{}", name.replace('~', "~0").replace('/', "~1"))
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

/// What to do when brokers do not take who we are, or not for what is asked.
const CREDENTIALS: &str = "the broker refuses these credentials: mend `sasl.username`, `sasl.password` \
                           and the like in `options:`, or the account's rights";

/// Whether an error says no more than that nobody answered in time.
pub(super) fn is_silence(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        matches!(
            code,
            Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown
        )
    })
}

/// An error of librdkafka while something was done with `bootstrap`: who is wrong decides whether it
/// is tried again.
pub(super) fn failed(what: &str, bootstrap: &str, error: &KafkaError) -> Error {
    let message = format!("{what} bootstrap={bootstrap}");
    let cause = told(error);
    match error.rdkafka_error_code() {
        Some(
            Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed,
        ) => Error::config(message).because(cause).hint(CREDENTIALS),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            Error::config(message).because(cause).hint("create the topic, or mend its name")
        }
        _ => match error {
            KafkaError::ClientConfig(_, _, name, _) => {
                Error::config(format!("{message} option={name}")).because(cause)
            }
            // Options that do not go together, and files that they name; not where the machine has
            // no thread left for it.
            KafkaError::ClientCreation(why) if !why.contains("thread") => {
                Error::config(message).because(cause).hint("mend `options:`")
            }
            _ => Error::unavailable(message).because(cause).hint(
                "is the broker running, and can its advertised address be reached from here?",
            ),
        },
    }
}

/// What to do when there is no connection by TLS.
const HANDSHAKE: &str = "does the broker speak TLS there, and does `ssl.ca.location` in `options:` name who \
                         signed its certificate?";

/// The same where a broker said meanwhile why it will not have us.
pub(super) fn refused(what: &str, bootstrap: &str, refusal: &Refusal) -> Error {
    let Refusal { code, reason } = refusal;
    let is_tls = *code == Code::SSL;
    // A connection that broke in the middle says nothing of who we are, and is made again.
    let broke = reason.contains("Local: ") || (is_tls && !reason.contains("certificate"));
    let kind = if broke { Kind::Unavailable } else { Kind::Config };
    Error::new(kind, format!("{what} bootstrap={bootstrap}"))
        .because(reason.clone())
        .hint(if is_tls { HANDSHAKE } else { CREDENTIALS })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::consumer::BaseConsumer;
    use serde_json::{Value, json};

    fn config(options: &Value) -> ConnectionConfig {
        serde_json::from_value(json!({"bootstrap": "broker:9092", "options": options})).unwrap()
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name_and_no_value_is_told() {
        let secret = "${secrets.kafka}";
        // Options, the one that is refused, and a part of why; nothing where all is well.
        let cases = [
            (json!({"client.id": "me", "fetch.wait.max.ms": 50, "linger.ms": "1"}), None),
            (json!({"session.timeout.ms": 20_000, "sasl.password": secret}), None),
            (json!({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}), None),
            (json!({"security.protocol": "SASL_SSL", "sasl.mechanisms": secret}), None),
            (json!({"security.protocol": "ssl", "ssl.ca.location": "ca.pem"}), None),
            (json!({"compression.type": "lz4"}), Some(("compression.type", "`compression:`"))),
            (json!({"max.partition.fetch.bytes": 1}), Some(("max.partition.fetch.bytes", "queue"))),
            (json!({"partitioner": secret}), Some(("partitioner", "`partition:`"))),
            (json!({"group.protocol": "consumer"}), Some(("group.protocol", "classic"))),
            (
                json!({"security.protocol": "sasl_ssl", "sasl.password": secret}),
                Some(("security.protocol", "GSSAPI")),
            ),
            (json!({"sasl.mechanisms": "GSSAPI"}), Some(("sasl.mechanisms", "not built in"))),
            (json!({"sasl.mechanism": "OAUTHBEARER"}), Some(("sasl.mechanism", "not built in"))),
            (
                json!({"sasl.oauthbearer.method": "oidc"}),
                Some(("sasl.oauthbearer.method", "not available")),
            ),
            (json!({"sasl.passwort": secret}), Some(("sasl.passwort", "No such configuration"))),
            (json!({"sasl.passwort": "hunter2"}), Some(("sasl.passwort", "No such"))),
            (json!({"sasl.passwort": 48151623}), Some(("sasl.passwort", "No such"))),
            (json!({"security.protocol": "hunter2"}), Some(("security.protocol", "…"))),
            (json!({"socket.timeout.ms": 1}), Some(("socket.timeout.ms", "allowed range 10"))),
        ];
        for (options, expected) in cases {
            let faults = config(&options).faults();
            let Some((name, part)) = expected else {
                assert!(faults.is_empty(), "{options} {faults:?}");
                continue;
            };
            assert_eq!(faults.len(), 1, "{options} {faults:?}");
            let (pointer, error) = &faults[0];
            let text = format!("{error:?}");
            assert_eq!(pointer, &format!("/options/{name}"));
            assert!(text.contains(part) && text.contains(name), "{text}");
            assert!(!text.contains("hunter2") && !text.contains("48151623"), "{text}");
        }
    }

    #[test]
    fn clients_that_cannot_be_made_say_why_and_are_not_tried_again() {
        let cases = [
            (json!({"security.protocol": "hunter2"}), "security.protocol"),
            (json!({"security.protocol": "ssl", "ssl.ca.location": "/no/ca.pem"}), "ca.location"),
        ];
        for (options, part) in cases {
            let client = config(&options).connection().client();
            let Err(error) = client.create::<BaseConsumer>() else { panic!("{options}") };
            let error = failed("no client can be made", "broker:9092", &error);
            let text = format!("{error:?}");
            assert!(!error.retry() && text.contains(part), "{text}");
            assert!(!text.contains("hunter2") && !text.contains("48151623"), "{text}");
        }
    }

    #[test]
    fn who_is_refused_does_not_try_again_and_who_is_cut_off_does() {
        let cases = [
            (Code::Authentication, "SASL authentication error: Invalid username", false),
            (Code::Authentication, "handshake failed: Broker: Unsupported SASL mechanism", false),
            (Code::Authentication, "handshake failed: Local: Broker transport failure", true),
            (Code::SSL, "SSL handshake failed: certificate verify failed", false),
            (Code::SSL, "SSL handshake failed: Disconnected", true),
        ];
        for (code, reason, again) in cases {
            let error = refused("asked", "b:1", &Refusal { code, reason: reason.to_string() });
            assert_eq!(error.retry(), again, "{error:?}");
            assert!(error.chain().contains(reason) && error.hint_text().is_some(), "{error:?}");
        }
    }
}
