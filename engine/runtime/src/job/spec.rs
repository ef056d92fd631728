//! The job file as serde sees it. Its JSON Schema is what a file is validated against.
//!
//! In: an interpolated, validated tree. Out: [`JobSpec`], which mirrors the file and nothing else.
//! What several keys mean together is decided in `build`.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sluice_core::DataSchema;

use super::model::{ExpectAction, Merge, Missed, Refresh, TableFormat};
use super::named::{Named, OneOrMore, Plain, Size};

/// A job: what is read, what is kept, and how.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Sluice job")]
pub struct JobSpec {
    /// The job's name: lower-case letters, digits and `-`, beginning with a letter or digit.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9-]*$"))]
    pub job: String,
    /// Where its tables are kept: a URL or a path, relative to the current folder; default: the
    /// project's.
    #[schemars(length(min = 1))]
    pub lake: Option<String>,
    /// Variables with their defaults, used as `${vars.name}` and set with `--set name=value`.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": VARIABLE }))]
    #[expect(dead_code, reason = "read from the tree, before interpolation")]
    pub vars: Named<Plain>,
    /// Environments, chosen with `--target`.
    #[serde(default)]
    pub targets: Named<TargetEntry>,
    /// Secrets and where their values come from, used as `${secrets.name}`.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": VARIABLE }))]
    pub secrets: Named<SecretEntry>,
    /// Buckets and containers with settings of their own, under names of your choice; of others
    /// the environment's hold.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": VARIABLE }))]
    pub storage: Named<StorageEntry>,
    /// Into how many slices the partitions of its sources are cut, each of which may be run by
    /// another process; default: 1, one process runs the job.
    #[schemars(range(min = 1, max = 1024))]
    pub shards: Option<u32>,
    /// Where rows come from.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": RELATION }))]
    pub sources: Named<SourceEntry>,
    /// Rows that are kept.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": RELATION }))]
    pub tables: Named<TableEntry>,
    /// Queries whose results are kept up to date.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": RELATION }))]
    pub views: Named<ViewEntry>,
    /// Where rows go besides the tables.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": RELATION }))]
    pub sinks: Named<SinkEntry>,
    /// When an epoch closes; default: with what is there, at the latest at 8 GiB or 10,000 files.
    #[serde(default)]
    pub epoch: EpochEntry,
    /// When `sluice serve` starts a run, and how; default: never by itself. Of this only `after`
    /// counts for `sluice run`, which runs the jobs of a pack in its order.
    #[serde(default)]
    pub schedule: ScheduleEntry,
    /// Given rows and the rows expected of them, for `sluice test`. This version checks them and does
    /// not run them.
    #[serde(default)]
    pub tests: Vec<TestEntry>,
}

/// Names of variables and secrets.
pub(super) const VARIABLE: &str = r"^[A-Za-z][A-Za-z0-9_]*$";

/// Names of sources, tables, views and sinks: snake_case without `__`, which is kept for the
/// tables Sluice adds by itself.
pub(super) const RELATION: &str = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*_?$";

/// One environment.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetEntry {
    /// Whether it is used when `--target` is not given; default: false.
    #[serde(default)]
    #[expect(dead_code, reason = "read from the tree, before interpolation")]
    pub default: bool,
    /// Values of variables in this environment.
    #[serde(default)]
    #[expect(dead_code, reason = "read from the tree, before interpolation")]
    pub vars: Named<Plain>,
    /// Secrets of this environment.
    #[serde(default)]
    pub secrets: Named<SecretEntry>,
    /// The lake of this environment; default: that for all.
    #[schemars(length(min = 1))]
    #[expect(dead_code, reason = "read from the tree, before interpolation")]
    pub lake: Option<String>,
    /// Buckets and containers of this environment; those of the same name take the place of those for
    /// all.
    #[serde(default)]
    #[expect(dead_code, reason = "read from the tree, before interpolation")]
    pub storage: Named<StorageEntry>,
}

