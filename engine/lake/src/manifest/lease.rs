//! The lease on a job: politeness between runners. The seal is what keeps them apart.
//!
//! On local disk the operating system's file lock, which dies with its holder; elsewhere
//! `lease.json`, renewed by conditional update. A live lease of another runner is refused with
//! its name; losing the lease later stops nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::UpdateVersion;
use serde::{Deserialize, Serialize};

use sluice_core::{Clock, Error, Result};

use crate::store::{Create, Location, Scheme, Updated, Versioned};

use super::job_folder;
use super::lock::{LockFile, process_alive};

/// A lease that was not renewed for this long is dead. Ten seconds between renewals leave room
/// for two that fail; half a minute is what a person accepts to wait after a crash.
pub const LEASE_TTL: Duration = Duration::from_secs(30);

/// Tries to take a lease that others write at the same time.
const ATTEMPTS_MAX: u32 = 4;

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The run.
    pub run: String,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
}

/// A lease as it is found from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Who is named.
    #[serde(flatten)]
    pub holder: Holder,
    /// Since when, milliseconds since 1970.
    pub acquired_at_ms: i64,
    /// When the holder said last that he lives; on local disk nobody says so again.
    pub renewed_at_ms: i64,
    /// Whether the holder may still be at work, as far as that can be told.
    pub alive: bool,
}

/// What renewing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// The lease is still ours.
    Held,
    /// Somebody took over; the next seal decides.
    Lost(Holder),
}

/// A held lease. Dropping it frees a local lock at once; elsewhere the lease dies of age.
#[derive(Debug)]
pub struct Lease {
    place: Location,
    record: Record,
    clock: Arc<dyn Clock>,
    lock: Option<LockFile>,
    version: Option<UpdateVersion>,
    /// The live holder it was taken from, who goes on if we seal nothing.
    before: Option<Record>,
}

/// `lease.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    holder: Holder,
    acquired_at_ms: i64,
    renewed_at_ms: i64,
    #[serde(default)]
    released: bool,
}

/// What to do about the lease that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Take,
    Refuse,
}

/// A lease is dead when it was released, is ours, was not renewed for [`LEASE_TTL`], or its
/// process on this machine is gone. A clock that jumped back makes it young.
fn decide_lease(found: &Record, own: &Holder, now_ms: i64, process_gone: bool) -> Decision {
    let ttl_ms = i64::try_from(LEASE_TTL.as_millis()).unwrap_or(i64::MAX);
    let expired = now_ms.saturating_sub(found.renewed_at_ms) >= ttl_ms;
    let gone = process_gone && found.holder.host == own.host && found.holder.pid != own.pid;
    let dead = found.released || expired || gone || found.holder.run == own.run;
    if dead { Decision::Take } else { Decision::Refuse }
}

