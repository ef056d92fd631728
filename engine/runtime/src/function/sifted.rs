//! Rows that a join or a top list above a scan will not want, left out right behind the scan.
//!
//! In: a physical plan. Out: the same with a node above each scan of files and its filter, where
//! something above learns while it runs which rows it wants: the keys on a join's other side, what a
//! top list has already. DataFusion hands such filters down to scans, which use them for row groups and
//! pages, and for rows only while they decode, which costs more than it saves unless they leave few
//! rows. Here they are asked batch by batch, and let be for a while where most rows pass. The node
//! never decides for others: who made a filter asks it again.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{BatchCoalescer, filter_record_batch, prep_null_mask_filter};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::DynamicFilterTracking;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, PushedDown,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions, SendableRecordBatchStream,
};
use futures::{StreamExt, stream};

use super::pass::{Pass, PassExec};

/// Rows after which it is known whether a filter is worth its time.
const TRIED_ROWS: usize = 32 * 1024;

/// A filter that more rows pass costs more than it saves.
const PASSING_PERCENT_MAX: usize = 60;

/// Batches for which a filter is let be that was not worth it; it may know more by then.
const RESTS: usize = 64;

/// Puts nodes above scans before filters are handed down, and takes away those that got none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SiftScans {
    Begin,
    End,
}

impl PhysicalOptimizerRule for SiftScans {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let sifted = plan.transform_up(|plan| match self {
            Self::Begin if plan.is::<DataSourceExec>() => {
                Ok(Transformed::yes(PassExec::over(plan, Sift::default())))
            }
            Self::Begin if plan.is::<FilterExec>() => above(plan),
            Self::End => Ok(match plan.downcast_ref::<PassExec<Sift>>() {
                Some(node) if node.pass.filters.is_empty() => Transformed::yes(node.input.clone()),
                _ => Transformed::no(plan),
            }),
            Self::Begin => Ok(Transformed::no(plan)),
        });
        sifted.map(|sifted| sifted.data)
    }

    fn name(&self) -> &str {
        match self {
            Self::Begin => "sift_scans_begin",
            Self::End => "sift_scans_end",
        }
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A filter, which is cheaper than what is learned, comes before the node.
fn above(filter: Arc<dyn ExecutionPlan>) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let inputs = filter.children();
    let Some(node) = inputs.first().and_then(|input| input.downcast_ref::<PassExec<Sift>>()) else {
        return Ok(Transformed::no(filter));
    };
    let scan = vec![node.input.clone()];
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    let filter = filter.clone().replace_children(scan, options)?;
    Ok(Transformed::yes(PassExec::over(filter, Sift::default())))
}

/// Leaves out rows by filters that others learn.
#[derive(Debug, Clone, Default)]
struct Sift {
    filters: Vec<Arc<dyn PhysicalExpr>>,
    metrics: ExecutionPlanMetricsSet,
}

impl Pass for Sift {
    const NAME: &'static str = "SiftedExec";

    fn details(&self) -> String {
        let filters: Vec<String> = self.filters.iter().map(ToString::to_string).collect();
        format!(": {}", filters.join(" AND "))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn knowing(&self, phase: FilterPushdownPhase, result: &ChildPushdownResult) -> Option<Self> {
        if phase != FilterPushdownPhase::Post {
            return None;
        }
        let left = result.parent_filters.iter().filter(|f| matches!(f.all(), PushedDown::No));
        let learned = left.map(|f| f.filter.clone());
        let learned =
            learned.filter(|f| DynamicFilterTracking::classify(f).contains_dynamic_filter());
        let filters: Vec<_> = learned.collect();
        (!filters.is_empty()).then(|| Self { filters, metrics: self.metrics.clone() })
    }

    fn pass(
        &self,
        partition: usize,
        context: &TaskContext,
        batches: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream> {
        if self.filters.is_empty() {
            return Ok(batches);
        }
        let schema = batches.schema();
        let rows = context.session_config().batch_size();
        let sieve = Sieve {
            filters: self.filters.iter().cloned().map(Watched::new).collect(),
            // Whole batches are not copied only to be joined with others.
            kept: BatchCoalescer::new(schema.clone(), rows)
                .with_biggest_coalesce_batch_size(Some(rows / 2)),
            batches,
            ended: false,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let sifted = stream::try_unfold(sieve, Sieve::next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, sifted)))
    }
}

/// A partition's batches on their way.
struct Sieve {
    filters: Vec<Watched>,
    kept: BatchCoalescer,
    batches: SendableRecordBatchStream,
    ended: bool,
    metrics: BaselineMetrics,
}

impl Sieve {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if let Some(batch) = self.kept.next_completed_batch() {
                self.metrics.record_output(batch.num_rows());
                return Ok(Some((batch, self)));
            }
            if self.ended {
                return Ok(None);
            }
            match self.batches.next().await.transpose()? {
                Some(batch) => self.take(batch)?,
                None => {
                    self.ended = true;
                    self.kept.finish_buffered_batch()?;
                }
            }
        }
    }

    fn take(&mut self, mut batch: RecordBatch) -> Result<()> {
        let taken = self.metrics.elapsed_compute().clone();
        let _timer = taken.timer();
        let mut passing: Option<BooleanArray> = None;
        for filter in &mut self.filters {
            if filter.rests() {
                continue;
            }
            if let Some(passing) = passing.take() {
                batch = filter_record_batch(&batch, &passing)?;
            }
            passing = filter.passing(&batch)?;
        }
        match passing {
            Some(passing) => self.kept.push_batch_with_filter(batch, &passing)?,
            None => self.kept.push_batch(batch)?,
        }
        Ok(())
    }
}

