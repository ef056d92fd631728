//! What lies in a lake and how it gets there: stores, epoch manifests, data files, Delta logs,
//! snapshots and maintenance.
//!
//! In: rows and decisions of the runtime. Out: durable objects. The modules form a ladder, each
//! using only those before it; there is no SQL and there are no sources here.

pub mod store;

pub mod manifest;

pub mod parquet;

pub mod delta;

pub mod table;

pub mod snapshot;

pub mod maintain;

pub mod testing;
