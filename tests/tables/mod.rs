//! Tables and views over time: many epochs, changed definitions, changed columns, upkeep.

mod definitions;
mod epochs;
mod evolution;
mod upkeep;
