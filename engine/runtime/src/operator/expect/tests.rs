//! Where rows go, and when too many of them are broken.

use arrow::array::Float64Array;
use datafusion::common::{ScalarValue, ToDFSchema};
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::SessionContext;

use arrow::datatypes::{DataType, Field, SchemaRef};

use super::*;
use crate::operator::random::Random;

fn schema() -> SchemaRef {
    let price = Field::new("price", DataType::Float64, true);
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), price]))
}

fn batch(prices: &[Option<f64>]) -> RecordBatch {
    let ids = Int64Array::from_iter_values(0..prices.len() as i64);
    let prices = Float64Array::from(prices.to_vec());
    RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(prices)]).unwrap()
}

fn expectation(name: &str, that: Expr, action: Action) -> Expectation {
    let schema = schema().to_dfschema().unwrap();
    let predicate = SessionContext::new().create_physical_expr(that, &schema).unwrap();
    Expectation { name: name.to_string(), predicate, action, fail_above: None }
}

fn ids(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
}

#[test]
fn each_action_sends_its_rows_where_it_says_and_the_strictest_wins() {
    let all = Expectations::new(vec![
        expectation("below_100", col("price").lt(lit(100.0)), Action::Warn),
        expectation("positive", col("price").gt(lit(0.0)), Action::Quarantine),
        expectation("above_minus_9", col("price").gt(lit(-9.0)), Action::Drop),
        expectation("id_below_5", col("id").lt(lit(5_i64)), Action::Drop),
    ]);
    let prices = [Some(1.0), Some(200.0), None, Some(-1.0), Some(-20.0), Some(1.0)];
    let routed = all.route(&batch(&prices)).unwrap();
    assert_eq!(ids(&routed.kept), [0, 1]);
    let (rows, names) = routed.quarantined.clone().unwrap();
    assert_eq!(ids(&rows), [2, 3, 4]);
    let expected = ["below_100, positive, above_minus_9", "positive", "positive, above_minus_9"];
    assert_eq!(names, expected, "NULL breaks what is expected of it");
    assert_eq!((routed.dropped, routed.failed.clone()), (1, None));
    let counts: Vec<(&str, Action, u64)> = all.counts(&routed).collect();
    assert_eq!(counts[0], ("below_100", Action::Warn, 2));
    assert_eq!(counts[1], ("positive", Action::Quarantine, 3));
}

#[test]
fn a_row_that_must_not_be_is_in_no_other_place() {
    let all = Expectations::new(vec![
        expectation("known", col("price").is_not_null(), Action::Fail),
        expectation("positive", col("price").gt(lit(0.0)), Action::Quarantine),
    ]);
    let routed = all.route(&batch(&[Some(1.0), Some(-1.0), None, None])).unwrap();
    assert_eq!(ids(&routed.kept), [0]);
    assert_eq!(ids(&routed.quarantined.unwrap().0), [1]);
    assert_eq!(routed.failed, Some(Failure { name: "known".to_string(), rows: 2, first: 2 }));
}

#[test]
fn rows_add_up_whatever_breaks() {
    let mut random = Random::new(3);
    let actions = [Action::Warn, Action::Drop, Action::Quarantine, Action::Fail];
    for _ in 0..200 {
        let prices: Vec<Option<f64>> =
            (0..random.below(50)).map(|_| random.maybe(100, 5).map(|v| v as f64)).collect();
        let list = (0..random.below(5)).map(|i| {
            let that = col("price").gt(lit(random.below(100) as f64));
            expectation(&format!("e{i}"), that, actions[random.below(4) as usize])
        });
        let all = Expectations::new(list.collect());
        let routed = all.route(&batch(&prices)).unwrap();
        let quarantined = routed.quarantined.as_ref().map_or(0, |(rows, _)| rows.num_rows());
        let failed = routed.failed.as_ref().map_or(0, |f| f.rows);
        let rows = routed.kept.num_rows() as u64 + quarantined as u64 + routed.dropped + failed;
        assert_eq!(rows, prices.len() as u64);
    }
}

#[test]
fn no_expectations_and_no_rows_are_fine() {
    let none = Expectations::default().route(&batch(&[Some(1.0)])).unwrap();
    assert_eq!((none.kept.num_rows(), none.dropped), (1, 0));
    let all = Expectations::new(vec![expectation("e", lit(false), Action::Drop)]);
    assert_eq!(all.route(&batch(&[])).unwrap().dropped, 0);
    assert_eq!(all.route(&batch(&[None, None])).unwrap().dropped, 2, "constants count per row");
    let null = lit(ScalarValue::Boolean(None));
    let all = Expectations::new(vec![expectation("e", null, Action::Drop)]);
    assert_eq!(all.route(&batch(&[None])).unwrap().dropped, 1);
}

