//! The tables of a [`Shown`] as sessions see them: one catalog, a schema for tables, one for the
//! engine, and one for each job whose tables need it.
//!
//! In: what is shown. Out: DataFusion's providers, which cost nothing to make. A session may add
//! schemas of its own, such as those of the PostgreSQL wire; nothing can be added to the others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, SchemaProvider, Session, TableProvider,
};
use datafusion::common::plan_err;
use datafusion::error::Result as SqlResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use parking_lot::RwLock;
use sluice_core::{Error, Kind};

use super::shown::Shown;
use crate::catalog::{SnapshotTable, external};

/// What a name in a schema stands for.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// A table.
    Table(Arc<dyn TableProvider>),
    /// A table of each of these jobs.
    Several(Vec<String>),
}

/// A schema of relations.
#[derive(Debug)]
pub(super) struct Relations {
    entries: BTreeMap<String, Entry>,
}

impl Relations {
    pub fn new(entries: BTreeMap<String, Entry>) -> Self {
        Self { entries }
    }
}

#[async_trait]
impl SchemaProvider for Relations {
    fn table_names(&self) -> Vec<String> {
        let tables = self.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Table(_)));
        tables.map(|(name, _)| name.clone()).collect()
    }

    async fn table(&self, name: &str) -> SqlResult<Option<Arc<dyn TableProvider>>> {
        match self.entries.get(name) {
            None => Ok(None),
            Some(Entry::Table(table)) => Ok(Some(table.clone())),
            Some(Entry::Several(jobs)) => {
                let ways = jobs.iter().map(|job| format!("\"{job}\".{name}"));
                let text = format!("several jobs have a table of this name name={name}");
                let error = Error::config(text);
                Err(external(
                    error.hint(format!("write {}", ways.collect::<Vec<_>>().join(" or "))),
                ))
            }
        }
    }

    async fn table_type(&self, name: &str) -> SqlResult<Option<TableType>> {
        let table = self.entries.get(name).filter(|entry| matches!(entry, Entry::Table(_)));
        Ok(table.map(|_| TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        matches!(self.entries.get(name), Some(Entry::Table(_)))
    }
}

/// The system tables of the engine, and those that others add to them.
#[derive(Debug)]
pub(super) struct System {
    pub engine: Arc<dyn SchemaProvider>,
    pub more: BTreeMap<String, Arc<dyn TableProvider>>,
}

#[async_trait]
impl SchemaProvider for System {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.engine.table_names();
        names.extend(self.more.keys().cloned());
        names
    }

    async fn table(&self, name: &str) -> SqlResult<Option<Arc<dyn TableProvider>>> {
        match self.more.get(name) {
            Some(table) => Ok(Some(table.clone())),
            None => self.engine.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.more.contains_key(name) || self.engine.table_exist(name)
    }
}

/// The one catalog of a session.
#[derive(Debug)]
struct Catalog {
    shown: Arc<Shown>,
    added: RwLock<BTreeMap<String, Arc<dyn SchemaProvider>>>,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.shown.schemas().keys().cloned().collect();
        names.extend(self.added.read().keys().cloned());
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let shown = self.shown.schemas().get(name).cloned();
        shown.or_else(|| self.added.read().get(name).cloned())
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> SqlResult<Option<Arc<dyn SchemaProvider>>> {
        if self.shown.schemas().contains_key(name) {
            return plan_err!("this schema is there already name={name}");
        }
        Ok(self.added.write().insert(name.to_string(), schema))
    }
}

/// The catalogs of a session: one.
#[derive(Debug)]
pub(super) struct Catalogs {
    name: String,
    catalog: Arc<Catalog>,
}

impl Catalogs {
    /// What `shown` has, as the catalog `name`.
    pub fn new(name: &str, shown: &Arc<Shown>) -> Self {
        let catalog = Catalog { shown: shown.clone(), added: RwLock::default() };
        Self { name: name.to_string(), catalog: Arc::new(catalog) }
    }
}

impl CatalogProviderList for Catalogs {
    /// Leaves the list as it is: a question has one catalog.
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == self.name).then(|| self.catalog.clone() as Arc<dyn CatalogProvider>)
    }
}

/// Why the lakes of jobs could not be read, by job.
#[derive(Debug, Default)]
pub(super) struct Troubles(RwLock<BTreeMap<String, String>>);

impl Troubles {
    /// How the last look at a job ended.
    pub fn set(&self, job: &str, error: Option<&Error>) {
        let mut all = self.0.write();
        match error {
            Some(error) => all.insert(job.to_string(), error.chain()),
            None => all.remove(job),
        };
    }

    pub fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.0.write().retain(|job, _| is_there(job));
    }

    pub fn all(&self) -> Vec<(String, String)> {
        self.0.read().iter().map(|(job, why)| (job.clone(), why.clone())).collect()
    }

    fn of(&self, job: &str) -> Option<String> {
        self.0.read().get(job).cloned()
    }
}

/// A table of a job whose lake was never read: its columns are known, its rows are not.
pub(super) struct Missing {
    pub job: String,
    pub schema: SchemaRef,
    pub troubles: Arc<Troubles>,
}

impl fmt::Debug for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Missing({})", self.job)
    }
}

#[async_trait]
impl TableProvider for Missing {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> SqlResult<Arc<dyn ExecutionPlan>> {
        let job = &self.job;
        let why = self.troubles.of(job).map_or(String::new(), |why| format!(": {why}"));
        let text = format!("the lake of this job could not be read yet job={job}{why}");
        Err(external(Error::new(Kind::Unavailable, text).hint("it is tried again all the time")))
    }
}

/// A table of the engine's own that is looked up when it is read.
pub(super) struct Live {
    pub schema: SchemaRef,
    pub now: Box<dyn Fn() -> Option<SnapshotTable> + Send + Sync>,
    /// The session whose runtime knows the stores.
    pub context: SessionContext,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Live({})", self.schema)
    }
}

#[async_trait]
impl TableProvider for Live {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
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
        let table = (self.now)();
        let table = SnapshotTable::provider_as(table.as_ref(), &self.context, &self.schema);
        table.map_err(external)?.scan(state, projection, filters, limit).await
    }
}
