//! One query from its text to its last row, on the threads of queries.
//!
//! In: a question, what it sees, limits. Out: the columns as soon as they are known, then rows, a
//! few batches ahead of who reads them. Dropping the rows ends the work. A limit of rows, memory or
//! time that is met ends it too, with an error behind the rows that were given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::stream::{BoxStream, StreamExt, unfold};
use sluice_core::{Clock, Error, Kind};
use sluice_runtime::catalog::sql_error;
use sluice_runtime::plan::spilling;
use sluice_runtime::query::{Facts, Served, Shown, ask, bind, examine};
use tokio::sync::{mpsc, oneshot};

use super::QueryError;
use super::figures::Told;
use super::length::check;
use super::pool::QueryPool;
use super::threads::{EndOnDrop, Threads};

/// Batches that are ready before somebody takes them: one to be written while the next is made.
const BATCHES_AHEAD: usize = 2;

/// What is asked.
pub(super) enum Wanted {
    /// A statement, with values for its parameters.
    Text { sql: String, params: Vec<(String, ScalarValue)> },
    /// A plan that was made in the session of `state`.
    Plan { state: Box<SessionState>, plan: Box<LogicalPlan> },
}

/// One query.
pub(super) struct Work {
    pub wanted: Wanted,
    pub served: Arc<Served>,
    pub shown: Arc<Shown>,
    pub pool: Arc<QueryPool>,
    pub clock: Arc<dyn Clock>,
    pub time_max: Duration,
    pub rows_max: u64,
    pub told: Told,
}

/// What is known of a query that has begun.
pub(super) struct Begun {
    pub schema: SchemaRef,
    pub facts: Facts,
    pub rows: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

/// Begins `work` and waits until its columns are known.
pub(super) async fn begin(threads: &Threads, work: Work) -> Result<Begun, QueryError> {
    let (head_out, head) = oneshot::channel();
    let (rows_out, rows) = mpsc::channel(BATCHES_AHEAD);
    let (end_out, end) = oneshot::channel();
    let task = threads.spawn(work.done(head_out, rows_out, end_out)).ok_or_else(gone)?;
    let task = EndOnDrop(task.abort_handle());
    let (schema, facts) = head.await.map_err(|_| gone())??;
    let rows = unfold(Some(Tail { rows, end, _task: task }), Tail::next).boxed();
    Ok(Begun { schema, facts, rows })
}

/// Runs `work` on the threads of queries: for what is not a query, and costs time.
pub(super) async fn aside<T: Send + 'static>(
    threads: &Threads,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, QueryError> {
    let task = threads.spawn(work).ok_or_else(gone)?;
    let _end = EndOnDrop(task.abort_handle());
    task.await.map_err(|_| gone())
}

fn gone() -> QueryError {
    QueryError::Failed(Error::bug("a query ended in the middle"))
}

/// The rows that are not taken yet, and how it ends behind them.
struct Tail {
    rows: mpsc::Receiver<RecordBatch>,
    end: oneshot::Receiver<Result<(), QueryError>>,
    _task: EndOnDrop,
}

impl Tail {
    async fn next(tail: Option<Self>) -> Option<(Result<RecordBatch, QueryError>, Option<Self>)> {
        let mut tail = tail?;
        if let Some(batch) = tail.rows.recv().await {
            return Some((Ok(batch), Some(tail)));
        }
        match (&mut tail.end).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((Err(error), None)),
            Err(_) => Some((Err(gone()), None)),
        }
    }
}

type Head = Result<(SchemaRef, Facts), QueryError>;

