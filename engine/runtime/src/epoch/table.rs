//! The work of one epoch for one table, and the actions that name what it wrote.
//!
//! In: the table's plan over what is new. Out: files and an action. How a keyed table's rows are
//! resolved against the rows it holds is `upsert`'s.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use datafusion::physical_plan::SendableRecordBatchStream;
use sluice_core::Result;
use sluice_lake::manifest::{Action, Copy, DataFile, DeltaAction, FilesAction, TableCounts};
use sluice_lake::parquet::Layout;
use sluice_lake::store::Location;
use sluice_lake::table::{self, Changes, Prepared, Rewrite, dataset_prefix};

use super::Again;
use super::append::{Appended, Target, append, write_rows};
use super::relation::Relation;
use super::routing::{Outcome, Router};
use super::work::{NewRows, Open, Worker};
use crate::catalog::Aside;
use crate::job::TableFormat;
use crate::plan::{TableNode, physical, quarantine_name, streams};

impl Worker {
    /// Runs one table's node.
    pub(super) async fn run_table(&mut self, open: &mut Open<'_>, node: &TableNode) -> Result<()> {
        let Some(streams) = self.table_streams(open, node).await? else { return Ok(()) };
        let name = node.spec.name.clone();
        let router = self.router(node).at(self.state.stamp.unwrap_or(open.epoch));
        let retracted = super::retract::retracted(open, node);
        let outcome = if !retracted.is_empty() {
            self.retract_table(open, node, streams, &router, &retracted).await?
        } else if node.spec.key.is_empty() {
            self.append_table(open, node, streams, &router).await?
        } else {
            self.upsert_table(open, node, streams, &router).await?
        };
        router.check(&name)?;
        for (expectation, rows) in outcome.broken.iter().filter(|(_, rows)| **rows > 0) {
            tracing::warn!(table = name, expectation, rows, "rows break an expectation");
        }
        if self.identity.strand.takes_again(Again::Quarantined) {
            // What is still broken stands there already.
            return Ok(());
        }
        let count = outcome.quarantined_rows();
        let rows = outcome.quarantined.into_iter().map(Aside::batches);
        let rows = rows.collect::<Result<Vec<_>>>()?.into_iter().flatten();
        self.replace_files(open, &quarantine_name(&name), &retracted, count, rows).await
    }

    async fn table_streams(
        &self,
        open: &Open<'_>,
        node: &TableNode,
    ) -> Result<Option<Vec<SendableRecordBatchStream>>> {
        let mut tables = BTreeMap::new();
        for input in &node.inputs {
            let provider = self.input(open, &input.name, input.role, node.carried)?;
            let Some(provider) = provider else { return Ok(None) };
            tables.insert(input.name.clone(), provider);
        }
        let plan = physical(&self.context, &node.plan, &tables).await?;
        streams(&self.context, plan).map(Some)
    }

    async fn append_table(
        &mut self,
        open: &mut Open<'_>,
        node: &TableNode,
        streams: Vec<SendableRecordBatchStream>,
        router: &Router,
    ) -> Result<Outcome> {
        let relation = self.relation(&node.spec.name)?.clone();
        let target = self.target(open, &relation);
        let appended = append(streams, &target, router).await?;
        let counts = counts(&appended);
        let (rows, outcome) = (appended.rows, appended.outcome);
        if appended.written == 0 && relation.exists {
            let part = sluice_lake::manifest::TablePart { counts, action: Action::None };
            open.tables.insert(relation.name, part);
            return Ok(outcome);
        }
        let (action, files) = self.add_action(open, &relation, appended.files)?;
        let new_rows = match rows {
            Some(rows) => NewRows::Memory(rows),
            None => NewRows::Files(files),
        };
        open.new_rows.insert(relation.name.clone(), new_rows);
        self.record(open, &relation.name, action, counts)?;
        Ok(outcome)
    }

    /// The action that removes the rows with `keys` from `touched` files and adds `rows`.
    pub(super) async fn replace_rows(
        &self,
        open: &Open<'_>,
        relation: &Relation,
        touched: &[DataFile],
        keys: &RecordBatch,
        rows: Vec<RecordBatch>,
    ) -> Result<Action> {
        let target = self.target(open, relation);
        if touched.is_empty() && !relation.key.is_empty() {
            let files = write_rows(&target, rows.into_iter().map(Ok)).await?;
            return Ok(Action::Delta(self.delta_action(open, relation, files, vec![])?));
        }
        let layout = self.layout(relation)?;
        let writer = target.writer(0)?;
        let change =
            Rewrite { matched: touched, keys: &relation.key, key_rows: keys, new_rows: &rows };
        let Prepared { adds, removes } = table::rewrite(&layout, change, writer).await?;
        let mut action = self.delta_action(open, relation, adds, removes)?;
        if !action.removes.is_empty() && !relation.key.is_empty() {
            let path = self.change_location(open, relation);
            let changes = Changes { upserts: rows, deletes: vec![keys.clone()] };
            let file = table::write_change_file(&path, &relation.schema, &changes).await?;
            action.change_file = Some(file);
        }
        Ok(Action::Delta(action))
    }

