//! The settings of a `delta` source: as they are written, and as they are meant.
//!
//! In: a `sources:` entry. Out: [`Settings`] without an open question, or everything that is wrong
//! with the entry. It opens nothing.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use schemars::JsonSchema;
use serde::Deserialize;
use sluice_core::{Config, Error, FieldSpec, Result, parse_duration, with_position};
use sluice_lake::delta::feed::CHANGE_TYPE;

use crate::format::parquet;
use crate::settings::{Faults, check_fields};

/// The column with the version that a row came with.
pub(super) const COMMIT_VERSION: &str = "_commit_version";

/// The column with the time of that version.
pub(super) const COMMIT_TIMESTAMP: &str = "_commit_timestamp";

/// How often a log without news is asked: seldom enough for a store that is paid by the request.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Settings of a `delta` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The table's folder: a path or a URL.
    pub path: String,
    /// Where to begin: `earliest` (the rows that are there, then what comes), `latest` (what comes),
    /// `{version: 12}` or `{timestamp: "2026-01-31 12:00:00"}` (what that version and later ones
    /// did). Default: `earliest`.
    #[serde(default)]
    pub start: Begin,
    /// What is read: `appends` (rows that come), or `feed` (all changes, with `_change_type`).
    /// Default: `appends`.
    #[serde(default)]
    pub changes: Changes,
    /// With `changes: appends`: when a version deletes or changes rows, `fail` or `ignore` the
    /// version. Default: `fail`.
    #[serde(default)]
    pub on_change: Option<OnChange>,
    /// Columns about the version that a row came with: `commit_version`, `commit_timestamp`, each with
    /// `_` before its name. Default: none.
    #[serde(default)]
    pub metadata: Vec<Metadata>,
    /// How long a log without news is left alone. Default: `1s`.
    #[serde(default)]
    pub ask_every: Option<String>,
}

/// Where a job without a position begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Begin {
    /// With the table as it is.
    #[default]
    Earliest,
    /// Behind the newest version.
    Latest,
    /// With what this version did.
    #[serde(untagged)]
    At(BeginAt),
}

/// A version, by its number or by time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BeginAt {
    /// The version.
    Version(u32),
    /// The first version committed at this time or later; without a zone it is UTC.
    Timestamp(String),
}

/// What is read of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Changes {
    /// Rows that come.
    #[default]
    Appends,
    /// Rows that come, go and change.
    Feed,
}

/// What is said of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metadata {
    /// Its number.
    CommitVersion,
    /// When it was committed.
    CommitTimestamp,
}

/// What to do with a version that deletes or changes rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// Stop and name it.
    #[default]
    Fail,
    /// Pass over it.
    Ignore,
}

/// What a `delta` source is to do.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) path: String,
    pub(super) start: Start,
    pub(super) feed: bool,
    pub(super) on_change: OnChange,
    pub(super) ask_every: Duration,
    /// The fields of the job file.
    pub(super) fields: Vec<FieldSpec>,
    /// How files are held against the fields.
    pub(super) layout: Arc<parquet::Layout>,
    /// The rows' schema, position last.
    pub(super) schema: SchemaRef,
}

/// [`Begin`], read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Earliest,
    Latest,
    Version(i64),
    /// Milliseconds since 1970.
    Time(i64),
}

impl Settings {
    /// Reads an entry. Errors: everything that is wrong with it.
    pub(super) fn read(config: &Config) -> Result<Self, Faults> {
        let written: SourceConfig = match config.parse() {
            Ok(written) => written,
            Err(error) => return Err(Faults::default().with("", error)),
        };
        let mut faults = Faults::default();
        if written.path.trim().is_empty() {
            faults.add("/path", "no path is given", "name the table's folder");
        }
        let feed = written.changes == Changes::Feed;
        if feed && written.on_change.is_some() {
            let message = "on_change says nothing about a feed";
            faults.add("/on_change", message, "remove it: a feed has all changes as rows");
        }
        if (1..written.metadata.len()).any(|i| written.metadata[..i].contains(&written.metadata[i]))
        {
            faults.add("/metadata", "a column comes twice", "name each once");
        }
        let start = faults.keep("/start", begin(&written.start));
        let every = written.ask_every.as_deref().map_or(Ok(ASK_EVERY), parse_duration);
        let every = faults.keep("/ask_every", every);
        let Some(schema) = &config.schema else {
            let hint = "add `schema: <file>` or `schema: {fields: [{name: …, type: …}]}`";
            faults.add("", "a schema is needed to plan SQL without opening tables", hint);
            return Err(faults);
        };
        check_fields(&mut faults, schema);
        let layout = faults.keep("/schema", parquet::Layout::new(schema));
        match (start, every, layout) {
            (Some(start), Some(ask_every), Some(layout)) if faults.is_empty() => Ok(Self {
                path: written.path,
                start,
                feed,
                on_change: written.on_change.unwrap_or_default(),
                ask_every,
                schema: rows_schema(layout.schema(), feed, &written.metadata),
                fields: schema.fields.clone(),
                layout: Arc::new(layout),
            }),
            _ => Err(faults),
        }
    }
}

fn begin(written: &Begin) -> Result<Start> {
    Ok(match written {
        Begin::Earliest => Start::Earliest,
        Begin::Latest => Start::Latest,
        Begin::At(BeginAt::Version(version)) => Start::Version(i64::from(*version)),
        Begin::At(BeginAt::Timestamp(text)) => Start::Time(milliseconds(text)?),
    })
}

/// Milliseconds since 1970 of `2026-01-31`, `2026-01-31 12:00:00` and the like.
fn milliseconds(text: &str) -> Result<i64> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let mut times = formats.iter().map(|format| NaiveDateTime::parse_from_str(text, format));
    let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    let time = times.find_map(|time| time.ok()).or_else(day);
    time.map(|time| time.and_utc().timestamp_millis()).ok_or_else(|| {
        Error::config(format!("not a time text={text:?}"))
            .hint("write it like 2026-01-31, 2026-01-31 12:00:00 or 2026-01-31T12:00:00+01:00")
    })
}

/// `columns`, which end with the position, with those that say where a row came from before it.
fn rows_schema(columns: &Schema, feed: bool, metadata: &[Metadata]) -> SchemaRef {
    let of_job = columns.fields().len().saturating_sub(1);
    let mut fields: Vec<Arc<Field>> = columns.fields().iter().take(of_job).cloned().collect();
    let mut add = |name: &str, of: DataType| fields.push(Arc::new(Field::new(name, of, false)));
    if feed {
        add(CHANGE_TYPE, DataType::Utf8);
    }
    for column in metadata {
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        match column {
            Metadata::CommitVersion => add(COMMIT_VERSION, DataType::Int64),
            Metadata::CommitTimestamp => add(COMMIT_TIMESTAMP, instant),
        }
    }
    with_position(&Schema::new(fields))
}
