//! How much the build sides of a plan's hash joins may hold: they cannot spill.
//!
//! In: a physical plan and the tables in it. Out: estimated bytes, and whether they fit. What is
//! not known is taken for large: a sort-merge join costs time, a hash join that does not fit the
//! epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::catalog::TableProvider;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// Build sides may take this part of the pool: they are held twice while their table is made, and
/// sorts, aggregates and writers want their share too.
const POOL_SHARE: usize = 4;

/// What a value without a fixed width takes on average, its offset included.
const TEXT_BYTES: usize = 32;

/// What the entry of a row in a hash table takes.
const ENTRY_BYTES: usize = 16;

/// The build sides of all hash joins of a plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct BuildSides {
    /// All together, in bytes.
    pub bytes: usize,
}

impl BuildSides {
    /// Estimates those of `plan`, which reads `tables`.
    pub fn of(
        plan: &Arc<dyn ExecutionPlan>,
        tables: &BTreeMap<String, Arc<dyn TableProvider>>,
    ) -> Self {
        let rows = |table: &Arc<dyn TableProvider>| {
            table.statistics().and_then(|s| s.num_rows.get_value().copied())
        };
        let largest = tables.values().filter_map(rows).max().unwrap_or(0);
        Self { bytes: sides(plan, largest) }
    }

    /// Whether they fit into a pool of `pool` bytes beside everything else.
    pub fn fit(self, pool: usize) -> bool {
        self.bytes <= Self::bytes_max(pool)
    }

    /// How much of a pool of `pool` bytes they may take.
    pub fn bytes_max(pool: usize) -> usize {
        pool / POOL_SHARE
    }
}

fn sides(plan: &Arc<dyn ExecutionPlan>, largest: usize) -> usize {
    let below: usize = plan.children().into_iter().map(|child| sides(child, largest)).sum();
    let Some(join) = plan.downcast_ref::<HashJoinExec>() else { return below };
    let side = join.left();
    let row = row_bytes(&side.schema()) + ENTRY_BYTES;
    below.saturating_add(rows(side, largest).saturating_mul(row))
}

/// Rows of a plan: its own estimate, else that of its largest input; a leaf that does not say may
/// be the largest table.
fn rows(plan: &Arc<dyn ExecutionPlan>, largest: usize) -> usize {
    let known = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok();
    if let Some(rows) = known.and_then(|s| s.num_rows.get_value().copied()) {
        return rows;
    }
    let inputs = plan.children().into_iter().map(|child| rows(child, largest));
    inputs.max().unwrap_or(largest)
}

fn row_bytes(schema: &Schema) -> usize {
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(TEXT_BYTES);
    schema.fields().iter().map(|f| width(f.data_type())).sum()
}
