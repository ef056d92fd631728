//! [`Queries`]: what all who ask share.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use parking_lot::RwLock;
use sluice_core::{Error, Result as CoreResult};
use sluice_runtime::catalog::SnapshotTable;
use sluice_runtime::epoch::Environment;
use sluice_runtime::function::bytes_of;
use sluice_runtime::query::{self, Facts, Holds, Readable, Served, Shown};
use tokio::sync::watch;

use super::cache::{Kept, Key};
use super::figures::{Figures, Told};
use super::gate::{Entry, Gate, Permit};
use super::length::{check, check_bytes};
use super::pool::QueryPool;
use super::threads::Threads;
use super::work::{self, Begun, Wanted, Work};
use super::{Answer, Ask, QueryError, QueryLimits, RelationInfo, Rows};

const SECOND_MS: i64 = 1_000;
const DAY_MS: i64 = 86_400_000;

/// Answers questions.
pub(crate) struct Queries {
    environment: Environment,
    served: Arc<Served>,
    limits: RwLock<QueryLimits>,
    gate: Arc<Gate>,
    threads: Threads,
    kept: Kept,
    figures: Figures,
}

impl Queries {
    /// No jobs yet. Errors: there are no threads, or no memory.
    pub(crate) fn new(environment: &Environment, limits: QueryLimits) -> CoreResult<Arc<Self>> {
        let bytes = usize::try_from(limits.memory).ok();
        Ok(Arc::new(Self {
            served: Arc::new(Served::new(environment, bytes)?),
            gate: Gate::new(limits.queries, limits.queue),
            threads: Threads::start(environment.partitions)?,
            kept: Kept::new(limits.cache),
            figures: Figures::new(environment.metrics.clone()),
            limits: RwLock::new(limits),
            environment: environment.clone(),
        }))
    }

    /// Other limits from now on. Queries at work keep theirs.
    pub(crate) fn set_limits(&self, limits: QueryLimits) {
        self.gate.resize(limits.queries, limits.queue);
        self.kept.resize(limits.cache);
        *self.limits.write() = limits;
    }

    /// Answers about these jobs from now on.
    pub(crate) fn set_jobs(&self, jobs: Vec<Readable>) {
        self.served.set_jobs(jobs);
    }

    /// The jobs that can be asked about.
    pub(crate) fn jobs(&self) -> Vec<Readable> {
        self.served.jobs()
    }

    /// Adds a system table with these columns: what `now` gives when it is read.
    pub(crate) fn add_system_table(
        &self,
        name: &str,
        schema: SchemaRef,
        now: impl Fn() -> Option<SnapshotTable> + Send + Sync + 'static,
    ) {
        self.served.add_system_table(name, schema, now);
    }

    /// Looks for newer epochs of all jobs. Errors: a job's lake cannot be read, see
    /// [`Self::troubles`].
    pub(crate) async fn refresh(&self) -> CoreResult<()> {
        self.served.refresh().await
    }

    /// Why lakes cannot be read, by job; empty when all can.
    pub(crate) fn troubles(&self) -> Vec<(String, String)> {
        self.served.troubles()
    }

    /// Ticks whenever an epoch of some job, or its definition, is another.
    pub(crate) fn moved(&self) -> watch::Receiver<u64> {
        self.served.moved()
    }

    /// A short text that is the same as long as the rows of these relations are.
    pub(crate) fn version_of(&self, relations: &[String]) -> String {
        self.served.shown().version_of(relations)
    }

    /// The last epoch of a job that readers see.
    pub(crate) fn epoch_of(&self, job: &str) -> Option<u64> {
        Some(self.served.shown().job(job)?.published.as_ref()?.epoch)
    }

    /// When that was published, milliseconds since 1970.
    pub(crate) fn published_ms_of(&self, job: &str) -> Option<i64> {
        Some(self.served.shown().job(job)?.published.as_ref()?.published_at_ms)
    }

    /// Everything of the jobs that can be asked for, in the order of their files.
    pub(crate) fn relations(&self) -> Vec<RelationInfo> {
        let shown = self.served.shown();
        let tables = shown.tables().map(|(name, job, table)| RelationInfo {
            job: job.name().to_string(),
            name: name.to_string(),
            sql: match name == table.name {
                true => quoted(name),
                false => format!("{}.{}", quoted(job.name()), quoted(&table.name)),
            },
            kind: table.kind,
            schema: table.schema.clone(),
            rows: table.rows,
            files: table.files,
            epoch: job.published.as_ref().map(|published| published.epoch),
            doc: table.doc.clone(),
        });
        tables.collect()
    }

