//! The work of one epoch for one view: by its strategy, or whole when it has to be built afresh.
//!
//! In: what changed in the view's input. Out: an action on the view's Delta table. A view that
//! does not exist yet, or whose definition changed, is built from all rows of its inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::collect;
use sluice_core::{Error, Result};
use sluice_lake::manifest::{Action, TableCounts};
use sluice_lake::parquet::rows_of;
use sluice_lake::table;

use super::append::append;
use super::relation::Relation;
use super::routing::Router;
use super::work::{NewRows, Open, Worker};
use crate::catalog::sql_error;
use crate::plan::{Carried, Incremental, Role, Strategy, TableNode, ViewNode, physical, streams};
use crate::view::IncrementalView;

impl Worker {
    /// Whether some view has to be worked out even when no source has anything new.
    pub fn stale_views(&self) -> bool {
        if self.identity.strand.is_beside() {
            return false;
        }
        let views = self.graph.views.iter();
        let unmade = |r: &Relation| !r.exists;
        !self.state.leftovers.is_empty()
            || !self.state.cleared.is_empty()
            || self.foreign_changed()
            || views.filter_map(|v| self.state.relations.get(&v.spec.name)).any(unmade)
    }

    /// Runs one view's node.
    pub(super) async fn run_view(&mut self, open: &mut Open<'_>, node: &ViewNode) -> Result<()> {
        let exists = self.relation(&node.spec.name)?.exists;
        let changed = node.inputs.iter().any(|i| open.new_rows.contains_key(i));
        let foreign = self.reads_foreign(node) && self.foreign_changed();
        if exists && !changed && !foreign {
            return Ok(());
        }
        match &node.strategy {
            Strategy::Append => {
                let of = |role| node.inputs.iter().map(|i| (i.clone(), role)).collect();
                self.append_view(open, node, of(if exists { Role::New } else { Role::Head }))
                    .await?;
                // All rows of a view that is built afresh are new to itself only.
                let all_new = self.state.offsets.is_empty();
                if !exists && !all_new && self.is_taken_on(&node.spec.name) {
                    let rows = self.view_rows(open, node, of(Role::New)).await?;
                    open.new_rows.insert(node.spec.name.clone(), NewRows::Memory(rows));
                }
                Ok(())
            }
            Strategy::AppendJoin(grows) => {
                let others = node.inputs.iter().filter(|i| *i != grows);
                let still = !others.clone().any(|i| open.new_rows.contains_key(i)) && !foreign;
                if !exists || !still {
                    return self.full_view(open, node).await;
                }
                let mut tables: BTreeMap<String, Role> =
                    others.map(|i| (i.clone(), Role::Head)).collect();
                tables.insert(grows.clone(), Role::New);
                self.append_view(open, node, tables).await
            }
            Strategy::Incremental(pieces) => {
                self.incremental_view(open, node, pieces, exists).await
            }
            Strategy::Full => self.full_view(open, node).await,
        }
    }

    fn reads_foreign(&self, node: &ViewNode) -> bool {
        node.inputs.iter().any(|i| self.graph.foreign.iter().any(|f| f.name == *i))
    }

    /// The new rows of a view's only input; all of them when the view is built afresh.
    fn view_input(
        &self,
        open: &Open<'_>,
        node: &ViewNode,
        exists: bool,
    ) -> Result<Option<(String, Arc<dyn TableProvider>)>> {
        let Some(input) = node.inputs.first() else { return Ok(None) };
        let role = if exists { Role::New } else { Role::Head };
        Ok(self.input(open, input, role, Carried::default())?.map(|p| (input.clone(), p)))
    }

    /// Whether a table or a sink goes on from what is new in the view, or in one kept by append
    /// over it.
    fn is_taken_on(&self, view: &str) -> bool {
        let reads = |t: &TableNode| t.inputs.iter().any(|i| i.name == view && i.role == Role::New);
        let hands_on = |v: &ViewNode| {
            let appends = matches!(v.strategy, Strategy::Append);
            appends && v.inputs.iter().any(|i| i == view) && self.is_taken_on(&v.spec.name)
        };
        self.graph.tables.iter().any(reads)
            || self.graph.sinks.iter().any(|s| s.spec.from == view)
            || self.graph.views.iter().any(hands_on)
    }

    /// The tables that stand for those inputs; none when nothing is new in one that is to be new.
    fn view_inputs(
        &self,
        open: &Open<'_>,
        inputs: BTreeMap<String, Role>,
    ) -> Result<Option<BTreeMap<String, Arc<dyn TableProvider>>>> {
        let mut tables = BTreeMap::new();
        for (input, role) in inputs {
            let provider = self.input(open, &input, role, Carried::default())?;
            let Some(provider) = provider else { return Ok(None) };
            tables.insert(input, provider);
        }
        Ok(Some(tables))
    }

