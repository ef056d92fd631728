//! What tests of stores and of everything on top of them share: a store that fails on demand, and
//! the suite that every store has to pass.
//!
//! A failed promise is an `Err` that says which; the test that calls the suite unwraps it.

mod conformance;
mod faulty;

pub use conformance::store_conformance;
pub use faulty::{Fault, Faulty, Op};
