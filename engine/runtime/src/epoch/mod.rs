//! One epoch: open, run, seal, publish.
//!
//! In: a graph, what sources have, the heads of the job's tables. Out: a sealed manifest and its
//! published tables. The loop that decides when epochs open, and recovery, are further up.

mod append;
mod clean;
mod compact;
mod intake;
mod kept;
mod publish;
mod refresh;
mod relation;
mod retract;
mod routing;
mod sink;
mod table;
mod upsert;
mod work;

use std::sync::Arc;

use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool};
use object_store::path::Path;
use sluice_core::metric::Recorder;
use sluice_core::{Clock, Context, Ids, Memory, Registry, Secrets, Shard};
use sluice_lake::manifest::Chain;
use sluice_lake::store::Location;

pub use crate::plan::sink_name;
pub use clean::Cleaner;
pub use compact::Compaction;
pub use intake::{Closed, SourceRun, Taken, take};
pub use kept::{read_windows, remembered_owner, source_owner, windows_owner};
pub use publish::{PublishOutcome, Publisher, PublisherTable, fenced};
pub use relation::{Kind, Relation, Relations};
pub use routing::{Outcome, Router};
pub use sink::sink_location;
pub use upsert::upsert_spec;
pub use work::{ForeignTables, Worker, WorkerState, gone_on, other_epochs};

/// What every run of a process shares.
#[derive(Debug, Clone)]
pub struct Environment {
    /// All connectors.
    pub registry: Registry,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random identifiers.
    pub ids: Arc<dyn Ids>,
    /// The pool of the whole process, as DataFusion sees it.
    pub pool: Option<Arc<dyn MemoryPool>>,
    /// The same pool, as connectors and writers see it.
    pub memory: Arc<dyn Memory>,
    /// Told what is measured.
    pub metrics: Arc<dyn Recorder>,
    /// How many cores to use.
    pub partitions: usize,
    /// The name of this computer, for people.
    pub host: String,
    /// This process.
    pub pid: u32,
}

/// The open files of all cores take at most this part of the pool: beyond it row groups and files
/// are ended, not memory taken; the rest is the plan's. A quarter of 512 MiB made two cores with 20
/// partitions each end small files, for twice the time.
const WRITERS_SHARE: usize = 2;

/// With less than this a writer would end row groups of a few hundred rows.
const WRITER_BYTES_MIN: usize = 8 * 1024 * 1024;

impl Environment {
    /// The bytes of the pool; none when it has no limit.
    pub fn pool_bytes(&self) -> Option<usize> {
        match self.pool.as_ref().map(|pool| pool.memory_limit()) {
            Some(MemoryLimit::Finite(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// What the open files of one writer may take of it.
    pub(crate) fn writer_bytes_max(&self) -> usize {
        let share = |bytes: usize| bytes / WRITERS_SHARE / self.partitions.max(1);
        self.pool_bytes().map_or(usize::MAX, share).max(WRITER_BYTES_MIN)
    }

    /// What a connector is given.
    pub fn context(&self, job: &str, secrets: &Secrets) -> Context {
        Context {
            clock: self.clock.clone(),
            memory: self.memory.clone(),
            secrets: secrets.clone(),
            job: job.to_string(),
        }
    }
}

/// What a chain of epochs is to its job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strand {
    /// The job's own: it makes the tables and looks after them.
    #[default]
    Main,
    /// Epochs over a slice of the partitions.
    Shard(Shard),
    /// Rows taken again that stood in one of the places besides tables.
    Replay(Again),
}

/// Where rows stood that are taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// They could not be decoded.
    Rejected,
    /// They broke an expectation.
    Quarantined,
}

impl Strand {
    /// Whether it is a chain beside the job's own.
    pub fn is_beside(self) -> bool {
        self != Self::Main
    }

    /// Whether it takes again what stood in `place`.
    pub fn takes_again(self, place: Again) -> bool {
        self == Self::Replay(place)
    }
}

/// One runner's life on one chain of a job: its names in manifests, files and transactions.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The job, which the tables belong to.
    pub job: String,
    /// The chain: the job, with `@<name>` for one beside it.
    pub chain: String,
    /// What the chain is to the job.
    pub strand: Strand,
    /// This run.
    pub run: String,
    /// The life of the job; all its chains share it.
    pub incarnation: String,
}

impl Identity {
    /// A job's own chain.
    pub fn main(job: &str, run: String, incarnation: String) -> Self {
        let (job, chain) = (job.to_string(), job.to_string());
        Self { job, chain, strand: Strand::Main, run, incarnation }
    }

    /// The transaction id of `table` in Delta logs.
    pub fn txn(&self, table: &str) -> String {
        format!("sluice/{}/{}/{table}", self.chain, self.incarnation)
    }

    /// The first 8 characters of the incarnation, for file names.
    pub fn short(&self) -> &str {
        self.incarnation.get(..8).unwrap_or(&self.incarnation)
    }
}

/// The lake of one job: its root and its chain of epochs.
#[derive(Debug, Clone)]
pub struct Lake {
    /// Where the tables are.
    pub root: Location,
    /// The job's epochs.
    pub chain: Chain,
}

impl Lake {
    /// `_sluice/<chain>/staged/<epoch>-<unique>`.
    pub fn staged(&self, epoch: u64, unique: &str) -> Location {
        let name = format!("{epoch:020}-{unique}");
        self.root.child("_sluice").child(self.chain.job()).child("staged").child(&name)
    }

    /// The store's root, for paths that are whole.
    pub fn store_root(&self) -> Location {
        Location { store: self.root.store.clone(), path: Path::default() }
    }
}
