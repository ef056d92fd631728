//! From a physical plan of `GROUP BY` to its partial stage.
//!
//! In: the optimised physical plan of a logical `Aggregate`, whichever form the optimizer chose.
//! Out: a plan that puts out partial state, and the pieces [`super::Incremental`] needs. It neither
//! plans nor runs anything.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{
    AggregateExec, AggregateInputMode, AggregateMode, AggregateOutputMode,
};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use sluice_core::{Error, Result};

use crate::catalog::sql_error;

/// The logical rule that must be off: it makes two levels of grouping out of a single
/// `count(DISTINCT …)`, whose outer state counts and cannot be merged across epochs.
pub const LOGICAL_RULE_OFF: &str = "single_distinct_aggregation_to_group_by";

/// The physical rule that must be off: it answers `count(*)`, `min` and `max` without `GROUP BY`
/// from the statistics of the input, and no aggregate is left in the plan.
pub const PHYSICAL_RULE_OFF: &str = "aggregate_statistics";

/// The partial stage of a `GROUP BY`.
#[derive(Debug, Clone)]
pub struct PartialAggregate {
    /// Puts out the group columns, then the state columns of every aggregate; one or more
    /// partitions, a group may be in each of them. Must be run completely.
    pub plan: Arc<dyn ExecutionPlan>,
    /// The group columns.
    pub group_fields: Vec<FieldRef>,
    /// The aggregates, in the order of their columns.
    pub aggregates: Vec<Arc<AggregateFunctionExpr>>,
    /// The final result: group columns, then one column per aggregate.
    pub output: SchemaRef,
}

/// Finds the topmost aggregate of `physical` and gives its partial stage.
///
/// Above it there may be nodes that only move rows. The plan must have been made with
/// [`LOGICAL_RULE_OFF`] and [`PHYSICAL_RULE_OFF`] off, from a logical plan whose root is the
/// `Aggregate`: filters, projections, sorts and limits above it are the caller's to apply.
///
/// # Errors
/// `Config` for grouping sets, which are not kept incrementally; `Bug` when there is no aggregate.
pub fn partial_of(physical: &Arc<dyn ExecutionPlan>) -> Result<PartialAggregate> {
    let top = topmost(physical)?;
    if top.limit_options().is_some() {
        return Err(Error::bug("the aggregate was planned with a limit"));
    }
    let plan = match (top.mode().input_mode(), top.mode().output_mode()) {
        (AggregateInputMode::Raw, AggregateOutputMode::Final) => as_partial(top)?,
        (AggregateInputMode::Partial, AggregateOutputMode::Final) => below(top)?.clone(),
        (_, AggregateOutputMode::Partial) => return Err(no_aggregate(physical)),
    };
    let groups = top.group_expr().num_group_exprs();
    let aggregates = top.aggr_expr().to_vec();
    let output = top.schema();
    if output.fields().len() != groups + aggregates.len() {
        return Err(no_aggregate(physical));
    }
    // A final stage groups by plain columns: only the partial one knows of grouping sets.
    let sets = plan.downcast_ref::<AggregateExec>().map(|p| p.group_expr().has_grouping_set());
    if sets != Some(false) {
        return Err(Error::config("grouping sets, rollup and cube are not kept incrementally")
            .hint("make one view per grouping, or let the view be recomputed"));
    }
    let group_fields = plan.schema().fields()[..groups].to_vec();
    Ok(PartialAggregate { plan, group_fields, aggregates, output })
}

fn topmost(physical: &Arc<dyn ExecutionPlan>) -> Result<&AggregateExec> {
    let mut node = physical;
    loop {
        if let Some(found) = node.downcast_ref::<AggregateExec>() {
            return Ok(found);
        }
        let moves_rows = node.is::<CoalescePartitionsExec>()
            || node.is::<RepartitionExec>()
            || node.is::<CooperativeExec>();
        match node.children().as_slice() {
            [child] if moves_rows && node.fetch().is_none() => node = child,
            _ => return Err(no_aggregate(physical)),
        }
    }
}

/// The partial stage under a final one, past repartitioning, sorting and reducing.
fn below(top: &AggregateExec) -> Result<&Arc<dyn ExecutionPlan>> {
    let mut node = top.input();
    loop {
        if let Some(found) = node.downcast_ref::<AggregateExec>() {
            match found.mode() {
                AggregateMode::Partial => return Ok(node),
                AggregateMode::PartialReduce => {}
                _ => return Err(no_aggregate(top.input())),
            }
        }
        match node.children().as_slice() {
            [child] => node = child,
            _ => return Err(no_aggregate(top.input())),
        }
    }
}

/// The same aggregate over the same input, putting out state.
fn as_partial(single: &AggregateExec) -> Result<Arc<dyn ExecutionPlan>> {
    let partial = AggregateExec::try_new(
        AggregateMode::Partial,
        single.group_expr().clone(),
        single.aggr_expr().to_vec(),
        single.filter_expr().to_vec(),
        single.input().clone(),
        single.input_schema(),
    );
    let partial = partial.map_err(|e| sql_error("cannot plan the partial aggregate", e))?;
    Ok(Arc::new(partial))
}

fn no_aggregate(plan: &Arc<dyn ExecutionPlan>) -> Error {
    Error::bug(format!("the plan's root is not an aggregate root={}", plan.name())).hint(format!(
        "plan the aggregate alone, with the rules {LOGICAL_RULE_OFF} and {PHYSICAL_RULE_OFF} off"
    ))
}
