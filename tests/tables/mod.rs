//! Tables and views over time: many epochs, changed definitions, changed columns, upkeep; and how
//! much of a source they read.

mod definitions;
mod epochs;
mod evolution;
mod feed;
mod learned;
mod scans;
mod spark;
mod typed;
mod upkeep;
