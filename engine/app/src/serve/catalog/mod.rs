//! What PostgreSQL's clients ask about tables: `pg_catalog`, `information_schema`, and the
//! functions they ask them with.
//!
//! In: the relations of a project, a session over one snapshot of them. Out: the same session as
//! such clients expect it, and the statements they ask as DataFusion can plan them. The catalogue
//! is `datafusion-pg-catalog`'s over our relations; what it lacks for `psql`, DBeaver and Grafana
//! is here. It answers about relations that can be read, never about users, and holds no rows.

mod columns;
mod function;
mod information;
mod relations;
mod rewrite;

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider,
};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionContext;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog as emulated;
use emulated::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use emulated::oid_type_planner::PgOidTypePlanner;
use emulated::{PgCatalogSchemaProvider, PgCatalogStaticTables};
use sluice_core::{Error, Result};

use super::query::Queries;
use information::Information;
use relations::{Owner, Relations};

pub(crate) use columns::{has_counterpart, wire_type};
pub(crate) use rewrite::{Reads, Rewriter, split};

/// The schema of PostgreSQL's own catalogue.
const PG_CATALOG: &str = "pg_catalog";

/// The schema of the standard's catalogue.
const INFORMATION_SCHEMA: &str = "information_schema";

/// The version of PostgreSQL whose catalogue this is: clients ask what that one has.
pub(crate) const POSTGRES_VERSION: &str = "16.6";

/// The catalogue of one process. Its object numbers hold for as long as it lives.
pub(crate) struct Catalog {
    /// The name of the database: the project's.
    name: String,
    postgres: Arc<dyn SchemaProvider>,
    information: Arc<dyn SchemaProvider>,
    fixed: Vec<ScalarUDF>,
    tables: Arc<PgCatalogStaticTables>,
}

/// Whom a session is for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    /// The name they logged in with.
    pub(crate) user: String,
    /// The number of their connection.
    pub(crate) number: i32,
    /// What `current_setting` tells.
    pub(crate) settings: BTreeMap<String, String>,
    /// The time zone they set.
    pub(crate) zone: Option<String>,
}

impl Catalog {
    /// The catalogue of `queries`' relations, as a database called `name`.
    pub(crate) fn new(queries: Arc<Queries>, name: &str) -> Result<Self> {
        let broken = |e| Error::bug("PostgreSQL's catalogue cannot be made").because(e);
        let tables = Arc::new(PgCatalogStaticTables::try_new().map_err(broken)?);
        let relations = Relations::new(queries, name);
        let postgres = PgCatalogSchemaProvider::try_new(relations.clone(), tables.clone(), Owner)
            .map_err(broken)?;
        Ok(Self {
            name: name.to_string(),
            postgres: Arc::new(postgres),
            information: Arc::new(Information::new(relations)),
            fixed: function::fixed(name),
            tables,
        })
    }

    /// `context` as `client` expects it: the database has the project's name, and the catalogues
    /// stand beside its tables. Tables, limits and functions of `context` stay.
    pub(crate) fn dress(
        &self,
        context: &SessionContext,
        client: &Client,
    ) -> Result<SessionContext> {
        let options = context.copied_config().options().catalog.clone();
        let inner = context
            .catalog(&options.default_catalog)
            .ok_or_else(|| Error::bug("a session has no catalog"))?;
        let list = MemoryCatalogProviderList::new();
        let database = Database {
            inner,
            postgres: self.postgres.clone(),
            information: self.information.clone(),
        };
        list.register_catalog(self.name.clone(), Arc::new(database));

        // DataFusion's own information_schema would stand before ours.
        let mut config = context
            .copied_config()
            .with_default_catalog_and_schema(self.name.as_str(), options.default_schema.as_str())
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(false);
        if let Some(zone) = &client.zone {
            config.options_mut().execution.time_zone = Some(zone.clone());
        }
        let state = SessionStateBuilder::new_from_existing(context.state())
            .with_config(config)
            .with_catalog_list(Arc::new(list))
            .with_type_planner(Arc::new(PgOidTypePlanner))
            .build();
        let dressed = SessionContext::new_with_state(state);
        for udf in self.fixed.iter().cloned().chain(function::of_client(client)) {
            dressed.register_udf(udf);
        }
        dressed.register_udtf("pg_get_keywords", self.tables.pg_get_keywords.clone());
        CoerceIntArgsToBigInt::widen(&dressed);
        Ok(dressed)
    }
}

/// The tables of a session, and the catalogues beside them.
#[derive(Debug)]
struct Database {
    inner: Arc<dyn CatalogProvider>,
    postgres: Arc<dyn SchemaProvider>,
    information: Arc<dyn SchemaProvider>,
}

impl CatalogProvider for Database {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.inner.schema_names();
        names.extend([PG_CATALOG.to_string(), INFORMATION_SCHEMA.to_string()]);
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            PG_CATALOG => Some(self.postgres.clone()),
            INFORMATION_SCHEMA => Some(self.information.clone()),
            _ => self.inner.schema(name),
        }
    }
}
