//! Keeping tables small and folders clean: compaction and the removal of files nobody needs.
//!
//! In: a table's files, its log and what other parts still need. Out: files to add and remove, or
//! objects deleted. Times are the store's own; when it runs is decided elsewhere.

mod compact;
mod vacuum;

#[cfg(test)]
mod tests;

pub use compact::{CompactOptions, Group, compact, plan_compaction};
pub use vacuum::{
    FileFacts, Keep, ORPHAN_MS, Verdict, decide_file, delete, orphans, store_now_ms, vacuum,
};
