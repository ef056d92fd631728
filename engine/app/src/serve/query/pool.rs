//! The memory of one query: a part of the pool of the process, with a limit of its own.
//!
//! In: the process's pool. Out: a pool for a session. What would go beyond the limit is refused, so
//! that operators that can spill do, and others end the query and not its neighbours.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, UnboundedMemoryPool,
};
use parking_lot::Mutex;
use sluice_core::format_bytes;

/// A part of another pool.
#[derive(Debug)]
pub(super) struct QueryPool {
    inner: Arc<dyn MemoryPool>,
    bytes_max: usize,
    used: AtomicUsize,
    /// Who was refused something last.
    refused: Mutex<Option<String>>,
}

impl QueryPool {
    /// At most `bytes_max` of `inner`; none: of the machine's memory.
    pub fn new(inner: Option<Arc<dyn MemoryPool>>, bytes_max: usize) -> Arc<Self> {
        let inner = inner.unwrap_or_else(|| Arc::new(UnboundedMemoryPool::default()));
        let (used, refused) = (AtomicUsize::new(0), Mutex::new(None));
        Arc::new(Self { inner, bytes_max, used, refused })
    }

    /// What is to be said of a query that ended for want of memory; none where it was not its own
    /// limit that it met.
    pub fn verdict(&self) -> Option<String> {
        let who = self.refused.lock().clone()?;
        let bytes = format_bytes(self.bytes_max as u64);
        Some(format!("the query needs more memory than one may have bytes_max={bytes} for={who}"))
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.used.load(Relaxed);
        write!(f, "{}(used: {used}, limit: {})", self.name(), self.bytes_max)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Relaxed);
        self.inner.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
        self.used.fetch_sub(shrink, Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let before = self.used.fetch_add(additional, Relaxed);
        if before.saturating_add(additional) > self.bytes_max {
            self.used.fetch_sub(additional, Relaxed);
            let who = reservation.consumer().name().to_string();
            let text = format!("a query may hold {} bytes, {who} wants more", self.bytes_max);
            *self.refused.lock() = Some(who);
            return Err(resources_datafusion_err!("{text}"));
        }
        let grown = self.inner.try_grow(reservation, additional);
        if grown.is_err() {
            self.used.fetch_sub(additional, Relaxed);
        }
        grown
    }

    fn reserved(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        match self.inner.memory_limit() {
            MemoryLimit::Finite(bytes) => MemoryLimit::Finite(bytes.min(self.bytes_max)),
            _ => MemoryLimit::Finite(self.bytes_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    use super::*;

    #[test]
    fn a_query_has_its_limit_and_its_neighbours_theirs() {
        let all: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(250));
        let (one, other) =
            (QueryPool::new(Some(all.clone()), 100), QueryPool::new(Some(all.clone()), 200));
        let held = |pool: &Arc<QueryPool>, name: &str| {
            let pool: Arc<dyn MemoryPool> = pool.clone();
            MemoryConsumer::new(name).register(&pool)
        };
        let (a, b, c) = (held(&one, "a"), held(&one, "b"), held(&other, "c"));
        a.try_grow(60).unwrap();
        assert!(b.try_grow(41).is_err());
        assert!(one.verdict().unwrap().contains("for=b"), "{:?}", one.verdict());
        b.try_grow(40).unwrap();
        assert_eq!((one.reserved(), all.reserved()), (100, 100));
        assert!(c.try_grow(160).is_err(), "the pool of all has no room");
        assert_eq!((other.verdict(), other.reserved()), (None, 0));
        c.try_grow(150).unwrap();
        drop((a, b));
        assert_eq!((one.reserved(), all.reserved()), (0, 150));
        c.grow(1000);
        assert_eq!(other.reserved(), 1150);
        drop(c);
        assert_eq!((other.reserved(), all.reserved()), (0, 0));
        assert!(matches!(other.memory_limit(), MemoryLimit::Finite(200)));
    }
}
