//! From a cached logical plan to running streams.
//!
//! Each epoch puts its own tables into the leaves and plans physically: a physical plan is never
//! run twice, because joins and dynamic filters would keep what they saw. Joins whose build sides
//! may not fit into the pool are planned as sort-merge joins, which spill.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::error::{DataFusionError, Result as SqlResult};
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{
    ExecutionPlan, SendableRecordBatchStream, execute_stream, execute_stream_partitioned,
};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use sluice_core::{Error, Result};

use super::build_side::BuildSides;
use super::statement::leaf_scan;
use crate::catalog::{Leaf, sql_error};
use crate::function::bytes_of;

/// The physical plan of `plan` with `tables` in its leaves.
pub async fn physical(
    context: &SessionContext,
    plan: &LogicalPlan,
    tables: &BTreeMap<String, Arc<dyn TableProvider>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = Leaf::replace(plan, tables)?;
    spilling(context.state(), &plan, tables).await.map_err(unplanned)
}

/// The physical plan of `plan`, which reads `tables` and is optimised. Joins that would hold more than
/// fits into the pool of `state` sort instead.
pub async fn spilling(
    mut state: SessionState,
    plan: &LogicalPlan,
    tables: &BTreeMap<String, Arc<dyn TableProvider>>,
) -> SqlResult<Arc<dyn ExecutionPlan>> {
    let planned = create(&state, plan).await?;
    let Some(pool) = limit_of(state.runtime_env().memory_pool.as_ref()) else { return Ok(planned) };
    let sides = BuildSides::of(&planned, tables);
    if sides.fit(pool) {
        return Ok(planned);
    }
    tracing::info!(bytes = sides.bytes, pool, "joins are sort-merge: their build sides are large");
    let options = state.config_mut().options_mut();
    options.optimizer.prefer_hash_join = false;
    // DataFusion plans a sort-merge join only where there are several partitions.
    options.execution.target_partitions = options.execution.target_partitions.max(2);
    create(&state, plan).await
}

/// The build sides of `plan` with `tables` in its leaves, were all its joins hash joins.
pub(super) async fn build_sides(
    context: &SessionContext,
    plan: &LogicalPlan,
    tables: &BTreeMap<String, Arc<dyn TableProvider>>,
) -> Result<BuildSides> {
    let plan = Leaf::replace(plan, tables)?;
    let planned = create(&context.state(), &plan).await.map_err(unplanned)?;
    Ok(BuildSides::of(&planned, tables))
}

/// The size of the pool that `context` plans for; none where it has no limit.
pub(super) fn pool_bytes(context: &SessionContext) -> Option<usize> {
    limit_of(context.runtime_env().memory_pool.as_ref())
}

fn limit_of(pool: &dyn MemoryPool) -> Option<usize> {
    match pool.memory_limit() {
        MemoryLimit::Finite(bytes) => Some(bytes),
        _ => None,
    }
}

/// The logical plan is optimised already; only the physical planning is done per epoch.
async fn create(state: &SessionState, plan: &LogicalPlan) -> SqlResult<Arc<dyn ExecutionPlan>> {
    state.query_planner().create_physical_plan(plan, state).await
}

fn unplanned(error: DataFusionError) -> Error {
    sql_error("cannot plan an epoch", error)
}

/// The rows of `plan`, in memory. `hold` is told the bytes gathered so far and may refuse them.
pub async fn gathered(
    context: &SessionContext,
    plan: Arc<dyn ExecutionPlan>,
    mut hold: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<RecordBatch>> {
    let failed = |e| sql_error("a query failed", e);
    let mut stream = execute_stream(plan, context.task_ctx()).map_err(failed)?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(failed)?;
        bytes += bytes_of(&batch);
        hold(bytes)?;
        rows.push(batch);
    }
    Ok(rows)
}

/// One stream per partition of `plan`.
pub fn streams(
    context: &SessionContext,
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Vec<SendableRecordBatchStream>> {
    execute_stream_partitioned(plan, context.task_ctx())
        .map_err(|e| sql_error("cannot start an epoch's plan", e))
}

/// A plan that is nothing but the leaf `name`.
pub fn leaf_plan(name: &str, schema: &SchemaRef) -> Result<LogicalPlan> {
    leaf_scan(name, schema).map_err(|e| sql_error("cannot plan a scan", e))
}
