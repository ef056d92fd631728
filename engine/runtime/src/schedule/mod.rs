//! Runs: the loop that opens epochs, seals them, publishes them while the next one runs, and goes
//! through recovery when something fails.
//!
//! In: a graph and options. Out: a summary. When a run starts is the caller's decision; when one is
//! due by a job's schedule is told here.

mod attempt;
mod circuit;
mod delivery;
mod due;
mod held;
mod keeper;
mod limit;
mod report;
mod request;
mod run;
mod shards;
mod tell;
mod tender;
mod upkeep;

pub use attempt::run_job;
pub use due::{Due, Passed, Timetable};
pub use held::{HeldJob, hold, work};
pub use limit::limited;
pub use report::{
    EpochReport, Progress, Silent, SinkSummary, Summary, TableSummary, Unreadable, ViewSummary,
};
pub use request::{Request, Requests};
pub use run::{RunOptions, compact_job};
pub use upkeep::{House, Upkeep};
