//! The durable log of one source in one slot: rows by number, from the first acknowledgement to the
//! published epoch.
//!
//! In: deliveries, in groups. Out: their rows, by number, as often as they are asked for; until
//! somebody says that they are published. Numbers count rows, only grow, and go on after a restart
//! even if every row is gone. What `append` took is on the disk when it returns, and nobody sees it
//! before. It keeps no more than a few MiB in memory, however much waits.
//!
//! `slot` says whose a log is, `record` how deliveries lie in it, `store` how its database is made
//! and `mend` what becomes of it after a power cut; `writer` puts deliveries into groups, `index`
//! knows the ids of all slots.

pub(super) mod index;
mod mend;
pub(super) mod record;
pub(super) mod slot;
mod store;
#[cfg(test)]
mod tests;
pub(super) mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fjall::{Database, Keyspace, PersistMode};
use parking_lot::Mutex;
use sluice_core::{Error, Ids, Result};
use tokio::sync::watch;

use record::{Entry, Head, Record};
use slot::{Lock, Place, SLOTS_MAX};
use store::{Opened, fresh_life, goes_for_all, keep_up};

/// Entries that are removed at once: longer and a delivery would wait for it.
const FORGET_AT_ONCE: usize = 256;

/// Where a log begins that holds its rows no more: the number, and the bytes of all rows before.
const FIRST: &str = "first";

/// The life of a log: another folder's log is another one, and its numbers are not joined to these.
const LIFE: &str = "life";

/// Behind the last row that anybody can have read, written when rows are added and nobody reads.
/// Manifests that know more of the log took it from a newer copy. How many rows there are tells
/// that only until as many have been added.
const UNREAD: &str = "unread";

/// A log.
pub(super) struct Log {
    slot: u32,
    name: Mutex<Name>,
    heads: Keyspace,
    bodies: Keyspace,
    facts: Keyspace,
    database: Database,
    /// Behind the last row that anybody can have read before it was opened.
    begun: u64,
    /// The same, with those that were read since.
    seen: AtomicU64,
    /// Changed by whoever appends.
    end: Mutex<End>,
    /// The same, for whoever looks.
    next: AtomicU64,
    bytes_end: AtomicU64,
    /// The first row that is kept; changed by whoever forgets.
    first: Mutex<Edge>,
    bytes_first: AtomicU64,
    /// The first row that is not published.
    published: watch::Sender<u64>,
    broken: AtomicBool,
    // Let go last.
    _lock: Lock,
}

/// What a log is called.
struct Name {
    life: u32,
    partition: String,
}

impl Name {
    fn new(slot: u32, life: u32) -> Self {
        Self { life, partition: format!("{slot}-{life:08x}") }
    }
}

/// Where a log ends.
#[derive(Debug, Clone, Copy)]
struct End {
    /// Behind the last row, with the bytes of all rows.
    edge: Edge,
    mark: Mark,
}

/// Whether the log says on the disk up to where it can have been read, see [`UNREAD`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Nothing was added since it was opened: the next write says it.
    Due,
    Set,
    /// It is read: manifests may know every row.
    Lifted,
}

/// A border between rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edge {
    row: u64,
    bytes: u64,
}

impl Edge {
    fn behind(head: &Head) -> Self {
        Self { row: head.end(), bytes: head.before + head.bytes }
    }

    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.row.to_be_bytes());
        bytes[8..].copy_from_slice(&self.bytes.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (row, bytes) = bytes.split_at_checked(8)?;
        let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        Some(Self { row: number(row)?, bytes: number(bytes)? })
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("partition", &self.partition()).finish_non_exhaustive()
    }
}

