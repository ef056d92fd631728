//! The incremental aggregate against DataFusion's batch result over all rows so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray,
};
use datafusion::catalog::MemTable;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sluice_core::Kind;

use super::*;
use crate::operator::random::Random;

const PLAIN: &str = "count(*), count(i), sum(i), sum(d), sum(f), avg(d), avg(f), avg(i), min(i), \
    max(i), min(s), max(s), min(day), max(day), min(d), max(f), bool_and(b), bool_or(b)";
const MOMENTS: &str = "stddev(f), stddev_pop(i), var_pop(f), var(i), covar_pop(f, i), corr(f, i), \
    regr_slope(f, i), bit_and(i), bit_or(i), bit_xor(i)";
const SETS: &str = "count(distinct s), count(distinct i), count(distinct d), count(distinct day), \
    count(distinct f), sum(distinct i), median(i), median(f), approx_distinct(s)";
const FILTERED: &str = "count(*) filter (where b), sum(i) filter (where i > 0), \
    count(distinct s) filter (where i > 0), avg(d) filter (where b), sum(i) filter (where false)";
const ORDERED: &str = "array_agg(s order by id), first_value(s order by id), \
    last_value(i order by id), string_agg(s, ',' order by id), nth_value(i, 2 order by id), \
    array_agg(distinct s order by s), last_value(s order by id desc)";

struct Bench {
    context: SessionContext,
    sql: String,
}

impl Bench {
    /// A session with `partitions`; `skip` makes partial aggregates give up and pass rows on.
    fn new(partitions: usize, skip: bool, select: &str, groups: &str) -> Self {
        let mut config =
            SessionConfig::new().with_target_partitions(partitions).with_batch_size(16);
        if skip {
            let execution = &mut config.options_mut().execution;
            execution.skip_partial_aggregation_probe_rows_threshold = 1;
            execution.skip_partial_aggregation_probe_ratio_threshold = 0.0;
        }
        let rules = PhysicalOptimizer::new().rules.into_iter();
        let rules = rules.filter(|rule| rule.name() != PHYSICAL_RULE_OFF).collect();
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_physical_optimizer_rules(rules)
            .build();
        let context = SessionContext::new_with_state(state);
        assert!(context.remove_optimizer_rule(LOGICAL_RULE_OFF));
        let columns: Vec<&str> = [groups, select].into_iter().filter(|p| !p.is_empty()).collect();
        let mut sql = format!("SELECT {} FROM t", columns.join(", "));
        if !groups.is_empty() {
            sql.push_str(&format!(" GROUP BY {groups}"));
        }
        Self { context, sql }
    }

    /// The physical plan of the aggregate alone, over `rows`.
    async fn plan(&self, rows: &[RecordBatch]) -> Arc<dyn ExecutionPlan> {
        let (left, right) = rows.split_at(rows.len() / 2);
        let table = MemTable::try_new(
            random_rows(0, &mut Random::new(0), 0).schema(),
            vec![left.to_vec(), right.to_vec()],
        );
        self.context.deregister_table("t").unwrap();
        self.context.register_table("t", Arc::new(table.unwrap())).unwrap();
        let logical = self.context.sql(&self.sql).await.unwrap().into_optimized_plan().unwrap();
        let mut aggregate = None;
        let found = logical.apply(|node| {
            Ok(match node {
                LogicalPlan::Aggregate(_) => {
                    aggregate = Some(node.clone());
                    TreeNodeRecursion::Stop
                }
                _ => TreeNodeRecursion::Continue,
            })
        });
        found.unwrap();
        self.context.state().create_physical_plan(&aggregate.unwrap()).await.unwrap()
    }

    async fn partial(&self, rows: &[RecordBatch]) -> (PartialAggregate, Vec<RecordBatch>) {
        let stage = partial_of(&self.plan(rows).await).unwrap();
        let partial = collect(stage.plan.clone(), self.context.task_ctx()).await.unwrap();
        (stage, partial)
    }

    async fn operator(&self) -> Incremental {
        let stage = partial_of(&self.plan(&[]).await).unwrap();
        Incremental::new(stage.group_fields, stage.aggregates, stage.output).unwrap()
    }

    async fn batch(&self, rows: &[RecordBatch]) -> Vec<RecordBatch> {
        collect(self.plan(rows).await, self.context.task_ctx()).await.unwrap()
    }
}

type Table = BTreeMap<String, Vec<ScalarValue>>;

fn rows_of(batches: &[RecordBatch], groups: usize) -> Vec<(String, Vec<ScalarValue>)> {
    let mut rows = vec![];
    for batch in batches {
        for row in 0..batch.num_rows() {
            let value = |c: &ArrayRef| ScalarValue::try_from_array(c, row).unwrap();
            let values: Vec<ScalarValue> = batch.columns().iter().map(value).collect();
            rows.push((format!("{:?}", &values[..groups]), values));
        }
    }
    rows
}

