//! The ids of deliveries that were taken, for as long as they are remembered: of all slots, over
//! all restarts.
//!
//! In: heads of deliveries in the order in which they are taken. Out: which of them were taken
//! already. What is found is on the disk before anybody acts on it, so that a delivery that was
//! taken and not sealed is the same one after a crash, and its double is still the double. It knows
//! no rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};
use parking_lot::Mutex;
use sluice_core::{Error, Result};

use super::record::Head;
use super::slot::{Lock, Place};
use super::store::{ensure, keep_up, options, reopened, told};

/// Ids that are forgotten at once: as long as a delivery may wait for it.
const EXPIRE_AT_ONCE: usize = 1_000;

/// Who had the ids before may be about to let go of them: so often it is waited for this long.
const LOCK_TRIES: u32 = 3;
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// Ids of one source.
pub(in crate::webhook) struct Index {
    ids: Keyspace,
    /// By the time they came, to find those that are old.
    times: Keyspace,
    database: Database,
    /// Behind the last one that was forgotten: what is before is only marks of what was removed.
    expired: Mutex<Vec<u8>>,
    // Let go last.
    _lock: Lock,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Index")
    }
}

/// Which delivery an id belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// The log's number.
    log: u64,
    /// The delivery's first row.
    first: u64,
    received_ms: i64,
}

/// What a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The first with its id, as far as is remembered.
    New,
    /// The one that has the id.
    Known,
    /// Another one with the same id.
    Duplicate,
}

/// What a delivery is, by who has its id.
fn judge(now: Seen, before: Option<Seen>, window_ms: i64) -> Verdict {
    match before {
        None => Verdict::New,
        Some(before) if (before.log, before.first) == (now.log, now.first) => Verdict::Known,
        // Whichever came first by the clock, which may go back.
        Some(before)
            if now.received_ms.abs_diff(before.received_ms) <= window_ms.unsigned_abs() =>
        {
            Verdict::Duplicate
        }
        Some(_) => Verdict::New,
    }
}

impl Seen {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.log.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.first.to_be_bytes());
        bytes[16..].copy_from_slice(&self.received_ms.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = <[u8; 24]>::try_from(bytes).ok()?;
        let number = |at: usize| Some(u64::from_be_bytes(bytes[at..at + 8].try_into().ok()?));
        let received_ms = number(16)?.cast_signed();
        Some(Self { log: number(0)?, first: number(8)?, received_ms })
    }
}

/// Where an id stands among those that came before and after it.
fn time_key(received_ms: i64, id: &str) -> Vec<u8> {
    let mut key = received_ms.max(0).to_be_bytes().to_vec();
    key.extend_from_slice(id.as_bytes());
    key
}

/// Ids that were met and are not kept yet.
#[derive(Debug, Default)]
pub(in crate::webhook) struct Met(HashMap<String, Seen>);

impl Met {
    /// How many there are.
    pub(in crate::webhook) fn count(&self) -> usize {
        self.0.len()
    }
}

impl Index {
    /// Opens the index of a source. Blocks. Errors: `Unavailable` while another process has it.
    pub(in crate::webhook) fn open(place: &Place) -> Result<Arc<Self>> {
        let path = place.index();
        let mut lock = place.lock_index()?;
        for _ in 1..LOCK_TRIES {
            if lock.is_some() {
                break;
            }
            thread::sleep(LOCK_WAIT);
            lock = place.lock_index()?;
        }
        let lock = lock.ok_or_else(|| told(&path, fjall::Error::Locked))?;
        // What it consists of is made with it, so that a crash leaves none without a part.
        ensure(&path, |database| parts(database).map(drop))?;
        let database = reopened(&path)?.map_err(|error| told(&path, error))?;
        let (ids, times) = parts(&database).map_err(|error| told(&path, error))?;
        Ok(Arc::new(Self { ids, times, database, expired: Mutex::default(), _lock: lock }))
    }

    /// Which of `heads` are doubles, in order; ids that are new go to `met`. Blocks.
    pub(in crate::webhook) fn sift(
        &self,
        log: u64,
        heads: &[Head],
        window_ms: i64,
        met: &mut Met,
    ) -> Result<Vec<bool>> {
        let mut doubles = Vec::with_capacity(heads.len());
        for head in heads {
            let Some(id) = &head.id else {
                doubles.push(false);
                continue;
            };
            let now = Seen { log, first: head.first, received_ms: head.received_ms };
            let before = match met.0.get(id) {
                Some(seen) => Some(*seen),
                None => self.seen(id)?,
            };
            let verdict = judge(now, before, window_ms);
            if verdict == Verdict::New {
                met.0.insert(id.clone(), now);
            }
            doubles.push(verdict == Verdict::Duplicate);
        }
        Ok(doubles)
    }

