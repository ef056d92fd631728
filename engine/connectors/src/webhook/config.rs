//! The settings of a `webhook` source.
//!
//! In: an entry of a job file. Out: settings without anything left to wonder about, or everything
//! that is wrong with them. Nothing is opened here.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use sluice_core::{Clock, Config, DataSchema, Error, Result, Secrets, parse_duration};

use super::body::Format;
use super::body::challenge::{Challenge, ChallengeConfig};
use super::body::pick::Path;
use super::listener;
use super::route::Pattern;
use super::rows::Metadata;
use super::verify::Verifier;
use super::verify::config::{VerifyConfig, check_header, is_reference};
use crate::format::message::MessageFormat;
use crate::message as formats;
use crate::message::OnNewColumn;
use crate::settings::{Faults, OneOrMany, Size, size};

/// Ids are remembered for this long: GitHub, Stripe and Shopify try again for up to three days.
const WINDOW_MS: i64 = 3 * 24 * 60 * 60 * 1000;

/// A body may have this many bytes: more than what senders of events send.
const BODY_BYTES: u64 = 1024 * 1024;

/// The most that a body may be set to: all of it is in memory, and in one entry of the log.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Requests of a route that are worked on at once: what one core answers in a few milliseconds.
const CONCURRENT: usize = 256;

/// What may wait in the log of a route: hours of a busy one, on a disk of any size.
const BACKLOG_BYTES: u64 = 10 * 1024 * 1024 * 1024;

/// Where a run that follows listens by itself.
const LISTEN: &str = "127.0.0.1:8088";

/// What a job file says about a `webhook` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Where deliveries are posted to: `/hooks/orders`. A segment `{name}` stands for any.
    pub path: String,
    /// What bodies are. Default: `auto`, as their content type says.
    #[serde(default)]
    pub format: Format,
    /// When a row has a field that the schema does not have. Default: `fail`, which rejects the
    /// row.
    #[serde(default)]
    pub on_new_column: OnNewColumn,
    /// How deliveries prove whose they are. Default: not at all.
    #[serde(default)]
    pub verify: Option<VerifyConfig>,
    /// When a delivery is acknowledged. Default: `durable`.
    #[serde(default)]
    pub ack: Ack,
    /// What tells a delivery that was sent again from a new one. Default: what the sender of
    /// `verify` says; `none` is nothing.
    #[serde(default)]
    pub idempotency: Option<IdempotencyConfig>,
    /// How much is taken in.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Columns about deliveries: `headers`, `path`, `query`, `received_at`, `event_id`, each with
    /// `_` before its name. Default: none.
    #[serde(default)]
    pub metadata: Vec<Metadata>,
    /// What a sender asks before it sends anything. Default: with `verify: slack` its
    /// `url_verification`, else nothing.
    #[serde(default)]
    pub challenge: Option<ChallengeConfig>,
    /// Where `run --follow` listens; a server listens where it listens anyway. Default:
    /// `127.0.0.1:8088`.
    #[serde(default)]
    pub listen: Option<String>,
}

/// When a delivery is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// When its rows are on this machine's disk.
    #[default]
    Durable,
    /// When its rows are in an epoch that is published: nothing rests on this machine.
    Sealed,
}

impl Ack {
    /// As the job file says it.
    pub fn name(self) -> &'static str {
        match self {
            Ack::Durable => "durable",
            Ack::Sealed => "sealed",
        }
    }
}

/// What tells a delivery that was sent again from a new one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum IdempotencyConfig {
    /// Nothing does.
    Never(Never),
    /// An id.
    Id(IdConfig),
}

/// `none`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Never {
    /// Nothing.
    None,
}

/// Where a delivery's id is, and for how long it is remembered.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdConfig {
    /// A header, or several of which the first that is there counts.
    #[serde(default)]
    pub header: Option<OneOrMany>,
    /// A place in each row: `$.id`, `$.event.ids[0]`.
    #[serde(default)]
    pub json: Option<String>,
    /// For how long an id is remembered. Default: `3d`.
    #[serde(default)]
    pub window: Option<String>,
}

/// How much is taken in.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Bytes of a body. Default: `1MiB`.
    #[serde(default)]
    pub body: Option<Size>,
    /// Requests in a time: `1000/s`, `100/min`. Default: as many as come.
    #[serde(default)]
    pub rate: Option<String>,
    /// Requests that are worked on at once. Default: 256.
    #[serde(default)]
    pub concurrent: Option<u32>,
    /// Bytes that wait in the log. Default: `10GiB`.
    #[serde(default)]
    pub backlog: Option<Size>,
}

/// Where an id is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IdAt {
    /// In the first of these headers that is there.
    Header(Vec<String>),
    /// In each row.
    Json(Path),
}

/// What tells deliveries apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Idempotency {
    pub at: IdAt,
    pub window_ms: i64,
}

/// Requests in a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    pub count: f64,
    pub per: Duration,
}