/// Rows 0.. of an epoch; `first` makes ids unique over epochs.
fn random_rows(first: i64, random: &mut Random, rows: usize) -> RecordBatch {
    let words = ["", "a", "b b", "c,\"", "ä", "zz"];
    let mut ints = |limit, nulls| -> Vec<Option<i64>> {
        (0..rows).map(|_| random.maybe(limit, nulls).map(|v| v as i64 - 7)).collect()
    };
    let (k1, k2, i) = (ints(6, 7), ints(4, 5), ints(50, 6));
    let (d, f, s, day, b) = (ints(9000, 9), ints(3000, 9), ints(6, 6), ints(40, 8), ints(5, 5));
    let text = |v: &[Option<i64>]| -> StringArray {
        v.iter().map(|v| v.map(|v| words[(v + 7) as usize])).collect()
    };
    let small = |v: &[Option<i64>]| v.iter().map(|v| v.map(|v| v as i32)).collect::<Vec<_>>();
    let decimals: Decimal128Array = d.iter().map(|v| v.map(i128::from)).collect();
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("k1", Arc::new(text(&k1)), true),
        ("k2", Arc::new(Int32Array::from(small(&k2))), true),
        ("i", Arc::new(Int64Array::from(i)), true),
        ("d", Arc::new(decimals.with_precision_and_scale(12, 3).unwrap()), true),
        (
            "f",
            Arc::new(f.iter().map(|v| v.map(|v| v as f64 / 7.0)).collect::<Float64Array>()),
            true,
        ),
        ("s", Arc::new(text(&s)), true),
        ("day", Arc::new(Date32Array::from(small(&day))), true),
        ("b", Arc::new(b.iter().map(|v| v.map(|v| v > -5)).collect::<BooleanArray>()), true),
        ("id", Arc::new(Int64Array::from_iter_values(first..first + rows as i64)), false),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn through_parquet(batch: &RecordBatch) -> Vec<RecordBatch> {
    let mut file = vec![];
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    reader.build().unwrap().map(|b| b.unwrap()).collect()
}

fn assert_same(actual: &Table, expected: &[(String, Vec<ScalarValue>)], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: number of groups");
    for (key, values) in expected {
        for (column, (a, e)) in actual[key].iter().zip(values).enumerate() {
            let same = match (a, e) {
                (ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(e))) => {
                    a == e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= 1e-9 * e.abs().max(1.0)
                }
                _ => a == e,
            };
            assert!(same, "{what}: group {key} column {column}: {a:?} instead of {e:?}");
        }
    }
}

/// Many epochs with restarts in between, compared with the batch result after each.
async fn holds(bench: &Bench, groups: usize, seed: u64) {
    let mut random = Random::new(seed);
    let mut operator = bench.operator().await;
    let (mut all, mut files, mut table) = (vec![], vec![], Table::new());
    for epoch in 0..9_i64 {
        let mut new = vec![];
        for part in 0..random.below(4) as i64 {
            let count = random.below(40) as usize;
            new.push(random_rows(epoch * 1000 + part * 100, &mut random, count));
        }
        all.extend(new.clone());
        let (_, partial) = bench.partial(&new).await;
        let merged = operator.merge(&partial).unwrap();
        assert_eq!(merged.touched, merged.rows.num_rows());
        for (row, (key, values)) in rows_of(&[merged.rows], groups).into_iter().enumerate() {
            let before = table.insert(key, values);
            assert_eq!(before.is_none(), merged.created.value(row));
        }
        let what = format!("seed {seed} epoch {epoch} {}", bench.sql);
        assert_same(&table, &rows_of(&bench.batch(&all).await, groups), &what);
        assert_eq!(operator.groups(), table.len());
        files.extend(operator.kept().delta().unwrap().iter().flat_map(through_parquet));
        assert!(operator.kept().delta().unwrap().is_none());
        if random.one_in(3) {
            files = operator.kept().base().unwrap().iter().flat_map(through_parquet).collect();
        }
        if random.one_in(2) {
            operator = bench.operator().await;
            operator.kept().restore(files.clone()).unwrap();
            assert_eq!(operator.groups(), table.len());
            assert!(operator.kept().delta().unwrap().is_none(), "restored state is sealed already");
        }
    }
}

async fn holds_for_all_groupings(select: &str, seed: u64) {
    let groupings = [("", 0), ("k1", 1), ("k1, k2", 2), ("k2, day, b", 3)];
    for (turn, (groups, width)) in groupings.into_iter().enumerate() {
        for partitions in [1, 2] {
            for skip in [false, true] {
                let bench = Bench::new(partitions, skip, select, groups);
                holds(&bench, width, seed + turn as u64).await;
            }
        }
    }
}

#[tokio::test]
async fn plain_aggregates_equal_the_batch_result() {
    holds_for_all_groupings(PLAIN, 1).await;
}

