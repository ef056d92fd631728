//! Topics of a real broker: everything in them lands exactly once, whatever happens to broker,
//! network, store and runner, and by another client's word.
//!
//! All tests share one broker (`support::kafka`), each has topics of its own; those that break
//! brokers have their own.

mod broker;
mod faults;
mod formats;
mod loss;
mod offsets;
mod poison;
mod recount;
mod replay;
mod secure;
mod shards;
pub mod sink;
mod source;
mod stream;
