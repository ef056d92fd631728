//! Short-lived accumulators: partial states in, one merged state or final value per group out.
//!
//! They are DataFusion's own, made anew for every merge, because theirs keep no state that could be
//! looked at. Which aggregates can be kept at all is decided here, once.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use sluice_core::{Error, Result};

use crate::catalog::sql_error;
use crate::plan::{DIGESTS, ORDER_DEPENDENT, can_be_kept};

/// The aggregates of one `GROUP BY`.
#[derive(Debug)]
pub(super) struct Accumulators {
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    /// State columns per aggregate.
    widths: Vec<usize>,
    /// No `GROUP BY`: DataFusion then runs the accumulators of single groups.
    single: bool,
}

/// Rows of state to merge: the state columns of all aggregates, and per row its group.
pub(super) struct Input {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) indices: Vec<usize>,
}

impl Accumulators {
    /// Refuses, with the reason, what cannot be kept.
    pub(super) fn new(
        aggregates: Vec<Arc<AggregateFunctionExpr>>,
        single: bool,
    ) -> Result<Accumulators> {
        let mut canonical = Vec::with_capacity(aggregates.len());
        let mut widths = Vec::with_capacity(aggregates.len());
        for aggregate in aggregates {
            let aggregate = canonical_form(aggregate)?;
            check(&aggregate)?;
            widths.push(fields_of(&aggregate)?.len());
            canonical.push(aggregate);
        }
        Ok(Self { aggregates: canonical, widths, single })
    }

    /// Names and types of all state columns.
    pub(super) fn state_fields(&self) -> Result<Vec<Field>> {
        let mut fields = vec![];
        for (index, aggregate) in self.aggregates.iter().enumerate() {
            for (column, data_type) in fields_of(aggregate)?.into_iter().enumerate() {
                fields.push(Field::new(format!("s{index}_{column}"), data_type, true));
            }
        }
        Ok(fields)
    }

    /// The state of no rows at all, one row.
    pub(super) fn empty(&self) -> Result<Vec<ArrayRef>> {
        let mut columns = vec![];
        for aggregate in &self.aggregates {
            let mut accumulator = aggregate.create_accumulator().map_err(|e| failed("make", e))?;
            for value in accumulator.state().map_err(|e| failed("read", e))? {
                columns.push(value.to_array().map_err(|e| failed("read", e))?);
            }
        }
        Ok(columns)
    }

    /// The merged state of groups `0..groups`, in that order.
    ///
    /// Groups must be numbered in the order in which `inputs` mention them: accumulators take every
    /// group they are told of as met, and one that is not would end with 0 where NULL is right.
    pub(super) fn merge(&self, inputs: &[Input], groups: usize) -> Result<Vec<ArrayRef>> {
        let mut merged = vec![];
        for (aggregate, range) in self.ranges() {
            let columns = if groups == 0 {
                fields_of(aggregate)?.iter().map(arrow::array::new_empty_array).collect()
            } else {
                let mut accumulator = self.make(aggregate)?;
                let mut met = 0;
                for input in inputs {
                    met = input.indices.iter().fold(met, |met, &index| met.max(index + 1));
                    accumulator
                        .merge_batch(&input.columns[range.clone()], &input.indices, met)
                        .map_err(|e| failed("merge", e))?;
                }
                accumulator.state(EmitTo::All).map_err(|e| failed("read", e))?
            };
            merged.extend(expect_rows(columns, groups, aggregate)?);
        }
        Ok(merged)
    }

    /// The final values of groups `0..groups`: one column per aggregate. `state` has a row each.
    pub(super) fn evaluate(&self, state: &[ArrayRef], groups: usize) -> Result<Vec<ArrayRef>> {
        let indices: Vec<usize> = (0..groups).collect();
        let mut values = vec![];
        for (aggregate, range) in self.ranges() {
            let column = if groups == 0 {
                arrow::array::new_empty_array(aggregate.field().data_type())
            } else {
                let mut accumulator = self.make(aggregate)?;
                accumulator
                    .merge_batch(&state[range], &indices, groups)
                    .map_err(|e| failed("merge", e))?;
                accumulator.evaluate(EmitTo::All).map_err(|e| failed("evaluate", e))?
            };
            values.extend(expect_rows(vec![column], groups, aggregate)?);
        }
        Ok(values)
    }

    /// Each aggregate with the range of its state columns.
    fn ranges(
        &self,
    ) -> impl Iterator<Item = (&Arc<AggregateFunctionExpr>, std::ops::Range<usize>)> {
        let mut start = 0;
        self.aggregates.iter().zip(&self.widths).map(move |(aggregate, width)| {
            let range = start..start + width;
            start += width;
            (aggregate, range)
        })
    }

    fn make(&self, aggregate: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
        if !self.single && aggregate.groups_accumulator_supported() {
            return aggregate.create_groups_accumulator().map_err(|e| failed("make", e));
        }
        let aggregate = aggregate.clone();
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
    }
}

/// The aggregate without what the optimizer learned about the order of one plan's rows: merged
/// states come from many plans, in no order.
fn canonical_form(aggregate: Arc<AggregateFunctionExpr>) -> Result<Arc<AggregateFunctionExpr>> {
    let aggregate = match aggregate.is_reversed() {
        true => aggregate.reverse_expr().map(Arc::new).unwrap_or(aggregate),
        false => aggregate,
    };
    if aggregate.order_sensitivity() != AggregateOrderSensitivity::Beneficial {
        return Ok(aggregate);
    }
    let unordered = aggregate.clone().with_beneficial_ordering(false);
    Ok(unordered.map_err(|e| failed("make", e))?.map(Arc::new).unwrap_or(aggregate))
}

fn check(aggregate: &AggregateFunctionExpr) -> Result<()> {
    let name = aggregate.fun().name();
    if ORDER_DEPENDENT.contains(&name) && aggregate.order_bys().is_empty() {
        return Err(Error::config(format!(
            "the result depends on the order in which rows arrive aggregate={name}"
        ))
        .hint(format!("say which order: {name}(… ORDER BY …), or use min or max")));
    }
    if DIGESTS.contains(&name) {
        return Err(Error::config(format!(
            "the estimate depends on the order in which rows are merged aggregate={name}"
        ))
        .hint("use median or percentile_cont, which are exact"));
    }
    for data_type in fields_of(aggregate)? {
        if !can_be_kept(&data_type) {
            return Err(Error::config(format!(
                "the state cannot be kept as a column aggregate={name} type={data_type}"
            ))
            .hint("cast the argument to a number, a string, a date or a timestamp"));
        }
    }
    Ok(())
}

fn fields_of(aggregate: &AggregateFunctionExpr) -> Result<Vec<DataType>> {
    let fields = aggregate.state_fields().map_err(|e| {
        let name = aggregate.fun().name();
        Error::config(format!("the aggregate has no mergeable state aggregate={name}")).because(e)
    })?;
    Ok(fields.iter().map(|f| f.data_type().clone()).collect())
}

fn expect_rows(
    columns: Vec<ArrayRef>,
    rows: usize,
    aggregate: &AggregateFunctionExpr,
) -> Result<Vec<ArrayRef>> {
    match columns.iter().find(|c| c.len() != rows) {
        None => Ok(columns),
        Some(column) => Err(Error::bug(format!(
            "an accumulator gave the wrong number of groups aggregate={} expected={rows} found={}",
            aggregate.fun().name(),
            column.len()
        ))),
    }
}

fn failed(verb: &str, error: DataFusionError) -> Error {
    sql_error(&format!("cannot {verb} an aggregate's state"), error)
}
