//! The one integration-test executable: the house rules, and the engine as its users meet it.
//!
//! Every module but `architecture` and `commands::formats` runs the built binary on job files and looks at
//! what lies in the lake afterwards, often through somebody else's reader. Nothing here reaches
//! into a crate's insides; that is what the unit tests beside the code are for.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

mod architecture;
mod bad_jobs;
mod golden;
mod insurance;
mod memory;
mod retail;

mod kafka;
mod protocol;
mod serve;
mod stores;
mod tables;

mod audit_fails;
mod bad_data;
mod commands;
mod disasters;
