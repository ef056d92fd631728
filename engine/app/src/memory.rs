//! The one memory pool: DataFusion's, and the same pool as connectors and writers see it.
//!
//! In: a number of bytes, or what the machine has. Out: the pool in both shapes. What does not fit
//! is an error that names its owner; spilling and waiting are up to that owner.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use datafusion::error::Result as PlanResult;
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, TrackConsumersPool,
};
use sluice_core::{Error, Kind, Memory, Reservation, Result, format_bytes};

/// Without `--memory` a run takes this share of the machine's memory; the rest is for the page
/// cache, for what the pool does not count, and for the neighbours.
const SHARE_PERCENT: u64 = 60;

/// What a machine is taken to have when it does not say.
const MACHINE_BYTES_DEFAULT: u64 = 4 << 30;

/// How many of the largest consumers an error of the pool names: enough to see who it was.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4);

/// Who cannot spill may exceed the pool by one part in so many, while spilling operators hold more
/// than their share.
const HEADROOM_DIVISOR: usize = 16;

/// A pool that knows who holds how much of it.
pub type Pool = TrackConsumersPool<FairPool>;

/// A DataFusion pool of `bytes`, shared fairly between operators that can spill.
pub fn pool(bytes: u64) -> Arc<Pool> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    Arc::new(TrackConsumersPool::new(FairPool::new(bytes), CONSUMERS_NAMED))
}

/// [`FairSpillPool`] with headroom. A sort that began alone holds more than its share when another
/// one joins, and gives way only when it grows the next time: until then there may be no room
/// for the few batches that merging takes, which would end the run.
#[derive(Debug)]
pub struct FairPool {
    inner: FairSpillPool,
    bytes: usize,
    /// What those hold who cannot spill.
    fixed: AtomicUsize,
}

impl FairPool {
    fn new(bytes: usize) -> Self {
        Self { inner: FairSpillPool::new(bytes), bytes, fixed: AtomicUsize::new(0) }
    }

    /// Whether so much more fits, were all spilling operators to give way but for the headroom.
    fn has_headroom(&self, additional: usize) -> bool {
        let all = |held: usize| held.saturating_add(additional);
        let most = self.bytes.saturating_add(self.bytes / HEADROOM_DIVISOR);
        all(self.fixed.load(Relaxed)) <= self.bytes && all(self.inner.reserved()) <= most
    }
}

impl fmt::Display for FairPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl MemoryPool for FairPool {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.inner.grow(reservation, additional);
        if !reservation.consumer().can_spill() {
            self.fixed.fetch_add(additional, Relaxed);
        }
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
        if !reservation.consumer().can_spill() {
            self.fixed.fetch_sub(shrink, Relaxed);
        }
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> PlanResult<()> {
        let grown = self.inner.try_grow(reservation, additional);
        if reservation.consumer().can_spill() {
            return grown;
        }
        if let Err(refused) = grown {
            if !self.has_headroom(additional) {
                return Err(refused);
            }
            self.inner.grow(reservation, additional);
        }
        self.fixed.fetch_add(additional, Relaxed);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.inner.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.inner.memory_limit()
    }
}

/// The pool's size when nobody chose one, in bytes.
pub fn default_bytes() -> u64 {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let machine = total_bytes(&read("/proc/meminfo")).unwrap_or(MACHINE_BYTES_DEFAULT);
    // A container may have less than its machine.
    let group: u64 = read("/sys/fs/cgroup/memory.max").trim().parse().unwrap_or(u64::MAX);
    machine.min(group) / 100 * SHARE_PERCENT
}

/// `MemTotal` of a Linux `/proc/meminfo`, in bytes.
pub fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A DataFusion pool as [`Memory`].
#[derive(Debug, Clone)]
pub struct PoolMemory {
    pool: Arc<Pool>,
}

impl PoolMemory {
    /// Reservations come out of `pool`.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }
}

impl Memory for PoolMemory {
    fn reserve(&self, owner: &str) -> Box<dyn Reservation> {
        let pool: Arc<dyn MemoryPool> = self.pool.clone();
        let held = MemoryConsumer::new(owner).register(&pool);
        Box::new(Held { owner: owner.to_string(), pool: self.clone(), held })
    }

    fn bytes_max(&self) -> Option<usize> {
        match self.pool.memory_limit() {
            MemoryLimit::Finite(bytes) => Some(bytes),
            _ => None,
        }
    }
}

struct Held {
    owner: String,
    pool: PoolMemory,
    held: MemoryReservation,
}

impl Reservation for Held {
    fn resize(&mut self, bytes: usize) -> Result<()> {
        self.held.try_resize(bytes).map_err(|e| {
            let wanted = format_bytes(u64::try_from(bytes).unwrap_or(u64::MAX));
            let message = format!("not enough memory owner={:?} wanted={wanted}", self.owner);
            Error::new(Kind::Unavailable, message)
                .with_retry(false)
                .hint("give the run more memory with --memory")
                .because(e)
        })
    }

    fn insist(&mut self, bytes: usize) -> Result<()> {
        let Err(refused) = self.resize(bytes) else { return Ok(()) };
        // DataFusion's spilling operators look at what is left for them only when they grow.
        let consumers = self.pool.pool.metrics();
        let fixed: usize = consumers.iter().filter(|c| !c.can_spill).map(|c| c.reserved).sum();
        let all = fixed.saturating_sub(self.held.size()).saturating_add(bytes);
        if self.pool.bytes_max().is_some_and(|max| all > max) {
            return Err(refused);
        }
        self.held.resize(bytes);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.held.size()
    }
}