#[tokio::test]
async fn moments_equal_the_batch_result() {
    holds_for_all_groupings(MOMENTS, 100).await;
}

#[tokio::test]
async fn distinct_counts_and_medians_equal_the_batch_result() {
    holds_for_all_groupings(SETS, 200).await;
}

#[tokio::test]
async fn filtered_aggregates_equal_the_batch_result() {
    holds_for_all_groupings(FILTERED, 300).await;
}

#[tokio::test]
async fn aggregates_with_their_own_order_equal_the_batch_result() {
    holds_for_all_groupings(ORDERED, 400).await;
}

/// DataFusion's own partial stage panics on it when it passes rows on, hence not with the others.
#[tokio::test]
async fn percentiles_equal_the_batch_result() {
    let select = "percentile_cont(0.25) within group (order by f)";
    for (groups, width) in [("", 0), ("k1", 1), ("k1, k2", 2)] {
        holds(&Bench::new(2, false, select, groups), width, 450).await;
    }
}

#[tokio::test]
async fn groups_without_aggregates_equal_the_batch_result() {
    holds(&Bench::new(2, false, "", "k1, k2"), 2, 500).await;
}

#[tokio::test]
async fn nothing_still_counts_as_zero_without_groups() {
    let bench = Bench::new(2, false, "count(*), sum(i), count(distinct s)", "");
    let mut operator = bench.operator().await;
    let merged = operator.merge(&[]).unwrap();
    let expected = [ScalarValue::from(0_i64), ScalarValue::Int64(None), ScalarValue::from(0_i64)];
    assert_eq!(rows_of(&[merged.rows], 0)[0].1, expected);
    assert!(merged.created.value(0));
    assert_eq!(operator.kept().delta().unwrap().unwrap().num_rows(), 1);

    let grouped = Bench::new(2, false, "count(*)", "k1");
    let merged = grouped.operator().await.merge(&[]).unwrap();
    assert_eq!(merged.rows.num_rows(), 0);
}

#[tokio::test]
async fn work_follows_the_groups_touched_not_the_groups_there_are() {
    let bench = Bench::new(2, false, "count(*), count(distinct s)", "id");
    let mut random = Random::new(7);
    let mut read = vec![];
    for groups in [1_000, 20_000] {
        let mut operator = bench.operator().await;
        let (_, partial) = bench.partial(&[random_rows(0, &mut random, groups)]).await;
        operator.merge(&partial).unwrap();
        assert_eq!(operator.groups(), groups);
        let before = operator.rows_read();
        let (_, partial) = bench.partial(&[random_rows(500, &mut random, 100)]).await;
        let merged = operator.merge(&partial).unwrap();
        assert_eq!((merged.touched, merged.created.true_count()), (100, 0));
        read.push(operator.rows_read() - before);
    }
    assert_eq!(read, [200, 200]);
}

#[tokio::test]
async fn what_depends_on_the_order_of_rows_is_refused_with_the_reason() {
    for (select, reason) in [
        ("array_agg(s)", "order in which rows arrive aggregate=array_agg"),
        ("array_agg(distinct s)", "order in which rows arrive aggregate=array_agg"),
        ("first_value(s)", "order in which rows arrive aggregate=first_value"),
        ("string_agg(s, ',')", "order in which rows arrive aggregate=string_agg"),
        ("approx_median(f)", "order in which rows are merged aggregate=approx_median"),
    ] {
        let bench = Bench::new(2, false, select, "k1");
        let stage = partial_of(&bench.plan(&[]).await).unwrap();
        let refused = Incremental::new(stage.group_fields, stage.aggregates, stage.output);
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.message().contains(reason), "{error}");
    }
    let mut bench = Bench::new(2, false, "count(*)", "");
    bench.sql = "SELECT k1, k2, count(*) FROM t GROUP BY ROLLUP (k1, k2)".to_string();
    let error = partial_of(&bench.plan(&[]).await).unwrap_err();
    assert!(error.message().contains("grouping sets"), "{error}");
}

#[tokio::test]
async fn a_plan_without_aggregate_at_its_root_is_an_error() {
    let bench = Bench::new(2, false, "count(*)", "");
    bench.plan(&[random_rows(0, &mut Random::new(1), 5)]).await;
    let frame = bench.context.sql("SELECT k1 FROM t ORDER BY id").await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let error = partial_of(&plan).unwrap_err();
    assert!(error.hint_text().unwrap().contains(PHYSICAL_RULE_OFF));
}

#[tokio::test]
async fn state_of_another_shape_is_refused() {
    let mut operator = Bench::new(2, false, "count(*), sum(i)", "k1").operator().await;
    let other = random_rows(0, &mut Random::new(1), 3);
    assert_eq!(operator.kept().restore(vec![other]).unwrap_err().kind(), Kind::Bug);
}