    /// The change file of a keyed table and this epoch.
    pub(super) fn change_location(&self, open: &Open<'_>, relation: &Relation) -> Location {
        let name = format!("{:020}-{}.parquet", open.epoch, open.unique);
        self.folder.location().child("changes").child(&relation.name).child(&name)
    }

    /// Appends `written` rows to one of the places besides tables.
    pub(super) async fn append_rows(
        &mut self,
        open: &mut Open<'_>,
        name: &str,
        written: u64,
        rows: impl Iterator<Item = Result<RecordBatch>> + Send,
    ) -> Result<()> {
        if written == 0 {
            return Ok(());
        }
        let relation = self.relation(name)?.clone();
        let files = write_rows(&self.target(open, &relation), rows).await?;
        let (action, _) = self.add_action(open, &relation, files)?;
        let counts = TableCounts { entering: written, written, ..TableCounts::default() };
        self.record(open, name, action, counts)
    }

    /// Where the files of a relation are written in this epoch.
    pub(super) fn target(&self, open: &Open<'_>, relation: &Relation) -> Target {
        let location = match relation.format {
            TableFormat::Delta => relation.location.clone(),
            TableFormat::Parquet => {
                let staged = self.lake.staged(open.epoch, &open.unique);
                staged.child(&relation.name)
            }
        };
        let layout = Layout {
            location,
            schema: relation.schema.clone(),
            partition_by: relation.partition_by.clone(),
        };
        Target {
            layout,
            modified_ms: open.opened_at_ms,
            prefix: format!("part-{:020}-{}", open.epoch, open.unique),
            file_bytes: relation.wanted.target_bytes,
            owner: relation.name.clone(),
            memory: self.env.memory.clone(),
            writer_bytes_max: self.env.writer_bytes_max(),
            task: self.context.task_ctx(),
            read_on: self.graph.reads_new(&relation.name),
            phases: self.phases.clone(),
        }
    }

    /// The action that adds files, and those files relative to the relation's base.
    fn add_action(
        &self,
        open: &Open<'_>,
        relation: &Relation,
        files: Vec<DataFile>,
    ) -> Result<(Action, Vec<DataFile>)> {
        match relation.format {
            TableFormat::Delta => {
                let action = self.delta_action(open, relation, files.clone(), vec![])?;
                Ok((Action::Delta(action), files))
            }
            TableFormat::Parquet => {
                let staged = self.target(open, relation).layout.location;
                self.files_action(open, relation, &staged, files)
            }
        }
    }

    fn files_action(
        &self,
        open: &Open<'_>,
        relation: &Relation,
        base: &Location,
        files: Vec<DataFile>,
    ) -> Result<(Action, Vec<DataFile>)> {
        let prefix = dataset_prefix(&self.identity.incarnation, open.epoch);
        let name = |k: usize| format!("{prefix}-{k}.parquet");
        let mut copies = Vec::with_capacity(files.len());
        let mut based = Vec::with_capacity(files.len());
        for (k, file) in files.into_iter().enumerate() {
            let folder = file.path.rsplit_once('/').map(|(folder, _)| folder);
            let end = match folder {
                Some(folder) => format!("{folder}/{}", name(k)),
                None => name(k),
            };
            let from = base.join(&file.path)?.path.to_string();
            copies.push(Copy {
                from: from.clone(),
                to: relation.location.join(&end)?.path.to_string(),
                bytes: file.bytes,
                rows: file.rows,
                partition_values: file.partition_values.clone(),
            });
            based.push(DataFile { path: from, ..file });
        }
        let location = relation.location.path.to_string();
        let action = FilesAction { location, copies, replace: !relation.exists, clear: false };
        Ok((Action::Files(action), based))
    }

    /// The action that gives the files of an adopted dataset names of this life.
    pub(super) fn rename_action(&self, open: &Open<'_>, relation: &Relation) -> Result<Action> {
        let base = &relation.location;
        let folder = format!("{}/", base.path);
        let relative = |file: &DataFile| DataFile {
            path: file.path.strip_prefix(&folder).unwrap_or(&file.path).to_string(),
            ..file.clone()
        };
        let files = relation.files.iter().map(relative).collect();
        let (mut action, _) = self.files_action(open, relation, base, files)?;
        if let Action::Files(files) = &mut action {
            files.replace = true;
        }
        Ok(action)
    }

    /// A Delta action of this epoch; it creates or replaces the table when it is not there.
    pub(super) fn delta_action(
        &self,
        open: &Open<'_>,
        relation: &Relation,
        adds: Vec<DataFile>,
        removes: Vec<DataFile>,
    ) -> Result<DeltaAction> {
        let fresh = !relation.exists;
        Ok(DeltaAction {
            location: relation.location.path.to_string(),
            base_version: None,
            create: if fresh { Some(self.table_meta(open, relation)?) } else { None },
            replace: fresh,
            evolve: match relation.evolves && !fresh {
                true => Some(self.table_meta(open, relation)?),
                false => None,
            },
            adds,
            removes,
            change_file: None,
            data_change: true,
            operation: "WRITE".to_string(),
        })
    }
}

fn counts(appended: &Appended) -> TableCounts {
    TableCounts {
        entering: appended.entering,
        written: appended.written,
        quarantined: appended.outcome.quarantined_rows(),
        dropped: appended.outcome.dropped,
        ..TableCounts::default()
    }
}