#[test]
fn what_is_not_a_condition_is_an_error_that_names_the_expectation() {
    let all = Expectations::new(vec![expectation("sum", lit(1_i64) + lit(1_i64), Action::Drop)]);
    let error = all.route(&batch(&[None])).unwrap_err();
    assert!(error.message().contains("name=sum"), "{error}");
}

#[test]
fn quarantined_rows_carry_what_they_broke_and_their_epoch() {
    let names = vec!["positive".to_string(), "a, b".to_string()];
    let rows = quarantine_rows(&schema(), &batch(&[None, Some(1.0)]), &names, 7).unwrap();
    assert_eq!(rows.schema(), quarantine_schema(&schema()));
    assert!(rows.schema().fields().iter().all(|f| f.is_nullable()));
    assert_eq!(rows.column(2).as_string::<i32>().value(1), "a, b");
    let epochs = rows.column(3).as_primitive::<arrow::datatypes::Int64Type>();
    assert_eq!(epochs.values().to_vec(), [7, 7]);

    let short = Schema::new(vec![schema().field(0).clone()]);
    let rows = quarantine_rows(&short, &batch(&[None, None]), &names, 7).unwrap();
    assert_eq!(rows.num_columns(), 3, "columns that are not the table's are left out");
}

fn limited(limit: f64) -> Expectations {
    let mut positive = expectation("positive", col("price").gt(lit(0.0)), Action::Quarantine);
    positive.fail_above = Some(limit);
    Expectations::new(vec![positive])
}

/// Observes `rows` rows of which the first `broken` are broken.
fn observe(windows: &mut Windows, all: &Expectations, rows: usize, broken: usize) {
    let prices: Vec<Option<f64>> =
        (0..rows).map(|i| Some(if i < broken { -1.0 } else { 1.0 })).collect();
    windows.observe(all, &all.route(&batch(&prices)).unwrap());
}

#[test]
fn few_rows_are_measured_as_they_are() {
    let all = limited(0.05);
    let mut windows = Windows::default();
    assert_eq!(windows.breach(&all), None, "no rows, no share");
    observe(&mut windows, &all, 100, 5);
    assert_eq!(windows.breach(&all), None, "exactly the limit is allowed");
    observe(&mut windows, &all, 10, 1);
    let breach = windows.breach(&all).unwrap();
    assert_eq!((breach.name.as_str(), breach.limit), ("positive", 0.05));
    assert!((breach.share - 6.0 / 110.0).abs() < 1e-12);
}

#[test]
fn only_the_last_rows_count_and_a_bad_stretch_is_not_diluted() {
    let all = limited(0.5);
    let mut windows = Windows::default();
    observe(&mut windows, &all, 100_000, 0);
    windows.sealed(&all);
    observe(&mut windows, &all, 5_000, 5_000);
    assert_eq!(windows.breach(&all), None);
    observe(&mut windows, &all, 100, 100);
    assert!((windows.breach(&all).unwrap().share - 0.51).abs() < 1e-12);
    observe(&mut windows, &all, 50_000, 0);
    assert!(windows.breach(&all).is_some(), "the stretch is in this epoch, however long it is");
    windows.sealed(&all);
    assert_eq!(windows.breach(&all), None);
}

#[test]
fn windows_do_not_depend_on_batches_and_come_back_from_json() {
    let all = limited(0.01);
    let mut random = Random::new(5);
    let outcomes: Vec<bool> = (0..30_000).map(|_| random.one_in(150)).collect();
    let (mut whole, mut cut) = (Window::default(), Window::default());
    whole.observe(&BooleanArray::from(outcomes.clone()));
    let mut rest = outcomes.as_slice();
    while !rest.is_empty() {
        let (head, tail) = rest.split_at((random.below(700) as usize).min(rest.len()));
        cut.observe(&BooleanArray::from(head.to_vec()));
        rest = tail;
    }
    assert_eq!(whole, cut);

    let mut windows = Windows::default();
    observe(&mut windows, &all, 12_345, 100);
    windows.sealed(&all);
    let text = serde_json::to_string(&windows).unwrap();
    assert!(text.len() < 1_000, "small: {text}");
    let back: Windows = serde_json::from_str(&text).unwrap();
    assert_eq!(back, windows);
    windows.sealed(&Expectations::default());
    assert_eq!(windows, Windows::default(), "expectations that are gone are forgotten");
}