impl Log {
    /// The lowest slot that is free. Blocks.
    pub(super) fn open_lowest(place: &Place, ids: &dyn Ids) -> Result<Arc<Self>> {
        let mut failed = None;
        for slot in 0..SLOTS_MAX {
            match Self::open(place, slot, ids) {
                Ok(Some(log)) => return Ok(log),
                Ok(None) => {}
                Err(error) if goes_for_all(&error) => return Err(error),
                // Deliveries go to the next one; whoever reads tells what is wrong with this one.
                Err(error) => {
                    let chain = error.chain();
                    tracing::error!(slot, error = chain, "a log of webhooks cannot be opened");
                    failed.get_or_insert(error);
                }
            }
        }
        let folder = place.folder().display();
        let none = Error::unavailable(format!("no log is free folder={folder} slots={SLOTS_MAX}"))
            .hint("do so many processes take in its deliveries, or does the disk fail?");
        Err(match failed {
            Some(error) => none.because(error),
            None => none,
        })
    }

    /// The log of a slot; none if somebody else has it. Blocks. Errors: those that are worth no
    /// retry say that the log is damaged.
    pub(super) fn open(place: &Place, slot: u32, ids: &dyn Ids) -> Result<Option<Arc<Self>>> {
        let Some(lock) = place.lock(slot)? else { return Ok(None) };
        let Opened { database, heads, bodies, facts } = store::open(place, slot, ids)?;
        let life = facts.get(LIFE).map_err(broken)?;
        let life = life.and_then(|life| <[u8; 4]>::try_from(&life[..]).ok());
        let life = life.map(u32::from_be_bytes).ok_or_else(record::damaged)?;
        let first = match facts.get(FIRST).map_err(broken)? {
            Some(edge) => Edge::decode(&edge).ok_or_else(record::damaged)?,
            None => Edge { row: 0, bytes: 0 },
        };
        // What is before the first row is gone; to look there is to walk over what marks it.
        let last = heads.range(first.row.to_be_bytes()..).next_back();
        let end = match last {
            None => first,
            Some(last) => {
                let (key, value) = last.into_inner().map_err(broken)?;
                let head = Head::decode(&key, &value)?;
                Edge::behind(&head)
            }
        };
        let unread = match facts.get(UNREAD).map_err(broken)? {
            Some(row) => Some(<[u8; 8]>::try_from(&row[..]).map_err(|_| record::damaged())?),
            None => None,
        };
        let begun = unread.map_or(end.row, |row| u64::from_be_bytes(row).min(end.row));
        let mark = if unread.is_some() { Mark::Set } else { Mark::Due };
        Ok(Some(Arc::new(Self {
            slot,
            name: Mutex::new(Name::new(slot, life)),
            heads,
            bodies,
            facts,
            database,
            begun,
            seen: AtomicU64::new(begun),
            end: Mutex::new(End { edge: end, mark }),
            next: AtomicU64::new(end.row),
            bytes_end: AtomicU64::new(end.bytes),
            bytes_first: AtomicU64::new(first.bytes),
            published: watch::Sender::new(first.row),
            first: Mutex::new(first),
            broken: AtomicBool::new(false),
            _lock: lock,
        })))
    }

    /// The slot.
    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    /// What the partition of its rows is called.
    pub(super) fn partition(&self) -> String {
        self.name.lock().partition.clone()
    }

    /// Its number among all logs there ever were of the source.
    pub(super) fn number(&self) -> u64 {
        (u64::from(self.slot) << 32) | u64::from(self.name.lock().life)
    }

