//! Cursors: rows of one question, taken a few at a time.
//!
//! In: `FETCH`, `CLOSE` and the cursors of a session. Out: rows, written as each `FETCH` wants
//! them. A cursor reads the snapshot it was declared on. While rows are taken from it, it is nobody
//! else's; if that ends in the middle, it is closed. Portals with rows left are counted here too:
//! they keep a place among the queries that run, as cursors do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion_postgres::pgwire::api::results::QueryResponse;
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::data::DataRow;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::failure::{self, code};
use super::reading::until;
use super::rows::Writing;
use super::session::{Halt, Session};

/// Cursors, and portals with rows left, that one session may have: each keeps others from asking.
const CURSORS_MAX: usize = 2;

/// Rows that a cursor gives when it is asked.
pub(super) struct Cursor {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows that were read and not given yet.
    pub rest: Option<RecordBatch>,
    /// The others.
    pub rows: BoxStream<'static, PgWireResult<RecordBatch>>,
}

/// The rows of one session that wait to be taken.
#[derive(Default)]
pub(super) struct Waiting {
    cursors: BTreeMap<String, Cursor>,
    /// Portals of which not all rows were taken.
    portals: BTreeSet<String>,
    /// When some were taken last while others wait, by the monotonic clock.
    since: Option<Duration>,
}

impl Waiting {
    /// See [`Session::may_open`].
    pub(super) fn may_open(&self, name: &str) -> PgWireResult<()> {
        if self.cursors.contains_key(name) {
            let message = format!("cursor \"{name}\" already exists");
            return Err(failure::error(code::DUPLICATE_CURSOR, message));
        }
        self.may_wait(name)
    }

    /// See [`Session::may_wait`].
    pub(super) fn may_wait(&self, name: &str) -> PgWireResult<()> {
        let portals = self.portals.iter().filter(|known| known.as_str() != name).count();
        if self.cursors.len() + portals < CURSORS_MAX {
            return Ok(());
        }
        let message = format!("rows of too many cursors or portals wait cursors_max={CURSORS_MAX}");
        Err(failure::hinted(code::LIMIT, message, "take all rows of one, or CLOSE it"))
    }

    /// See [`Session::open`].
    pub(super) fn open(&mut self, name: &str, cursor: Cursor, now: Duration) {
        self.since = Some(now);
        // A cursor is there in place of a portal of its name.
        self.portals.remove(name);
        self.cursors.insert(name.to_string(), cursor);
    }

    /// See [`Session::columns`].
    pub(super) fn columns(&self, name: &str) -> PgWireResult<SchemaRef> {
        self.cursors.get(name).map(|cursor| cursor.schema.clone()).ok_or_else(|| no_cursor(name))
    }

    /// See [`Session::take`].
    pub(super) fn take(&mut self, name: &str) -> PgWireResult<Cursor> {
        self.cursors.remove(name).ok_or_else(|| no_cursor(name))
    }

    /// See [`Session::cursors`].
    pub(super) fn cursors(&self) -> Vec<String> {
        self.cursors.keys().cloned().collect()
    }

    /// See [`Session::close`].
    pub(super) fn close(&mut self, name: Option<&str>) -> PgWireResult<()> {
        match name {
            Some(name) => drop(self.take(name)?),
            None => self.cursors.clear(),
        }
        self.settle();
        Ok(())
    }

    /// See [`Session::waits`].
    pub(super) fn waits(&mut self, name: &str, now: Duration) {
        self.since = Some(now);
        self.portals.insert(name.to_string());
    }

    /// See [`Session::done`].
    pub(super) fn done(&mut self, name: &str) {
        self.portals.remove(name);
        self.settle();
    }

    /// No rows of portals wait any more. Out: their names.
    pub(super) fn all_done(&mut self) -> BTreeSet<String> {
        let names = std::mem::take(&mut self.portals);
        self.settle();
        names
    }

    /// When some were taken last; none when nothing waits.
    pub(super) fn since(&self) -> Option<Duration> {
        self.since
    }

    fn settle(&mut self) {
        if self.cursors.is_empty() && self.portals.is_empty() {
            self.since = None;
        }
    }
}

