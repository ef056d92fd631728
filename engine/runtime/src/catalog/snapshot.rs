//! Published tables: what readers see of a job, and what other jobs read of it.
//!
//! In: a published record. Out: columns and files of one table at that epoch. It never looks at
//! what is sealed but not published.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use object_store::path::Path;
use sluice_core::{Error, Result};
use sluice_lake::delta;
use sluice_lake::manifest::DataFile;
use sluice_lake::snapshot::{Published, PublishedTable};
use sluice_lake::store::Location;
use sluice_lake::table::{Dataset, list_dataset};

use super::{Bounds, FilesTable, rows_table};

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
    /// The version of a Delta table; a dataset has none.
    pub version: Option<i64>,
}

impl SnapshotTable {
    /// The table `name` at `published` in the lake `root`; none when it does not exist there.
    /// `schema` and `partition_by` are those of a dataset; a Delta table brings its own.
    pub async fn load(
        root: &Location,
        published: Option<&Published>,
        name: &str,
        schema: &SchemaRef,
        partition_by: &[String],
    ) -> Result<Option<Self>> {
        let Some(table) = published.and_then(|p| p.tables.get(name)) else { return Ok(None) };
        match table {
            PublishedTable::Delta { location, version } => {
                let location = place(root, location)?;
                let head = delta::load_at(&location, *version).await?;
                let head = head.ok_or_else(|| gone(name, &location))?;
                Ok(Some(Self {
                    schema: head.schema.clone(),
                    partition_by: head.partition_by().to_vec(),
                    files: head.files.values().cloned().collect(),
                    version: Some(*version),
                    location,
                }))
            }
            PublishedTable::Files { location, incarnation, epoch, partition_by: by, .. } => {
                let partition_by = by.as_deref().unwrap_or(partition_by);
                let location = place(root, location)?;
                let wanted = Dataset { incarnation, epoch: *epoch, partition_by };
                let files = list_dataset(&location, wanted).await?;
                let (schema, partition_by) = (schema.clone(), partition_by.to_vec());
                Ok(Some(Self { location, schema, partition_by, files, version: None }))
            }
        }
    }

    /// As a table for plans; `none` has no rows of `schema`.
    pub fn provider(
        table: Option<&Self>,
        context: &SessionContext,
        schema: &SchemaRef,
    ) -> Result<Arc<dyn TableProvider>> {
        let schema = table.map_or(schema, |t| &t.schema);
        Self::provider_as(table, context, schema)
    }

    /// As a table with the columns of `schema`, whatever their order in the lake: plans find columns
    /// by their place. What the lake does not have is null.
    pub fn provider_as(
        table: Option<&Self>,
        context: &SessionContext,
        schema: &SchemaRef,
    ) -> Result<Arc<dyn TableProvider>> {
        let Some(t) = table else { return rows_table(schema.clone(), vec![]) };
        let (schema, bounds) = (schema.clone(), Bounds::of(schema, &t.files));
        let files = FilesTable::new(context, &t.location, schema, &t.partition_by, &t.files)?;
        Ok(Arc::new(files.with_bounds(bounds)))
    }
}

/// The folder that a record names, from the root of the store of `root`.
pub(crate) fn place(root: &Location, path: &str) -> Result<Location> {
    let path = Path::parse(path).map_err(|e| {
        Error::conflict(format!("a published record names no place path={path}")).because(e)
    })?;
    Ok(Location { store: root.store.clone(), path })
}

/// There is no table where a record names one.
pub(crate) fn gone(name: &str, location: &Location) -> Error {
    let place = location.describe();
    Error::conflict(format!("a published table is gone table={name} path={place}"))
        .hint("run the job: it says what to do about it")
}
