//! SQL for everybody who asks: over HTTP, the PostgreSQL wire, endpoints and pages.
//!
//! In: questions. Out: rows, from one snapshot of all tables; within limits of memory, time and
//! rows; so many at once, some more in a queue, the rest told to come again. Answers are kept until
//! an epoch of what they were read from moves.
//!
//! ```text
//! answer ─► kept? ─► asked by somebody already? ─┐
//! run ───────────────────────────────────────────┴─► gate ─► threads of queries ─► plan ─► rows
//! ```
//!
//! Queries run on threads of their own, so that who is answered from what is kept, and who hands in
//! a webhook, never waits for one.

mod ask;
mod breadth;
mod cache;
mod figures;
mod gate;
mod length;
mod pool;
mod queries;
mod threads;
mod work;

#[cfg(test)]
mod tests;

pub(crate) use ask::{Answer, Ask, QueryError, QueryLimits, RelationInfo, Rows};
pub(crate) use breadth::check_statement;
pub(crate) use length::check_text;
pub(crate) use queries::Queries;