fn no_cursor(name: &str) -> PgWireError {
    failure::error(code::CURSOR, format!("cursor \"{name}\" does not exist"))
}

/// Up to `count` rows, or all, of the cursor `name`. Errors: there is none.
pub(super) fn fetch(
    session: Arc<Session>,
    name: &str,
    count: Option<usize>,
    writing: Writing,
    halt: Halt,
) -> PgWireResult<QueryResponse> {
    let cursor = session.take(name)?;
    let fields = writing.fields();
    let taking = Taking { session, name: name.to_string(), cursor, left: count };
    let batches = stream::unfold(Some(taking), next).boxed();
    let mut response = QueryResponse::new(fields, written(until(batches, halt), writing));
    response.set_command_tag("FETCH");
    Ok(response)
}

/// `batches` as data rows.
pub(super) fn written(
    batches: BoxStream<'static, PgWireResult<RecordBatch>>,
    writing: Writing,
) -> BoxStream<'static, PgWireResult<DataRow>> {
    let rows = batches.map(move |batch| {
        let rows = batch.and_then(|batch| writing.rows(&batch));
        let items: Vec<PgWireResult<DataRow>> = match rows {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(items)
    });
    rows.flatten().boxed()
}

/// A cursor that rows are taken from.
struct Taking {
    session: Arc<Session>,
    name: String,
    cursor: Cursor,
    /// Rows that are still wanted; none for all.
    left: Option<usize>,
}

impl Taking {
    /// The cursor is there again.
    fn put_back(self) {
        self.session.open(&self.name, self.cursor);
    }
}

async fn next(taking: Option<Taking>) -> Option<(PgWireResult<RecordBatch>, Option<Taking>)> {
    let mut taking = taking?;
    if taking.left == Some(0) {
        taking.put_back();
        return None;
    }
    let batch = match taking.cursor.rest.take() {
        Some(batch) => Some(Ok(batch)),
        None => taking.cursor.rows.next().await,
    };
    match batch {
        None => {
            taking.put_back();
            None
        }
        Some(Err(error)) => Some((Err(error), None)),
        Some(Ok(batch)) => {
            let rows = batch.num_rows();
            let given = taking.left.map_or(rows, |left| left.min(rows));
            if given < rows {
                taking.cursor.rest = Some(batch.slice(given, rows - given));
            }
            taking.left = taking.left.map(|left| left - given);
            Some((Ok(batch.slice(0, given)), Some(taking)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::arrow::array::{ArrayRef, Int64Array};
    use datafusion_postgres::pgwire::api::portal::Format;
    use futures::future::{FutureExt as _, pending};
    use sluice_core::ManualClock;

    use super::super::session::Sessions;
    use super::*;

    async fn fetched(session: &Arc<Session>, count: Option<usize>) -> PgWireResult<usize> {
        let schema = session.columns("c")?;
        let writing = Writing::new(&schema, &Format::UnifiedText, &HashMap::new(), None)?;
        let never: Halt = pending().boxed().shared();
        let mut response = fetch(session.clone(), "c", count, writing, never)?;
        let mut rows = 0;
        while let Some(row) = response.data_rows().next().await {
            row?;
            rows += 1;
        }
        Ok(rows)
    }

    #[tokio::test]
    async fn rows_are_taken_a_few_at_a_time() {
        let session = Sessions::default().create(Arc::new(ManualClock::at(0)));
        let batch = |count: i64| {
            let numbers: ArrayRef = Arc::new((0..count).collect::<Int64Array>());
            Ok(RecordBatch::try_from_iter([("a", numbers)]).unwrap())
        };
        let batches: Vec<PgWireResult<RecordBatch>> = vec![batch(3), batch(2), batch(5)];
        let schema =
            batches[0].as_ref().map(RecordBatch::schema).unwrap_or_else(|_| unreachable!());
        let rows = stream::iter(batches).boxed();
        session.open("c", Cursor { schema, rest: None, rows });
        for (count, expected) in [(Some(2), 2), (Some(4), 4), (Some(0), 0), (None, 4), (Some(1), 0)]
        {
            assert_eq!(fetched(&session, count).await.unwrap(), expected, "{count:?}");
        }
        session.close(Some("c")).unwrap();
        assert!(fetched(&session, None).await.is_err());
    }
}
