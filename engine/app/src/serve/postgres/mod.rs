//! The PostgreSQL wire: SQL for `psql`, drivers, BI tools and dashboards.
//!
//! In: an address, connections. Out: answers from the same queries, limits and snapshots as over
//! HTTP, to the same users, in the protocol of PostgreSQL (`pgwire`) with the catalogue of
//! `datafusion-postgres`. It only reads: transactions, settings and cursors are taken as clients
//! need them, and change nothing but their session.
//!
//! ```text
//! door ─► line ─► login ─► answer ─► statement ─► reading ─► rows
//!                            └─► command, cursor, settings
//! ```
//!
//! A password is the token of the user whose name the client gives. It crosses the network as it
//! is, so it is taken under TLS, or from the same machine. SCRAM cannot be had: it needs a verifier
//! that is made from the password, and of tokens only hashes are kept.

mod answer;
mod command;
mod cursor;
mod door;
mod failure;
mod line;
mod login;
mod parameter;
mod reading;
mod rows;
mod session;
mod settings;
mod statement;

pub(crate) use door::Door;
