//! From a cached logical plan to running streams.
//!
//! Each epoch puts its own tables into the leaves and plans physically: a physical plan is never
//! run twice, because joins and dynamic filters would keep what they saw.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{
    ExecutionPlan, SendableRecordBatchStream, execute_stream_partitioned,
};
use datafusion::prelude::SessionContext;
use sluice_core::Result;

use super::statement::leaf_scan;
use crate::catalog::{Leaf, sql_error};

/// The physical plan of `plan` with `tables` in its leaves.
pub async fn physical(
    context: &SessionContext,
    plan: &LogicalPlan,
    tables: &BTreeMap<String, Arc<dyn TableProvider>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = Leaf::replace(plan, tables)?;
    let state = context.state();
    // The logical plan is optimised already; only the physical planning is done per epoch.
    state
        .query_planner()
        .create_physical_plan(&plan, &state)
        .await
        .map_err(|e| sql_error("cannot plan an epoch", e))
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
