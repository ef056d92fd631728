//! A job after all checks: nothing is left to look up, parse or wonder about.
//!
//! In: `build`. Out: what planning and running need. SQL is text still; `plan` reads it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sluice_core::{Config, FieldSpec, Span};

use super::project::Origin;
use super::read::nearest;
use super::sql::SqlText;

/// The jobs of one file or folder.
#[derive(Debug, Clone)]
pub struct Pack {
    /// The path they were read from.
    pub path: PathBuf,
    /// The jobs in run order: each after those it waits for, else by file name.
    pub jobs: Vec<Arc<Job>>,
}

/// One job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// The file it was read from.
    pub file: PathBuf,
    /// URL or path of its lake; paths are relative to the current folder.
    pub lake: String,
    /// The target in use; none when the job has no default target and none was asked for.
    pub target: Option<String>,
    /// Variables with the values they have in this reading.
    pub vars: BTreeMap<String, Value>,
    /// Secrets, and where their values come from. Of its project's those that it uses.
    pub secrets: BTreeMap<String, SecretRef>,
    /// Buckets with settings of their own. Of its project's those that it names.
    pub stores: Vec<StoreSpec>,
    /// Where `lake`, `target`, `vars.<name>`, `secrets.<name>`, `storage.<name>` and `epoch.<key>`
    /// were written, for people.
    pub origins: BTreeMap<String, Origin>,
    /// Into how many slices the partitions of its sources are cut; 1: one runner has them all.
    pub shards: u32,
    /// Sources in the order of the file.
    pub sources: Vec<SourceSpec>,
    /// Tables in the order of the file.
    pub tables: Vec<TableSpec>,
    /// Views in the order of the file.
    pub views: Vec<ViewSpec>,
    /// Sinks in the order of the file.
    pub sinks: Vec<SinkSpec>,
    /// When an epoch closes.
    pub epoch: EpochLimits,
    /// When a run starts.
    pub schedule: Schedule,
    /// How runs that the schedule starts are made.
    pub timing: Timing,
    /// Tests in the order of the file.
    pub tests: Vec<TestSpec>,
    /// Sources, tables and views of the file that could not be read and are not above; empty in a
    /// job without problems.
    pub broken: Vec<String>,
    /// Where values stand in the file, by JSON pointer.
    pub spans: BTreeMap<String, Span>,
}

impl Job {
    /// The place of the value at `pointer`, or of the nearest value around it.
    pub fn span(&self, pointer: &str) -> Option<Span> {
        nearest(&self.spans, pointer)
    }

    /// The same job with columns that the data of its sources taught, behind those it has. A column
    /// that a schema names already is left out.
    #[must_use]
    pub fn learn(&self, columns: &BTreeMap<String, Vec<FieldSpec>>) -> Self {
        let mut job = self.clone();
        for source in &mut job.sources {
            let (Some(new), Some(schema)) =
                (columns.get(&source.name), source.config.schema.as_mut())
            else {
                continue;
            };
            for field in new {
                let known = |f: &FieldSpec| f.origin() == field.origin() || f.name == field.name;
                if !schema.fields.iter().any(known) {
                    schema.fields.push(field.clone());
                }
            }
        }
        job
    }
}

/// Where a secret's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file, relative to the current folder.
    File(PathBuf),
    /// A program with its arguments, which prints it.
    Command(Vec<String>),
}

/// A bucket with settings of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// Its name.
    pub name: String,
    /// A URL in it.
    pub url: String,
    /// The settings; a value may be `${secrets.name}`.
    pub settings: BTreeMap<String, String>,
}

/// One source.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// Its name.
    pub name: String,
    /// The kind of source; the registry has it.
    pub connector: String,
    /// The connector's settings, checked by it.
    pub config: Config,
    /// The columns of its rows, without the position column.
    pub schema: SchemaRef,
    /// JSON pointer of the entry.
    pub pointer: String,
}

/// One table.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Its name.
    pub name: String,
    /// JSON pointer of the entry.
    pub pointer: String,
    /// The statement that gives its rows.
    pub sql: SqlText,
    /// The columns that identify a row; empty for a table that is only appended to.
    pub key: Vec<String>,
    /// The column whose largest value wins; none: the last row by position. Needs a key.
    pub sequence_by: Option<String>,
    /// The condition that removes a key. Needs a key.
    pub delete_when: Option<SqlText>,
    /// What a new row does to the old one. Needs a key to matter.
    pub merge: Merge,
    /// The columns to partition by.
    pub partition_by: Vec<String>,
    /// The folder below the lake, without slashes at its ends; empty for the lake itself.
    pub folder: String,
    /// How it is stored; keyed tables are Delta.
    pub format: TableFormat,
    /// What its files are to be like.
    pub files: FilesSpec,
    /// The column that holds the time of what a row tells.
    pub event_time: Option<EventTime>,
    /// What must hold for each row.
    pub expect: Vec<Expectation>,
    /// What the table is, for people; empty when nobody said.
    pub doc: String,
}

/// What the files of a table are to be like; its rows are the same however they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesSpec {
    /// About how large they are, in bytes.
    pub target_bytes: u64,
    /// The columns that compaction sorts by, at most four; empty: none.
    pub zorder_by: Vec<String>,
}

impl Default for FilesSpec {
    /// 128 MiB: large enough that a reader's requests are few, small enough to be rewritten now and
    /// then.
    fn default() -> Self {
        Self { target_bytes: 128 << 20, zorder_by: Vec::new() }
    }
}

