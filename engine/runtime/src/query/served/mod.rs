//! Tables kept open between questions.
//!
//! In: jobs, and the wish to look again. Out: sessions over one [`Shown`], all tables of each job
//! at one epoch. What was loaded once is moved on and not loaded again: a look that finds nothing
//! new costs one request per chain, a new epoch the new entries of the tables that it touched.
//!
//! ```text
//! refresh ─► look ─► records that are newer ─► keep: tables whose version moved ─► Shown ─► moved
//!                                                                                    │
//!                                             session: a catalog over it, a pool, a time
//! ```
//!
//! A job whose lake does not answer keeps what is known of it; others are not held up.

mod catalog;
mod keep;
mod load;
mod look;
mod shown;

#[cfg(test)]
mod asking_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionContext;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::{Mutex, RwLock};
use sluice_core::{Reservation, Result};
use tokio::sync::watch;

use super::{Readable, system};
use crate::catalog::SnapshotTable;
use crate::epoch::Environment;
use crate::function::{self, EpochTime, SessionOptions};
use catalog::{Catalogs, Live, Missing, System, Troubles};
use load::{Loaded, definition, is_same, names};

pub use shown::{Shown, ShownJob, ShownTable};

/// A job as it is kept; locked by who looks at its lake.
type Loading = Arc<tokio::sync::Mutex<Loaded>>;

/// The name of the catalog: what PostgreSQL's clients see as the database.
const CATALOG: &str = "sluice";

/// Footers of files are kept up to this: those of about ten thousand files.
const FOOTERS_BYTES: usize = 64 << 20;

/// Footers take no more of the pool than one part in so many.
const FOOTERS_SHARE: usize = 16;

/// The tables of some jobs, kept open.
pub struct Served {
    env: Environment,
    /// Functions, options and the runtime that all questions share; it has no tables.
    base: SessionContext,
    /// System tables that others make.
    more: RwLock<BTreeMap<String, Arc<dyn TableProvider>>>,
    wanted: RwLock<Vec<Readable>>,
    shown: RwLock<Arc<Shown>>,
    /// Held while something else is shown.
    showing: Mutex<()>,
    loading: Mutex<BTreeMap<String, Loading>>,
    troubles: Arc<Troubles>,
    moved: watch::Sender<u64>,
    /// The memory of the footers.
    _held: Box<dyn Reservation>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Served({} jobs)", self.wanted.read().len())
    }
}

impl Served {
    /// No jobs yet. A question may hold `query_bytes` of memory; none: all of the pool.
    pub fn new(env: &Environment, query_bytes: Option<usize>) -> Result<Self> {
        let base = function::reading(&SessionOptions {
            memory: env.pool.clone(),
            partitions: env.partitions,
            time: EpochTime::default(),
        })?;
        {
            let state = base.state_ref();
            let mut state = state.write();
            let config = state.config_mut();
            let catalogs = &mut config.options_mut().catalog;
            catalogs.default_catalog = CATALOG.to_string();
            catalogs.create_default_catalog_and_schema = false;
            if let Some(bytes) = query_bytes {
                function::reserve_for_sorts(config, bytes);
            }
        }
        let pool = env.pool_bytes().unwrap_or(usize::MAX);
        let mut footers = FOOTERS_BYTES.min(pool / FOOTERS_SHARE);
        let mut held = env.memory.reserve("footers of served files");
        if held.resize(footers).is_err() {
            footers = 0;
        }
        base.runtime_env().cache_manager.get_file_metadata_cache().update_cache_limit(footers);
        let system = System { engine: system::schema(env, &[]), more: BTreeMap::new() };
        Ok(Self {
            env: env.clone(),
            base,
            more: RwLock::default(),
            wanted: RwLock::default(),
            shown: RwLock::new(Arc::new(Shown::new(Vec::new(), Arc::new(system)))),
            showing: Mutex::default(),
            loading: Mutex::default(),
            troubles: Arc::default(),
            moved: watch::Sender::new(0),
            _held: held,
        })
    }

    /// Adds a table to the schema of system tables, or replaces the one of this name: that which
    /// `now` gives when it is read, with these columns. None is one without rows.
    pub fn add_system_table(
        &self,
        name: &str,
        schema: SchemaRef,
        now: impl Fn() -> Option<SnapshotTable> + Send + Sync + 'static,
    ) {
        let table = Live { schema, now: Box::new(now), context: self.base.clone() };
        self.more.write().insert(name.to_string(), Arc::new(table));
        self.show(&self.wanted.read(), &BTreeMap::new());
    }

    /// Serves these jobs from now on. Tables of theirs that are known stay readable as they are;
    /// others answer when they were looked at.
    pub fn set_jobs(&self, jobs: Vec<Readable>) {
        let mut wanted = self.wanted.write();
        self.troubles.keep(|name| jobs.iter().any(|job| job.graph.job.name == name));
        *wanted = jobs;
        self.show(&wanted, &BTreeMap::new());
    }

    /// The jobs that are served.
    pub fn jobs(&self) -> Vec<Readable> {
        self.wanted.read().clone()
    }

