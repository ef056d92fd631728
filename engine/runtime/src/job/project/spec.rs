//! The project's file as serde sees it. Its JSON Schema is what the file is validated against.
//!
//! In: an interpolated, validated tree. Out: [`ProjectSpec`], which mirrors the file and nothing
//! else. What several keys mean together is decided in `read`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::model::{Method, ParamFrom, Role, Shape};
use crate::job::named::{Named, Plain, Size};
use crate::job::spec::{EpochEntry, RELATION, SecretEntry, StorageEntry, TargetEntry, VARIABLE};

/// A project: what its jobs have in common, and how they are served.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Sluice project")]
pub struct ProjectSpec {
    /// The project's name: lower-case letters, digits and `-`, beginning with a letter or digit.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9-]*$"))]
    pub project: String,
    /// The folders of its packs, relative to this file; default: all sub-folders of `jobs` with job
    /// files, else the folder of this file.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub packs: Option<Vec<String>>,
    /// The lake of jobs that name none: a URL or a path, relative to the current folder.
    #[schemars(length(min = 1))]
    pub lake: Option<String>,
    /// Variables with their defaults, for this file and all jobs.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": VARIABLE }))]
    #[expect(dead_code, reason = "read from the tree, before interpolation")]
    pub vars: Named<Plain>,
    /// Environments, chosen with `--target`; one is in use for the whole project.
    #[serde(default)]
    pub targets: Named<TargetEntry>,
    /// Secrets and where their values come from, used as `${secrets.name}` here and in jobs.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": VARIABLE }))]
    pub secrets: Named<SecretEntry>,
    /// Buckets and containers with settings of their own, for all jobs that name them.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": VARIABLE }))]
    pub storage: Named<StorageEntry>,
    /// When epochs of jobs close that do not say it themselves.
    #[serde(default)]
    pub epoch: EpochEntry,
    /// How `sluice serve` serves it.
    #[serde(default)]
    pub serve: ServeEntry,
    /// Who may do what; without users it is served on this machine only, and everybody may do
    /// everything.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": VARIABLE }))]
    pub users: Named<UserEntry>,
    /// Questions with a path of their own.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": RELATION }))]
    pub endpoints: Named<EndpointEntry>,
}

/// How a project is served.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServeEntry {
    /// Where HTTP is served, such as `127.0.0.1:8080`, which is the default.
    #[schemars(length(min = 1))]
    pub http: Option<String>,
    /// Where the PostgreSQL wire is served, such as `127.0.0.1:5433`; default: nowhere.
    #[schemars(length(min = 1))]
    pub postgres: Option<String>,
    /// Certificate and key of both; default: without TLS.
    pub tls: Option<TlsEntry>,
    /// A folder on the local disk for what the process keeps, relative to this file; default:
    /// `.sluice`.
    #[schemars(length(min = 1))]
    pub state: Option<String>,
    /// A folder of files that are served as front end, relative to this file; default: none.
    #[schemars(length(min = 1))]
    pub site: Option<String>,
    /// Origins whose pages may call the API, such as `https://app.example.com`, or `*` for all
    /// that bring a token, where there are users; default: none.
    #[serde(default)]
    pub cors: Vec<String>,
    /// Proxies that are believed about whom they forward for (`X-Forwarded-For`): addresses, or
    /// networks such as `10.0.0.0/8`; default: none.
    #[serde(default)]
    pub proxies: Vec<String>,
    /// What one process gives to all its callers.
    #[serde(default)]
    pub limits: LimitsEntry,
    /// How long the end of the process may take, such as `30s`, which is the default.
    pub drain: Option<String>,
    /// The time zone of cron expressions, such as `Europe/Paris`; default: `UTC`.
    #[schemars(length(min = 1))]
    pub timezone: Option<String>,
    /// The lake of the history of runs, a URL or a path relative to the current folder; default:
    /// the project's, else the state folder.
    #[schemars(length(min = 1))]
    pub history: Option<String>,
}

/// Certificate and key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsEntry {
    /// The certificate with those above it, a file in PEM relative to this one.
    #[schemars(length(min = 1))]
    pub cert: String,
    /// Its key, a file in PEM relative to this one.
    #[schemars(length(min = 1))]
    pub key: String,
}

/// What one process gives to all its callers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsEntry {
    /// Requests of one client within `per`, probes, metrics and webhooks apart; default: 100.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
    /// The time that `requests` is about, such as `60s`, which is the default.
    pub per: Option<String>,
    /// Memory that one query may hold, such as `256MiB`, which is the default.
    pub query_memory: Option<Size>,
    /// How long one query may take, such as `30s`, which is the default.
    pub query_time: Option<String>,
    /// Rows that one query may answer; default: 1000000.
    #[schemars(range(min = 1))]
    pub query_rows: Option<u64>,
    /// Queries at work at once; default: two per core, at least 4.
    #[schemars(range(min = 1, max = 1024))]
    pub queries: Option<u32>,
    /// Queries that wait for their turn, beyond which callers are told to come again; default: 64.
    #[schemars(range(min = 0, max = 65536))]
    pub queue: Option<u32>,
    /// Memory for answers that are kept until newer rows are there, such as `64MiB`, which is the
    /// default.
    pub cache: Option<Size>,
    /// Open connections; default: 1024.
    #[schemars(range(min = 1, max = 65536))]
    pub connections: Option<u32>,
    /// The largest body of a request, webhooks apart, such as `1MiB`, which is the default.
    pub body: Option<Size>,
}

