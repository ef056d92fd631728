//! Epoch manifests: what is sealed, the chain they form, the lease on it, and their clean-up.
//!
//! In: a [`Manifest`] made by the runtime. Out: won or lost. The seal is one create-if-absent of
//! `<lake>/_sluice/<job>/epochs/<20 digits>.json`; whoever succeeds owns the epoch.
//!
//! ```text
//! side files ──► create <n> ──► done ──────────────────────────────► won
//!                         ├───► exists, unknown ──► read back <n>
//!                         │                            ├─ our run, our bytes ─► won
//!                         │                            ├─ another run ────────► lost: stop
//!                         └───◄──── absent: again ─────┘
//! ```

mod base;
mod chain;
mod fold;
mod lease;
mod lock;
mod seal;
#[cfg(test)]
mod tests;
mod types;
mod wire;

use sluice_core::Result;

use crate::store::Location;

pub use base::{Base, BasePart, Covered};
pub use chain::{Chain, Entry};
pub use fold::{Folded, KEEP_MS, KEEP_NEWEST};
pub use lease::{Found, Holder, LEASE_TTL, Lease, Renewed};
pub use seal::Sealed;
pub use types::{
    Action, Copy, Counts, DataFile, DeltaAction, EpochKind, FORMAT, FileRef, FilesAction, Manifest,
    OutboxAction, OutboxFile, SourcePart, TableCounts, TableMeta, TablePart,
};

/// The folder of a lake that holds everything that is not a table.
const ENGINE_FOLDER: &str = "_sluice";

/// The folder of a job's chain, `<lake>/_sluice/<job>`.
pub fn job_folder(lake: &Location, job: &str) -> Location {
    lake.child(ENGINE_FOLDER).child(job)
}

/// The names of the jobs that have a folder in `lake`, sorted, as they stand in folder names.
pub async fn jobs(lake: &Location) -> Result<Vec<String>> {
    lake.store.folders(&lake.child(ENGINE_FOLDER).path).await
}