    /// A session over what is shown now, with the memory of one query, for who plans statements by
    /// themselves. Plans that are made in it run by [`Self::run_plan`].
    pub(crate) async fn context(&self) -> CoreResult<SessionContext> {
        let (served, pool) = (self.served.clone(), self.pool());
        let made = async move { served.session(&served.shown(), Some(pool)) };
        work::aside(&self.threads, made).await.map_err(|error| match error {
            QueryError::Failed(error) | QueryError::Refused(error) => error,
            _ => Error::bug("a session could not be made"),
        })
    }

    /// Asks, and gives rows as they come.
    pub(crate) async fn run(&self, ask: Ask) -> Result<Rows, QueryError> {
        self.ask(ask, self.served.shown(), self.pool()).await
    }

    /// Runs a plan that was made in the session of `context`, of a statement that was checked.
    pub(crate) async fn run_plan(
        &self,
        context: &SessionContext,
        plan: LogicalPlan,
        rows_max: Option<u64>,
        who: &str,
    ) -> Result<Rows, QueryError> {
        let wanted = Wanted::Plan { state: Box::new(context.state()), plan: Box::new(plan) };
        self.begin(wanted, self.served.shown(), self.pool(), rows_max, who.to_string()).await
    }

    /// Asks, and gives all rows. What was asked before is answered from what is kept; what several
    /// ask at one moment is asked once.
    pub(crate) async fn answer(&self, ask: Ask) -> Result<Arc<Answer>, QueryError> {
        let facts = self.facts(&ask.sql, &ask.who).await?;
        let shown = self.served.shown();
        let Some(version) = self.version_now(&shown, &facts) else {
            return self.gathered(ask, shown).await.map(Arc::new);
        };
        let key = Key::of(&ask, version);
        let found = self.kept.get(&key).await;
        self.figures.looked(found.is_some(), self.kept.bytes());
        match found {
            Some(answer) => Ok(answer),
            None => self.kept.answer(key, self.gathered(ask, shown)).await,
        }
    }

    /// The version that an answer to `sql` has now; none where no two answers are the same.
    pub(crate) async fn version(&self, sql: &str, who: &str) -> Result<Option<String>, QueryError> {
        let facts = self.facts(sql, who).await?;
        Ok(self.version_now(&self.served.shown(), &facts))
    }

