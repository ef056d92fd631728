//! System tables: `_sluice.epochs`, `tables`, `files` and `sources`, one set of rows per job.
//!
//! In: the jobs of a query. Out: tables made from manifests, published records and heads at the
//! moment they are scanned, and only then. Their columns are described in the command line's
//! README. Nothing is kept between two scans.

mod chain;
mod column;
mod epochs;
mod files;
mod sources;
mod tables;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, Session, TableProvider};
use datafusion::error::{DataFusionError, Result as SqlResult};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use sluice_core::{Error, Result};

use super::Readable;
use crate::epoch::Environment;

/// The schema that the system tables are in.
pub const SYSTEM_SCHEMA: &str = "_sluice";

/// Makes the system tables of `jobs` known to `context`.
pub(super) fn register(
    context: &SessionContext,
    env: &Environment,
    jobs: &[Readable],
) -> Result<()> {
    let options = context.copied_config().options().catalog.clone();
    let catalog = context.catalog(&options.default_catalog);
    let catalog = catalog.ok_or_else(|| Error::bug("a session has no catalog"))?;
    catalog
        .register_schema(SYSTEM_SCHEMA, schema(env, jobs))
        .map_err(|e| Error::bug("the system tables cannot be registered").because(e))?;
    Ok(())
}

/// The system tables of `jobs`.
pub(super) fn schema(env: &Environment, jobs: &[Readable]) -> Arc<dyn SchemaProvider> {
    Arc::new(System { env: env.clone(), jobs: Arc::from(jobs) })
}

/// One of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Epochs,
    Tables,
    Files,
    Sources,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Epochs, Self::Tables, Self::Files, Self::Sources];

    fn name(self) -> &'static str {
        match self {
            Self::Epochs => "epochs",
            Self::Tables => "tables",
            Self::Files => "files",
            Self::Sources => "sources",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn schema(self) -> SchemaRef {
        match self {
            Self::Epochs => column::schema(epochs::COLUMNS),
            Self::Tables => column::schema(tables::COLUMNS),
            Self::Files => column::schema(files::COLUMNS),
            Self::Sources => column::schema(sources::COLUMNS),
        }
    }

    async fn rows(self, env: &Environment, jobs: &[Readable]) -> Result<RecordBatch> {
        match self {
            Self::Epochs => column::batch(epochs::COLUMNS, &epochs::rows(env, jobs).await?),
            Self::Tables => column::batch(tables::COLUMNS, &tables::rows(jobs).await?),
            Self::Files => column::batch(files::COLUMNS, &files::rows(jobs).await?),
            Self::Sources => column::batch(sources::COLUMNS, &sources::rows(env, jobs).await?),
        }
    }
}

/// The names and columns of the system tables, for who offers them.
pub fn system_tables() -> Vec<(String, SchemaRef)> {
    let of = |kind: Kind| (format!("{SYSTEM_SCHEMA}.{}", kind.name()), kind.schema());
    Kind::ALL.into_iter().map(of).collect()
}

/// The schema `_sluice`.
#[derive(Clone)]
struct System {
    env: Environment,
    jobs: Arc<[Readable]>,
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "System({} jobs)", self.jobs.len())
    }
}

#[async_trait]
impl SchemaProvider for System {
    fn table_names(&self) -> Vec<String> {
        Kind::ALL.iter().map(|kind| kind.name().to_string()).collect()
    }

    async fn table(&self, name: &str) -> SqlResult<Option<Arc<dyn TableProvider>>> {
        let kind = Kind::named(name);
        Ok(kind.map(|kind| Arc::new(SystemTable { kind, of: self.clone() }) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        Kind::named(name).is_some()
    }
}

/// One system table; its rows are made when it is scanned.
#[derive(Debug)]
struct SystemTable {
    kind: Kind,
    of: System,
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.kind.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> SqlResult<Arc<dyn ExecutionPlan>> {
        let rows = self.kind.rows(&self.of.env, &self.of.jobs).await;
        let rows = rows.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let table = MemTable::try_new(self.kind.schema(), vec![vec![rows]])?;
        table.scan(state, projection, filters, limit).await
    }
}