    fn seen(&self, id: &str) -> Result<Option<Seen>> {
        let found = self.ids.get(id).map_err(broken)?;
        // What cannot be read is as good as not there: the id is written anew.
        Ok(found.and_then(|bytes| Seen::decode(&bytes)))
    }

    /// Puts what was met on the disk. Blocks.
    pub(in crate::webhook) fn keep(&self, met: Met) -> Result<()> {
        if met.0.is_empty() {
            return Ok(());
        }
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (id, seen) in met.0 {
            batch.insert(&self.times, time_key(seen.received_ms, &id), b"");
            batch.insert(&self.ids, id, seen.encode());
        }
        self.commit(batch)
    }

    fn commit(&self, batch: OwnedWriteBatch) -> Result<()> {
        let kept_up = keep_up(&self.database, [&self.ids, &self.times]);
        kept_up.and_then(|()| batch.commit()).map_err(broken)
    }

    /// Forgets some of the ids that came before a time; says whether there may be more. Blocks.
    pub(in crate::webhook) fn expire(&self, before_ms: i64) -> Result<bool> {
        let mut expired = self.expired.lock();
        let end = time_key(before_ms, "");
        if *expired >= end {
            return Ok(false);
        }
        let mut batch = self.database.batch();
        let mut last = None;
        let mut count = 0;
        for guard in self.times.range(expired.clone()..end).take(EXPIRE_AT_ONCE) {
            let key = guard.key().map_err(broken)?;
            let id = key.get(8..).and_then(|id| std::str::from_utf8(id).ok());
            if let Some(id) = id {
                // It may have come again since.
                let seen = self.seen(id)?;
                if seen.is_none_or(|seen| time_key(seen.received_ms, id)[..] == key[..]) {
                    batch.remove(&self.ids, id);
                }
            }
            let behind = [&key[..], &[0]].concat();
            batch.remove(&self.times, key);
            last = Some(behind);
            count += 1;
        }
        self.commit(batch)?;
        if let Some(last) = last {
            *expired = last;
        }
        Ok(count == EXPIRE_AT_ONCE)
    }
}

/// The ids, and the times.
fn parts(database: &Database) -> fjall::Result<(Keyspace, Keyspace)> {
    Ok((database.keyspace("ids", options)?, database.keyspace("times", options)?))
}

fn broken(error: fjall::Error) -> Error {
    Error::unavailable("the ids of deliveries cannot be used")
        .because(error)
        .hint("is there room on the disk?")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;

    impl Index {
        /// How many ids are remembered.
        pub(in crate::webhook) fn count(&self) -> usize {
            self.ids.len().unwrap()
        }
    }

    fn head(first: u64, id: &str, received_ms: i64) -> Head {
        let id = Some(id.to_string());
        Head { first, rows: 1, bytes: 1, before: 0, received_ms, id }
    }

    /// What is double, and kept.
    fn take(index: &Index, log: u64, heads: &[Head]) -> Vec<bool> {
        let mut met = Met::default();
        let doubles = index.sift(log, heads, DAY, &mut met).unwrap();
        index.keep(met).unwrap();
        doubles
    }

    #[test]
    fn an_id_is_taken_once_within_its_window_whatever_happens_between() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::new(state.path(), "j", "s");
        let index = Index::open(&place).unwrap();
        assert!(Index::open(&place).is_err(), "one process at a time");
        let heads = [head(0, "a", 0), head(1, "b", 1), head(2, "a", 2)];
        assert_eq!(take(&index, 1, &heads), [false, false, true]);
        assert_eq!(take(&index, 1, &heads), [false, false, true], "as after a crash");
        assert_eq!(take(&index, 2, &[head(0, "a", 5)]), [true], "in another slot");
        drop(index);
        let index = Index::open(&place).unwrap();
        assert_eq!(take(&index, 2, &[head(0, "b", DAY + 1)]), [true]);
        assert_eq!(take(&index, 2, &[head(3, "b", DAY + 2)]), [false], "long after");
        let mut nobody = head(9, "", 0);
        nobody.id = None;
        assert_eq!(take(&index, 2, &[nobody.clone(), nobody]), [false, false]);
    }

    #[test]
    fn ids_are_forgotten_when_they_are_old_and_did_not_come_again() {
        let state = tempfile::tempdir().unwrap();
        let index = Index::open(&Place::new(state.path(), "j", "s")).unwrap();
        let many: Vec<Head> = (0..1_500).map(|i| head(i, &format!("id{i}"), 10)).collect();
        take(&index, 1, &many);
        take(&index, 1, &[head(2_000, "id7", 10 + DAY + 1)]);
        assert!(!index.expire(10).unwrap());
        assert!(index.expire(11).unwrap());
        assert!(!index.expire(11).unwrap());
        assert!(!index.expire(11).unwrap());
        assert_eq!(index.seen("id7").unwrap().map(|seen| seen.first), Some(2_000));
        assert_eq!(index.count(), 1);
        assert_eq!(index.times.len().unwrap(), 1);
    }
}