    /// What questions see now.
    pub fn shown(&self) -> Arc<Shown> {
        self.shown.read().clone()
    }

    /// Ticks whenever something else is shown.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Why lakes cannot be read, by job; empty when all can.
    pub fn troubles(&self) -> Vec<(String, String)> {
        self.troubles.all()
    }

    /// Looks for newer epochs of all jobs, and shows each job as soon as it is known. A job that
    /// another call looks at already, or that failed a moment ago, is left out. Errors: the first
    /// job's whose lake could not be read; it is shown as it was, the others as they are. May be
    /// dropped at any time.
    pub async fn refresh(&self) -> Result<()> {
        let looks = self.loading().into_iter().map(|(job, loading)| self.look(job, loading));
        let mut looks: FuturesUnordered<_> = looks.collect();
        let mut failed = None;
        while let Some(looked) = looks.next().await {
            failed = failed.or(looked.err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// The jobs that are served, each with what is kept of it.
    fn loading(&self) -> Vec<(Readable, Loading)> {
        let jobs = self.jobs();
        let mut all = self.loading.lock();
        all.retain(|name, _| jobs.iter().any(|job| job.graph.job.name == *name));
        let with_kept = jobs.into_iter().map(|job| {
            let kept = all.entry(job.graph.job.name.clone());
            let kept = kept.or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Loaded::new(&job))));
            let kept = kept.clone();
            (job, kept)
        });
        with_kept.collect()
    }

    async fn look(&self, job: Readable, loading: Loading) -> Result<()> {
        let Ok(mut loaded) = loading.try_lock() else { return Ok(()) };
        loaded.adopt(&job);
        if loaded.rests(&self.env) {
            return Ok(());
        }
        let looked = loaded.refresh(&self.env, &self.base).await;
        let name = &job.graph.job.name;
        let wanted = self.wanted.read();
        if wanted.iter().any(|job| job.graph.job.name == *name) {
            self.troubles.set(name, looked.as_ref().err());
        }
        if looked? && let Some(shown) = loaded.shown.clone() {
            self.show(&wanted, &BTreeMap::from([(name.clone(), shown)]));
        }
        Ok(())
    }

    /// A session for one question over `shown`, whose memory comes from `pool`; none: from the one
    /// of the process. Its time is now.
    pub fn session(&self, shown: &Arc<Shown>, pool: Option<Arc<dyn MemoryPool>>) -> SessionContext {
        let shared = self.base.runtime_env();
        let runtime = match pool {
            Some(memory_pool) => Arc::new(RuntimeEnv { memory_pool, ..shared.as_ref().clone() }),
            None => shared,
        };
        let state = SessionStateBuilder::new_from_existing(self.base.state())
            .with_catalog_list(Arc::new(Catalogs::new(CATALOG, shown)))
            .with_runtime_env(runtime)
            .build();
        let context = SessionContext::new_with_state(state);
        let time = EpochTime::default();
        time.set_ms(self.env.clock.wall_ms());
        function::set_time(&context, &time);
        context
    }

    /// Shows `jobs`: those in `ready` as they are there, others as they were shown before.
    fn show(&self, jobs: &[Readable], ready: &BTreeMap<String, Arc<ShownJob>>) {
        let _one = self.showing.lock();
        let shown = self.compose(jobs, ready);
        *self.shown.write() = shown;
        self.moved.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn compose(&self, jobs: &[Readable], ready: &BTreeMap<String, Arc<ShownJob>>) -> Arc<Shown> {
        let before = self.shown();
        let shown = jobs.iter().map(|job| {
            let name = &job.graph.job.name;
            let loaded = ready.get(name).filter(|shown| is_same(&shown.job, job));
            match loaded.or(before.job(name)) {
                Some(shown) if is_same(&shown.job, job) => shown.clone(),
                known => Arc::new(self.not_loaded(job, known)),
            }
        });
        let shown = shown.collect();
        let engine = system::schema(&self.env, jobs);
        let system = System { engine, more: self.more.read().clone() };
        Arc::new(Shown::new(shown, Arc::new(system)))
    }

    /// A job that was not looked at yet, with the tables that are known of it from before.
    fn not_loaded(&self, job: &Readable, known: Option<&Arc<ShownJob>>) -> ShownJob {
        let here = |shown: &&Arc<ShownJob>| shown.job.graph.job.lake == job.graph.job.lake;
        let known = known.filter(here);
        let tables = names(&job.graph).into_iter().map(|(name, kind, schema)| {
            if let Some(table) = known.and_then(|known| known.table(&name)) {
                return table.clone();
            }
            let provider = Arc::new(Missing {
                job: job.graph.job.name.clone(),
                schema: schema.clone(),
                troubles: self.troubles.clone(),
            });
            let (doc, rows, files, stamp) = (String::new(), None, None, None);
            Arc::new(ShownTable { name, kind, doc, schema, rows, files, provider, stamp })
        });
        ShownJob {
            tables: tables.collect(),
            definition: definition(&job.graph),
            published: known.and_then(|known| known.published.clone()),
            job: job.clone(),
        }
    }
}
