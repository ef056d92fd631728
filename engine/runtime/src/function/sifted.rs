//! Rows that a join or a top list above a scan will not want, left out right behind the scan.
//!
//! In: a physical plan. Out: the same with a node above each scan, and above its filter where nothing
//! is between, if something further up learns while it runs which rows it wants: the keys on a join's
//! other side, what a top list has already. DataFusion hands such filters down to scans, which use
//! them for row groups and pages, and for rows only while they decode, which costs more than it saves
//! unless they leave few rows. Here they are asked batch by batch, and let be for a while where most
//! rows pass. The node never decides for others: who made a filter asks it again.

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

/// Rows after which it is known whether a filter is worth its time: a few batches, since rows near
/// each other are alike.
const TRIED_ROWS: usize = 32 * 1024;

/// A filter that more rows pass costs more than it saves: a look into a join's table, and a copy of
/// the rows, against the same look later and what lies between.
const PASSING_PERCENT_MAX: usize = 60;

/// Batches for which a filter is let be that was not worth it; it may know more by then. Asked
/// for few batches in between, it costs little.
const RESTS: usize = 64;

/// Batches after which rows are given out though they are few: a top list learns from them.
const GATHERED: usize = 8;

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
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
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

    fn expressions(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.filters
    }

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
            gathered: 0,
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
    /// Batches taken since rows were given out.
    gathered: usize,
    ended: bool,
    metrics: BaselineMetrics,
}

impl Sieve {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if let Some(batch) = self.kept.next_completed_batch() {
                self.gathered = 0;
                self.metrics.record_output(batch.num_rows());
                return Ok(Some((batch, self)));
            }
            if self.ended {
                return Ok(None);
            }
            match self.batches.next().await.transpose()? {
                Some(batch) => self.take(batch)?,
                None => self.ended = true,
            }
            self.gathered += 1;
            if self.ended || self.gathered >= GATHERED {
                self.kept.finish_buffered_batch()?;
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
    use datafusion::datasource::MemTable;
    use datafusion::physical_plan::collect;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::function::{EpochTime, SessionOptions, reading};

    const ROWS: i64 = 200_000;
    const BATCH: usize = 1000;

    /// A large table `facts` of `id` and `n`, in two partitions of many batches, and a small one of
    /// every `step`th `id`.
    fn context(step: usize) -> SessionContext {
        let options = SessionOptions { memory: None, partitions: 2, time: EpochTime::default() };
        let context = reading(&options).unwrap();
        let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let ids: Vec<i64> = (0..ROWS).collect();
        let batch = |ids: &[i64]| {
            let n = ids.iter().map(|id| id % 7).collect();
            RecordBatch::try_from_iter([("id", column(ids.to_vec())), ("n", column(n))]).unwrap()
        };
        let batches: Vec<RecordBatch> = ids.chunks(BATCH).map(batch).collect();
        let halves = batches.chunks(batches.len() / 2).map(<[_]>::to_vec).collect();
        let facts = MemTable::try_new(batches[0].schema(), halves).unwrap();
        context.register_table("facts", Arc::new(facts)).unwrap();
        let few: Vec<i64> = ids.iter().step_by(step).copied().collect();
        let few = RecordBatch::try_from_iter([("id", column(few))]).unwrap();
        context.register_batch("few", few).unwrap();
        context
    }

    /// The numbers a question is answered with, and how many rows the node above `facts` let pass,
    /// if there is one.
    async fn asked(context: &SessionContext, sql: &str) -> (Vec<i64>, Option<usize>) {
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
        let numbers = |batch: &RecordBatch| {
            let columns = batch.columns().iter();
            columns.map(|c| c.as_primitive::<Int64Type>().value(0)).collect()
        };
        (numbers(&rows[0]), passed)
    }

    #[tokio::test]
    async fn rows_that_a_join_does_not_want_are_left_out() {
        let sql = "SELECT sum(f.id) FROM few k JOIN facts f ON f.id = k.id WHERE f.n < 3";
        for step in [2, 1000] {
            let (sum, passed) = asked(&context(step), sql).await;
            let wanted: Vec<i64> = (0..ROWS).step_by(step).filter(|id| id % 7 < 3).collect();
            assert_eq!(sum, [wanted.iter().sum::<i64>()], "every {step}th");
            let passed = passed.expect("a node above the large table");
            assert_eq!(passed, wanted.len(), "every {step}th");
        }
    }

    #[tokio::test]
    async fn a_join_that_wants_all_rows_gets_them() {
        let all = "SELECT count(*) FROM few k JOIN facts f ON f.n = k.id";
        let (count, passed) = asked(&context(1), all).await;
        assert_eq!(count, [ROWS]);
        assert!(passed.is_none_or(|passed| passed == ROWS as usize), "{passed:?}");
    }

    #[tokio::test]
    async fn a_top_list_learns_from_few_rows() {
        let sql = "SELECT id FROM facts ORDER BY n DESC, id DESC LIMIT 1";
        let (id, passed) = asked(&context(10), sql).await;
        let last = (0..ROWS).rev().find(|id| id % 7 == 6).unwrap();
        assert_eq!(id, [last]);
        assert!(passed.is_some_and(|passed| passed < ROWS as usize), "{passed:?}");
    }

    /// DataFusion's own filters for these leave out rows that another aggregate wants.
    #[tokio::test]
    async fn smallest_and_largest_are_of_all_rows() {
        let context = context(10);
        let cases: [(&str, [i64; 2]); 3] = [
            ("min(id), max(id + 1)", [0, ROWS]),
            ("min(id), max(CASE WHEN id >= 150000 THEN id END)", [0, ROWS - 1]),
            ("min(n), max(id) FILTER (WHERE n < 3)", [0, ROWS - 1]),
        ];
        for (columns, expected) in cases {
            let (found, _) = asked(&context, &format!("SELECT {columns} FROM facts")).await;
            assert_eq!(found, expected, "{columns}");
        }
    }

    #[tokio::test]
    async fn plans_without_such_filters_have_no_node() {
        let (count, passed) = asked(&context(10), "SELECT count(*) FROM facts WHERE n < 7").await;
        assert_eq!((count, passed), (vec![ROWS], None));
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
