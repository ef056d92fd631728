//! Options and arguments, as they are typed. Nothing is opened or checked against a job here.

mod help;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sluice_runtime::query::External;

use help::{
    AUDIT, EXIT_CODES, INIT, MAINTAIN, PLAN, REPLAY, RESET, RUN, SCHEMA, SERVE, SQL, STATUS, TOKEN,
    VALIDATE, VERIFY,
};

use crate::environment::Resources;
use crate::output::Format;

/// Streaming and batch SQL over files, into Delta and Parquet, exactly once.
#[derive(Debug, Clone, Parser)]
#[command(name = "sluice", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Memory for everything that is counted, as 512MiB or 4GiB; default: 60 % of the machine's
    #[arg(long, global = true, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// Worker threads; default: one per core
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// What is logged: error, warn, info, debug, trace, or a list like info,sluice_lake=debug; what
    /// crates of others tell below a warning only where they are named
    #[arg(long, global = true, value_name = "LEVEL", env = "RUST_LOG", hide_env_values = true)]
    #[arg(default_value = "warn")]
    pub log: String,
    /// How standard error is written: text, or a JSON object per line with times in UTC
    #[arg(long, global = true, value_enum, value_name = "FORMAT", env = "SLUICE_LOG_FORMAT")]
    #[arg(default_value = "text", hide_env_values = true)]
    pub log_format: LogFormat,
    /// Write JSON to standard output instead of text; no progress bars
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// What the process may use.
    pub fn resources(&self) -> Resources {
        Resources { memory_bytes: self.memory, threads: self.threads.map(usize::from) }
    }
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make a pack of your own: a sample that runs, or from files that nobody has described yet
    #[command(after_help = INIT)]
    Init(InitArgs),
    /// Check job files: all problems at once, each with its place and a hint
    #[command(after_help = VALIDATE)]
    Validate(PackArgs),
    /// Show what each table and view reads, how it is kept, and what would change in the lake
    #[command(after_help = PLAN)]
    Plan(PackArgs),
    /// Run jobs: take what the sources have, and end; or go on with --follow
    #[command(after_help = RUN)]
    Run(RunArgs),
    /// Serve a project: webhooks in, jobs on their schedules, tables and views by HTTP and SQL
    #[command(after_help = SERVE)]
    Serve(ServeArgs),
    /// Ask questions of the last published tables and views, and of tables of others
    #[command(after_help = SQL)]
    Sql(SqlArgs),
    /// Compute every view again from its inputs and compare
    #[command(after_help = VERIFY)]
    Verify(PackArgs),
    /// Recount instead of believing: offsets, rows, files
    #[command(after_help = AUDIT)]
    Audit(AuditArgs),
    /// Show the last epoch, the offsets, the tables, and who runs the job
    #[command(after_help = STATUS)]
    Status(StatusArgs),
    /// Compact tables, write Delta checkpoints, remove what is no longer needed
    #[command(after_help = MAINTAIN)]
    Maintain(MaintainArgs),
    /// Take rows again that could not be decoded or broke expectations, after the job was mended
    #[command(after_help = REPLAY)]
    Replay(ReplayArgs),
    /// Take a job or one of its tables back to nothing, after showing what goes
    #[command(after_help = RESET)]
    Reset(ResetArgs),
    /// Print the JSON Schema of job files, projects or data schemas, for editors
    #[command(after_help = SCHEMA)]
    Schema(SchemaArgs),
    /// Make a token for a user of a project, and its hash
    #[command(after_help = TOKEN)]
    Token,
}

/// Which jobs, and with which settings.
#[derive(Debug, Clone, Args)]
pub struct PackArgs {
    /// A job file, a folder of job files, or a project
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// With which settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// With which settings jobs are read.
#[derive(Debug, Clone, Default, Args)]
pub struct Settings {
    /// The target whose variables and secrets are used; default: the job's own default
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Set a variable of the job; may be repeated, the last one counts
    #[arg(long = "set", value_name = "VAR=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
}

impl Settings {
    /// Variables by name.
    pub fn variables(&self) -> BTreeMap<String, String> {
        self.set.iter().cloned().collect()
    }
}

/// `sluice init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Files, folders or patterns to make the pack from, local or in an object store
    #[arg(long, value_name = "FILES", num_args = 1..)]
    pub from: Vec<String>,
    /// The folder of the pack; default: jobs/ and a name
    #[arg(long, value_name = "FOLDER")]
    pub into: Option<PathBuf>,
}

