//! Conformance suites: what every source and sink must keep, run against each implementation.

mod source;

pub use source::{read_all, read_chunks, scan_conformance, source_conformance};