/// How much is taken in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    pub body_bytes: usize,
    pub rate: Option<Rate>,
    pub concurrent: usize,
    pub backlog_bytes: u64,
}

/// What a `webhook` source is to do.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub pattern: Pattern,
    pub format: Format,
    pub verifier: Verifier,
    /// How `verify` is called in the job file; none where nothing is verified.
    pub verify_name: Option<&'static str>,
    /// Headers that are no column: they hold what a delivery proves itself by.
    pub hidden: Vec<String>,
    pub ack: Ack,
    pub idempotency: Option<Idempotency>,
    pub limits: Limits,
    pub metadata: Vec<Metadata>,
    pub challenge: Option<Challenge>,
    pub listen: String,
    /// Columns of a row's JSON.
    values: SchemaRef,
    messages: formats::Settings,
    schema: Option<DataSchema>,
}

impl Settings {
    /// Reads an entry. Errors: everything that is wrong with it.
    pub(super) fn read(config: &Config) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let written: SourceConfig = match config.parse() {
            Ok(written) => written,
            Err(error) => return Err(faults.with("", error)),
        };
        let pattern = faults.keep("/path", Pattern::parse(&written.path));
        let (mut verifier, mut hidden) = (Verifier::Open, Vec::new());
        if let Some(verify) = &written.verify {
            verifier = verify.verifier(&mut faults);
            hidden = verify.headers();
        }
        let idempotency = idempotency(&written, &mut faults);
        let limits = limits(&written.limits, &mut faults);
        if let Some(address) = &written.listen {
            faults.keep("/listen", listener::check(address, written.verify.is_some()));
        }
        for (i, column) in written.metadata.iter().enumerate() {
            if written.metadata[..i].contains(column) {
                let message = format!("a column comes twice column={}", column.name());
                faults.add(&format!("/metadata/{i}"), &message, "name it once");
            }
        }
        let challenge = match (&written.challenge, &written.verify) {
            (Some(challenge), _) => challenge.build(&mut faults),
            (None, Some(VerifyConfig::Slack(_))) => Some(Challenge::slack()),
            (None, _) => None,
        };
        let messages = messages(written.on_new_column);
        let values = match messages.check(config.schema.as_ref()) {
            Ok(values) if faults.is_empty() => values,
            Ok(_) => return Err(faults),
            Err(more) => return Err(faults.and(more)),
        };
        let Some(pattern) = pattern else { return Err(faults) };
        Ok(Self {
            pattern,
            format: written.format,
            verifier,
            verify_name: written.verify.as_ref().map(VerifyConfig::name),
            hidden,
            ack: written.ack,
            idempotency,
            limits,
            metadata: written.metadata,
            challenge,
            listen: written.listen.unwrap_or_else(|| LISTEN.to_string()),
            values,
            messages,
            schema: config.schema.clone(),
        })
    }

    /// The settings, with the values of secrets, for whoever has checked them. Errors: of kind
    /// `Config` when a secret has no value.
    pub(super) fn of(config: &Config, secrets: &Secrets) -> Result<Self, Error> {
        // What is wrong but for the secrets is told without their values at hand.
        Self::read(config).map_err(|faults| faults.first(config))?;
        let filled = config.with_secrets(secrets);
        if let Some(reference) = unfilled(&filled.value) {
            // Its own name would be the key then, which everybody knows who reads the file.
            let source = &config.name;
            let message = format!("a secret has no value secret={reference} source={source}");
            return Err(Error::config(message).hint("name it under `secrets:` and give it a value"));
        }
        Self::read(&filled).map_err(|faults| {
            // Only values of secrets are new: which one is wrong stands where its reference did.
            let place = faults.first_place().and_then(|place| config.value.pointer(place));
            let secret = place.and_then(secret_of).map(|name| format!(" secret={name}"));
            let (secret, source) = (secret.unwrap_or_default(), &config.name);
            let error = faults.first(&filled);
            let hint = error.hint_text().unwrap_or("give the secret another value").to_string();
            Error::config(format!("{}{secret} source={source}", error.chain())).hint(hint)
        })
    }

    /// The rows' schema, without the position.
    pub(super) fn schema(&self) -> SchemaRef {
        columns(&self.values, &self.metadata)
    }

    /// Who decodes rows.
    pub(super) fn decoder(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn MessageFormat>> {
        let built = self.messages.build(self.schema.as_ref(), clock);
        built.map_err(|_| Error::bug("settings that were checked are refused"))
    }

    /// Whether something of a delivery besides its body is kept.
    pub(super) fn keeps(&self, column: Metadata) -> bool {
        self.metadata.contains(&column)
    }
}

/// The columns of rows, then those about their delivery.
pub(super) fn columns(values: &SchemaRef, metadata: &[Metadata]) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = values.fields().iter().cloned().collect();
    fields.extend(metadata.iter().map(|column| Arc::new(column.field())));
    Arc::new(Schema::new(fields))
}