impl Lease {
    /// Takes the lease on `job`. Errors: `Fenced` when another runner holds it and `take_over` is
    /// not set, naming holder, host and age.
    pub async fn acquire(
        lake: &Location,
        job: &str,
        holder: Holder,
        take_over: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Lease> {
        let folder = job_folder(lake, job);
        let now = clock.wall_ms();
        let record = Record { holder, acquired_at_ms: now, renewed_at_ms: now, released: false };
        let place = folder.child("lease.json");
        let mut lease = Lease { place, record, clock, lock: None, version: None, before: None };
        match lease.place.store.scheme() {
            Scheme::Local => lease.lock_file(&folder.child("lock"), take_over).await?,
            _ => lease.take(take_over).await?,
        }
        Ok(lease)
    }

    /// Who is named as the holder of a job's lease; none when nobody is. It may be dead.
    pub async fn holder(lake: &Location, job: &str) -> Result<Option<Holder>> {
        let place = job_folder(lake, job).child("lease.json");
        let Some(bytes) = place.store.get(&place.path).await? else { return Ok(None) };
        let record: Option<Record> = serde_json::from_slice(&bytes).ok();
        Ok(record.filter(|r| !r.released).map(|r| r.holder))
    }

    /// The lease on a job as it is found from machine `host` at `now_ms`; none when nobody has it.
    pub async fn find(
        lake: &Location,
        job: &str,
        host: &str,
        now_ms: i64,
    ) -> Result<Option<Found>> {
        let place = job_folder(lake, job).child("lease.json");
        let Some(bytes) = place.store.get(&place.path).await? else { return Ok(None) };
        let record: Option<Record> = serde_json::from_slice(&bytes).ok();
        let Some(record) = record.filter(|r| !r.released) else { return Ok(None) };
        let here = record.holder.host == host;
        let gone = here && process_alive(record.holder.pid) == Some(false);
        let renewed = place.store.scheme() != Scheme::Local;
        let ttl_ms = i64::try_from(LEASE_TTL.as_millis()).unwrap_or(i64::MAX);
        let expired = renewed && now_ms.saturating_sub(record.renewed_at_ms) >= ttl_ms;
        let Record { holder, acquired_at_ms, renewed_at_ms, .. } = record;
        Ok(Some(Found { holder, acquired_at_ms, renewed_at_ms, alive: !gone && !expired }))
    }

    /// Says that the holder lives; to be called every third of [`LEASE_TTL`]. On local disk there
    /// is nothing to renew. Errors leave the lease as it was.
    pub async fn renew(&mut self) -> Result<Renewed> {
        let Some(version) = self.version.clone() else { return Ok(Renewed::Held) };
        self.record.renewed_at_ms = self.clock.wall_ms();
        match self.place.store.update_if(&self.place.path, self.bytes()?, version).await? {
            Updated::Unknown(error) => Err(error),
            Updated::Done => self.reread().await,
            Updated::Changed => self.take_back().await,
        }
    }

    /// Takes a lease again whose new holder has given it back: we still work.
    async fn take_back(&mut self) -> Result<Renewed> {
        if let Some((Some(record), found)) = self.read().await?
            && record.released
        {
            let update = self.place.store.update_if(&self.place.path, self.bytes()?, found.version);
            if let Updated::Unknown(error) = update.await? {
                return Err(error);
            }
        }
        self.reread().await
    }

    /// Gives the lease back, so that the next runner need not wait.
    pub async fn release(mut self) -> Result<()> {
        if self.lock.is_some() {
            // The name goes before the lock, or it would be the next holder's name.
            return match self.read().await? {
                Some((Some(record), _)) if record.holder == self.record.holder => {
                    self.hand_back().await
                }
                _ => Ok(()),
            };
        }
        let Some(version) = self.version.clone() else { return Ok(()) };
        self.record.released = true;
        let update = self.place.store.update_if(&self.place.path, self.bytes()?, version).await?;
        match update {
            Updated::Unknown(error) => Err(error),
            Updated::Done | Updated::Changed => Ok(()),
        }
    }

    /// Gives the lease back as far as that can be done: it is on the way out of a failure, and the lease
    /// dies of age anyway.
    pub async fn abandon(self) {
        // What went wrong first is told; this is only its echo.
        drop(self.release().await);
    }

    /// Names whom the lease was taken from, if he lives: he still works, until he loses a seal.
    async fn hand_back(&self) -> Result<()> {
        let lives = |r: &&Record| process_alive(r.holder.pid) == Some(true);
        match self.before.as_ref().filter(lives) {
            Some(before) => self.place.store.put_hint(&self.place.path, bytes(before)?).await,
            None => self.place.store.delete(&self.place.path).await,
        }
    }

    async fn lock_file(&mut self, lock: &Location, take_over: bool) -> Result<()> {
        let Some(path) = lock.store.local_path(&lock.path) else {
            return Err(Error::bug("a local lake has a local path"));
        };
        if take_over {
            let found = self.read().await?.and_then(|(record, _)| record);
            let own = &self.record.holder;
            self.before = found.filter(|r| r.holder.host == own.host && r.holder.pid != own.pid);
        }
        self.lock = LockFile::take(path, take_over).await?;
        if self.lock.is_none() {
            let found = self.read().await?;
            return Err(self.refused(found.as_ref().and_then(|f| f.0.as_ref())));
        }
        self.place.store.put_hint(&self.place.path, self.bytes()?).await
    }

    async fn take(&mut self, take_over: bool) -> Result<()> {
        for _ in 0..ATTEMPTS_MAX {
            let Some((record, found)) = self.read().await? else {
                match self.place.store.create(&self.place.path, self.bytes()?).await? {
                    Create::Unknown(error) => return Err(error),
                    Create::Done | Create::Exists => {}
                }
                if self.is_ours().await? {
                    return Ok(());
                }
                continue;
            };
            // An unreadable lease is nobody's.
            if let Some(record) = record.filter(|_| !take_over) {
                let gone = process_alive(record.holder.pid) == Some(false);
                let now = self.clock.wall_ms();
                if decide_lease(&record, &self.record.holder, now, gone) == Decision::Refuse {
                    return Err(self.refused(Some(&record)));
                }
            }
            let update = self.place.store.update_if(&self.place.path, self.bytes()?, found.version);
            match update.await? {
                Updated::Unknown(error) => return Err(error),
                Updated::Done if self.is_ours().await? => return Ok(()),
                Updated::Done | Updated::Changed => {}
            }
        }
        let place = self.place.describe();
        Err(Error::unavailable(format!("several runners take the lease at once path={place}")))
    }

    async fn is_ours(&mut self) -> Result<bool> {
        Ok(self.reread().await? == Renewed::Held && self.version.is_some())
    }

    /// Reads the lease back and keeps its version if it is ours.
    async fn reread(&mut self) -> Result<Renewed> {
        match self.read().await? {
            Some((Some(record), found)) if record.holder == self.record.holder => {
                self.version = Some(found.version);
                Ok(Renewed::Held)
            }
            Some((Some(record), _)) => Ok(Renewed::Lost(record.holder)),
            // Somebody deleted or damaged it: nobody else holds it either.
            Some((None, _)) | None => Ok(Renewed::Held),
        }
    }

    async fn read(&self) -> Result<Option<(Option<Record>, Versioned)>> {
        let found = self.place.store.get_versioned(&self.place.path).await?;
        Ok(found.map(|found| (serde_json::from_slice(&found.bytes).ok(), found)))
    }

    fn bytes(&self) -> Result<Bytes> {
        bytes(&self.record)
    }

    fn refused(&self, found: Option<&Record>) -> Error {
        let what = "another runner works this job";
        let message = match found {
            None => format!("{what} lock={}", self.place.describe()),
            Some(Record { holder, acquired_at_ms, .. }) => {
                let age_s = self.clock.wall_ms().saturating_sub(*acquired_at_ms).max(0) / 1_000;
                let Holder { run, host, pid } = holder;
                format!("{what} run={run} host={host} pid={pid} age={age_s}s")
            }
        };
        Error::fenced(message).hint(
            "wait until it ends, or pause the job where a server runs it all the time; pass \
             `--take-over` if it hangs: it then stops by itself",
        )
    }
}

fn bytes(record: &Record) -> Result<Bytes> {
    let json = serde_json::to_vec(record);
    let json = json.map_err(|e| Error::bug("cannot write the lease as json").because(e))?;
    Ok(json.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_refused_only_while_its_holder_may_live() {
        let holder =
            |run: &str, host: &str, pid| Holder { run: run.into(), host: host.into(), pid };
        let own = holder("own", "here", 1);
        let at = |holder: Holder, released| Record {
            holder,
            acquired_at_ms: 0,
            renewed_at_ms: 100_000,
            released,
        };
        let (there, here) = (holder("a", "there", 2), holder("a", "here", 2));
        let cases = [
            (at(there.clone(), false), 100_000, false, Decision::Refuse),
            (at(there.clone(), false), 129_999, false, Decision::Refuse),
            (at(there.clone(), false), 130_000, false, Decision::Take),
            (at(there.clone(), false), 0, false, Decision::Refuse),
            (at(there.clone(), true), 100_000, false, Decision::Take),
            (at(there, false), 100_000, true, Decision::Refuse),
            (at(here.clone(), false), 100_000, true, Decision::Take),
            (at(here, false), 100_000, false, Decision::Refuse),
            (at(holder("b", "here", 1), false), 100_000, true, Decision::Refuse),
            (at(holder("own", "there", 9), false), 100_000, false, Decision::Take),
        ];
        for (found, now, gone, expected) in cases {
            assert_eq!(decide_lease(&found, &own, now, gone), expected, "{found:?} {now}");
        }
    }
}