/// The time of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    /// The column.
    pub column: String,
    /// How late a row may come.
    pub lateness: Duration,
}

/// What must hold for each row of a table.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Its name.
    pub name: String,
    /// The condition; a row passes when it is true.
    pub that: SqlText,
    /// What happens to a row that does not pass.
    pub action: ExpectAction,
    /// The share of broken rows above which the run fails, 0 to 1.
    pub fail_above: Option<f64>,
}

/// What happens to a row that breaks an expectation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpectAction {
    /// It is kept and counted.
    Warn,
    /// It is counted only.
    Drop,
    /// It goes to the table's `__quarantine`.
    #[default]
    Quarantine,
    /// The run ends before the epoch is sealed.
    Fail,
}

/// What a new row does to the old row with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// It takes its place.
    #[default]
    Replace,
    /// Where the new row is null the old value stays.
    Coalesce,
}

/// How a table is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableFormat {
    /// A Delta table.
    #[default]
    Delta,
    /// A folder of Parquet files; append only.
    Parquet,
}

/// How a view is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Refresh {
    /// By the best strategy its statement allows.
    #[default]
    Auto,
    /// Incrementally, or not at all.
    Incremental,
    /// Recomputed whole.
    Full,
}

/// One view.
#[derive(Debug, Clone)]
pub struct ViewSpec {
    /// Its name.
    pub name: String,
    /// JSON pointer of the entry.
    pub pointer: String,
    /// The statement.
    pub sql: SqlText,
    /// The folder below the lake, without slashes at its ends; empty for the lake itself.
    pub folder: String,
    /// How it is kept.
    pub refresh: Refresh,
    /// Which of its columns are shown as gauges.
    pub metrics: Option<MetricsSpec>,
    /// What the view is, for people; empty when nobody said.
    pub doc: String,
}

/// Gauges made of the rows of a view; its rows are the same without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSpec {
    /// The columns that are shown, at least one.
    pub values: Vec<String>,
    /// The columns that tell series apart.
    pub labels: Vec<String>,
    /// What the gauges' names begin with; none: the names of job and view.
    pub name: Option<String>,
}

/// One sink.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    /// Its name.
    pub name: String,
    /// The kind of sink; the registry has it.
    pub connector: String,
    /// The source, table or view of this job whose rows it gets.
    pub from: String,
    /// The connector's settings, checked by it.
    pub config: Config,
    /// What may wait for it, where it is outside of the lake.
    pub backlog: BacklogLimits,
    /// JSON pointer of the entry.
    pub pointer: String,
}

/// What may wait in the outbox of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogLimits {
    /// Epochs with rows for it.
    pub epochs: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Default for BacklogLimits {
    /// Three hours of an epoch a second, and what a small disk has room for: long enough for
    /// somebody to look after what does not take the rows, short enough to be noticed.
    fn default() -> Self {
        Self { epochs: 10_000, bytes: 10 << 30 }
    }
}

/// When an epoch closes: at the first limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochLimits {
    /// Time since it opened; none: with what is there.
    pub every: Option<Duration>,
    /// Rows taken.
    pub rows: u64,
    /// Bytes taken.
    pub bytes: u64,
    /// Files taken.
    pub files: u64,
}

impl Default for EpochLimits {
    /// 8 GiB or 10,000 files: a first run over years of data then becomes epochs of minutes, each
    /// of which is progress that a crash does not take back.
    fn default() -> Self {
        Self { every: None, rows: u64::MAX, bytes: 8 << 30, files: 10_000 }
    }
}

/// When a run starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// When somebody runs it.
    Manual,
    /// At the times of a checked cron expression of five fields.
    Cron(String),
    /// At this interval, from start to start.
    Every(Duration),
    /// After runs of these jobs of the pack.
    After(Vec<String>),
    /// All the time.
    Continuous,
}

/// How runs that the schedule starts are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timing {
    /// The time zone of the cron expression; none: the project's.
    pub timezone: Option<Tz>,
    /// What becomes of times at which no run could start.
    pub missed: Missed,
    /// How often a run that failed is tried again, and after which wait.
    pub retry: Retry,
    /// How long a run may take; none: as long as it takes.
    pub timeout: Option<Duration>,
}

/// What becomes of times at which no run could start: the one before was at work, or nobody served
/// the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// The next time is waited for.
    Skip,
    /// One run makes up for all of them.
    #[default]
    Once,
    /// Each has a run of its own, the last hundred of them.
    All,
}

/// How often a run that failed is tried again, and after which wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// How often; what runs all the time is tried again without limit.
    pub times: u32,
    /// The first wait is up to this; each is twice as long as the one before.
    pub base: Duration,
    /// No wait is longer; none: the job does not say.
    pub max: Option<Duration>,
}

impl Default for Retry {
    /// Three times within about a minute: longer than a store's usual hiccup, which a run itself
    /// sits out for half a minute each time.
    fn default() -> Self {
        Self { times: 3, base: Duration::from_secs(10), max: None }
    }
}

/// Given rows and the rows expected of them.
#[derive(Debug, Clone, PartialEq)]
pub struct TestSpec {
    /// What is tested.
    pub name: String,
    /// Rows by source.
    pub given: Vec<(String, Vec<Map<String, Value>>)>,
    /// Rows by table or view.
    pub expect: Vec<(String, Vec<Map<String, Value>>)>,
}
