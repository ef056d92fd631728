//! What a sink outside of the lake promises: to take what an outbox holds, in order, and to say
//! how far it is.
//!
//! In: rows of files that are sealed already. Out: rows delivered, and rows that were refused for
//! good. When to deliver, to try again and to give up is the engine's business, not the sink's.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{Context, Result};

/// A file of an outbox by its place: the epoch that sealed it, and its number among the files of
/// that epoch. Files are delivered in this order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct OutboxPosition {
    /// The epoch.
    pub epoch: u64,
    /// The file of the epoch, from 0.
    pub file: u32,
}

/// What an outlet is given when it is opened.
#[derive(Debug, Clone)]
pub struct OutletContext {
    /// Time, memory, secrets and the job's name.
    pub context: Context,
    /// The sink's name.
    pub sink: String,
    /// The job's chain: the same for all runs and lives of it, another one after the job was
    /// reset, or in another lake.
    pub chain: String,
    /// The columns of the rows.
    pub schema: SchemaRef,
}

/// A row that will never be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its number among the rows that were handed over, from 0.
    pub row: u64,
    /// Why, naming the column where it is one's fault.
    pub reason: String,
}

/// Rows of one file of an outbox, in its order.
pub type OutboxRows = BoxStream<'static, Result<RecordBatch>>;

/// A sink outside of the lake.
pub trait Outlet: Send + Sync {
    /// Where it is, for people: `topic orders at broker:9092`.
    fn target(&self) -> String;

    /// Whether rows of `schema` can be delivered. Errors: `Config`, naming the column. Pure.
    fn fits(&self, schema: &Schema) -> Result<()>;

    /// Makes what delivers. Pure: nobody is asked before [`Delivery::attach`].
    fn open(&self, context: OutletContext) -> Result<Box<dyn Delivery>>;
}

/// Delivers the files of one outbox.
///
/// Guarantee: a file that was committed is with the outside for ever. A sink that is *exactly
/// once* also keeps its position there, in one step with the rows: what was handed over and not
/// committed is never seen, and [`Self::attach`] tells the last file that was committed, whoever
/// committed it. Any other is *at least once*: it tells no position, rows may be seen before they
/// are committed, and rows that are handed over again are seen again, under the same key as before
/// where the outside knows keys (chain, epoch, file, row).
///
/// Order: `attach`, then `deliver` and `commit` in turn, by ascending position. Rows of one file
/// keep their order as far as the outside has one.
///
/// Fencing: after `attach` of an exactly-once sink nothing of an earlier delivery of the same
/// chain and sink can be committed any more; that one gets an error of kind `Fenced`.
///
/// Errors leave open whether a `commit` happened, and nothing else: whatever failed, `attach` is
/// called before anything else. Errors that are worth a retry are those that may pass by themselves.
///
/// Cancel-safe: a future that is dropped is like an error.
#[async_trait]
pub trait Delivery: Send {
    /// Connects, makes void what was handed over and not committed, and gives the last position
    /// that was committed, where the outside keeps it.
    async fn attach(&mut self) -> Result<Option<OutboxPosition>>;

    /// Hands over the rows of the file at `at`, and gives those that will never be taken, by
    /// ascending number.
    async fn deliver(&mut self, at: OutboxPosition, rows: OutboxRows) -> Result<Vec<Refused>>;

    /// Makes what the last `deliver` handed over count.
    async fn commit(&mut self) -> Result<()>;
}
