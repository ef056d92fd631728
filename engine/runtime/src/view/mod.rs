//! Keeping materialized views: the work of one epoch for one view.
//!
//! In: a view's plans and the new rows of its input. Out: rows to add and keys to remove. It writes
//! no files; `epoch` does.

mod incremental;

pub use incremental::{IncrementalView, Refreshed};
