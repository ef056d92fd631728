//! Queries by people: read-only SQL over the last published snapshots.
//!
//! In: the graphs of a pack, tables of others. Out: a session in which every table, view,
//! `__rejected`, `__quarantine` and `__undelivered` answers, from the first moment on, beside the
//! tables of others and the system tables: opened for one question ([`open`]), or kept between
//! questions ([`Served`]). It never touches a running job and never writes.

mod dataset;
mod endpoints;
mod external;
mod guard;
mod held;
mod served;
mod system;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use sluice_core::{Error, Result, Secrets};
use sluice_lake::snapshot::Published;
use sluice_lake::store;

use crate::catalog::{SnapshotTable, find_ours, sql_error};
use crate::epoch::Environment;
use crate::function::{EpochTime, SessionOptions, session};
use crate::outbox::{Outbox, undelivered_schema, undelivered_table};
use crate::plan::{Graph, undelivered_name};
use crate::recover;

pub use endpoints::check_endpoints;
pub use external::External;
pub use guard::{Facts, Holds, Question, ask, bind, examine};
pub use held::{Held, TableFacts, held};
pub use served::{Served, Shown, ShownJob, ShownTable};
pub use system::{SYSTEM_SCHEMA, system_tables};

/// A job and the secrets its store may need.
#[derive(Debug, Clone)]
pub struct Readable {
    /// The job's plans.
    pub graph: Arc<Graph>,
    /// Its secrets.
    pub secrets: Secrets,
}

/// A session over the last published snapshots of all jobs, over tables of others, and over the
/// system tables.
pub async fn open(
    env: &Environment,
    jobs: &[Readable],
    externals: &[External],
) -> Result<SessionContext> {
    let time = EpochTime::default();
    time.set_ms(env.clock.wall_ms());
    let context =
        session(&SessionOptions { memory: env.pool.clone(), partitions: env.partitions, time })?;
    for job in jobs {
        let published = published(job).await?;
        for (name, schema) in job.graph.relations() {
            let table = snapshot_table(job, published.as_ref(), &name, &schema).await?;
            let provider = SnapshotTable::provider(table.as_ref(), &context, &schema)?;
            context
                .register_table(name.as_str(), provider)
                .map_err(|e| sql_error("cannot register a table", e))?;
        }
        let lake = store::open(&job.graph.job.lake, &job.secrets)?;
        for sink in job.graph.outlets() {
            let Some(schema) = job.graph.columns_of(&sink.spec.from) else { continue };
            let outbox = Outbox::new(&lake, &job.graph.job.name, &sink.spec.name);
            let table = undelivered_table(&outbox, &schema).await?;
            let schema = undelivered_schema(&schema);
            let provider = SnapshotTable::provider(Some(&table), &context, &schema)?;
            context
                .register_table(undelivered_name(&sink.spec.name).as_str(), provider)
                .map_err(|e| sql_error("cannot register a table", e))?;
        }
    }
    for external in externals {
        external.register(&context, jobs).await?;
    }
    system::register(&context, env, jobs)?;
    Ok(context)
}

/// The last published record of a job; none before the first epoch.
pub async fn published(job: &Readable) -> Result<Option<Published>> {
    let root = store::open(&job.graph.job.lake, &job.secrets)?;
    recover::published(&root, &job.graph.job.name).await
}

/// What a relation held at `published`; none when it does not exist there.
pub async fn snapshot_table(
    job: &Readable,
    published: Option<&Published>,
    name: &str,
    schema: &SchemaRef,
) -> Result<Option<SnapshotTable>> {
    let root = store::open(&job.graph.job.lake, &job.secrets)?;
    let by = job.graph.partition_by(name);
    SnapshotTable::load(&root, published, name, schema, &by).await
}

/// Runs a query. Statements that would change something are refused.
pub async fn query(
    context: &SessionContext,
    sql: &str,
) -> Result<(SchemaRef, SendableRecordBatchStream)> {
    let question = ask(&context.state(), sql).await?;
    let frame = context.execute_logical_plan(question.plan).await.map_err(refused)?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let stream =
        frame.execute_stream().await.map_err(|e| sql_error("the query cannot be run", e))?;
    Ok((schema, stream))
}

/// What is wrong with a question, at its place, and what helps.
fn refused(error: DataFusionError) -> Error {
    let error = match find_ours(error) {
        Ok(ours) => return ours,
        Err(other) => other,
    };
    let text = error.strip_backtrace();
    let hint = hint(&error, &text);
    let place = error.diagnostic().and_then(|d| d.span).map(|s| s.start);
    let message = error.diagnostic().map_or(text, |d| d.message.clone());
    let place = place.map_or(String::new(), |p| format!(" line={} column={}", p.line, p.column));
    Error::config(format!("{message}{place}")).hint(hint)
}

/// What helps against a refused query: what DataFusion itself suggests, else what there is.
fn hint(error: &DataFusionError, text: &str) -> String {
    let diagnostic = error.diagnostic();
    let own = diagnostic.and_then(|d| {
        let help = d.helps.first().map(|h| h.message.clone());
        help.or_else(|| d.notes.first().map(|n| n.message.clone()))
    });
    let meant = text.lines().find_map(|line| Some(&line[line.find("Did you mean")?..]));
    if let DataFusionError::SchemaError(inner, _) = error.find_root()
        && let SchemaError::FieldNotFound { valid_fields, .. } = inner.as_ref()
        && own.is_none()
        && !valid_fields.is_empty()
    {
        let columns: Vec<&str> = valid_fields.iter().map(|c| c.name.as_str()).collect();
        return format!("columns: {}", columns.join(", "));
    }
    if text.contains("table '") && text.contains("' not found") {
        return "SHOW TABLES lists what there is to read".to_string();
    }
    own.or(meant.map(str::to_string)).unwrap_or_else(|| {
        "the dialect is DataFusion's SQL; names are lower-cased unless in double quotes".to_string()
    })
}
