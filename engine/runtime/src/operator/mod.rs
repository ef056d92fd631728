//! What happens to rows between a plan's output and a table's files: incremental aggregates,
//! upserts and expectations.
//!
//! In: Arrow batches that a DataFusion plan made in this epoch, and what the operator kept from
//! earlier ones. Out: Arrow batches to write, batches of state to seal, counts to report.
//!
//! Operators are pure and synchronous: no clock, no network, no runtime. They read and write no
//! files; the epoch loop does, and calls them on threads that may block. After an error an
//! operator's memory is worth nothing: drop it and restore it from what was sealed.

pub mod keyed;

pub mod aggregate;

pub mod upsert;

pub mod expect;

#[cfg(test)]
mod random;
