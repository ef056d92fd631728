//! What questions may do, what they read, and for how long their answers hold.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::common::ScalarValue;
use sluice_core::Kind;
use tempfile::TempDir;

use super::tests::{bench, count};
use crate::query::{Holds, ask, bind};

/// Statements that would change something, or read what is not a table; `SECRET` is a file.
const ATTEMPTS: [&str; 58] = [
    "INSERT INTO sales VALUES (1)",
    "INSERT INTO sales SELECT * FROM sales",
    "UPDATE sales SET id = 1",
    "DELETE FROM sales",
    "TRUNCATE TABLE sales",
    "DROP TABLE sales",
    "DROP VIEW total",
    "DROP SCHEMA public CASCADE",
    "CREATE TABLE x AS SELECT * FROM sales",
    "CREATE TABLE x (a INT)",
    "CREATE VIEW x AS SELECT 1",
    "CREATE OR REPLACE VIEW sales AS SELECT 1 AS id",
    "CREATE SCHEMA x",
    "CREATE DATABASE x",
    "CREATE INDEX i ON sales (id)",
    "CREATE FUNCTION f(INT) RETURNS INT RETURN $1",
    "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'SECRET'",
    "CREATE EXTERNAL TABLE x (a INT) STORED AS PARQUET LOCATION 'SECRET'",
    "ALTER TABLE sales ADD COLUMN x INT",
    "SELECT * INTO x FROM sales",
    "COPY sales TO 'SECRET'",
    "COPY (SELECT 1) TO 'SECRET' STORED AS CSV",
    "COPY sales FROM 'SECRET'",
    "EXPLAIN COPY sales TO 'SECRET'",
    "EXPLAIN INSERT INTO sales VALUES (1)",
    "EXPLAIN ANALYZE INSERT INTO sales VALUES (1)",
    "SET datafusion.execution.batch_size = 1",
    "SET datafusion.catalog.location = '/'",
    "RESET datafusion.execution.batch_size",
    "BEGIN",
    "COMMIT",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "SELECT 1; DROP TABLE sales",
    "SELECT 1; SELECT 2",
    "WITH x AS (INSERT INTO sales VALUES (1) RETURNING *) SELECT * FROM x",
    "SELECT * FROM 'SECRET'",
    "SELECT * FROM \"SECRET\"",
    "SELECT * FROM read_csv('SECRET')",
    "SELECT * FROM read_parquet('SECRET')",
    "SELECT * FROM csv_scan('SECRET')",
    "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM parquet_metadata('x.parquet')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT load_extension('x')",
    "SELECT * FROM other.public.sales",
    "SELECT * FROM nothing",
    "VACUUM",
    "CALL f()",
    "GRANT ALL ON sales TO public",
    "KILL 1",
    "LOAD DATA INPATH 'x' INTO TABLE sales",
    "",
    ";",
    "SELECT",
    "/* nothing */",
];

#[tokio::test]
async fn what_does_not_only_read_is_refused() {
    let folder = TempDir::new().unwrap();
    let (_served, context) = bench(&folder).await;
    let secret = folder.path().join("secret.csv");
    std::fs::write(&secret, "a\n1\n").unwrap();
    let secret = secret.display().to_string();
    for sql in ATTEMPTS {
        let sql = sql.replace("SECRET", &secret);
        let refused = ask(&context.state(), &sql).await;
        assert!(refused.is_err(), "{sql}");
        let error = refused.err().unwrap();
        assert_eq!(error.kind(), Kind::Config, "{sql}: {error}");
        assert!(error.hint_text().is_some_and(|hint| !hint.is_empty()), "{sql}: {error}");
    }
    let state = context.state();
    let mut functions: Vec<&String> = state.table_functions().keys().collect();
    functions.sort();
    assert_eq!(functions, ["generate_series", "range"], "these make rows and read nothing");
}

