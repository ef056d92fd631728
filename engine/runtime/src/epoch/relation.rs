//! Heads: what a job's tables hold right now, published files and prepared ones alike.
//!
//! In: Delta logs and listings at recovery, actions as epochs are prepared. Out: file lists for
//! plans. Nothing is read from a store here.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;
use sluice_core::Result;
use sluice_lake::manifest::{Action, DataFile};
use sluice_lake::store::Location;

use super::Lake;
use crate::catalog::FilesTable;
use crate::job::{FilesSpec, TableFormat};

/// What a relation is to its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A table of the job file.
    Table,
    /// A materialized view.
    View,
    /// Rows a source could not decode.
    Rejected,
    /// Rows that broke an expectation.
    Quarantine,
}

impl Kind {
    /// `table`, `view`, `rejected` or `quarantine`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::View => "view",
            Kind::Rejected => "rejected",
            Kind::Quarantine => "quarantine",
        }
    }
}

/// A table of the job with its head.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Its name in SQL.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its folder.
    pub location: Location,
    /// Its columns.
    pub schema: SchemaRef,
    /// Partition columns.
    pub partition_by: Vec<String>,
    /// Key columns: of a keyed table, or of an incremental view.
    pub key: Vec<String>,
    /// How it is stored.
    pub format: TableFormat,
    /// What its files are to be like.
    pub wanted: FilesSpec,
    /// The hash of its definition.
    pub definition: String,
    /// Whether it exists, or is created by an epoch that is prepared or sealed.
    pub exists: bool,
    /// Whether its log lacks columns that it has now: the next commit adds them.
    pub evolves: bool,
    /// Its files. Paths are relative to [`Relation::base`].
    pub files: Vec<DataFile>,
}

impl Relation {
    /// What file paths are relative to: the table's folder for Delta, the store for datasets, whose
    /// sealed files are still in the staging folder.
    pub fn base(&self, lake: &Lake) -> Location {
        match self.format {
            TableFormat::Delta => self.location.clone(),
            TableFormat::Parquet => lake.store_root(),
        }
    }

    /// All rows as a table for plans.
    pub fn provider(
        &self,
        context: &SessionContext,
        lake: &Lake,
    ) -> Result<Arc<dyn TableProvider>> {
        self.provider_of(context, lake, &self.files)
    }

    /// The rows of some of its files as a table for plans.
    pub fn provider_of(
        &self,
        context: &SessionContext,
        lake: &Lake,
        files: &[DataFile],
    ) -> Result<Arc<dyn TableProvider>> {
        let base = self.base(lake);
        let schema = self.schema.clone();
        Ok(Arc::new(FilesTable::new(context, &base, schema, &self.partition_by, files)?))
    }

    /// Moves the head over an action that was prepared or sealed.
    pub fn apply(&mut self, action: &Action) {
        match action {
            Action::None | Action::Outbox(_) => {}
            Action::Delta(delta) => {
                self.exists = true;
                self.evolves = false;
                if delta.replace {
                    self.files.clear();
                }
                self.files.retain(|f| !delta.removes.iter().any(|r| r.path == f.path));
                self.files.extend(delta.adds.iter().cloned());
            }
            Action::Files(files) => {
                self.exists = true;
                if files.replace {
                    self.files.clear();
                }
                self.files.extend(files.copies.iter().map(|copy| DataFile {
                    path: copy.from.clone(),
                    partition_values: copy.partition_values.clone(),
                    bytes: copy.bytes,
                    rows: copy.rows,
                    modified_ms: 0,
                    stats: None,
                }));
            }
        }
    }

    /// Says that an action's staged files have their final names now.
    pub fn settle(&mut self, action: &Action) {
        let Action::Files(files) = action else { return };
        let moved: BTreeMap<&str, &str> =
            files.copies.iter().map(|c| (c.from.as_str(), c.to.as_str())).collect();
        for file in &mut self.files {
            if let Some(to) = moved.get(file.path.as_str()) {
                file.path = (*to).to_string();
            }
        }
    }
}

/// All relations of a job, by name.
pub type Relations = BTreeMap<String, Relation>;
