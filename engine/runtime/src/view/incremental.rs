//! The incremental strategy: partial aggregates of the new rows, merged into what is kept.
//!
//! In: new rows of the input as a table. Out: the final rows of the touched groups, and the keys
//! of groups that were there before. Work is proportional to the new rows and touched groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use sluice_core::{Error, Memory, Result};

use crate::catalog::{rows_table, sql_error};
use crate::operator::aggregate::{Incremental as Operator, partial_of};
use crate::plan::{GROUPS_LEAF, Incremental, ViewNode, gathered, physical};

/// While an epoch's groups are merged they are there as they came, as state and as results.
const MERGE_TIMES: usize = 3;

/// A view's plans and its retained groups.
#[derive(Debug)]
pub struct IncrementalView {
    pieces: Incremental,
    schema: SchemaRef,
    input: String,
    operator: Operator,
}

/// What an epoch changes in a view.
#[derive(Debug)]
pub struct Refreshed {
    /// Keys of groups whose earlier row goes away or is replaced.
    pub removed_keys: RecordBatch,
    /// The groups' rows as they are now; groups the view's filter drops are not among them.
    pub rows: Vec<RecordBatch>,
    /// Groups touched.
    pub touched: u64,
    /// Rows the aggregate read, after the statement's filters.
    pub rows_in: u64,
}

impl IncrementalView {
    /// A view without groups yet.
    pub async fn open(
        context: &SessionContext,
        node: &ViewNode,
        pieces: &Incremental,
        input_schema: &SchemaRef,
        memory: &dyn Memory,
    ) -> Result<Self> {
        let input = node.inputs.first().cloned().unwrap_or_default();
        let empty = rows_table(input_schema.clone(), vec![])?;
        let tables = BTreeMap::from([(input.clone(), empty)]);
        let plan = physical(context, &pieces.aggregate, &tables).await?;
        let partial = partial_of(&plan)?;
        let mut operator =
            Operator::new(partial.group_fields, partial.aggregates, pieces.groups.clone())?;
        operator.kept().hold_in(memory.reserve(&format!("groups of view {}", node.spec.name)))?;
        Ok(Self { pieces: pieces.clone(), schema: node.schema.clone(), input, operator })
    }

    /// The retained groups, to restore and to seal.
    pub fn operator(&mut self) -> &mut Operator {
        &mut self.operator
    }

    /// Takes the new rows of the input.
    pub async fn advance(
        &mut self,
        context: &SessionContext,
        new_rows: Arc<dyn TableProvider>,
    ) -> Result<Refreshed> {
        let tables = BTreeMap::from([(self.input.clone(), new_rows)]);
        let plan = physical(context, &self.pieces.aggregate, &tables).await?;
        let partial = partial_of(&plan)?;
        let operator = &mut self.operator;
        let hold = |bytes| operator.kept().hold(bytes * MERGE_TIMES);
        let rows = gathered(context, partial.plan.clone(), hold).await?;
        let rows_in = rows_into(&partial.plan);
        let merged = tokio::task::block_in_place(|| operator.merge(&rows))?;
        let removed_keys = self.removed_keys(&merged.rows, &merged.created)?;
        let rows = self.finish(context, merged.rows).await?;
        Ok(Refreshed { removed_keys, rows, touched: merged.touched as u64, rows_in })
    }

    fn removed_keys(&self, groups: &RecordBatch, created: &BooleanArray) -> Result<RecordBatch> {
        let before: BooleanArray = created.values().iter().map(|new| Some(!new)).collect();
        let groups = filter_record_batch(groups, &before)?;
        let mut fields = Vec::with_capacity(self.pieces.key.len());
        let mut columns = Vec::with_capacity(self.pieces.key.len());
        for (i, name) in self.pieces.key.iter().enumerate() {
            let field = self.schema.field_with_name(name)?.clone();
            columns.push(cast(groups.column(i), field.data_type())?);
            fields.push(field);
        }
        let schema = Arc::new(Schema::new(fields));
        let options =
            arrow::array::RecordBatchOptions::new().with_row_count(Some(groups.num_rows()));
        RecordBatch::try_new_with_options(schema, columns, &options)
            .map_err(|e| Error::bug("a view's keys do not fit its columns").because(e))
    }

    async fn finish(
        &self,
        context: &SessionContext,
        groups: RecordBatch,
    ) -> Result<Vec<RecordBatch>> {
        let groups = RecordBatch::try_new(self.pieces.groups.clone(), groups.columns().to_vec())?;
        let table = rows_table(self.pieces.groups.clone(), vec![groups])?;
        let tables = BTreeMap::from([(GROUPS_LEAF.to_string(), table)]);
        let plan = physical(context, &self.pieces.finish, &tables).await?;
        collect(plan, context.task_ctx())
            .await
            .map_err(|e| sql_error("a view's projection failed", e))
    }
}

/// Rows that the leaves of a plan that was run gave out.
fn rows_into(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let source = plan.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
    if let Some(memory) = source.and_then(|s| s.downcast_ref::<MemorySourceConfig>()) {
        // Rows in memory keep no metrics; all of them are given out.
        return memory.partitions().iter().flatten().map(|b| b.num_rows() as u64).sum();
    }
    if plan.children().is_empty() {
        return plan.metrics().and_then(|m| m.output_rows()).unwrap_or(0) as u64;
    }
    plan.children().into_iter().map(rows_into).sum()
}
