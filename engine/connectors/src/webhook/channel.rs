//! What taking in deliveries and reading them share: the logs of one source in this process, its
//! ids, and counters.
//!
//! In: deliveries of requests. Out: that they are on the disk; and, to the source, the logs. A log
//! that broke is let go of, and the lowest slot that is free taken: the next one while somebody
//! reads what is in it, else the same one, so that a disk that is full for hours takes no more.
//!
//! ```text
//! no log ──open──► own log ──the disk failed──► left to its reader; a new one, at most every 5 s
//!                     └──────close──────────► nothing is taken in; the slot is free for others
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use sluice_core::metric::{Recorder, WEBHOOK_BACKLOG_BYTES, WEBHOOK_BACKLOG_ROWS};
use sluice_core::{Clock, Error, Ids, Result};

use super::log::Log;
use super::log::index::Index;
use super::log::record::Entry;
use super::log::slot::Place;
use super::log::writer::{Handle, Unwritten, Writer};

/// How long a disk that failed is left alone: each try makes files.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// Ids of the last deliveries that are known here: about ten MiB. Doubles that come later are found
/// when the log is read.
const RECENT_MAX: usize = 50_000;

/// What a channel is made with.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub metrics: Arc<dyn Recorder>,
}

/// The logs of one source.
pub(super) struct Channel {
    pub job: String,
    pub source: String,
    pub place: Place,
    pub counters: Counters,
    means: Means,
    own: Mutex<Own>,
    /// Held by who opens a log.
    opening: Arc<tokio::sync::Mutex<()>>,
    recent: Mutex<Recent>,
    index: Mutex<Weak<Index>>,
}

/// What was counted of a source since the process began.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub accepted: AtomicU64,
    pub duplicates: AtomicU64,
    pub refused: AtomicU64,
    pub rows: AtomicU64,
    pub bytes: AtomicU64,
    /// When the last delivery was accepted, in milliseconds since 1970; 0 is never.
    pub last_ms: AtomicI64,
}

/// The log that this process writes to.
#[derive(Default)]
struct Own {
    writer: Option<Writer>,
    tried: Option<Duration>,
    closed: bool,
}

/// Ids of the last deliveries.
#[derive(Default)]
struct Recent {
    times: HashMap<Arc<str>, i64>,
    order: VecDeque<Arc<str>>,
}

impl Recent {
    fn is_known(&self, id: &str, now_ms: i64, window_ms: i64) -> bool {
        let within = |at: &i64| now_ms.abs_diff(*at) <= window_ms.unsigned_abs();
        self.times.get(id).is_some_and(within)
    }

    fn note(&mut self, id: &str, now_ms: i64) {
        let id: Arc<str> = id.into();
        if self.times.insert(id.clone(), now_ms).is_some() {
            // It stands further ahead, and goes when its turn comes: sooner than it had to.
            return;
        }
        self.order.push_back(id);
        if self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.times.remove(&oldest);
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { job, source, .. } = self;
        f.debug_struct("Channel").field("job", job).field("source", source).finish_non_exhaustive()
    }
}

impl Channel {
    pub(super) fn new(place: Place, job: &str, source: &str, means: Means) -> Arc<Self> {
        Arc::new(Self {
            job: job.to_string(),
            source: source.to_string(),
            place,
            counters: Counters::default(),
            means,
            own: Mutex::default(),
            opening: Arc::default(),
            recent: Mutex::default(),
            index: Mutex::default(),
        })
    }

    /// Opens a log to write to, unless there is one.
    pub(super) async fn open(self: &Arc<Self>) -> Result<()> {
        self.handle().await.map(drop)
    }

