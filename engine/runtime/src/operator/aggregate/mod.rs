//! The incremental aggregate: `GROUP BY` over inputs that only ever grow.
//!
//! What is kept between epochs is the *partial state* of every group as Arrow columns, exactly what
//! DataFusion's partial aggregate puts out. One epoch:
//!
//! ```text
//! new rows ─► AggregateExec(Partial) ─► partial rows ─┐
//!                                                     ├─► merge_batch ─► state ─► kept, delta
//! kept state of the groups in them, by row index ─────┘                    └────► evaluate ─► rows
//! ```
//!
//! The work of an epoch is proportional to the groups it touches, never to the groups there are.
//! Nothing can be taken back: inputs that retract rows need another strategy.

mod partial;

mod accumulate;

mod incremental;

#[cfg(test)]
mod tests;

pub use incremental::{Incremental, Merged};
pub use partial::{LOGICAL_RULE_OFF, PHYSICAL_RULE_OFF, PartialAggregate, partial_of};
