//! Questions that need no table: limits, turns, cancellation, answers that are kept.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::common::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use sluice_core::Kind;
use sluice_runtime::epoch::Environment;

use super::*;
use crate::environment::{Resources, environment};

/// More pairs than anybody waits for.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 200000) AS a(n), \
                       generate_series(1, 200000) AS b(n) WHERE a.n * b.n = 7";

fn limits() -> QueryLimits {
    QueryLimits {
        memory: 16 << 20,
        time: Duration::from_secs(60),
        rows: 100_000,
        queries: 4,
        queue: 4,
        cache: 1 << 20,
    }
}

fn bench(limits: QueryLimits) -> (Environment, Arc<Queries>) {
    let resources = Resources { memory_bytes: Some(256 << 20), threads: Some(2) };
    let environment = environment(&resources);
    let queries = Queries::new(&environment, limits).unwrap();
    (environment, queries)
}

fn ask(sql: &str) -> Ask {
    Ask { sql: sql.to_string(), params: Vec::new(), rows_max: None, who: "me".to_string() }
}

async fn all(rows: Rows) -> Result<usize, QueryError> {
    let batches: Vec<_> = rows.stream.try_collect().await?;
    Ok(batches.iter().map(arrow::array::RecordBatch::num_rows).sum())
}

#[tokio::test]
async fn rows_come_and_are_limited() {
    let (_, queries) = bench(limits());
    let sql = "SELECT * FROM generate_series(1, 20000)";
    let rows = queries.run(ask(sql)).await.unwrap();
    assert_eq!(rows.schema.fields().len(), 1);
    assert!(!rows.version.is_empty());
    assert_eq!(all(rows).await.unwrap(), 20_000);
    for (rows_max, sql) in [
        (Some(19_999), sql),
        (None, "SELECT * FROM generate_series(1, 100001)"),
        (Some(u64::MAX), "SELECT * FROM generate_series(1, 100001)"),
    ] {
        let ended = match queries.run(Ask { rows_max, ..ask(sql) }).await {
            Ok(rows) => all(rows).await,
            Err(error) => Err(error),
        };
        assert!(matches!(ended, Err(QueryError::TooLarge(_))), "{rows_max:?} {sql}: {ended:?}");
    }
    let exact = Ask { rows_max: Some(20_000), ..ask(sql) };
    assert_eq!(all(queries.run(exact).await.unwrap()).await.unwrap(), 20_000);
}

#[tokio::test]
async fn what_needs_too_much_memory_or_time_ends() {
    let (_, queries) = bench(QueryLimits { memory: 4 << 20, ..limits() });
    let ended =
        queries.answer(ask("SELECT array_agg(value) FROM generate_series(1, 5000000)")).await;
    assert!(
        matches!(&ended, Err(QueryError::TooLarge(what)) if what.contains("memory")),
        "{ended:?}"
    );
    let sorted =
        "SELECT value FROM generate_series(1, 2000000) ORDER BY value DESC LIMIT 1 OFFSET 9";
    let answer = queries.answer(ask(sorted)).await.unwrap();
    assert_eq!(answer.batches[0].column(0).as_primitive::<Int64Type>().value(0), 1_999_991);

    let (_, queries) = bench(QueryLimits { time: Duration::from_secs(1), ..limits() });
    let ended = queries.answer(ask(ENDLESS)).await;
    assert!(matches!(ended, Err(QueryError::TooLong)), "{ended:?}");
    assert!(queries.answer(ask("SELECT 1")).await.is_ok(), "its turn is somebody else's");
}

/// Waits until so many work and so many wait.
async fn until(environment: &Environment, queries: &Queries, crowd: (usize, usize)) {
    for _ in 0..2_000 {
        if queries.crowd() == crowd {
            return;
        }
        environment.clock.sleep(Duration::from_millis(5)).await;
    }
    panic!("never {crowd:?}, but {:?}", queries.crowd());
}

#[tokio::test]
async fn too_many_are_sent_away_and_who_leaves_makes_room() {
    let (environment, queries) = bench(QueryLimits { queries: 1, queue: 1, ..limits() });
    for sql in [ENDLESS, "SELECT 2", "SELECT 3"] {
        // Planned before, so that each of them is at the gate once.
        queries.version(sql, "me").await.unwrap();
    }
    let begin = |sql: &'static str| {
        let queries = queries.clone();
        tokio::spawn(async move { queries.answer(ask(sql)).await.map(|_| ()) })
    };
    let endless = begin(ENDLESS);
    until(&environment, &queries, (1, 0)).await;
    let waits = begin("SELECT 2");
    until(&environment, &queries, (1, 1)).await;
    match queries.answer(ask("SELECT 3")).await {
        Err(QueryError::Busy { retry_after }) => assert!(retry_after >= Duration::from_secs(1)),
        other => panic!("there is no room: {other:?}"),
    }
    endless.abort();
    assert!(waits.await.unwrap().is_ok(), "the one that waited has its turn");
    until(&environment, &queries, (0, 0)).await;
    assert!(queries.answer(ask("SELECT 3")).await.is_ok());
}

#[tokio::test]
async fn rows_that_are_dropped_end_their_query() {
    let (_, queries) = bench(QueryLimits { queries: 1, queue: 4, ..limits() });
    let mut rows = queries.run(ask("SELECT * FROM generate_series(1, 100000)")).await.unwrap();
    assert!(rows.stream.next().await.unwrap().is_ok());
    drop(rows);
    let next = queries.run(ask("SELECT 1")).await.unwrap();
    assert_eq!(all(next).await.unwrap(), 1);
}

