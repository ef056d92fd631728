//! Outboxes: rows for sinks outside of the lake, sealed with their epoch and delivered afterwards.
//!
//! In: new rows of an epoch, later its sealed and published manifest. Out: rows with the outside,
//! in order, once where it can promise that; what it refuses is kept. When epochs begin and end is
//! not decided here.
//!
//! ```text
//! rows ─► files of the outbox ─► SEAL ─► publish ─► hand over ─► commit ─► record ─► delete files
//!                                                       ▲           │ unknown
//!                                                       └── attach ◄┘ the outside tells how far it is
//! ```

mod decide;
mod deliver;
mod folder;
mod handle;
#[cfg(test)]
mod tests;
mod undelivered;
mod write;

pub use decide::{Backlog, Pressure, decide_pressure};
pub use folder::{Outbox, Record, Trouble, Waiting, needed_since, orphans};
pub use handle::{Given, Handle, Setup};
pub use undelivered::{undelivered_rows, undelivered_schema, undelivered_table};
pub use write::{Place, write};