    /// Runs what keeps a processor busy on the threads of queries.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, QueryError> {
        work::aside(&self.threads, work).await
    }

    /// Runs what plans a statement, as `aside` does, when its turn comes.
    pub(crate) async fn planned<T: Send + 'static>(
        &self,
        who: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, QueryError> {
        let asked = self.environment.clock.monotonic();
        let told = self.admitted(asked, who.to_string()).await?;
        told.planned(work::aside(&self.threads, work).await)
    }

    /// What `sql` reads; it is planned only once.
    async fn facts(&self, sql: &str, who: &str) -> Result<Arc<Facts>, QueryError> {
        check_bytes(sql).map_err(work::of_kind)?;
        let asked = self.environment.clock.monotonic();
        let planned = async {
            let told = self.admitted(asked, who.to_string()).await?;
            let (served, pool, sql) = (self.served.clone(), self.pool(), sql.to_string());
            let planned = work::aside(&self.threads, async move {
                check(&sql)?;
                let state = served.session(&served.shown(), Some(pool)).state();
                query::ask(&state, &sql).await.map(|question| question.facts)
            });
            let planned = planned.await.and_then(|facts| facts.map_err(work::of_kind));
            told.planned(planned)
        };
        self.kept.facts(sql, planned).await
    }

    /// All rows of a question.
    async fn gathered(&self, ask: Ask, shown: Arc<Shown>) -> Result<Answer, QueryError> {
        let pool = self.pool();
        let shared: Arc<dyn MemoryPool> = pool.clone();
        let held = MemoryConsumer::new("answer").register(&shared);
        let rows = self.ask(ask, shown, pool.clone()).await?;
        let Rows { schema, version, mut stream } = rows;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            held.try_grow(bytes_of(&batch)).map_err(|e| work::failed(e, &pool))?;
            batches.push(batch);
        }
        let batches = compact(&schema, batches, &held);
        Ok(Answer { schema, batches, version, held })
    }

    async fn ask(
        &self,
        ask: Ask,
        shown: Arc<Shown>,
        pool: Arc<QueryPool>,
    ) -> Result<Rows, QueryError> {
        let Ask { sql, params, rows_max, who } = ask;
        check_bytes(&sql).map_err(work::of_kind)?;
        self.begin(Wanted::Text { sql, params }, shown, pool, rows_max, who).await
    }

    async fn begin(
        &self,
        wanted: Wanted,
        shown: Arc<Shown>,
        pool: Arc<QueryPool>,
        rows_max: Option<u64>,
        who: String,
    ) -> Result<Rows, QueryError> {
        let clock = &self.environment.clock;
        let told = self.admitted(clock.monotonic(), who).await?;
        let limits = self.limits.read().clone();
        let work = Work {
            wanted,
            served: self.served.clone(),
            shown: shown.clone(),
            pool,
            clock: clock.clone(),
            time_max: limits.time,
            rows_max: rows_max.unwrap_or(u64::MAX).min(limits.rows),
            told,
        };
        let Begun { schema, facts, rows } = work::begin(&self.threads, work).await?;
        let version = self.version_now(&shown, &facts);
        let version = version.unwrap_or_else(|| self.environment.ids.fresh());
        Ok(Rows { schema, version, stream: rows })
    }

    /// Waits for a turn, no longer than a query may take.
    async fn admitted(&self, asked: Duration, who: String) -> Result<Told, QueryError> {
        let clock = &self.environment.clock;
        // The lock must not be held while somebody waits for a turn.
        let time_max = self.limits.read().time;
        let permit = self.permit(time_max).await;
        self.figures.crowd(&self.gate);
        match permit {
            Ok(permit) => Ok(Told::begin((&self.figures, clock, &self.gate), permit, asked, who)),
            Err(retry_after) => {
                self.figures.sent_away();
                Err(QueryError::Busy { retry_after })
            }
        }
    }

    async fn permit(&self, time_max: Duration) -> Result<Permit, Duration> {
        let turn = match self.gate.enter() {
            Entry::In(permit) => return Ok(permit),
            Entry::Away(retry_after) => return Err(retry_after),
            Entry::Waits(turn) => turn,
        };
        self.figures.crowd(&self.gate);
        tokio::select! {
            biased;
            permit = turn => permit.map_err(|_| self.gate.stay_away()),
            () = self.environment.clock.sleep(time_max) => Err(self.gate.stay_away()),
        }
    }

    /// Tells answers to one statement apart. What asks for the time has another one with the time.
    fn version_now(&self, shown: &Shown, facts: &Facts) -> Option<String> {
        let rows = shown.version_of(&facts.reads);
        let now_ms = self.environment.clock.wall_ms();
        match facts.holds {
            Holds::Epoch => Some(rows),
            Holds::Day => Some(format!("{rows}-{}", now_ms.div_euclid(DAY_MS))),
            Holds::Moment => Some(format!("{rows}-{}", now_ms.div_euclid(SECOND_MS))),
            Holds::Never => None,
        }
    }

    /// How many are at work, and how many wait.
    #[cfg(test)]
    pub(super) fn crowd(&self) -> (usize, usize) {
        self.gate.counts()
    }

    fn pool(&self) -> Arc<QueryPool> {
        let bytes = usize::try_from(self.limits.read().memory).unwrap_or(usize::MAX);
        QueryPool::new(self.environment.pool.clone(), bytes)
    }
}

/// A name as SQL takes it, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Rows without what plans left around them: a batch of ten rows may hold on to thousands. Where
/// there is no room to copy them they stay as they are.
fn compact(
    schema: &SchemaRef,
    batches: Vec<RecordBatch>,
    held: &MemoryReservation,
) -> Vec<RecordBatch> {
    let bytes = held.size();
    let kept: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let is_compact = batches.len() <= 1 && kept <= bytes.saturating_mul(2);
    if is_compact || held.try_grow(bytes).is_err() {
        return batches;
    }
    let joined = match &batches[..] {
        [one] => {
            let rows = one.num_rows() as u64;
            take_record_batch(one, &UInt64Array::from_iter_values(0..rows))
        }
        several => concat_batches(schema, several),
    };
    let batches = joined.map_or(batches, |joined| vec![joined]);
    held.resize(batches.iter().map(RecordBatch::get_array_memory_size).sum());
    batches
}
