//! Parquet: the columns a schema names, row group by row group.
//!
//! In: a file behind an `AsyncFileReader` and a data schema. Out: its footer, batches of typed rows
//! with positions; or rows to the bytes of a file. `cast` says which types may become which. A
//! file whose bytes are not Parquet is an error that names it; a value that its type cannot hold is
//! a rejected row.

mod cast;
mod decode;
mod encode;
mod nested;
mod prune;
#[cfg(test)]
mod prune_tests;
mod rows;
#[cfg(test)]
mod tests;

pub(super) use cast::learned;
pub use decode::{Batches, Footer, Group, Layout, Origin, error};
pub use encode::Encoder;
pub use rows::Rows;
