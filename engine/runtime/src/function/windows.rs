//! The rows that window functions keep, in the memory pool.
//!
//! In: a physical plan. Out: the same with a node below each `WindowAggExec`, which keeps all rows of
//! its input and reserves nothing for them. The node passes batches on and reserves what they take
//! until its stream is dropped; where there is no room, the query ends with a message that names the
//! window. Windows over a bounded frame keep few rows and go without.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{
    ChildStats, ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan,
    PlanProperties, ReplaceChildrenOptions, SendableRecordBatchStream, Statistics, StatisticsArgs,
};
use futures::StreamExt;

use super::bytes_of;

/// The batches, and the one batch that the window makes of them before it gives out any.
const COPIES: usize = 2;

/// Puts a [`HeldExec`] below windows; the last rule, so that no other sees it.
#[derive(Debug)]
pub(super) struct HoldWindows;

impl PhysicalOptimizerRule for HoldWindows {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let held = plan.transform_up(|plan| {
            if !plan.is::<WindowAggExec>() {
                return Ok(Transformed::no(plan));
            }
            let inputs = plan.children().into_iter().cloned().map(HeldExec::over).collect();
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            plan.replace_children(inputs, options).map(Transformed::yes)
        });
        held.map(|held| held.data)
    }

    fn name(&self) -> &str {
        "hold_windows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Passes batches on, and reserves what all of them take.
#[derive(Debug)]
struct HeldExec {
    input: Arc<dyn ExecutionPlan>,
}

impl HeldExec {
    fn over(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input })
    }
}

impl DisplayAs for HeldExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldExec")
    }
}

impl ExecutionPlan for HeldExec {
    fn name(&self) -> &str {
        "HeldExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Self::over(children.swap_remove(0)))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(inputs[0].clone())
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let consumer = MemoryConsumer::new(format!("WindowAggExec[{partition}]"));
        let reserved = consumer.register(context.memory_pool());
        let batches = self.input.execute(partition, context)?.map(move |batch| {
            let batch = batch?;
            reserved.try_grow(COPIES * bytes_of(&batch))?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
