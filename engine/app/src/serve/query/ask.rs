//! Questions, answers, and why there is none.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::stream::BoxStream;
use sluice_core::Error;
use sluice_runtime::job::ServeLimits;

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// One statement.
    pub(crate) sql: String,
    /// Values for its `$name`s, by name.
    pub(crate) params: Vec<(String, ScalarValue)>,
    /// An answer with more rows is refused; none: the limit of all.
    pub(crate) rows_max: Option<u64>,
    /// Who asks, for the log.
    pub(crate) who: String,
}

/// Rows as they come. Dropping them ends the query.
pub(crate) struct Rows {
    /// The columns.
    pub(crate) schema: SchemaRef,
    /// The same as long as the answer is.
    pub(crate) version: String,
    /// The rows; an error is the last item.
    pub(crate) stream: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

/// All rows of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The columns.
    pub(crate) schema: SchemaRef,
    /// The rows.
    pub(crate) batches: Vec<RecordBatch>,
    /// The same as long as the answer is.
    pub(crate) version: String,
    /// The memory of the rows, as long as somebody has them.
    pub(super) held: MemoryReservation,
}

/// Why there is no answer, or no more of it.
#[derive(Debug)]
pub(crate) enum QueryError {
    /// The question is wrong: not read-only, no SQL, unknown names, values it cannot be run with.
    Refused(Error),
    /// Too many work and wait.
    Busy {
        /// When there may be room.
        retry_after: Duration,
    },
    /// It takes longer than it may.
    TooLong,
    /// It has more rows, or needs more memory, than it may.
    TooLarge(String),
    /// It is not the question's fault; of kind `Data`, rows with which it cannot be computed.
    Failed(Error),
}

impl QueryError {
    /// The same for somebody else who waited for it.
    pub(super) fn copy(&self) -> Self {
        let copied = |error: &Error| {
            let copy = Error::new(error.kind(), error.chain()).with_retry(error.retry());
            match error.hint_text() {
                Some(hint) => copy.hint(hint),
                None => copy,
            }
        };
        match self {
            Self::Refused(error) => Self::Refused(copied(error)),
            Self::Busy { retry_after } => Self::Busy { retry_after: *retry_after },
            Self::TooLong => Self::TooLong,
            Self::TooLarge(what) => Self::TooLarge(what.clone()),
            Self::Failed(error) => Self::Failed(copied(error)),
        }
    }
}

/// A relation that can be asked for.
#[derive(Debug, Clone)]
pub(crate) struct RelationInfo {
    /// Its job.
    pub(crate) job: String,
    /// Its name; with the job's before it where several jobs have one of this name.
    pub(crate) name: String,
    /// The name as it is written in SQL.
    pub(crate) sql: String,
    /// `table`, `view`, `rejected`, `quarantine` or `undelivered`.
    pub(crate) kind: &'static str,
    /// Its columns.
    pub(crate) schema: SchemaRef,
    /// Its rows, where they are known.
    pub(crate) rows: Option<u64>,
    /// Its files, where they are known.
    pub(crate) files: Option<u64>,
    /// The last epoch of its job.
    pub(crate) epoch: Option<u64>,
    /// What it is, for people.
    pub(crate) doc: String,
}

/// What one process gives to all who ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueryLimits {
    /// Bytes that one query may hold.
    pub(crate) memory: u64,
    /// How long one may take, its wait included.
    pub(crate) time: Duration,
    /// Rows that one may give.
    pub(crate) rows: u64,
    /// At work at once.
    pub(crate) queries: usize,
    /// Waiting.
    pub(crate) queue: usize,
    /// Bytes of answers that are kept.
    pub(crate) cache: u64,
}

impl From<&ServeLimits> for QueryLimits {
    fn from(limits: &ServeLimits) -> Self {
        Self {
            memory: limits.query_memory,
            time: limits.query_time,
            rows: limits.query_rows,
            queries: limits.queries,
            queue: limits.queue,
            cache: limits.cache,
        }
    }
}