/// Where a secret's value comes from: exactly one of the three.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretEntry {
    /// The environment variable that holds it.
    #[schemars(length(min = 1))]
    pub env: Option<String>,
    /// The file that holds it, relative to the current folder; line breaks at its end do not count.
    #[schemars(length(min = 1))]
    pub file: Option<String>,
    /// A program and its arguments, run without a shell, that prints it within 10 seconds; white space
    /// around it does not count.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub command: Option<Vec<String>>,
}

/// One bucket or container.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct StorageEntry {
    /// A URL in the bucket: `s3://bucket`, `gs://bucket`, `az://container`; all of the bucket is meant.
    #[schemars(length(min = 1))]
    pub url: String,
    /// The settings, named as the environment variables of its cloud, in lower case, with or without
    /// the prefix: `region`, `endpoint`, `access_key_id`. Secrets are written `${secrets.name}`.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

/// One source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SourceEntry {
    /// The kind of source.
    pub connector: String,
    /// The fields of its rows: a file, or the fields themselves.
    pub schema: Option<SchemaEntry>,
    /// The connector's own settings.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

/// A data schema, named or written out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SchemaEntry {
    /// A file, relative to the job file or to the nearest `schemas` folder above it.
    File(String),
    /// The schema itself.
    Inline(DataSchema),
}

/// One table.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableEntry {
    /// The statement that gives its rows.
    #[schemars(length(min = 1))]
    pub sql: Option<String>,
    /// A file with the statement, relative to the job file.
    #[schemars(length(min = 1))]
    pub sql_file: Option<String>,
    /// The columns that identify a row; with them rows replace each other, without them they are
    /// appended.
    #[schemars(length(min = 1))]
    pub key: Option<Vec<String>>,
    /// The column whose largest value wins among rows with the same key; default: the last row.
    pub sequence_by: Option<String>,
    /// A condition on a row that removes the row with its key.
    #[schemars(length(min = 1))]
    pub delete_when: Option<String>,
    /// What a new row does to the old row with its key: `replace` (default) or `coalesce`.
    pub merge: Option<Merge>,
    /// The columns to partition by; default: none.
    #[serde(default)]
    pub partition_by: Vec<String>,
    /// The folder below the lake; default: the lake itself.
    #[serde(default)]
    pub folder: String,
    /// How it is stored: `delta` (default) or `parquet`.
    #[serde(default)]
    pub format: TableFormat,
    /// The size of its files, such as `64MiB`: files are ended at about it, and small ones of a
    /// Delta table are joined until they have it; default: `128MiB`.
    pub target_file_size: Option<Size>,
    /// Up to four columns by which compaction sorts the rows of a Delta table, so that queries that
    /// filter by any of them read few files; default: none.
    #[serde(default)]
    pub zorder_by: Vec<String>,
    /// The date or timestamp column that holds the time of what a row tells. This version checks it
    /// and makes no row late.
    pub event_time: Option<EventTimeEntry>,
    /// What must hold for each row.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "pattern": RELATION }))]
    pub expect: Named<ExpectEntry>,
    /// What the table is, for people.
    #[serde(default)]
    pub doc: String,
}

/// The time of rows.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventTimeEntry {
    /// The column.
    pub column: String,
    /// How late a row may come, such as `2 days`; default: `0s`.
    pub lateness: Option<String>,
}

/// One expectation.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectEntry {
    /// The condition, in SQL over the table's columns.
    #[schemars(length(min = 1))]
    pub that: String,
    /// What happens to a row for which it does not hold; default: `quarantine`.
    #[serde(rename = "else", default)]
    pub otherwise: ExpectAction,
    /// The share of rows that may break it before the run fails, such as `5%`; default: any.
    #[schemars(regex(pattern = r"^[0-9]+(\.[0-9]+)?\s*%$"))]
    pub fail_above: Option<String>,
}