/// `sluice run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Which jobs.
    #[command(flatten)]
    pub pack: PackArgs,
    /// Go on until stopped, as rows arrive
    #[arg(long)]
    pub follow: bool,
    /// Tell figures to Prometheus at /metrics of this address, and at /health whether all jobs are at
    /// work; both are public; with port 0 any port, which is said
    #[arg(long, value_name = "HOST:PORT", env = "SLUICE_METRICS", hide_env_values = true)]
    pub metrics: Option<String>,
    /// Run only this job of the pack; may be repeated
    #[arg(long, value_name = "JOB")]
    pub only: Vec<String>,
    /// End after this many epochs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub epochs: Option<u64>,
    /// Run although another runner holds the job; it will stop by itself
    #[arg(long)]
    pub take_over: bool,
    /// Start a new life of the job: read the sources again and replace its tables
    #[arg(long, conflicts_with = "adopt")]
    pub rebuild: bool,
    /// Start a new life of the job on its tables as they are: what the sources have now counts as
    /// taken
    #[arg(long)]
    pub adopt: bool,
    /// Go on where rows of a source are gone for good, such as Kafka offsets that were deleted before
    /// they were read; what is lost is written into the epoch
    #[arg(long)]
    pub accept_loss: bool,
    /// Publish each epoch before the next one is worked on
    #[arg(long)]
    pub no_overlap: bool,
    /// Try it: N rows of each source into a scratch lake, which is shown and deleted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(conflicts_with_all = ["follow", "epochs", "take_over", "rebuild", "adopt"])]
    pub limit: Option<u64>,
    /// With --limit: keep the scratch lake, and say where it is
    #[arg(long, requires = "limit")]
    pub keep: bool,
}

/// `sluice serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// A project's folder or `sluice.yaml`; or a pack or job file, which is served with defaults
    #[arg(value_name = "PATH", default_value = ".")]
    pub path: PathBuf,
    /// With which settings.
    #[command(flatten)]
    pub settings: Settings,
    /// Where HTTP is served, in place of what the project says; with port 0 any port, which is said
    #[arg(long, value_name = "HOST:PORT", env = "SLUICE_HTTP", hide_env_values = true)]
    pub http: Option<String>,
    /// Where the PostgreSQL wire is served, in place of what the project says
    #[arg(long, value_name = "HOST:PORT", env = "SLUICE_POSTGRES", hide_env_values = true)]
    pub postgres: Option<String>,
    /// A folder on the local disk for what the process keeps, in place of what the project says
    #[arg(long, value_name = "FOLDER", env = "SLUICE_STATE", hide_env_values = true)]
    pub state: Option<PathBuf>,
    /// Run jobs although other runners hold them; they will stop by themselves
    #[arg(long)]
    pub take_over: bool,
}

/// `sluice sql`.
#[derive(Debug, Clone, Args)]
pub struct SqlArgs {
    /// A job file, or a folder of job files; may be left out before a query of several words
    #[arg(value_name = "PATH")]
    pub path: Option<String>,
    /// One query, in DataFusion's SQL; without, statements are read from standard input
    #[arg(value_name = "QUERY")]
    pub query: Option<String>,
    /// With which settings.
    #[command(flatten)]
    pub settings: Settings,
    /// A Delta table or Parquet files, whoever wrote them, as NAME; with @VERSION as a Delta table
    /// was; may be repeated
    #[arg(long = "table", value_name = "NAME=URL", value_parser = external)]
    pub tables: Vec<External>,
    /// How the rows are written; default: table, with --json: json
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// `sluice audit`.
#[derive(Debug, Clone, Args)]
pub struct AuditArgs {
    /// Which jobs.
    #[command(flatten)]
    pub pack: PackArgs,
    /// Count again what the sources hold in the ranges that were taken of them
    #[arg(long)]
    pub sources: bool,
}

/// `sluice status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Which jobs.
    #[command(flatten)]
    pub pack: PackArgs,
    /// Show the figures of every column instead: nulls, distinct values, least, largest, a histogram
    #[arg(long)]
    pub stats: bool,
    /// Only this table's figures
    #[arg(long, value_name = "TABLE", requires = "stats")]
    pub table: Option<String>,
}

