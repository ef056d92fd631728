//! A project after all checks: what `sluice serve` is told, and what its jobs have in common.
//!
//! In: `read`. Out: what serving needs. Values of secrets are never in it, only their names. What a
//! project gives to its jobs stands in each [`Job`](crate::job::Job) already.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use arrow::datatypes::DataType;
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::job::model::{SecretRef, StoreSpec};
use crate::job::sql::SqlText;

/// One project.
#[derive(Debug, Clone)]
pub struct Project {
    /// The folder of its file; of a pack without one, the pack's.
    pub root: PathBuf,
    /// Its file; none: a bare pack or job file was given.
    pub file: Option<PathBuf>,
    /// Its name; of a bare pack, the name of its folder.
    pub name: String,
    /// The folders of its packs, in the order of the file.
    pub packs: Vec<PathBuf>,
    /// The target in use.
    pub target: Option<String>,
    /// How it is served.
    pub serve: ServeSpec,
    /// Who may do what, in the order of the file.
    pub users: Vec<UserSpec>,
    /// Questions with a path of their own, in the order of the file.
    pub endpoints: Vec<EndpointSpec>,
    /// The lake of jobs that name none.
    pub lake: Option<String>,
    /// Its secrets, and where their values come from.
    pub secrets: BTreeMap<String, SecretRef>,
    /// Buckets with settings of their own.
    pub stores: Vec<StoreSpec>,
    /// Variables with the values they have in this reading.
    pub vars: BTreeMap<String, Value>,
}

/// How a project is served.
#[derive(Debug, Clone, PartialEq)]
pub struct ServeSpec {
    /// `host:port` of HTTP.
    pub http: String,
    /// `host:port` of the PostgreSQL wire; none: it is not served.
    pub postgres: Option<String>,
    /// Certificate and key of both; none: without TLS.
    pub tls: Option<TlsSpec>,
    /// A folder on the local disk for what the processes keep: logs of webhooks, paused jobs.
    pub state: PathBuf,
    /// A folder of files that are served as front end; none: there is none.
    pub site: Option<PathBuf>,
    /// Origins whose pages may call the API; empty: none but its own.
    pub cors: Vec<String>,
    /// Addresses and networks of proxies that are believed about whom they forward for.
    pub proxies: Vec<String>,
    /// What one process gives to all its callers.
    pub limits: ServeLimits,
    /// How long the end of the process may take.
    pub drain: Duration,
    /// The time zone of cron expressions.
    pub timezone: Tz,
    /// Whether the first run of each job begins although another runner has the job. No file says
    /// it.
    pub take_over: bool,
    /// Lake of the history of runs; none: the project's, else the state folder.
    pub history: Option<String>,
}

/// Certificate and key, as files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSpec {
    /// The certificate with those above it.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What one process gives to all its callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeLimits {
    /// Requests of one client within [`ServeLimits::per`].
    pub requests: u32,
    /// The time that [`ServeLimits::requests`] is about.
    pub per: Duration,
    /// Bytes that one query may hold.
    pub query_memory: u64,
    /// How long one query may take.
    pub query_time: Duration,
    /// Rows that one query may answer.
    pub query_rows: u64,
    /// Queries at work at once.
    pub queries: usize,
    /// Queries that wait for their turn; more are told to come again.
    pub queue: usize,
    /// Bytes of answers that are kept.
    pub cache: u64,
    /// Open connections.
    pub connections: usize,
    /// Bytes of a request's body, webhooks apart.
    pub body: u64,
}

/// What somebody may do; each includes those before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See tables, views, jobs and runs.
    Read,
    /// Start, pause and cancel jobs.
    Operate,
    /// Change what is served.
    Admin,
}

impl Role {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// Somebody who may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSpec {
    /// The name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// How they are known.
    pub token: TokenRef,
}

/// Where a token is known from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenRef {
    /// SHA-256 of the token, in lower-case hexadecimal.
    Sha256(String),
    /// The name of the secret that holds the token.
    Secret(String),
}

/// A question with a path of its own.
#[derive(Debug, Clone)]
pub struct EndpointSpec {
    /// Its name.
    pub name: String,
    /// The path, in which `{name}` stands for any one segment.
    pub path: String,
    /// How it is asked.
    pub method: Method,
    /// The query that answers; none where the question is forwarded.
    pub sql: Option<String>,
    /// The same query, which knows where it was written.
    pub statement: Option<SqlText>,
    /// What is bound to the query's `$name`, in the order of the file.
    pub params: Vec<ParamSpec>,
    /// The form of the answer.
    pub shape: Shape,
    /// Who may ask; none: everybody.
    pub role: Option<Role>,
    /// How long an answer may be used again although newer rows are there; none: not at all.
    pub cache: Option<Duration>,
    /// Where the question is forwarded to.
    pub forward: Option<ForwardSpec>,
    /// What it is, for people; empty when nobody said.
    pub doc: String,
    /// JSON pointer of the entry.
    pub pointer: String,
}

/// How an endpoint is asked.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Parameters stand in path and query.
    #[default]
    Get,
    /// Parameters stand in the path and a JSON body.
    Post,
}

impl Method {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// The form of an endpoint's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The first row as an object; without rows it is not found.
    Object,
    /// A list of objects, one per row.
    #[default]
    List,
    /// Labels from the first column, and a list per further column.
    Series,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    /// Its name, without the dollar.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// What it is when nobody says; none: it has to be said. Null stands for SQL's NULL.
    pub default: Option<Value>,
    /// Where it stands in the request.
    pub from: ParamFrom,
}

/// Where a parameter stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParamFrom {
    /// Behind the question mark.
    Query,
    /// A segment of the path.
    Path,
    /// A key of the JSON body.
    Body,
}

/// A model that answers in an endpoint's place, by the protocol that OpenAI made common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardSpec {
    /// The address up to and without `/chat/completions`; empty: none is configured.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// The secret that holds the key; none: it is asked without one.
    pub key: Option<String>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// What the model is told first; empty: nothing.
    pub system: String,
    /// The webhook source that conversations are written to; none: they are not kept.
    pub conversations: Option<SourceRef>,
    /// The webhook source that both sides of a conversation are written to; none: they are not
    /// kept.
    pub messages: Option<SourceRef>,
}

/// A source of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRef {
    /// The job.
    pub job: String,
    /// The source's name in it.
    pub source: String,
}

/// Where a value that a job uses was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line: `--set` or `--target`.
    Asked(&'static str),
    /// In a file.
    Written {
        /// The file.
        file: PathBuf,
        /// Line and column.
        place: Option<sluice_core::Span>,
        /// Whether it is the project's file.
        by_project: bool,
        /// The target it was written for; none: for all.
        target: Option<String>,
    },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asked(option) => f.write_str(option),
            Self::Written { file, place, target, .. } => {
                write!(f, "{}", file.display())?;
                if let Some(place) = place {
                    write!(f, ":{}:{}", place.line, place.column)?;
                }
                match target {
                    Some(target) => write!(f, " (target {target})"),
                    None => Ok(()),
                }
            }
        }
    }
}
