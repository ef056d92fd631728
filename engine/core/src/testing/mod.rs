//! Conformance suites: what every source and sink must keep, run against each implementation; and
//! a memory pool to run them in.

mod memory;
mod outlet;
mod source;

pub use memory::Pool;
pub use outlet::{MemoryOutlet, at_least_once_conformance, outlet_conformance};
pub use source::{read_all, read_chunks, scan_conformance, source_conformance};
