//! Queries by people: read-only SQL over the last published snapshots.
//!
//! In: the graphs of a pack. Out: a session in which every table, view, `__rejected` and
//! `__quarantine` answers, from the first moment on. It never touches a running job and never
//! writes.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;
use object_store::path::Path;
use sluice_core::{Error, Result, Secrets};
use sluice_lake::delta;
use sluice_lake::manifest::DataFile;
use sluice_lake::snapshot::{Published, PublishedTable, Snapshots};
use sluice_lake::store::{self, Location};
use sluice_lake::table::{Dataset, list_dataset};

use crate::catalog::{FilesTable, rows_table, sql_error};
use crate::epoch::Environment;
use crate::function::{EpochTime, SessionOptions, session};
use crate::plan::Graph;

/// A job and the secrets its store may need.
#[derive(Debug, Clone)]
pub struct Readable {
    /// The job's plans.
    pub graph: Arc<Graph>,
    /// Its secrets.
    pub secrets: Secrets,
}

/// What one table held when it was published.
#[derive(Debug, Clone)]
pub struct SnapshotTable {
    /// What file paths are relative to.
    pub location: Location,
    /// The columns.
    pub schema: SchemaRef,
    /// Partition columns.
    pub partition_by: Vec<String>,
    /// The files.
    pub files: Vec<DataFile>,
}

/// A session over the last published snapshots of all jobs.
pub async fn open(env: &Environment, jobs: &[Readable]) -> Result<SessionContext> {
    let time = EpochTime::default();
    time.set_ms(env.clock.wall_ms());
    let context = session(&SessionOptions {
        memory: env.pool.clone(),
        partitions: env.partitions,
        time,
    })?;
    for job in jobs {
        let published = published(job).await?;
        for (name, schema) in job.graph.relations() {
            let table = snapshot_table(job, published.as_ref(), &name, &schema).await?;
            let provider: Arc<dyn TableProvider> = match table {
                None => rows_table(schema, vec![])?,
                Some(t) => Arc::new(FilesTable::new(
                    &context,
                    &t.location,
                    t.schema,
                    &t.partition_by,
                    &t.files,
                )?),
            };
            context
                .register_table(name.as_str(), provider)
                .map_err(|e| sql_error("cannot register a table", e))?;
        }
    }
    Ok(context)
}

/// The last published record of a job; none before the first epoch.
pub async fn published(job: &Readable) -> Result<Option<Published>> {
    let root = store::open(&job.graph.job.lake, &job.secrets)?;
    Snapshots::new(&root, &job.graph.job.name).latest().await
}

/// What a relation held at `published`; none when it does not exist there.
pub async fn snapshot_table(
    job: &Readable,
    published: Option<&Published>,
    name: &str,
    schema: &SchemaRef,
) -> Result<Option<SnapshotTable>> {
    let Some(table) = published.and_then(|p| p.tables.get(name)) else { return Ok(None) };
    let root = store::open(&job.graph.job.lake, &job.secrets)?;
    let at = |location: &str| {
        let path = Path::parse(location).map_err(|e| {
            Error::conflict(format!("a published record names no place path={location}")).because(e)
        })?;
        Ok::<_, Error>(Location { store: root.store.clone(), path })
    };
    match table {
        PublishedTable::Delta { location, version } => {
            let location = at(location)?;
            let head = delta::load_at(&location, *version).await?.ok_or_else(|| {
                let place = location.describe();
                Error::conflict(format!("a published table is gone table={name} path={place}"))
                    .hint("run the job: it says what to do about it")
            })?;
            Ok(Some(SnapshotTable {
                schema: head.schema.clone(),
                partition_by: head.partition_by().to_vec(),
                files: head.files.values().cloned().collect(),
                location,
            }))
        }
        PublishedTable::Files { location, incarnation, epoch } => {
            let location = at(location)?;
            let node = job.graph.tables.iter().find(|t| t.spec.name == name);
            let partition_by = node.map(|t| t.spec.partition_by.clone()).unwrap_or_default();
            let wanted = Dataset { incarnation, epoch: *epoch, partition_by: &partition_by };
            let files = list_dataset(&location, wanted).await?;
            Ok(Some(SnapshotTable { location, schema: schema.clone(), partition_by, files }))
        }
    }
}

/// Runs a query. Statements that would change something are refused.
pub async fn query(
    context: &SessionContext,
    sql: &str,
) -> Result<(SchemaRef, SendableRecordBatchStream)> {
    let read_only = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    let refused = |e: datafusion::error::DataFusionError| {
        let message = e.diagnostic().map_or_else(|| e.strip_backtrace(), |d| d.message.clone());
        Error::config(message).hint("queries only read; SHOW TABLES lists what there is to read")
    };
    let frame = context.sql_with_options(sql, read_only).await.map_err(refused)?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let stream =
        frame.execute_stream().await.map_err(|e| sql_error("the query cannot be run", e))?;
    Ok((schema, stream))
}
