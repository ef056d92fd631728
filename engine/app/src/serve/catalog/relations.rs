//! The relations of a project, as the emulated `pg_catalog` asks for them.
//!
//! In: what can be read now. Out: names, columns and kinds. System tables are views of a schema of
//! their own; the catalogue's own tables are not listed in it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::{
    PgCatalogContextProvider, Role,
};
use sluice_runtime::query::{SYSTEM_SCHEMA, system_tables};

use super::{INFORMATION_SCHEMA, PG_CATALOG};
use crate::serve::query::Queries;
use crate::serve::schedule::History;

/// The schema of tables and views.
pub(super) const PUBLIC: &str = "public";

/// The system table of runs, which the server adds to the engine's.
const RUNS: &str = "runs";

/// Whom everything belongs to.
pub(super) const OWNER: &str = "sluice";

type SqlResult<T> = Result<T, DataFusionError>;

/// A relation of a database.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// The schema it is in: of several jobs' tables with one name each is in its job's.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: SchemaRef,
    /// Whether it is a view.
    pub is_view: bool,
}

/// All relations of one database.
#[derive(Clone)]
pub(super) struct Relations {
    queries: Arc<Queries>,
    database: Arc<str>,
}

impl fmt::Debug for Relations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relations({})", self.database)
    }
}

impl Relations {
    pub(super) fn new(queries: Arc<Queries>, database: &str) -> Self {
        Self { queries, database: Arc::from(database) }
    }

    /// The name of the database.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// What can be read now.
    pub(super) fn all(&self) -> Vec<Relation> {
        let tables = self.queries.relations().into_iter().map(|relation| {
            // Of several jobs' tables with one name each has its job's before it.
            let own = relation.name.strip_prefix(&relation.job).and_then(|n| n.strip_prefix('.'));
            let (schema, name) = match own {
                Some(name) => (relation.job.clone(), name.to_string()),
                None => (PUBLIC.to_string(), relation.name.clone()),
            };
            let is_view = relation.kind == "view";
            Relation { schema, name, columns: relation.schema, is_view }
        });
        let runs = (RUNS.to_string(), History::schema());
        let system = system_tables().into_iter().chain([runs]);
        let system = system.map(|(name, columns)| Relation {
            schema: SYSTEM_SCHEMA.to_string(),
            name: name.rsplit_once('.').map_or(name.clone(), |(_, last)| last.to_string()),
            columns,
            is_view: true,
        });
        tables.chain(system).collect()
    }

    /// The schemas there are.
    pub(super) fn schemas(&self) -> Vec<String> {
        let fixed = [PUBLIC, SYSTEM_SCHEMA, INFORMATION_SCHEMA, PG_CATALOG];
        let mut names = fixed.map(str::to_string).to_vec();
        for relation in self.all() {
            if !names.contains(&relation.schema) {
                names.push(relation.schema);
            }
        }
        names
    }

    fn one(&self, database: &str, schema: &str, name: &str) -> Option<Relation> {
        let mut all = if database == self.database() { self.all() } else { Vec::new() };
        let at = all.iter().position(|one| one.schema == schema && one.name == name)?;
        Some(all.swap_remove(at))
    }
}

#[async_trait]
impl CatalogInfo for Relations {
    async fn catalog_names(&self) -> SqlResult<Vec<String>> {
        Ok(vec![self.database.to_string()])
    }

    async fn schema_names(&self, catalog_name: &str) -> SqlResult<Option<Vec<String>>> {
        let known = catalog_name == self.database();
        Ok(known.then(|| self.schemas()))
    }

    async fn table_names(
        &self,
        catalog_name: &str,
        schema_name: &str,
    ) -> SqlResult<Option<Vec<String>>> {
        let of = |one: Relation| (one.schema == schema_name).then_some(one.name);
        let known = catalog_name == self.database();
        Ok(known.then(|| self.all().into_iter().filter_map(of).collect()))
    }

    async fn table_schema(
        &self,
        catalog_name: &str,
        schema_name: &str,
        table_name: &str,
    ) -> SqlResult<Option<SchemaRef>> {
        Ok(self.one(catalog_name, schema_name, table_name).map(|one| one.columns))
    }

    async fn table_type(
        &self,
        catalog_name: &str,
        schema_name: &str,
        table_name: &str,
    ) -> SqlResult<Option<TableType>> {
        let kind = |one: Relation| if one.is_view { TableType::View } else { TableType::Base };
        Ok(self.one(catalog_name, schema_name, table_name).map(kind))
    }
}

/// The one role that clients are told of: whom relations belong to. Users are nobody's business.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner;

#[async_trait]
impl PgCatalogContextProvider for Owner {
    async fn roles(&self) -> Vec<String> {
        vec![OWNER.to_string()]
    }

    async fn role(&self, name: &str) -> Option<Role> {
        Some(Role {
            name: name.to_string(),
            is_superuser: false,
            can_login: false,
            can_create_db: false,
            can_create_role: false,
            can_create_user: false,
            can_replication: false,
            grants: Vec::new(),
            inherited_roles: Vec::new(),
        })
    }
}