/// One view.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewEntry {
    /// The statement.
    #[schemars(length(min = 1))]
    pub sql: Option<String>,
    /// A file with the statement, relative to the job file.
    #[schemars(length(min = 1))]
    pub sql_file: Option<String>,
    /// The folder below the lake; default: the lake itself.
    #[serde(default)]
    pub folder: String,
    /// How it is kept: `auto` (default), `incremental` (an error where that is not possible) or
    /// `full`.
    #[serde(default)]
    pub refresh: Refresh,
    /// Which of its columns `run --metrics` shows as gauges; default: none.
    pub metrics: Option<MetricsEntry>,
    /// What the view is, for people.
    #[serde(default)]
    pub doc: String,
}

/// Gauges made of the rows of a view: a series per row and value, at most 200 for a view.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsEntry {
    /// The columns that are shown: numbers, booleans (0 and 1) or timestamps (seconds since 1970).
    pub value: OneOrMore,
    /// The columns that tell series apart: texts, whole numbers, booleans or dates; default: none.
    #[serde(default)]
    pub labels: Vec<String>,
    /// What the gauges' names begin with, behind `sluice_view_` and before the column's; default: the
    /// names of job and view.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_]+$"))]
    pub name: Option<String>,
}

/// One sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct SinkEntry {
    /// The kind of sink.
    pub connector: String,
    /// The source, table or view whose rows it gets.
    pub from: String,
    /// What may wait for a sink outside of the lake before the job stops.
    pub backlog: Option<BacklogEntry>,
    /// The connector's own settings.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

/// What may wait in the outbox of a sink: at the first limit that is reached no new epoch begins,
/// and where nothing can be delivered the job stops.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BacklogEntry {
    /// Epochs with rows for the sink; default: 10,000.
    #[schemars(range(min = 1))]
    pub epochs: Option<u64>,
    /// Bytes of their files, such as `500MiB`; default: `10GiB`.
    pub bytes: Option<Size>,
}

/// When an epoch closes: at the first limit that is reached.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EpochEntry {
    /// Time since it opened, such as `5s`; default: no limit.
    pub every: Option<String>,
    /// Rows taken, where a source of files estimates them by their size; default: no limit.
    #[schemars(range(min = 1))]
    pub rows: Option<u64>,
    /// Bytes taken, such as `64MiB`; default: `8GiB`.
    pub bytes: Option<Size>,
    /// Files taken; default: 10000.
    #[schemars(range(min = 1))]
    pub files: Option<u64>,
}

/// When a run starts: at most one of `cron`, `every`, `after` and `continuous`. And how.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleEntry {
    /// Minute, hour, day of month, month, day of week: `*/5 * * * *`.
    pub cron: Option<String>,
    /// Time from one start to the next, such as `10min`.
    pub every: Option<String>,
    /// Jobs of the pack after whose runs it starts.
    #[schemars(length(min = 1))]
    pub after: Option<Vec<String>>,
    /// Whether it runs all the time.
    pub continuous: Option<bool>,
    /// The time zone of `cron`, such as `Europe/Paris`; default: that of the project, else UTC.
    pub timezone: Option<String>,
    /// What becomes of times at which no run could start, because the one before was at work or
    /// nobody served the job: `skip`, `once` (default) or `all`.
    pub missed: Option<Missed>,
    /// How often a run that failed is tried again; default: 3, and without limit where it is
    /// `continuous`.
    #[schemars(range(max = 100))]
    pub retries: Option<u32>,
    /// How long it waits before that.
    pub retry_delay: Option<RetryDelayEntry>,
    /// How long a run may take, such as `2h`; then it is stopped after its epoch; default: no
    /// limit.
    pub timeout: Option<String>,
}

/// How long a run that failed waits before it is tried again: each wait is twice as long as the one
/// before, and a random part of it is left out.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryDelayEntry {
    /// The first wait, such as `30s`; default: `10s`.
    pub base: Option<String>,
    /// The longest wait; default: `10min`, and `30s` for a continuous job while something that it
    /// needs does not answer.
    pub max: Option<String>,
}

/// One test.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestEntry {
    /// What is tested.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The rows each source gives.
    pub given: Named<Vec<Map<String, Value>>>,
    /// The rows each table or view has at the end, in any order.
    pub expect: Named<Vec<Map<String, Value>>>,
}
