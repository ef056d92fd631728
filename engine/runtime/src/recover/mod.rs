//! Recovery: from what lies in a lake to a worker that goes on exactly where the last seal was.
//!
//! In: a graph and a lake. Out: a [`Running`] with the lease held, the last epoch published, heads
//! loaded, state restored and sources sought; or a refusal that says what was found and the ways
//! out. It is the only way in: a first run, a restart and a failure take the same path.

mod adopt;
mod chains;
mod changes;
mod decide;
mod definition;
mod evolve;
mod files;
mod foreign;
mod joins;
mod judge;
mod learned;
mod open;
mod past;
mod reset;
mod state;

use sluice_lake::manifest::Lease;

use crate::epoch::{Publisher, SourceRun, Worker};

pub(crate) use chains::united;
pub use chains::{beside, is_replay, published, replay_chain, replays, shard_chain};
pub use changes::{Change, definition_changes};
pub use decide::{Found, Known, Verdict, decide_table};
pub use definition::definition_of;
pub use foreign::load as foreign_tables;
pub use joins::joins;
pub use learned::{remember, replan};
pub use open::{RecoverOptions, lake_of, lake_with, open};
pub use past::{Past, past};
pub use reset::{Mark, Owned, owned};

/// A job ready to run epochs.
pub struct Running {
    /// Runs epochs.
    pub worker: Worker,
    /// Publishes them.
    pub publisher: Publisher,
    /// Sources at the next position.
    pub sources: Vec<SourceRun>,
    /// The lease; to be renewed.
    pub lease: Lease,
    /// Whether the first epoch only takes note of what sources have (`--adopt`).
    pub adopting: bool,
}

/// A job that can go on, for whoever has its lease.
struct Opened {
    worker: Worker,
    publisher: Publisher,
    sources: Vec<SourceRun>,
}
