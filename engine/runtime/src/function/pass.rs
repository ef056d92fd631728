//! A node of a plan that gives out the rows of its input as they are, all of them or some.
//!
//! In: what is done with the batches of a partition. Out: the node, with all that a plan wants to
//! know of one and that is its input's: columns, order, statistics. What it is for, those say who
//! make it.

use std::fmt;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{
    ChildStats, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    SendableRecordBatchStream, Statistics, StatisticsArgs,
};

/// What a node does with batches that pass through it.
pub(super) trait Pass: fmt::Debug + Clone + Send + Sync + 'static {
    /// What plans call the node.
    const NAME: &'static str;

    /// The batches of a partition, which come in the same order, without rows or in pieces perhaps.
    fn pass(
        &self,
        partition: usize,
        context: &TaskContext,
        batches: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream>;

    /// What it asks of rows: who made such an expression looks for it in the plan.
    fn expressions(&self) -> &[Arc<dyn PhysicalExpr>] {
        &[]
    }

    /// What plans say behind the name.
    fn details(&self) -> String {
        String::new()
    }

    /// What the node has counted.
    fn metrics(&self) -> Option<MetricsSet> {
        None
    }

    /// The same knowing of filters that come from above, where that makes another of it.
    fn knowing(&self, _: FilterPushdownPhase, _: &ChildPushdownResult) -> Option<Self> {
        None
    }
}

/// The node.
#[derive(Debug)]
pub(super) struct PassExec<P> {
    pub input: Arc<dyn ExecutionPlan>,
    pub pass: P,
}

impl<P: Pass> PassExec<P> {
    pub(super) fn over(input: Arc<dyn ExecutionPlan>, pass: P) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, pass })
    }
}

impl<P: Pass> DisplayAs for PassExec<P> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", P::NAME, self.pass.details())
    }
}

impl<P: Pass> ExecutionPlan for PassExec<P> {
    fn name(&self) -> &str {
        P::NAME
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
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut found = TreeNodeRecursion::Continue;
        for expression in self.pass.expressions() {
            found = found.visit_sibling(|| visit(expression))?;
        }
        Ok(found)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Self::over(children.swap_remove(0), self.pass.clone()))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(Arc::new(Statistics::clone(&inputs[0]).to_inexact()))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.pass.metrics()
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let knowing = self.pass.knowing(phase, &result);
        let told = FilterPushdownPropagation::if_all(result);
        Ok(match knowing {
            Some(pass) => told.with_updated_node(Self::over(self.input.clone(), pass)),
            None => told,
        })
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let batches = self.input.execute(partition, context.clone())?;
        self.pass.pass(partition, &context, batches)
    }
}