    /// Who writes. Errors: `Unavailable`, when the disk failed or the process ends.
    async fn handle(self: &Arc<Self>) -> Result<Handle> {
        if let Some(handle) = self.working()? {
            return Ok(handle);
        }
        let one = self.opening.clone().lock_owned().await;
        if let Some(handle) = self.working()? {
            return Ok(handle);
        }
        // The sender may go away meanwhile: the log is opened for those behind him.
        let channel = self.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let opened = channel.reopen();
            drop(one);
            opened
        });
        opened.await.map_err(|e| Error::bug("opening a log broke off").because(e))?
    }

    /// Opens a log in place of one that broke, or of none. Blocks.
    fn reopen(&self) -> Result<Handle> {
        let now = self.means.clock.monotonic();
        let before = {
            let mut own = self.own.lock();
            let soon = |tried: Duration| now.saturating_sub(tried) < OPEN_AGAIN;
            if own.tried.is_some_and(soon) {
                return Err(Error::unavailable("the log of webhooks failed a moment ago"));
            }
            own.tried = Some(now);
            own.writer.take()
        };
        if let Some(before) = before {
            before.close();
        }
        let log = Log::open_lowest(&self.place, &*self.means.ids)?;
        let writer = Writer::start(log, self.wrote())?;
        let handle = writer.handle();
        let mut own = self.own.lock();
        if own.closed {
            return Err(closed());
        }
        own.writer = Some(writer);
        Ok(handle)
    }

    /// The writer that is there, if it works.
    fn working(&self) -> Result<Option<Handle>> {
        let own = self.own.lock();
        if own.closed {
            return Err(closed());
        }
        let writer = own.writer.as_ref().filter(|writer| writer.works());
        Ok(writer.map(Writer::handle))
    }

    /// Tells what waits.
    fn wrote(&self) -> impl Fn(&Log) + Send + use<> {
        let (metrics, job, source) =
            (self.means.metrics.clone(), self.job.clone(), self.source.clone());
        move |log: &Log| {
            let (rows, bytes) = log.backlog();
            metrics.set(&WEBHOOK_BACKLOG_ROWS, &[&job, &source], rows as f64);
            metrics.set(&WEBHOOK_BACKLOG_BYTES, &[&job, &source], bytes as f64);
        }
    }

    /// Writes deliveries to the log, all or none; the log, and the number behind their last row.
    /// What is dropped meanwhile is written all the same. At most `backlog_max` bytes may wait in
    /// it.
    pub(super) async fn append(
        self: &Arc<Self>,
        entries: Vec<Entry>,
        backlog_max: u64,
    ) -> std::result::Result<(Arc<Log>, u64), Unwritten> {
        let handle = self.handle().await.map_err(|error| {
            tracing::warn!(source = self.source, error = error.chain(), "a delivery was put off");
            Unwritten::Broken
        })?;
        if handle.log.backlog().1 >= backlog_max {
            return Err(Unwritten::Full);
        }
        let ids: Vec<(String, i64)> = entries
            .iter()
            .filter_map(|entry| Some((entry.id.clone()?, entry.about.received_ms)))
            .collect();
        let end = handle.append(entries).await?;
        let mut recent = self.recent.lock();
        for (id, received_ms) in ids {
            recent.note(&id, received_ms);
        }
        Ok((handle.log, end))
    }

    /// Whether a delivery with this id is in a log of ours, as far as is remembered here.
    pub(super) fn is_known(&self, id: &str, now_ms: i64, window_ms: i64) -> bool {
        self.recent.lock().is_known(id, now_ms, window_ms)
    }

    /// The log that this process writes to, if there is one.
    pub(super) fn log(&self) -> Option<Arc<Log>> {
        self.own.lock().writer.as_ref().map(|writer| writer.log().clone())
    }

    /// Rows and bytes that wait in the log that is written to.
    pub(super) fn backlog(&self) -> (u64, u64) {
        self.own.lock().writer.as_ref().map_or((0, 0), |writer| writer.log().backlog())
    }

    /// Removes what is published from a log, and tells what still waits. Blocks.
    pub(super) fn forget(&self, log: &Log, row: u64) -> Result<()> {
        log.forget(row)?;
        let ours = self.own.lock().writer.as_ref().is_some_and(|w| w.log().slot() == log.slot());
        if ours {
            self.wrote()(log);
        }
        Ok(())
    }

    /// The ids of the source: those that are open, or opened now. Blocks.
    pub(super) fn index(&self) -> Result<Arc<Index>> {
        let mut known = self.index.lock();
        if let Some(index) = known.upgrade() {
            return Ok(index);
        }
        let index = Index::open(&self.place)?;
        *known = Arc::downgrade(&index);
        Ok(index)
    }

    /// Takes nothing in any more, writes what is under way, and lets go of the log. Blocks.
    pub(super) fn close(&self) {
        let writer = {
            let mut own = self.own.lock();
            own.closed = true;
            own.writer.take()
        };
        if let Some(writer) = writer {
            writer.close();
        }
    }
}

fn closed() -> Error {
    Error::unavailable("no deliveries are taken in any more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ids_are_known_for_their_window() {
        let mut recent = Recent::default();
        recent.note("a", 100);
        assert!(recent.is_known("a", 200, 100) && recent.is_known("a", 0, 100));
        assert!(!recent.is_known("a", 201, 100) && !recent.is_known("b", 100, 100));
        for i in 0..RECENT_MAX {
            recent.note(&i.to_string(), 0);
        }
        assert!(!recent.is_known("a", 100, 100) && recent.is_known("7", 0, 0));
        assert_eq!((recent.order.len(), recent.times.len()), (RECENT_MAX, RECENT_MAX));
    }
}