/// Rows are messages of one JSON object each.
fn messages(on_new_column: OnNewColumn) -> formats::Settings {
    formats::Settings {
        format: formats::Format::Json,
        framing: None,
        registry: None,
        on_new_column,
        delimiter: None,
        quote: None,
        avro_schema: None,
        proto: None,
        envelope: None,
        times: None,
    }
}

/// A reference to a secret that is left in a value.
fn unfilled(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) if text.starts_with("${secrets.") && is_reference(text) => Some(text),
        Value::Array(values) => values.iter().find_map(unfilled),
        Value::Object(values) => values.values().find_map(unfilled),
        _ => None,
    }
}

/// The name of the secret that a value is filled in from.
fn secret_of(value: &Value) -> Option<&str> {
    let (_, rest) = value.as_str()?.split_once("${secrets.")?;
    rest.split_once('}').map(|(name, _)| name)
}

fn idempotency(written: &SourceConfig, faults: &mut Faults) -> Option<Idempotency> {
    let config = match &written.idempotency {
        None => return preset(written.verify.as_ref()?),
        Some(IdempotencyConfig::Never(Never::None)) => return None,
        Some(IdempotencyConfig::Id(config)) => config,
    };
    let place = "/idempotency";
    let window_ms = match &config.window {
        None => WINDOW_MS,
        Some(text) => {
            let window = faults.keep("/idempotency/window", parse_duration(text))?;
            i64::try_from(window.as_millis()).unwrap_or(i64::MAX)
        }
    };
    let at = match (&config.header, &config.json) {
        (Some(headers), None) => {
            for (pointer, header) in headers.texts("/idempotency/header") {
                check_header(header, &pointer, faults);
            }
            let lower = headers.as_slice().iter().map(|header| header.to_ascii_lowercase());
            IdAt::Header(lower.collect())
        }
        (None, Some(path)) => IdAt::Json(faults.keep("/idempotency/json", Path::parse(path))?),
        (None, None) => {
            let Some(preset) = written.verify.as_ref().and_then(preset) else {
                faults.add(place, "nothing says where the id is", "add `header` or `json`");
                return None;
            };
            preset.at
        }
        (Some(_), Some(_)) => {
            faults.add(place, "an id is in a header or in the rows", "give one of them");
            return None;
        }
    };
    Some(Idempotency { at, window_ms })
}

/// What senders say themselves.
fn preset(verify: &VerifyConfig) -> Option<Idempotency> {
    let headers = |names: &[&str]| IdAt::Header(names.iter().map(|n| n.to_string()).collect());
    let at = match verify {
        VerifyConfig::Github(_) => headers(&["x-github-delivery"]),
        VerifyConfig::Shopify(_) => headers(&["x-shopify-webhook-id", "x-shopify-event-id"]),
        VerifyConfig::StandardWebhooks(_) => headers(&["webhook-id", "svix-id"]),
        VerifyConfig::Stripe(_) => IdAt::Json(Path::of(&["id"])),
        VerifyConfig::Slack(_) => IdAt::Json(Path::of(&["event_id"])),
        VerifyConfig::Segment(_) => IdAt::Json(Path::of(&["messageId"])),
        VerifyConfig::Hmac(_) | VerifyConfig::Basic(_) | VerifyConfig::Bearer(_) => return None,
    };
    Some(Idempotency { at, window_ms: WINDOW_MS })
}

fn limits(written: &LimitsConfig, faults: &mut Faults) -> Limits {
    let body = size(faults, "/limits/body", written.body.as_ref()).unwrap_or(BODY_BYTES);
    if body > BODY_BYTES_MAX {
        let max = sluice_core::format_bytes(BODY_BYTES_MAX);
        faults.add("/limits/body", "a body is held in memory", &format!("at most {max}"));
    }
    if written.concurrent == Some(0) {
        faults.add("/limits/concurrent", "no request would be taken in", "give at least 1");
    }
    let rate = written.rate.as_ref().and_then(|text| faults.keep("/limits/rate", rate(text)));
    let backlog = size(faults, "/limits/backlog", written.backlog.as_ref());
    let concurrent = written.concurrent.map_or(CONCURRENT, |n| n as usize);
    Limits {
        body_bytes: usize::try_from(body).unwrap_or(usize::MAX),
        rate,
        concurrent,
        backlog_bytes: backlog.unwrap_or(BACKLOG_BYTES),
    }
}

/// Reads `1000/s`, `100/min`.
fn rate(text: &str) -> Result<Rate> {
    let wrong =
        || Error::config(format!("not a rate text={text:?}")).hint("write it like 1000/s, 100/min");
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let count: f64 = count.trim().parse().map_err(|_| wrong())?;
    let seconds = match unit.trim() {
        "s" | "second" => 1,
        "m" | "min" | "minute" => 60,
        "h" | "hour" => 3600,
        _ => return Err(wrong()),
    };
    match count.is_finite() && count > 0.0 {
        true => Ok(Rate { count, per: Duration::from_secs(seconds) }),
        false => Err(wrong()),
    }
}
