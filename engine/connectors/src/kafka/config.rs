//! The settings of a `kafka` source.
//!
//! In: an entry of a job file. Out: settings without anything left to wonder about, or everything
//! that is wrong with them. Nothing is connected here.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_core::{Config, Error, Secrets};

use super::broker::Topics;
use super::connection::ConnectionConfig;
use super::rows::{MessageReader, Metadata, columns};
use crate::format::message::{self, MessageFormat};
use crate::message as formats;
use crate::settings::{Faults, OneOrMany, Size, size};

/// What `group` says when no offsets are to be set.
const NO_GROUP: &str = "none";

/// What a job file says about a `kafka` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SourceConfig {
    /// The cluster.
    #[serde(flatten)]
    pub connection: ConnectionConfig,
    /// The topics: names, or patterns that begin with `^` as regular expressions.
    pub topics: OneOrMany,
    /// What messages are, and how they are decoded.
    #[serde(flatten)]
    pub format: formats::Settings,
    /// Where to begin the first time: `earliest`, `latest`, `{timestamp: …}` or `{offsets: …}`.
    /// Default: `earliest`.
    #[serde(default)]
    pub start: StartAt,
    /// Columns about the messages: `topic`, `partition`, `offset`, `timestamp`, `key`, `headers`,
    /// each with `_` before its name. Default: none.
    #[serde(default)]
    pub metadata: Vec<Metadata>,
    /// What becomes of messages without a value. Default: `reject`; with `format: debezium`, `skip`.
    #[serde(default)]
    pub tombstones: Option<Tombstones>,
    /// Whether messages of transactions are read before they are committed. Default: `read_committed`.
    #[serde(default)]
    pub isolation: Isolation,
    /// Messages that may be held, in bytes: half of it by the epoch at work, half by what is fetched
    /// meanwhile. Default: the sixteenth part of the run's memory, at least 16 MiB, at most 256 MiB.
    #[serde(default)]
    pub queue: Option<Size>,
    /// The consumer group whose offsets are set when an epoch is published, for tools that show lag.
    /// They are never read. Default: `sluice-<job>-<source>`; `none` sets none.
    #[serde(default)]
    pub group: Option<String>,
}

/// Where reading begins the first time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StartAt {
    /// At one of the ends.
    End(End),
    /// At the first message that is as late as this or later.
    Time {
        /// As in `2026-01-31T08:00:00Z`.
        timestamp: String,
    },
    /// At these offsets; partitions that are not named begin at the beginning.
    Offsets {
        /// By partition, as in `orders/0: 17`.
        offsets: BTreeMap<String, u64>,
    },
}

/// An end of a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The first message there is.
    #[default]
    Earliest,
    /// The first message that comes from now on.
    Latest,
}

impl Default for StartAt {
    fn default() -> Self {
        StartAt::End(End::Earliest)
    }
}

/// What becomes of messages without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tombstones {
    /// They are rejected.
    Reject,
    /// They are rows whose columns are null, but for those of `metadata`.
    Row,
    /// They are passed over.
    Skip,
}

/// Whether messages of transactions are read before they are committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Only what is committed.
    #[default]
    ReadCommitted,
    /// Everything, aborted messages too.
    ReadUncommitted,
}

impl Isolation {
    /// As librdkafka says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        }
    }
}

/// Where to begin with partitions that were never read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Begin {
    Earliest,
    Latest,
    /// Milliseconds since 1970.
    Time(i64),
    /// By `topic/partition`.
    Offsets(BTreeMap<String, u64>),
}

/// What a `kafka` source is to do.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Columns of a message's value.
    pub values: SchemaRef,
    pub connection: ConnectionConfig,
    pub topics: Vec<Topics>,
    pub begin: Begin,
    pub format: formats::Settings,
    pub metadata: Vec<Metadata>,
    pub tombstones: Option<Tombstones>,
    pub isolation: Isolation,
    pub queue_bytes: Option<u64>,
    pub group: Option<String>,
}

