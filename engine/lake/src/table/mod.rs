//! Changes of tables that are more than appends: keyed rows, change files, published datasets.
//!
//! In: keys and rows. Out: files to add and to remove, copy-on-write; no SQL. Null keys equal each
//! other, because views may have a null group. Nothing here commits: adds and removes are sealed
//! with the epoch first.

mod change;
mod dataset;
mod filter;
mod found;
mod keys;
mod lookup;
mod rewrite;

#[cfg(test)]
mod tests;

use crate::manifest::DataFile;

pub use change::{
    ChangeWriter, Changes, WEIGHT_COLUMN, apply_change_file, read_change_file, write_change_file,
};
pub use dataset::{Dataset, dataset_prefix, life_of, list_dataset, publish_files, published_files};
pub use filter::KeyFilter;
pub use found::{Found, find, rows_without};
pub use lookup::{Matches, lookup};
pub use rewrite::{Rewrite, rewrite};

/// What a change of a table's rows does to its files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prepared {
    /// Files written, durable, named by nobody yet.
    pub adds: Vec<DataFile>,
    /// Files whose remaining rows are in the added ones.
    pub removes: Vec<DataFile>,
}