/// Somebody who may do something.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserEntry {
    /// What they may do: `read` tables and jobs, `operate` jobs, or `admin`.
    pub role: Role,
    /// The token they are known by: `{sha256: …}` or `${secrets.name}`.
    pub token: TokenEntry,
}

/// How a token is known.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TokenEntry {
    /// By its hash.
    Hashed(HashedToken),
    /// By the secret that holds it, `${secrets.name}`.
    Secret(String),
}

/// A token's hash.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashedToken {
    /// SHA-256 of the token, in hexadecimal: `printf %s TOKEN | sha256sum`.
    #[schemars(regex(pattern = r"^[0-9A-Fa-f]{64}$"))]
    pub sha256: String,
}

/// A question with a path of its own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointEntry {
    /// The path, such as `/api/trips/{id}`, in which `{id}` is a parameter; the first segment is
    /// none.
    #[schemars(length(min = 1))]
    pub path: String,
    /// How it is asked: `GET` (default) or `POST`.
    pub method: Option<Method>,
    /// The query that answers; `$name` in it is a parameter.
    #[schemars(length(min = 1))]
    pub sql: Option<String>,
    /// A file with the query, relative to this one.
    #[schemars(length(min = 1))]
    pub sql_file: Option<String>,
    /// Its parameters with their types, as a mapping or as a list such as `["$days INT = 30"]`.
    #[serde(default)]
    pub params: ParamsEntry,
    /// The form of the answer: `list` (default) of objects, one `object`, or `series`: labels
    /// from the first column, and a list per further column.
    #[serde(default)]
    pub shape: Shape,
    /// Who may ask: `public` for everybody, else `read`, `operate` or `admin`.
    pub role: EndpointRole,
    /// How long an answer may be used again although newer rows are there, such as `10s`; default:
    /// only until newer rows are there.
    pub cache: Option<String>,
    /// A model that answers instead of a query.
    pub forward: Option<ForwardEntry>,
    /// What it is, for people.
    #[serde(default)]
    pub doc: String,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointRole {
    /// Everybody.
    Public,
    /// Who may read.
    Read,
    /// Who may operate jobs.
    Operate,
    /// Who may do everything.
    Admin,
}

impl EndpointRole {
    /// The role that is needed; none for everybody.
    pub fn needed(self) -> Option<Role> {
        match self {
            Self::Public => None,
            Self::Read => Some(Role::Read),
            Self::Operate => Some(Role::Operate),
            Self::Admin => Some(Role::Admin),
        }
    }
}

/// Parameters, in one of two ways.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ParamsEntry {
    /// As a list of `$name TYPE`, each with `= value` behind it when it may be left out.
    Short(Vec<String>),
    /// As a mapping.
    Long(Named<ParamEntry>),
}

impl Default for ParamsEntry {
    fn default() -> Self {
        Self::Short(Vec::new())
    }
}

impl ParamsEntry {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Short(texts) => texts.len(),
            Self::Long(entries) => entries.0.len(),
        }
    }
}

/// One parameter.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParamEntry {
    /// Its type in SQL: `INT`, `DOUBLE`, `DECIMAL(10, 2)`, `TEXT`, `BOOLEAN`, `DATE`, `TIMESTAMP`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1))]
    pub data_type: String,
    /// What it is when nobody says; default: it has to be said.
    pub default: Option<Plain>,
    /// Whether it may be left out and is NULL then; default: false.
    #[serde(default)]
    pub optional: bool,
    /// Where it stands: `path` (default where the path names it), `query` (default of `GET`) or
    /// `body` (default of `POST`).
    pub from: Option<ParamFrom>,
}

/// A model that answers, by the protocol of OpenAI.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardEntry {
    /// The address up to and without `/chat/completions`; while it is empty the endpoint answers
    /// that none is configured.
    #[serde(default)]
    pub url: String,
    /// The model's name there.
    #[serde(default)]
    pub model: String,
    /// The key, as `${secrets.name}`; default: none.
    pub key: Option<String>,
    /// How long an answer may take, such as `60s`, which is the default.
    pub timeout: Option<String>,
    /// What the model is told first; default: nothing.
    #[serde(default)]
    pub system: String,
    /// The webhook source that conversations are written to, as `job.source`; default: none.
    #[schemars(length(min = 1))]
    pub conversations: Option<String>,
    /// The webhook source that both sides of a conversation are written to, as `job.source`;
    /// default: none.
    #[schemars(length(min = 1))]
    pub messages: Option<String>,
}