impl Settings {
    /// Reads an entry. Errors: everything that is wrong with it.
    pub(super) fn read(config: &Config) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let written: SourceConfig = match config.parse() {
            Ok(written) => written,
            Err(error) => return Err(faults.with("", error)),
        };
        for (pointer, error) in written.connection.faults() {
            faults = faults.with(&pointer, error);
        }
        let topics = topics(&written.topics, &mut faults);
        let begin = begin(written.start, &topics, &mut faults);
        let queue_bytes = size(&mut faults, "/queue", written.queue.as_ref());
        for (i, column) in written.metadata.iter().enumerate() {
            if written.metadata[..i].contains(column) {
                let message = format!("a column comes twice column={}", column.name());
                faults.add(&format!("/metadata/{i}"), &message, "name it once");
            }
        }
        let values = match written.format.check(config.schema.as_ref()) {
            Ok(values) if faults.is_empty() => values,
            Ok(_) => return Err(faults),
            Err(more) => return Err(faults.and(more)),
        };
        Ok(Self {
            values,
            connection: written.connection,
            topics,
            begin,
            format: written.format,
            metadata: written.metadata,
            tombstones: written.tombstones,
            isolation: written.isolation,
            queue_bytes,
            group: written.group,
        })
    }

    /// The settings, with the values of secrets, for whoever has checked them.
    pub(super) fn of(config: &Config, secrets: &Secrets) -> Result<Self, Error> {
        let config = config.with_secrets(secrets);
        Self::read(&config).map_err(|faults| faults.first(&config))
    }

    /// The group whose offsets are set, also where none are.
    pub(super) fn group_of(&self, job: &str, source: &str) -> String {
        let own = self.group.clone().filter(|group| group != NO_GROUP);
        own.unwrap_or_else(|| format!("sluice-{job}-{source}"))
    }

    /// The topic whose partitions the runners of shards share out: of those that are named the first by
    /// name, whatever there is of the others. None where only patterns are given: the first topic of a
    /// pattern may be another one tomorrow.
    pub(super) fn first_topic(&self) -> Option<&str> {
        let named = self.topics.iter().filter_map(|topic| match topic {
            Topics::Named(name) => Some(name.as_str()),
            Topics::Pattern(_) => None,
        });
        named.min()
    }

    /// Whether the group's offsets are set.
    pub(super) fn commits(&self) -> bool {
        self.group.as_deref() != Some(NO_GROUP)
    }

    /// The rows' schema, without the position.
    pub(super) fn schema(&self) -> SchemaRef {
        columns(&self.values, &self.metadata)
    }

    /// Who decodes the messages.
    pub(super) fn reader(&self, format: Arc<dyn MessageFormat>) -> MessageReader {
        let (metadata, null_rows) =
            (self.metadata.clone(), self.tombstones == Some(Tombstones::Row));
        MessageReader { format, metadata, null_rows }
    }

    /// Whether messages without a value are passed over.
    pub(super) fn skips_tombstones(&self, format: &dyn MessageFormat) -> bool {
        match self.tombstones {
            Some(tombstones) => tombstones == Tombstones::Skip,
            None => format.tombstones() == message::Tombstones::Skip,
        }
    }
}

fn topics(written: &OneOrMany, faults: &mut Faults) -> Vec<Topics> {
    let texts = written.texts("/topics");
    if texts.is_empty() {
        faults.add("/topics", "no topic is given", "name a topic, or a pattern such as ^orders-.*");
    }
    let mut topics = Vec::new();
    for (pointer, text) in texts {
        if text.starts_with('^') {
            let pattern = Regex::new(text).map_err(|e| {
                Error::config(format!("not a regular expression topics={text}")).because(e)
            });
            topics.extend(faults.keep(&pointer, pattern).map(Topics::Pattern));
            continue;
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > 249 || !text.chars().all(legal) {
            let message = format!("not the name of a topic topic={text}");
            let hint = "names have letters, digits and . _ - only; a pattern begins with ^";
            faults.add(&pointer, &message, hint);
        }
        topics.push(Topics::Named(text.clone()));
    }
    topics
}

fn begin(start: StartAt, topics: &[Topics], faults: &mut Faults) -> Begin {
    match start {
        StartAt::End(End::Earliest) => Begin::Earliest,
        StartAt::End(End::Latest) => Begin::Latest,
        StartAt::Time { timestamp } => match chrono::DateTime::parse_from_rfc3339(&timestamp) {
            Ok(time) => Begin::Time(time.timestamp_millis()),
            Err(e) => {
                let message = format!("not a time timestamp={timestamp}: {e}");
                faults.add("/start/timestamp", &message, "write it as 2026-01-31T08:00:00Z");
                Begin::Earliest
            }
        },
        StartAt::Offsets { offsets } => {
            for key in offsets.keys() {
                let name = key.rsplit_once('/').filter(|(_, n)| n.parse::<u32>().is_ok());
                let known = |(name, _): (&str, &str)| {
                    topics.iter().any(|topic| match topic {
                        Topics::Named(known) => known == name,
                        Topics::Pattern(pattern) => pattern.is_match(name),
                    })
                };
                if !name.is_some_and(known) {
                    let message = format!("not a partition of these topics partition={key}");
                    faults.add(
                        "/start/offsets",
                        &message,
                        "write topic/number, as in orders/0: 17",
                    );
                }
            }
            Begin::Offsets(offsets)
        }
    }
}
