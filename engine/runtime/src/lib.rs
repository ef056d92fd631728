//! The engine: from a job file to sealed epochs.
//!
//! In: job files and a registry of connectors. Out: epochs, sealed and published in a lake; answers
//! to `plan`, `sql`, `verify` and `audit`. It never sees a connector's insides and serves nothing
//! over a network.
//!
//! The modules are a ladder: each may use only those before it.

pub mod job;

pub mod function;

pub mod catalog;

pub mod plan;

pub mod state;

pub mod operator;

pub mod view;

pub mod outbox;

pub mod epoch;

pub mod recover;

pub mod query;

pub mod verify;

pub mod status;

pub mod schedule;

pub mod maintain;

pub mod replay;
