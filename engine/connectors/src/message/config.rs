//! The settings that say what messages hold, as they are written.
//!
//! In: keys of a `sources:` entry beside those of its connector. Out: [`Settings`] as they stand;
//! what they mean together is decided in [`super`]. It opens nothing.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use sluice_core::{Error, Result};
use url::Url;

use crate::format::json::{Unit, Unknown};

/// What messages hold.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Settings {
    /// What a message is written in.
    pub format: Format,
    /// What stands before a message. Default: `confluent` with a registry, else `none`.
    #[serde(default)]
    pub framing: Option<Framing>,
    /// The schema registry that messages name their schemas in.
    #[serde(default)]
    pub registry: Option<RegistryConfig>,
    /// When a message has a field that the schema does not have. Default: `fail`, which rejects the
    /// message.
    #[serde(default)]
    pub on_new_column: OnNewColumn,
    /// The character between fields. Default: `,`; CSV only.
    #[serde(default)]
    pub delimiter: Option<String>,
    /// The character around fields. Default: `"`; CSV only.
    #[serde(default)]
    pub quote: Option<String>,
    /// The Avro schema of messages without a registry, as an object or its text; Avro only.
    #[serde(default)]
    pub avro_schema: Option<Value>,
    /// The type of messages without a registry; Protobuf only.
    #[serde(default)]
    pub proto: Option<Proto>,
    /// What change events are written in. Default: `json`; Debezium only.
    #[serde(default)]
    pub envelope: Option<Envelope>,
    /// What numbers count that come for a column of type `timestamp`, where change events do not
    /// say it themselves. Default: they are refused; Debezium only.
    #[serde(default)]
    pub times: Option<Times>,
}

/// What a message is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One object.
    Json,
    /// One record.
    Csv,
    /// Anything: the message is a value.
    Raw,
    /// Apache Avro, without a file's header.
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// Changes of a database's rows.
    Debezium,
}

impl Format {
    /// As the job file says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Raw => "raw",
            Format::Avro => "avro",
            Format::Protobuf => "protobuf",
            Format::Debezium => "debezium",
        }
    }
}

/// What stands before a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Nothing.
    None,
    /// A zero byte and the schema's id, as Confluent's serializers write them.
    Confluent,
}

/// What becomes of fields that the schema does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnNewColumn {
    /// The message is rejected.
    #[default]
    Fail,
    /// They are passed over.
    Ignore,
    /// They are kept in the column `_rescued`, as the text of a JSON object per row.
    Rescue,
}

impl OnNewColumn {
    pub(super) fn unknown(self) -> Unknown {
        match self {
            OnNewColumn::Fail => Unknown::Fail,
            OnNewColumn::Ignore => Unknown::Ignore,
            OnNewColumn::Rescue => Unknown::Rescue,
        }
    }
}

/// Where a schema registry is, and who we are there.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Its address: `https://registry:8081`.
    pub url: String,
    /// The user, with `password`.
    #[serde(default)]
    pub user: Option<String>,
    /// The password: `${secrets.name}`.
    #[serde(default)]
    pub password: Option<String>,
    /// A bearer token instead: `${secrets.name}`.
    #[serde(default)]
    pub token: Option<String>,
}

impl RegistryConfig {
    /// The address. Errors: `Config` when it is none, or says who we are.
    pub(crate) fn parsed_url(&self) -> Result<Url> {
        let wrong = |what: &str| {
            Error::config(format!("not the address of a schema registry: {what}"))
                .hint("write it like https://registry:8081, and use `user` and `password`")
        };
        let url = Url::parse(&self.url).map_err(|e| wrong("no URL").because(e))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("there is a user in it"));
        }
        Ok(url)
    }
}

impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, user, .. } = self;
        f.debug_struct("RegistryConfig")
            .field("url", url)
            .field("user", user)
            .finish_non_exhaustive()
    }
}

/// A message type of Protocol Buffers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proto {
    /// A `.proto` file; files that it imports are looked for in its folder.
    #[serde(default)]
    pub file: Option<String>,
    /// The text of one, in place.
    #[serde(default)]
    pub text: Option<String>,
    /// The message type: `acme.Order`. Default: the first one.
    #[serde(default)]
    pub message: Option<String>,
}

/// What change events are written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Envelope {
    /// JSON, with or without a schema in each event.
    #[default]
    Json,
    /// Avro, through the registry.
    Avro,
}

/// What numbers of time count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Times {
    /// Milliseconds, as with `time.precision.mode: connect`.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl Times {
    pub(super) fn unit(self) -> Unit {
        match self {
            Times::Millis => Unit::Millis,
            Times::Micros => Unit::Micros,
            Times::Nanos => Unit::Nanos,
        }
    }
}