impl Work {
    async fn done(
        self,
        head: oneshot::Sender<Head>,
        rows: mpsc::Sender<RecordBatch>,
        end: oneshot::Sender<Result<(), QueryError>>,
    ) {
        let Self { wanted, served, shown, pool, clock, time_max, rows_max, mut told } = self;
        let mut head = Some(head);
        let left = time_max.saturating_sub(told.age());
        let run = async {
            let planned = plan(wanted, &served, &shown, &pool).await?;
            let Planned { plan, context, facts } = planned;
            let mut stream = execute_stream(plan.clone(), context).map_err(|e| failed(e, &pool))?;
            if let Some(head) = head.take() {
                // Nobody is there any more: the next send says so too.
                let _ = head.send(Ok((plan.schema(), facts)));
            }
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(|e| failed(e, &pool))?;
                told.rows += batch.num_rows() as u64;
                if told.rows > rows_max {
                    let text = format!("the answer has more rows than it may rows_max={rows_max}");
                    return Err(QueryError::TooLarge(text));
                }
                if batch.num_rows() > 0 && rows.send(batch).await.is_err() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        // The time is looked at first: behind a query that had its share of this task's turn it
        // would not be looked at at all.
        let ended = tokio::select! {
            biased;
            () = clock.sleep(left) => Err(QueryError::TooLong),
            ended = run => ended,
        };
        drop(rows);
        let ended = match ended {
            // Who asked has left.
            Ok(false) => return,
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        told.ended(&ended);
        // The place is free before somebody hears of the end, and comes again.
        drop(told);
        match (head, ended) {
            (Some(head), Err(error)) => drop(head.send(Err(error))),
            (_, ended) => drop(end.send(ended)),
        }
    }
}

/// A query that is ready to run.
struct Planned {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    facts: Facts,
}

async fn plan(
    wanted: Wanted,
    served: &Served,
    shown: &Arc<Shown>,
    pool: &Arc<QueryPool>,
) -> Result<Planned, QueryError> {
    let (state, plan, facts, params) = match wanted {
        Wanted::Text { sql, params } => {
            check(&sql).map_err(of_kind)?;
            let state = served.session(shown, Some(pool.clone())).state();
            let question = ask(&state, &sql).await.map_err(of_kind)?;
            let plan = bind(question.plan, &params).map_err(of_kind)?;
            (state, plan, question.facts, params)
        }
        Wanted::Plan { state, plan } => {
            let facts = examine(&state, &plan).map_err(of_kind)?;
            (*state, *plan, facts, Vec::new())
        }
    };
    let plan = state.optimize(&plan).map_err(|e| unplanned(e, &params, pool))?;
    let table = |name: &String| Some((name.clone(), shown.find(name)?.1.provider.clone()));
    let tables: BTreeMap<_, _> = facts.reads.iter().filter_map(table).collect();
    let plan = spilling(state.clone(), &plan, &tables).await;
    let plan = plan.map_err(|e| unplanned(e, &params, pool))?;
    // A plan that was made elsewhere has its memory from here, too.
    let runtime = state.runtime_env().as_ref().clone();
    let runtime = RuntimeEnv { memory_pool: pool.clone(), ..runtime };
    let context = TaskContext::from(&state).with_runtime(Arc::new(runtime));
    Ok(Planned { plan, context: Arc::new(context), facts })
}

/// What an error before the first row means to who asked: a value of a parameter, or of the
/// statement itself, that cannot stand where it does.
fn unplanned(
    error: DataFusionError,
    params: &[(String, ScalarValue)],
    pool: &QueryPool,
) -> QueryError {
    let Some(words) = words(&error) else {
        return match failed(error, pool) {
            QueryError::Failed(error) => of_kind(error),
            other => other,
        };
    };
    let message = format!("the query cannot be run: {words}");
    QueryError::Refused(match blamed(params, &words) {
        Some(name) => Error::config(format!("{message} parameter={name}"))
            .hint("give the parameter a value that the statement can do this with"),
        None => Error::config(message).hint("change the part of the statement that this is about"),
    })
}

/// What DataFusion says of a question, without the names of its parts; none where it speaks of
/// something else.
fn words(error: &DataFusionError) -> Option<String> {
    let words = match error.find_root() {
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::ExternalError(_) | ArrowError::IoError(..) => return None,
            ArrowError::CastError(words)
            | ArrowError::ComputeError(words)
            | ArrowError::InvalidArgumentError(words) => words.clone(),
            other => other.to_string(),
        },
        DataFusionError::Plan(words)
        | DataFusionError::Execution(words)
        | DataFusionError::NotImplemented(words) => words.clone(),
        _ => return None,
    };
    // Behind the first line DataFusion may say where in its code it was.
    let line = words.lines().next().unwrap_or_default();
    let (first, rest) = line.split_at(line.chars().next().map_or(0, char::len_utf8));
    // A word of SQL stays in capitals.
    let is_word = rest.starts_with(|c: char| c.is_ascii_uppercase());
    Some(if is_word { line.to_string() } else { first.to_lowercase() + rest })
}

/// The parameter whose value `words` speak of; none where several could be meant.
fn blamed<'a>(params: &'a [(String, ScalarValue)], words: &str) -> Option<&'a str> {
    let mut meant = params.iter().filter(|(_, v)| !v.is_null() && speaks(words, &v.to_string()));
    let (name, _) = meant.next()?;
    meant.next().is_none().then_some(name.as_str())
}

