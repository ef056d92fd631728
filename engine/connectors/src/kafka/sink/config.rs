//! The settings of a `kafka` sink.
//!
//! In: a `sinks:` entry. Out: settings without an open question, or everything that is wrong with
//! the entry. Nothing is connected here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use sluice_core::Config;

use super::super::connection::{Connection, ConnectionConfig};
use crate::message::RegistryConfig;
use crate::settings::{Faults, OneOrMany, Size, size};

/// What the control topic is called when nobody says.
const CONTROL_TOPIC: &str = "_sluice_control";

/// Bytes of a message when nobody says: what brokers take without being told, less what they put
/// around it.
const MESSAGE_BYTES: u64 = 1_000_000;

/// A larger message is nothing librdkafka takes.
const MESSAGE_BYTES_MAX: u64 = 1_000_000_000;

/// What a job file says about a `kafka` sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SinkConfig {
    /// The cluster.
    #[serde(flatten)]
    pub connection: ConnectionConfig,
    /// The topic that rows go to.
    pub topic: String,
    /// What messages are. Default: `json`, an object per row, without the columns that are null.
    #[serde(default)]
    pub format: Format,
    /// The schema registry that the schema of the rows is registered in; messages name it as
    /// Confluent's serializers do. Avro only, and needed for it.
    #[serde(default)]
    pub registry: Option<RegistryConfig>,
    /// What the schema is registered as. Default: the topic's name with `-value`.
    #[serde(default)]
    pub subject: Option<String>,
    /// The column, or columns, that make up the key: the text of one (bytes as they are), a JSON array
    /// of several. Default: no key.
    #[serde(default)]
    pub key: Option<OneOrMany>,
    /// A column with the number of the partition. Default: chosen by the key as Java's producers do,
    /// at random without one.
    #[serde(default)]
    pub partition: Option<String>,
    /// A column with the message's time. Default: when it is sent.
    #[serde(default)]
    pub timestamp: Option<String>,
    /// Headers, each with the column that it is the text of; null gives none.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A column: where it is true, the message has no value, which deletes its key in compacted
    /// topics.
    #[serde(default)]
    pub tombstone: Option<String>,
    /// Columns that are not in the value, such as those of key and headers. Default: none.
    #[serde(default)]
    pub omit: Vec<String>,
    /// How messages are compressed. Default: `zstd`.
    #[serde(default)]
    pub compression: Compression,
    /// A row whose message is larger is refused, and kept. Default: `1MB`, or what the topic takes.
    #[serde(default)]
    pub max_bytes: Option<Size>,
    /// The compacted topic that says how far sinks are; it is made when it is not there. Default:
    /// `_sluice_control`.
    #[serde(default)]
    pub control_topic: Option<String>,
}

/// What messages are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An object per row.
    #[default]
    Json,
    /// Apache Avro, by a schema made of the columns.
    Avro,
}

/// How messages are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    #[default]
    Zstd,
}

impl Compression {
    /// What librdkafka calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// What a `kafka` sink is to do.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub connection: Connection,
    pub topic: String,
    pub format: Format,
    /// Where the schema of Avro messages is registered, and as what.
    pub registry: Option<(RegistryConfig, String)>,
    pub key: Vec<String>,
    pub partition: Option<String>,
    pub timestamp: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub tombstone: Option<String>,
    pub omit: Vec<String>,
    pub compression: Compression,
    pub message_bytes_max: u64,
    pub control_topic: String,
}

impl Settings {
    /// Reads an entry. Errors: everything that is wrong with it.
    pub(super) fn read(config: &Config) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let written: SinkConfig = match config.parse() {
            Ok(written) => written,
            Err(error) => return Err(faults.with("", error)),
        };
        for (pointer, error) in written.connection.faults() {
            faults = faults.with(&pointer, error);
        }
        let control_topic = written.control_topic.unwrap_or_else(|| CONTROL_TOPIC.to_string());
        for (pointer, topic) in [("/topic", &written.topic), ("/control_topic", &control_topic)] {
            if !is_topic(topic) {
                let hint = "a topic has up to 249 letters, digits, `.`, `_` and `-`";
                faults.add(pointer, &format!("not the name of a topic name={topic}"), hint);
            }
        }
        if written.topic == control_topic {
            let hint = "use another one: it holds positions and nothing else";
            faults.add("/control_topic", "rows cannot go to the control topic", hint);
        }
        let subject = written.subject.unwrap_or_else(|| format!("{}-value", written.topic));
        match (&written.registry, written.format) {
            (None, Format::Avro) => faults.add(
                "/format",
                "avro messages name their schema, and there is no registry to name it in",
                "give `registry: {url: …}`",
            ),
            (Some(_), Format::Json) => {
                faults.add("/registry", "json messages have no registered schema", "take it out");
            }
            (Some(registry), Format::Avro) => {
                if let Err(error) = registry.parsed_url() {
                    faults = faults.with("/registry/url", error);
                }
            }
            (None, Format::Json) => {}
        }
        let bytes = size(&mut faults, "/max_bytes", written.max_bytes.as_ref());
        let bytes = bytes.unwrap_or(MESSAGE_BYTES);
        if !(1_000..=MESSAGE_BYTES_MAX).contains(&bytes) {
            let hint = "use a size from 1KB to 1GB";
            faults.add("/max_bytes", &format!("no size of a message bytes={bytes}"), hint);
        }
        let key = written.key.map(|key| key.as_slice().to_vec()).unwrap_or_default();
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            connection: written.connection.connection(),
            topic: written.topic,
            format: written.format,
            registry: written.registry.map(|registry| (registry, subject)),
            key,
            partition: written.partition,
            timestamp: written.timestamp,
            headers: written.headers,
            tombstone: written.tombstone,
            omit: written.omit,
            compression: written.compression,
            message_bytes_max: bytes,
            control_topic,
        })
    }
}

/// Whether brokers take it as the name of a topic.
fn is_topic(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}
