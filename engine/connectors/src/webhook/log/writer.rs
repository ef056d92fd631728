//! Deliveries of many requests in one write and one sync: while the disk is at work, the next group
//! gathers.
//!
//! In: deliveries, from many tasks. Out: to each the number behind its rows, when they are on the
//! disk. One thread writes; it ends when nobody holds the writer any more, with everything written
//! that was handed over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use sluice_core::{Error, Result};
use tokio::sync::{mpsc, oneshot};

use super::Log;
use super::record::Entry;

/// Requests that wait for the disk. It syncs some hundred times a second: that is seconds of
/// waiting, and who comes later is better told so.
const WAITING_MAX: usize = 4096;

/// Requests of one group: half of what may wait, so that a group does not take all the time there
/// is.
const GROUP_MAX: usize = 2048;

/// Bytes of deliveries that wait for the disk. Who goes away leaves his here, and others come in
/// his place.
const WAITING_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Deliveries of one request, and who waits for them.
struct Order {
    entries: Vec<Entry>,
    reply: oneshot::Sender<Option<u64>>,
    _room: Room,
}

/// What deliveries take of all that may wait; given back when it is dropped.
struct Room {
    waiting: Arc<AtomicU64>,
    bytes: u64,
}

impl Room {
    /// None where too much waits already. What waits alone is never too much.
    fn of(waiting: &Arc<AtomicU64>, entries: &[Entry]) -> Option<Self> {
        let bytes: u64 = entries.iter().map(|entry| entry.bytes() as u64).sum();
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        let room = Self { waiting: waiting.clone(), bytes };
        (before == 0 || before.saturating_add(bytes) <= WAITING_BYTES_MAX).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Writes to one log.
#[derive(Debug)]
pub(in crate::webhook) struct Writer {
    log: Arc<Log>,
    orders: mpsc::Sender<Order>,
    waiting: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// Hands deliveries to a writer.
#[derive(Debug, Clone)]
pub(in crate::webhook) struct Handle {
    pub log: Arc<Log>,
    orders: mpsc::Sender<Order>,
    waiting: Arc<AtomicU64>,
}

/// Why deliveries were not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::webhook) enum Unwritten {
    /// Too many wait: try again in a moment.
    Full,
    /// The disk failed.
    Broken,
}

impl Writer {
    /// Starts to write to `log`, which nobody else appends to. `wrote` is told after each group.
    pub(in crate::webhook) fn start(
        log: Arc<Log>,
        wrote: impl Fn(&Log) + Send + 'static,
    ) -> Result<Self> {
        let (orders, received) = mpsc::channel(WAITING_MAX);
        let work = Work { log: log.clone(), received };
        let thread = thread::Builder::new()
            .name(format!("webhook-{}", log.slot()))
            .spawn(move || work.run(wrote))
            .map_err(|e| Error::unavailable("no thread can be started").because(e))?;
        Ok(Self { log, orders, waiting: Arc::default(), thread: Some(thread) })
    }

    pub(in crate::webhook) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Whether it goes on writing.
    pub(in crate::webhook) fn works(&self) -> bool {
        let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        !ended && !self.log.is_broken()
    }

    pub(in crate::webhook) fn handle(&self) -> Handle {
        let Self { log, orders, waiting, .. } = self;
        Handle { log: log.clone(), orders: orders.clone(), waiting: waiting.clone() }
    }

    /// Writes what was handed over, and ends. Blocks.
    pub(in crate::webhook) fn close(self) {
        let Self { log, orders, thread, .. } = self;
        drop((log, orders));
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes webhooks broke off");
        }
    }
}

impl Handle {
    /// Writes deliveries, all or none; the number behind their last row. What is dropped meanwhile
    /// is written all the same.
    pub(in crate::webhook) async fn append(&self, entries: Vec<Entry>) -> Result<u64, Unwritten> {
        let room = Room::of(&self.waiting, &entries).ok_or(Unwritten::Full)?;
        let (reply, answer) = oneshot::channel();
        let order = Order { entries, reply, _room: room };
        self.orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unwritten::Full,
            mpsc::error::TrySendError::Closed(_) => Unwritten::Broken,
        })?;
        answer.await.ok().flatten().ok_or(Unwritten::Broken)
    }
}

/// What the thread has.
struct Work {
    log: Arc<Log>,
    received: mpsc::Receiver<Order>,
}

impl Work {
    fn run(mut self, wrote: impl Fn(&Log)) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while self.received.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            let entries = group.iter().flat_map(|order| &order.entries);
            let mut ends = match self.log.append(entries) {
                Ok(ends) => ends.into_iter(),
                Err(error) => {
                    let (partition, error) = (self.log.partition(), error.chain());
                    tracing::error!(partition, error, "deliveries could not be written");
                    // Who waits is told that it failed, and who comes that nobody writes.
                    return;
                }
            };
            for order in group.drain(..) {
                let end = order.entries.len().checked_sub(1).and_then(|last| ends.nth(last));
                // Nobody may wait any more.
                let _ = order.reply.send(end);
            }
            wrote(&self.log);
        }
    }
}
