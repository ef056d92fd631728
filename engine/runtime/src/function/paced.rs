//! Scans and joins that let others work, and can be ended.
//!
//! In: a physical plan. Out: the same with nodes around its scans and joins. DataFusion lets others
//! work when so many batches have come or gone: those of a whole row group, over which a question
//! that takes a millisecond would wait for tens of them. So a scan lets others work after each batch.
//! A join may look at billions of pairs of rows and give none, and a task that never lets others work
//! can neither be ended nor told that its time is over. So the rows that a nested loop compares are
//! handed to it in pieces of so few pairs that each is done soon, and every row that a join gives
//! counts as work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arrow::array::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions, SendableRecordBatchStream,
};
use futures::{StreamExt, stream};

use super::pass::{Pass, PassExec};

/// Pairs of rows that are compared in one go: some hundredths of a second.
const PAIRS_MAX: usize = 4 << 20;

/// Puts nodes around scans and joins; for plans that people ask for, whose time is limited.
#[derive(Debug)]
pub(super) struct PacePlans;

impl PhysicalOptimizerRule for PacePlans {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let paced = plan.transform_up(|plan| {
            if plan.is::<DataSourceExec>() {
                return Ok(Transformed::yes(PassExec::over(plan, Turns)));
            }
            let multiplies = plan.is::<HashJoinExec>()
                || plan.is::<SortMergeJoinExec>()
                || plan.is::<CrossJoinExec>()
                || plan.is::<UnnestExec>();
            if multiplies {
                return Ok(Transformed::yes(Arc::new(CooperativeExec::new(plan)) as _));
            }
            if !plan.is::<NestedLoopJoinExec>() {
                return Ok(Transformed::no(plan));
            }
            let kept = Arc::new(AtomicUsize::new(0));
            let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
            for (side, input) in [Side::Kept, Side::Compared].into_iter().zip(plan.children()) {
                inputs.push(PassExec::over(input.clone(), Pace { side, kept: kept.clone() }));
            }
            let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            let join = plan.replace_children(inputs, options)?;
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(join)) as _))
        });
        paced.map(|paced| paced.data)
    }

    fn name(&self) -> &str {
        "pace_plans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Lets others work after each batch.
#[derive(Debug, Clone)]
struct Turns;

impl Pass for Turns {
    const NAME: &'static str = "TurnsExec";

    fn pass(
        &self,
        _partition: usize,
        _context: &TaskContext,
        batches: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream> {
        let schema = batches.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.then(given))))
    }
}

/// Which input of a nested loop join it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// All of its rows are kept before the other is looked at.
    Kept,
    /// Each of its rows is compared with all that are kept.
    Compared,
}

/// Counts the rows that a join keeps, and hands it those that it compares in pieces.
#[derive(Debug, Clone)]
struct Pace {
    side: Side,
    /// Rows that are kept.
    kept: Arc<AtomicUsize>,
}

impl Pass for Pace {
    const NAME: &'static str = "PacedExec";

    fn pass(
        &self,
        _partition: usize,
        _context: &TaskContext,
        batches: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream> {
        let kept = self.kept.clone();
        let schema = batches.schema();
        if self.side == Side::Kept {
            let counted = batches.inspect(move |batch| {
                if let Ok(batch) = batch {
                    kept.fetch_add(batch.num_rows(), Relaxed);
                }
            });
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)));
        }
        let paced = batches.flat_map(move |batch| match batch {
            Ok(batch) => {
                let rows = piece_rows(batch.num_rows(), kept.load(Relaxed));
                stream::iter(pieces(&batch, rows)).map(Ok).then(given).boxed()
            }
            Err(error) => stream::iter([Err(error)]).boxed(),
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, paced)))
    }
}

/// Rows of a piece of a batch of so many, where so many are kept.
fn piece_rows(rows: usize, kept: usize) -> usize {
    (PAIRS_MAX / kept.max(1)).clamp(1, rows.max(1))
}

fn pieces(batch: &RecordBatch, rows: usize) -> Vec<RecordBatch> {
    let starts = (0..batch.num_rows()).step_by(rows);
    starts.map(|from| batch.slice(from, rows.min(batch.num_rows() - from))).collect()
}

/// A batch or a piece, after others had their turn.
async fn given(rows: Result<RecordBatch>) -> Result<RecordBatch> {
    tokio::task::yield_now().await;
    rows
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use datafusion::datasource::MemTable;

    use super::*;
    use crate::function::{EpochTime, SessionOptions, reading};

    #[test]
    fn pieces_have_few_pairs_and_all_rows() {
        assert_eq!(piece_rows(8192, 0), 8192);
        assert_eq!(piece_rows(8192, 100), 8192);
        assert_eq!(piece_rows(8192, PAIRS_MAX / 64), 64);
        assert_eq!(piece_rows(8192, usize::MAX), 1);
        assert_eq!(piece_rows(0, 1), 1);
        let numbers = arrow::array::Int64Array::from_iter_values(0..10);
        let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).unwrap();
        let sizes =
            |rows| pieces(&batch, rows).iter().map(RecordBatch::num_rows).collect::<Vec<_>>();
        assert_eq!(sizes(4), [4, 4, 2]);
        assert_eq!(sizes(10), [10]);
        assert!(pieces(&batch.slice(0, 0), 1).is_empty());
    }

    #[tokio::test]
    async fn scans_let_others_work_after_each_batch() {
        let options = SessionOptions { memory: None, partitions: 1, time: EpochTime::default() };
        let context = reading(&options).unwrap();
        let numbers = arrow::array::Int64Array::from_iter_values(0..10);
        let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).unwrap();
        let table = MemTable::try_new(batch.schema(), vec![vec![batch; 100]]).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        let frame = context.sql("SELECT sum(n) FROM t WHERE n > 3").await.unwrap();
        let asked = tokio::spawn(frame.collect());
        let mut turns = 0;
        while !asked.is_finished() {
            tokio::task::yield_now().await;
            turns += 1;
        }
        let rows = asked.await.unwrap().unwrap();
        assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 39 * 100);
        assert!(turns >= 100, "{turns} turns beside 100 batches");
    }

    #[tokio::test]
    async fn joins_give_the_same_and_can_be_ended() {
        let options = SessionOptions { memory: None, partitions: 2, time: EpochTime::default() };
        let context = reading(&options).unwrap();
        let sql = "SELECT count(*) FROM generate_series(1, 3000) AS a(n) \
                   LEFT JOIN generate_series(1, 3000) AS b(n) ON a.n * 7 > b.n + 100";
        let frame = context.sql(sql).await.unwrap();
        let rows = frame.collect().await.unwrap();
        let found = rows[0].column(0).as_primitive::<Int64Type>().value(0);
        let matches = |n: i64| (n * 7 - 101).clamp(0, 3_000).max(1);
        assert_eq!(found, (1..=3000).map(matches).sum::<i64>());

        let endless = "SELECT count(*) FROM generate_series(1, 300000) AS a(n), \
                       generate_series(1, 300000) AS b(n) WHERE a.n * b.n = 7";
        let frame = context.sql(endless).await.unwrap();
        let asked = tokio::spawn(frame.collect());
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
    }
}