    /// The rows of a view over those inputs, in memory; none when nothing is new in one.
    async fn view_rows(
        &self,
        open: &Open<'_>,
        node: &ViewNode,
        inputs: BTreeMap<String, Role>,
    ) -> Result<Vec<RecordBatch>> {
        let Some(tables) = self.view_inputs(open, inputs)? else { return Ok(Vec::new()) };
        let relation = self.relation(&node.spec.name)?;
        let plan = physical(&self.context, &node.plan, &tables).await?;
        let rows = collect(plan, self.context.task_ctx()).await;
        fit_all(&rows.map_err(|e| sql_error("a query failed", e))?, relation)
    }

    async fn append_view(
        &mut self,
        open: &mut Open<'_>,
        node: &ViewNode,
        inputs: BTreeMap<String, Role>,
    ) -> Result<()> {
        let Some(tables) = self.view_inputs(open, inputs)? else { return Ok(()) };
        let plan = physical(&self.context, &node.plan, &tables).await?;
        let relation = self.relation(&node.spec.name)?.clone();
        let target = self.target(open, &relation);
        let none = Router::none(relation.schema.clone());
        let appended = append(streams(&self.context, plan)?, &target, &none).await?;
        let removed = if relation.exists { 0 } else { rows_of(&relation.files) };
        let counts = TableCounts { removed, ..counts(appended.entering, appended.written) };
        let new_rows = match appended.rows {
            Some(rows) => NewRows::Memory(rows),
            None => NewRows::Files(appended.files.clone()),
        };
        open.new_rows.insert(relation.name.clone(), new_rows);
        let action = self.delta_action(open, &relation, appended.files, vec![])?;
        self.record(open, &relation.name, Action::Delta(action), counts)
    }

    async fn incremental_view(
        &mut self,
        open: &mut Open<'_>,
        node: &ViewNode,
        pieces: &Incremental,
        exists: bool,
    ) -> Result<()> {
        let name = node.spec.name.clone();
        let Some((input, provider)) = self.view_input(open, node, exists)? else {
            return Ok(());
        };
        let mut view = match self.state.views.remove(&name) {
            Some(view) if exists => view,
            _ => {
                let schema = self.relation(&input)?.schema.clone();
                self.state.files.remove(&name);
                let memory = self.env.memory.as_ref();
                IncrementalView::open(&self.context, node, pieces, &schema, memory).await?
            }
        };
        let refreshed = view.advance(&self.context, provider).await?;
        self.state.views.insert(name.clone(), view);
        let relation = self.relation(&name)?.clone();
        let (touched, removed) = if !relation.exists {
            (Vec::new(), rows_of(&relation.files))
        } else if relation.key.is_empty() {
            (relation.files.clone(), rows_of(&relation.files))
        } else {
            let layout = self.layout(&relation)?;
            let keys = &refreshed.removed_keys;
            let found = table::lookup(&layout, &relation.files, &relation.key, keys).await?;
            (found.files, found.rows.num_rows() as u64)
        };
        let written = refreshed.rows.iter().map(|b| b.num_rows() as u64).sum();
        let rows = fit_all(&refreshed.rows, &relation)?;
        let action = if relation.key.is_empty() {
            let files =
                super::append::write_rows(&self.target(open, &relation), rows.into_iter().map(Ok))
                    .await?;
            Action::Delta(self.delta_action(open, &relation, files, touched)?)
        } else {
            self.replace_rows(open, &relation, &touched, &refreshed.removed_keys, rows).await?
        };
        open.new_rows.insert(name.clone(), NewRows::Replaced);
        let counts = TableCounts {
            rows_in: refreshed.rows_in,
            removed,
            ..counts(refreshed.touched, written)
        };
        self.record(open, &name, action, counts)
    }

    /// Runs the whole statement and replaces the view's rows.
    async fn full_view(&mut self, open: &mut Open<'_>, node: &ViewNode) -> Result<()> {
        let mut tables: BTreeMap<String, Arc<dyn TableProvider>> = BTreeMap::new();
        for input in &node.inputs {
            let provider = self.input(open, input, Role::Head, Carried::default())?;
            let provider = provider.ok_or_else(|| Error::bug("a head is not a table"))?;
            tables.insert(input.clone(), provider);
        }
        let plan = physical(&self.context, &node.plan, &tables).await?;
        let relation = self.relation(&node.spec.name)?.clone();
        let target = self.target(open, &relation);
        let none = Router::none(relation.schema.clone());
        let appended = append(streams(&self.context, plan)?, &target, &none).await?;
        let removes = if relation.exists { relation.files.clone() } else { Vec::new() };
        let removed = rows_of(&relation.files);
        let counts = TableCounts { removed, ..counts(appended.entering, appended.written) };
        let action = self.delta_action(open, &relation, appended.files, removes)?;
        open.new_rows.insert(relation.name.clone(), NewRows::Replaced);
        self.record(open, &relation.name, Action::Delta(action), counts)
    }
}

fn counts(entering: u64, written: u64) -> TableCounts {
    TableCounts { entering, written, ..TableCounts::default() }
}

fn fit_all(rows: &[RecordBatch], relation: &Relation) -> Result<Vec<RecordBatch>> {
    rows.iter().map(|b| super::append::fit(b.clone(), &relation.schema)).collect()
}