    /// The first row that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first.lock().row
    }

    /// Behind the last row.
    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Behind the last row that manifests can know, unless this is an older copy of the log that
    /// they name.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Rows and bytes that are kept.
    pub(super) fn backlog(&self) -> (u64, u64) {
        let bytes = self.bytes_end.load(Ordering::Acquire);
        let rows = self.next().saturating_sub(*self.published.borrow());
        (rows, bytes.saturating_sub(self.bytes_first.load(Ordering::Acquire)))
    }

    /// Whether nothing can be added any more: the disk failed once, and what it holds is not
    /// certain.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Does as if the disk had failed.
    #[cfg(test)]
    pub(super) fn fail(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Whether every row that was added is published.
    pub(super) fn is_done(&self) -> bool {
        *self.published.borrow() >= self.next()
    }

    /// When the first delivery came that is not published. Blocks.
    pub(super) fn waits_since_ms(&self) -> Result<Option<i64>> {
        let first = *self.published.borrow();
        let heads = self.heads(first, self.next(), 1)?;
        Ok(heads.first().map(|head| head.received_ms))
    }

    /// Told the first row that is not published, whenever it moves.
    pub(super) fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Adds deliveries, all or none, and gives the number behind each. They are on the disk then.
    /// Blocks. Errors: it is broken from then on; whether they are there is open until it is opened
    /// again.
    pub(super) fn append<'e>(&self, entries: impl Iterator<Item = &'e Entry>) -> Result<Vec<u64>> {
        if self.is_broken() {
            return Err(Error::unavailable("a log of webhooks is broken"));
        }
        let mut end = self.end.lock();
        let (End { mut edge, mut mark }, mut ends) = (*end, Vec::new());
        // Synced before it is visible: a number that a reader has seen is never given again.
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        if mark == Mark::Due {
            batch.insert(&self.facts, UNREAD, self.begun.to_be_bytes());
            mark = Mark::Set;
        }
        for entry in entries {
            let head = Head::of(entry, edge.row, edge.bytes);
            let key = edge.row.to_be_bytes();
            batch.insert(&self.heads, key, head.encode());
            batch.insert(&self.bodies, key, entry.encode());
            edge = Edge::behind(&head);
            ends.push(edge.row);
        }
        let kept_up = keep_up(&self.database, [&self.heads, &self.bodies]);
        self.written(kept_up.and_then(|()| batch.commit()).map_err(broken))?;
        *end = End { edge, mark };
        self.bytes_end.store(edge.bytes, Ordering::Release);
        self.next.store(edge.row, Ordering::Release);
        Ok(ends)
    }

    /// The heads of at most `max` deliveries from row `from`, which is the first of one. Blocks.
    pub(super) fn heads(&self, from: u64, to: u64, max: usize) -> Result<Vec<Head>> {
        let (mut heads, mut expected) = (Vec::new(), from);
        if from >= to {
            return Ok(heads);
        }
        let range = self.heads.range(from.to_be_bytes()..to.to_be_bytes());
        for guard in range.take(max) {
            let (key, value) = guard.into_inner().map_err(broken)?;
            let head = Head::decode(&key, &value)?;
            if head.first != expected {
                return Err(self.missing(expected));
            }
            expected = head.end();
            heads.push(head);
        }
        if heads.is_empty() { Err(self.missing(from)) } else { Ok(heads) }
    }

    /// Deliveries in order from the one whose first row is `from`, each with that number, until
    /// `visit` has enough. Blocks.
    pub(super) fn read(
        &self,
        from: u64,
        to: u64,
        mut visit: impl FnMut(u64, Record) -> bool,
    ) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let mut expected = from;
        for guard in self.bodies.range(from.to_be_bytes()..to.to_be_bytes()) {
            let (key, value) = guard.into_inner().map_err(broken)?;
            let first = <[u8; 8]>::try_from(&key[..]).ok().map(u64::from_be_bytes);
            let record = Record::decode(value)?;
            if first != Some(expected) || record.len() == 0 {
                return Err(self.missing(expected));
            }
            let at = expected;
            expected += record.len() as u64;
            if !visit(at, record) {
                return Ok(());
            }
        }
        if expected < to { Err(self.missing(expected)) } else { Ok(()) }
    }

    /// Says that it is read from now on: manifests may know every row of it. Blocks. Errors: it is
    /// broken from then on.
    pub(super) fn begin_reading(&self) -> Result<()> {
        // Nobody adds anything meanwhile.
        let mut end = self.end.lock();
        if end.mark == Mark::Set {
            let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
            batch.remove(&self.facts, UNREAD);
            self.written(batch.commit().map_err(broken))?;
        }
        end.mark = Mark::Lifted;
        Ok(())
    }

    /// Says that all rows before `row` are about to be handed out.
    pub(super) fn hand_out(&self, row: u64) {
        self.seen.fetch_max(row, Ordering::AcqRel);
    }

    /// Says that all rows before `row` are published, and removes them. Blocks, while others
    /// append. Errors: it is broken from then on, since what stays in it would fill it up.
    pub(super) fn forget(&self, row: u64) -> Result<()> {
        let row = row.min(self.next());
        self.published.send_if_modified(|published| {
            let moves = *published < row;
            *published = row.max(*published);
            moves
        });
        let mut first = self.first.lock();
        while first.row < row && !self.is_broken() {
            let edge = self.written(self.remove(*first, row))?;
            if edge == *first {
                break;
            }
            *first = edge;
            self.bytes_first.store(edge.bytes, Ordering::Release);
        }
        Ok(())
    }

    /// Removes the next deliveries that end before `row`; where the log begins then.
    fn remove(&self, first: Edge, row: u64) -> Result<Edge> {
        let mut batch = self.database.batch();
        let mut edge = None;
        let range = self.heads.range(first.row.to_be_bytes()..row.to_be_bytes());
        for guard in range.take(FORGET_AT_ONCE) {
            let (key, value) = guard.into_inner().map_err(broken)?;
            let head = Head::decode(&key, &value)?;
            if head.end() > row {
                edge.get_or_insert(first);
                break;
            }
            batch.remove(&self.heads, head.first.to_be_bytes());
            batch.remove(&self.bodies, head.first.to_be_bytes());
            edge = Some(Edge::behind(&head));
        }
        let edge = match edge {
            Some(edge) => edge,
            // What is removed is not synced: after a power cut some may be gone, and where the log
            // begins is older than that.
            None => self.edge_at(row)?,
        };
        batch.insert(&self.facts, FIRST, edge.encode());
        let kept_up = keep_up(&self.database, [&self.heads, &self.bodies]);
        kept_up.and_then(|()| batch.commit()).map_err(broken)?;
        Ok(edge)
    }

    /// The border before `row`, which is the first one of a delivery or behind the last.
    fn edge_at(&self, row: u64) -> Result<Edge> {
        let end = self.end.lock().edge;
        if row == end.row {
            return Ok(end);
        }
        let head = self.heads.get(row.to_be_bytes()).map_err(broken)?;
        let head = head.ok_or_else(|| self.missing(row))?;
        let bytes = Head::decode(&row.to_be_bytes(), &head)?.before;
        Ok(Edge { row, bytes })
    }

    /// Begins a new life: this is an older copy of the log that manifests know by its name. What
    /// they can have read of it was taken from the newer one and leaves it; what came since has
    /// numbers that the newer one gave to other rows. Blocks.
    pub(super) fn renew(&self, ids: &dyn Ids) -> Result<()> {
        self.forget(self.begun)?;
        if self.first() < self.begun {
            return Err(Error::unavailable("a log of webhooks is broken"));
        }
        let life = fresh_life(ids)?;
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.facts, LIFE, life.to_be_bytes());
        self.written(batch.commit().map_err(broken))?;
        *self.name.lock() = Name::new(self.slot, life);
        Ok(())
    }

    /// The outcome of a write, after which nothing can be added if it failed.
    fn written<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.broken.store(true, Ordering::Release);
        }
        outcome
    }

    fn missing(&self, row: u64) -> Error {
        let partition = self.partition();
        Error::data(format!("a row of the log is not there partition={partition} row={row}"))
            .hint("the folder of the log was changed, or its disk lost something")
    }
}

/// An error of the store.
fn broken(error: fjall::Error) -> Error {
    Error::unavailable("the log of webhooks cannot be used")
        .because(error)
        .hint("is there room on the disk?")
}