/// A filter, and how many rows pass it.
#[derive(Debug)]
struct Watched {
    filter: Arc<dyn PhysicalExpr>,
    tried: usize,
    passed: usize,
    /// Batches that go by before it is asked again.
    rests: usize,
}

impl Watched {
    fn new(filter: Arc<dyn PhysicalExpr>) -> Self {
        Self { filter, tried: 0, passed: 0, rests: 0 }
    }

    /// Whether it is let be for the batch at hand.
    fn rests(&mut self) -> bool {
        let rests = self.rests > 0;
        self.rests = self.rests.saturating_sub(1);
        rests
    }

    /// Which rows pass; none where all do.
    fn passing(&mut self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        let found = self.filter.evaluate(batch)?.into_array(batch.num_rows())?;
        let mut passing = found.as_boolean().clone();
        if passing.null_count() > 0 {
            passing = prep_null_mask_filter(&passing);
        }
        let passed = passing.true_count();
        self.count(batch.num_rows(), passed);
        Ok((passed < batch.num_rows()).then_some(passing))
    }

    fn count(&mut self, rows: usize, passed: usize) {
        self.tried += rows;
        self.passed += passed;
        if self.tried < TRIED_ROWS {
            return;
        }
        if self.passed * 100 > self.tried * PASSING_PERCENT_MAX {
            self.rests = RESTS;
        }
        (self.tried, self.passed) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::Int64Type;
    use datafusion::common::tree_node::TreeNodeRecursion;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::function::{EpochTime, SessionOptions, reading};

    const ROWS: i64 = 200_000;

    /// A large table `facts` of `id` and `n`, and a small one of every `step`th `id`.
    fn context(step: usize) -> SessionContext {
        let options = SessionOptions { memory: None, partitions: 2, time: EpochTime::default() };
        let context = reading(&options).unwrap();
        let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let ids = || 0..ROWS;
        let facts =
            [("id", column(ids().collect())), ("n", column(ids().map(|n| n % 7).collect()))];
        let few = [("id", column(ids().step_by(step).collect()))];
        context.register_batch("facts", RecordBatch::try_from_iter(facts).unwrap()).unwrap();
        context.register_batch("few", RecordBatch::try_from_iter(few).unwrap()).unwrap();
        context
    }

    /// The one number a question is answered with, and how many rows nodes let pass, if there is one.
    async fn asked(context: &SessionContext, sql: &str) -> (i64, Option<usize>) {
        let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let rows = collect(plan.clone(), context.task_ctx()).await.unwrap();
        let mut passed = None;
        plan.apply(|node| {
            if node.is::<PassExec<Sift>>() {
                passed = node.metrics().and_then(|metrics| metrics.output_rows());
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .unwrap();
        (rows[0].column(0).as_primitive::<Int64Type>().value(0), passed)
    }

    #[tokio::test]
    async fn rows_that_a_join_does_not_want_are_left_out() {
        let sql = "SELECT sum(f.id) FROM facts f JOIN few k ON f.id = k.id WHERE f.n < 3";
        for step in [1, 2, 1000] {
            let (sum, passed) = asked(&context(step), sql).await;
            let wanted = || (0..ROWS).step_by(step).filter(|id| id % 7 < 3);
            assert_eq!(sum, wanted().sum::<i64>(), "every {step}th");
            let passed = passed.expect("a node above the large table");
            assert!(passed >= wanted().count(), "every {step}th: {passed} rows passed");
            assert_eq!(passed == wanted().count(), step == 1000, "every {step}th: {passed} rows");
        }
    }

    #[tokio::test]
    async fn plans_without_such_filters_have_no_node() {
        let (count, passed) = asked(&context(10), "SELECT count(*) FROM facts WHERE n = 3").await;
        assert_eq!((count, passed), (ROWS / 7, None));
    }

    #[test]
    fn filters_that_most_rows_pass_are_let_be_for_a_while() {
        let mut filter = Watched::new(datafusion::physical_expr::expressions::lit(true));
        for (passed, rests) in [(0, 0), (60, 0), (61, RESTS), (100, RESTS)] {
            filter.count(TRIED_ROWS - 100, TRIED_ROWS * passed / 100 - passed);
            assert!(!filter.rests(), "{passed} %: too early to say");
            filter.count(100, passed);
            let rested = std::iter::repeat_with(|| filter.rests()).take_while(|rests| *rests);
            assert_eq!(rested.count(), rests, "{passed} %");
        }
    }
}