/// `sluice maintain`.
#[derive(Debug, Clone, Args)]
pub struct MaintainArgs {
    /// Which jobs.
    #[command(flatten)]
    pub pack: PackArgs,
    /// Join small files until each has the table's target_file_size; sort by zorder_by
    #[arg(long)]
    pub compact: bool,
    /// Write Delta checkpoints, and delete entries of the logs that are older than tables keep them
    #[arg(long)]
    pub checkpoint: bool,
    /// Fold old epoch manifests into one
    #[arg(long)]
    pub fold: bool,
    /// Delete files that left their tables long ago, and what crashes left behind
    #[arg(long)]
    pub vacuum: bool,
    /// How long files that left a table stay, as 7d or 12h, at least an hour; default: 7 days, or
    /// what the table's own property says
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "vacuum")]
    pub retention: Option<Duration>,
    /// Say what vacuum would delete, and delete nothing
    #[arg(long, requires = "vacuum", conflicts_with_all = ["compact", "checkpoint", "fold"])]
    pub dry_run: bool,
    /// Go on although another runner holds the job; it will stop by itself
    #[arg(long)]
    pub take_over: bool,
    /// How long to wait for the runner of a job that is being run, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

/// `sluice replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Which jobs.
    #[command(flatten)]
    pub pack: PackArgs,
    /// Where the rows stand
    #[arg(long, value_enum)]
    pub from: ReplayFrom,
    /// Only this job
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// With --from rejected: only this source
    #[arg(long, value_name = "NAME", conflicts_with = "table")]
    pub source: Option<String>,
    /// With --from quarantine: only this table
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Pass over rows of epochs before this one, for good
    #[arg(long, value_name = "EPOCH")]
    pub since: Option<u64>,
}

/// Where rows stand that are to be taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReplayFrom {
    /// They could not be decoded.
    Rejected,
    /// They broke an expectation.
    Quarantine,
}

/// `sluice reset`.
#[derive(Debug, Clone, Args)]
pub struct ResetArgs {
    /// Which jobs.
    #[command(flatten)]
    pub pack: PackArgs,
    /// A table, view or job of the pack
    #[arg(value_name = "TABLE|JOB")]
    pub name: String,
    /// The name is a job's, even if a table has it too
    #[arg(long)]
    pub job: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// `sluice schema`.
#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// Which schema
    #[arg(value_enum, default_value_t = SchemaKind::Job)]
    pub kind: SchemaKind,
    /// Compare with this file instead of printing
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
}

/// What a JSON Schema can be printed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaKind {
    /// Job files.
    Job,
    /// Projects: `sluice.yaml`.
    Project,
    /// Data schemas: the fields of a source's rows.
    Data,
}

/// How standard error is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object per line, notes and errors too; times in UTC.
    Json,
}

fn size(text: &str) -> Result<u64, String> {
    sluice_core::parse_bytes(text).map_err(|e| e.hint_text().unwrap_or("not a size").to_string())
}

fn external(text: &str) -> Result<External, String> {
    External::parse(text).map_err(|e| {
        let hint = e.hint_text().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{}{hint}", e.message())
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    sluice_core::parse_duration(text)
        .map_err(|e| e.hint_text().unwrap_or("not a duration").to_string())
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_string(), value.to_string()))
        }
        _ => Err("write it as variable=value".to_string()),
    }
}
