//! Keeping tables small and folders clean: compaction, sorting, and the removal of what nobody needs.
//!
//! In: a table's files, its log and what other parts still need. Out: files to add and remove,
//! objects deleted, facts to decide by. Times are the store's own; when it runs is decided
//! elsewhere.

mod compact;
mod facts;
mod vacuum;
mod zorder;

#[cfg(test)]
mod tests;

pub use compact::{CompactOptions, Group, compact, plan_compaction, replaced};
pub use facts::{LogFacts, TableFacts, log_facts, table_facts};
pub use vacuum::{
    FileFacts, Keep, ORPHAN_MS, Verdict, decide_file, delete, orphans, store_now_ms, vacuum,
};
pub use zorder::{Curve, ZORDER_COLUMNS_MAX, is_sorted, plan_zorder, survey, zorder_mark};