/// Whether `value` stands in `words` as a whole.
fn speaks(words: &str, value: &str) -> bool {
    let ends = |beside: Option<char>| !beside.is_some_and(char::is_alphanumeric);
    let mut places = words.match_indices(value).map(|(at, _)| at);
    !value.is_empty()
        && places.any(|at| {
            let (before, rest) = words.split_at(at);
            ends(before.chars().next_back()) && ends(rest[value.len()..].chars().next())
        })
}

/// What an error of DataFusion means to who asked. Values that cannot be computed are the data's.
pub(super) fn failed(error: DataFusionError, pool: &QueryPool) -> QueryError {
    let exhausted = matches!(error.find_root(), DataFusionError::ResourcesExhausted(_));
    if let Some(verdict) = pool.verdict().filter(|_| exhausted) {
        return QueryError::TooLarge(verdict);
    }
    let error = sql_error("the query failed", error);
    match error.kind() {
        Kind::Config => QueryError::Refused(error),
        _ => QueryError::Failed(error),
    }
}

/// An error of ours, by whether the question or the engine is to be blamed.
pub(super) fn of_kind(error: Error) -> QueryError {
    match error.kind() {
        Kind::Config | Kind::Data => QueryError::Refused(error),
        _ => QueryError::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_is_named_whose_value_is_told() {
        let params = |pairs: &[(&str, i64)]| -> Vec<(String, ScalarValue)> {
            let one = |(name, n): &(&str, i64)| (name.to_string(), ScalarValue::from(*n));
            pairs.iter().map(one).collect()
        };
        let cast = "can't cast value 99999999999 to type Int32";
        let cases = [
            (cast, params(&[("days", 99_999_999_999), ("n", 32)]), Some("days")),
            (cast, params(&[("n", 9_999)]), None),
            ("LIMIT must be >= 0, '-1' was provided", params(&[("limit", -1)]), Some("limit")),
            ("'-1' was provided", params(&[("limit", -1), ("skip", -1)]), None),
            (cast, Vec::new(), None),
        ];
        for (words, params, name) in cases {
            assert_eq!(blamed(&params, words), name, "{words} {params:?}");
        }
    }

    #[test]
    fn rules_and_places_in_the_code_are_left_out() {
        let cast = ArrowError::CastError("Can't cast value x to type Int32".to_string());
        let cast = DataFusionError::ArrowError(Box::new(cast), None);
        let inner = DataFusionError::Context("Optimizer rule 'x' failed".into(), Box::new(cast));
        assert_eq!(words(&inner).as_deref(), Some("can't cast value x to type Int32"));
        let plan = DataFusionError::Plan("LIMIT is odd\n\nbacktrace: 1".to_string());
        assert_eq!(words(&plan).as_deref(), Some("LIMIT is odd"));
        let ours = DataFusionError::External(Box::new(Error::config("ours")));
        assert_eq!(words(&ours), None);
    }
}
