//! What can be named in a statement: tables and their columns, for `\d` and completion.

use std::sync::Arc;

use arrow::datatypes::Schema;
use sluice_runtime::query::{self, system_tables};

use super::Asked;
use crate::app::App;
use crate::failure::Failure;

/// A table that can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name in SQL.
    pub name: String,
    /// The job it is of, or where it lies.
    pub of: String,
    /// Names and types of its columns.
    pub columns: Vec<(String, String)>,
}

/// All tables, those of jobs first, the system tables last.
#[derive(Debug, Clone)]
pub struct Names {
    tables: Arc<[Named]>,
}

impl Names {
    /// Looks at everything once; what cannot be read is said before the first statement.
    pub(crate) async fn of(app: &App, asked: &Asked) -> Result<Self, Failure> {
        let context = query::open(&app.environment, &asked.jobs, &asked.externals).await?;
        let mut tables = Vec::new();
        for job in &asked.jobs {
            for (name, schema) in job.graph.relations() {
                tables.push(named(name, &job.graph.job.name, &schema));
            }
        }
        for external in &asked.externals {
            let provider = context.table_provider(external.name.as_str()).await;
            let provider = provider.map_err(|e| {
                let text = "a table that was registered is not there";
                Failure::Failed(sluice_core::Error::bug(text).because(e))
            })?;
            tables.push(named(external.name.clone(), &external.url, &provider.schema()));
        }
        if !asked.jobs.is_empty() {
            tables.extend(system_tables().into_iter().map(|(n, schema)| named(n, "", &schema)));
        }
        Ok(Self::new(tables))
    }

    /// These tables.
    pub fn new(tables: Vec<Named>) -> Self {
        Self { tables: tables.into() }
    }

    /// All of them.
    pub fn tables(&self) -> &[Named] {
        &self.tables
    }

    /// The columns of a table; none where there is no such table.
    pub fn columns(&self, table: &str) -> Option<&[(String, String)]> {
        let named = self.tables.iter().find(|t| t.name.eq_ignore_ascii_case(table))?;
        Some(&named.columns)
    }
}

fn named(name: String, of: &str, schema: &Schema) -> Named {
    let columns = schema.fields().iter();
    let columns = columns.map(|f| (f.name().clone(), f.data_type().to_string())).collect();
    Named { name, of: of.to_string(), columns }
}