#[tokio::test]
async fn what_a_question_reads_and_how_long_that_holds() {
    let folder = TempDir::new().unwrap();
    let (_served, context) = bench(&folder).await;
    let cases: [(&str, &[&str], Holds); 22] = [
        ("SELECT 1", &[], Holds::Epoch),
        ("SELECT * FROM sales", &["sales"], Holds::Epoch),
        ("SELECT * FROM public.sales", &["sales"], Holds::Epoch),
        ("SELECT * FROM sluice.public.sales WHERE false", &["sales"], Holds::Epoch),
        ("SELECT (SELECT max(n) FROM total) FROM sales", &["sales", "total"], Holds::Epoch),
        ("SELECT 1 WHERE EXISTS (SELECT * FROM sales)", &["sales"], Holds::Epoch),
        ("WITH x AS (SELECT * FROM sales) SELECT * FROM x", &["sales"], Holds::Epoch),
        ("SELECT * FROM sales UNION ALL SELECT n FROM total", &["sales", "total"], Holds::Epoch),
        ("SELECT * FROM orders__rejected", &["orders__rejected"], Holds::Epoch),
        ("SELECT * FROM generate_series(1, 3)", &[], Holds::Epoch),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 3) \
             SELECT * FROM r, sales",
            &["sales"],
            Holds::Epoch,
        ),
        ("SELECT * FROM sales WHERE current_date > DATE '2026-01-01'", &["sales"], Holds::Day),
        ("SELECT id FROM sales WHERE now() > TIMESTAMP '2026-01-01'", &["sales"], Holds::Moment),
        ("SELECT now(), current_date", &[], Holds::Moment),
        ("SELECT random() FROM sales", &["sales"], Holds::Never),
        ("SELECT * FROM _sluice.epochs", &[], Holds::Moment),
        ("SELECT * FROM information_schema.tables", &[], Holds::Moment),
        ("SHOW TABLES", &[], Holds::Moment),
        ("DESCRIBE sales", &[], Holds::Moment),
        ("EXPLAIN SELECT * FROM sales", &["sales"], Holds::Never),
        ("EXPLAIN ANALYZE SELECT * FROM sales", &["sales"], Holds::Never),
        ("SELECT * FROM sales WHERE id = $id", &["sales"], Holds::Epoch),
    ];
    for (sql, reads, holds) in cases {
        let question = ask(&context.state(), sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!(question.facts.reads, reads, "{sql}");
        assert_eq!(question.facts.holds, holds, "{sql}");
    }
}

#[tokio::test]
async fn parameters_are_values_and_the_time_is_that_of_the_question() {
    let folder = TempDir::new().unwrap();
    let (served, context) = bench(&folder).await;
    let sql = "SELECT CAST($n AS BIGINT) + 1 AS n, CAST($text AS VARCHAR) AS text";
    let question = ask(&context.state(), sql).await.unwrap();
    let n = ("n".to_string(), ScalarValue::Int64(Some(41)));
    let missing = bind(question.plan.clone(), std::slice::from_ref(&n)).unwrap_err();
    assert!(missing.to_string().contains("name=$text"), "{missing}");
    let text = ("text".to_string(), ScalarValue::from("'; DROP TABLE sales; --"));
    let plan = bind(question.plan, &[n, text]).unwrap();
    let frame = context.execute_logical_plan(plan).await.unwrap();
    let rows = frame.collect().await.unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 42);
    assert_eq!(rows[0].column(1).as_string::<i32>().value(0), "'; DROP TABLE sales; --");

    let day = "SELECT CAST(CAST(current_date AS INT) AS BIGINT)";
    assert_eq!(count(&served, &served.shown(), day).await.unwrap(), 1);
    let later = "SELECT count(*) FROM sales WHERE now() = TIMESTAMP '1970-01-02T00:00:00Z'";
    assert_eq!(count(&served, &served.shown(), later).await.unwrap(), 0);
}