#[tokio::test]
async fn answers_are_kept_as_long_as_they_are_true() {
    let (_, queries) = bench(limits());
    let again = async |one: Ask, other: Ask| {
        let (one, other) =
            (queries.answer(one).await.unwrap(), queries.answer(other).await.unwrap());
        Arc::ptr_eq(&one, &other)
    };
    let with = |n: i64| Ask {
        params: vec![("n".to_string(), ScalarValue::from(n))],
        ..ask("SELECT CAST($n AS BIGINT) AS n")
    };
    assert!(again(ask("SELECT 1"), Ask { who: "you".to_string(), ..ask("SELECT 1") }).await);
    assert!(again(with(1), with(1)).await);
    assert!(!again(with(1), with(2)).await);
    assert!(!again(ask("SELECT 1"), ask("SELECT 2")).await);
    assert!(!again(ask("SELECT random()"), ask("SELECT random()")).await);
    assert!(again(ask("SELECT current_date"), ask("SELECT current_date")).await);
    assert!(!again(ask("SELECT 1"), Ask { rows_max: Some(1), ..ask("SELECT 1") }).await);

    let version = async |sql: &str| queries.version(sql, "me").await.unwrap();
    assert_eq!(version("SELECT 1").await, version("SELECT 2").await, "neither reads anything");
    assert_ne!(version("SELECT 1").await, version("SELECT current_date").await);
    assert_eq!(version("SELECT random()").await, None);

    let slow = "SELECT count(*) FROM generate_series(1, 3000000) WHERE value % 7 = 3";
    let asked: Vec<_> = (0..8).map(|_| queries.answer(ask(slow))).collect();
    let answers = futures::future::try_join_all(asked).await.unwrap();
    assert!(answers.iter().all(|answer| Arc::ptr_eq(answer, &answers[0])), "asked once");
}

#[tokio::test]
async fn what_is_no_question_is_refused() {
    let (_, queries) = bench(limits());
    let long = format!("SELECT '{}'", "x".repeat(300 << 10));
    for sql in ["DROP TABLE x", "SELECT", "SELECT x", &long, "SELECT $n"] {
        let refused = queries.answer(ask(sql)).await;
        let sql = &sql[..sql.len().min(40)];
        assert!(matches!(refused, Err(QueryError::Refused(_))), "{sql}: {refused:?}");
    }
    let with = |sql: &str, name: &str, n: i64| Ask {
        params: vec![(name.to_string(), ScalarValue::from(n))],
        ..ask(sql)
    };
    for (asked, name) in [
        (with("SELECT CAST($days AS INT)", "days", 99_999_999_999), "days"),
        (with("SELECT 1 LIMIT $limit", "limit", -1), "limit"),
    ] {
        let told = match queries.answer(asked).await {
            Err(QueryError::Refused(error)) => error.chain(),
            other => panic!("{name}: {other:?}"),
        };
        assert!(told.ends_with(&format!("parameter={name}")) && !told.contains("rule"), "{told}");
    }
    // There is nothing wrong with this question, but with the rows.
    let uncomputed = queries.answer(ask("SELECT 7 / (value - 2) FROM generate_series(1, 3)")).await;
    let is_data = matches!(&uncomputed, Err(QueryError::Failed(e)) if e.kind() == Kind::Data);
    assert!(is_data, "{uncomputed:?}");
    let context = queries.context().await.unwrap();
    let plan = context.state().create_logical_plan("SELECT 7 AS n").await.unwrap();
    let rows = queries.run_plan(&context, plan, None, "me").await.unwrap();
    assert_eq!(all(rows).await.unwrap(), 1);
    let copy =
        context.state().create_logical_plan("COPY (SELECT 1) TO '/tmp/x.csv'").await.unwrap();
    assert!(matches!(
        queries.run_plan(&context, copy, None, "me").await,
        Err(QueryError::Refused(_))
    ));
}

#[tokio::test]
async fn a_few_letters_do_not_stand_for_gigabytes() {
    let (_, queries) = bench(limits());
    let told = |refused: QueryError| match refused {
        QueryError::Refused(error) => error.message().to_string(),
        other => format!("{other:?}"),
    };
    let stars = format!("SELECT {} FROM generate_series(1, 2)", vec!["*"; 100].join(", "));
    for refused in [
        queries.version(&stars, "me").await.err(),
        queries.answer(ask(&stars)).await.err(),
        queries.run(ask(&stars)).await.err(),
    ] {
        let told = refused.map(told);
        assert!(told.as_ref().is_some_and(|told| told.contains("more stars")), "{told:?}");
    }
    let letters = queries.answer(ask("SELECT repeat('x', 2147483647)")).await;
    let told = told(letters.unwrap_err());
    assert!(told.contains("makes more than it may function=repeat"), "{told}");
}

#[tokio::test]
async fn statements_of_others_are_planned_in_their_turn() {
    let (environment, queries) = bench(QueryLimits { queries: 1, queue: 0, ..limits() });
    let rows = queries.run(ask("SELECT * FROM generate_series(1, 100000)")).await.unwrap();
    let planned = queries.planned("me", async { 7 }).await;
    assert!(matches!(planned, Err(QueryError::Busy { .. })), "{planned:?}");
    drop(rows);
    until(&environment, &queries, (0, 0)).await;
    assert_eq!(queries.planned("me", async { 7 }).await.unwrap(), 7);
    until(&environment, &queries, (0, 0)).await;
}

#[tokio::test]
async fn small_answers_do_not_hold_on_to_large_batches() {
    let (_, queries) = bench(limits());
    let sql = "SELECT value, repeat('x', 100) AS x FROM generate_series(1, 8000) LIMIT 3";
    let answer = queries.answer(ask(sql)).await.unwrap();
    let bytes: usize = answer.batches.iter().map(|b| b.get_array_memory_size()).sum();
    assert!(bytes < 10_000, "{bytes}");
}
