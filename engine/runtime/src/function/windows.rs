//! The rows that window functions keep, in the memory pool.
//!
//! In: a physical plan. Out: the same with a node below each `WindowAggExec`, which keeps all rows of
//! its input and reserves nothing for them. The node passes batches on and reserves what they take
//! until its stream is dropped; where there is no room, the query ends with a message that names the
//! window. Windows over a bounded frame keep few rows and go without.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions, SendableRecordBatchStream,
};
use futures::StreamExt;

use super::bytes_of;
use super::pass::{Pass, PassExec};

/// The batches, and the one batch that the window makes of them before it gives out any.
const COPIES: usize = 2;

/// Puts a node below windows; the last rule, so that no other sees it.
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
            let inputs = plan.children().into_iter().cloned();
            let inputs = inputs.map(|input| PassExec::over(input, Hold)).collect();
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
#[derive(Debug, Clone)]
struct Hold;

impl Pass for Hold {
    const NAME: &'static str = "HeldExec";

    fn pass(
        &self,
        partition: usize,
        context: &TaskContext,
        batches: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream> {
        let consumer = MemoryConsumer::new(format!("WindowAggExec[{partition}]"));
        let reserved = consumer.register(context.memory_pool());
        let schema = batches.schema();
        let batches = batches.map(move |batch| {
            let batch = batch?;
            reserved.try_grow(COPIES * bytes_of(&batch))?;
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}
