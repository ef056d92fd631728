//! The job file: YAML with plain SQL inside, read strictly, all problems told at once.
//!
//! ```text
//! text ─► tree with places ─► variables filled in ─► JSON Schema ─► serde ─► meaning ─► Job
//!         read::tree          read::reference        check          spec     build      model
//! ```
//!
//! In: paths, `--target`, `--set`, the registry of connectors. Out: [`Pack`], or [`Problems`] with
//! line, column and hint each. What a `project` says for all its jobs is read the same way, and is
//! in each of them. SQL is handed on as [`SqlText`], which knows where it was written; planning it
//! is up to `plan`. No store is opened, and no secret is looked up to read a file.
//!
//! [`Problems`]: sluice_core::Problems

mod read;

mod report;

pub(crate) mod suggest;

mod named;

mod sql;

mod model;

mod spec;

mod schema;

mod check;

mod build;

mod order;

mod project;

mod load;

mod hash;

mod secret;

use std::collections::BTreeMap;

pub(crate) use build::parse_cron;
pub use load::{Loaded, load, load_project, read_all, read_pack};
pub use model::{
    BacklogLimits, EpochLimits, EventTime, ExpectAction, Expectation, FilesSpec, Job, Merge,
    MetricsSpec, Missed, Pack, Refresh, Retry, Schedule, SecretRef, SinkSpec, SourceSpec,
    StoreSpec, TableFormat, TableSpec, TestSpec, Timing, ViewSpec,
};
pub use project::{
    EndpointSpec, ForwardSpec, Method, Origin, ParamFrom, ParamSpec, Project, Role, ServeLimits,
    ServeSpec, Shape, SourceRef, TlsSpec, TokenRef, UserSpec, is_loopback,
};
pub use schema::{data_schema, job_schema, project_schema};
pub use secret::{resolve_project, resolve_secrets};
pub use sql::SqlText;

/// What the command line says about how to read a job file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// `--target`; none: the job's default target, when it has one.
    pub target: Option<String>,
    /// `--set variable=value`, read as the type that the variable has in the file.
    pub set: BTreeMap<String, String>,
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
