//! Sealing: one create-if-absent that ends won, lost or, for a while, unknown.
//!
//! The create may have succeeded although the client says otherwise, and the other way round, so
//! everything but a plain success is decided on what reads back.

use std::time::Duration;

use object_store::path::Path;

use sluice_core::{Error, Result, Step, reach};

use crate::store::Create;

use super::wire::{self, Stub};
use super::{Chain, Manifest};

/// Tries before the seal gives up and the epoch goes through recovery. With the waits between
/// them they cover a store that is away for six seconds; the client itself has retried before.
const ATTEMPTS_MAX: u32 = 6;

/// The first wait; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// How sealing an epoch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// The epoch is ours.
    Won {
        /// SHA-256 of the manifest's bytes: `previous` of the next one.
        sha256: String,
    },
    /// Another run sealed it: stop.
    Lost {
        /// The run that did.
        run: String,
        /// Its machine.
        host: String,
        /// The epoch.
        epoch: u64,
    },
}

/// What stood at the name when it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ReadBack {
    /// Nothing.
    Absent,
    /// Something that is not a manifest.
    Unreadable,
    /// A manifest.
    Found { stub: Stub, sha256: String },
}

/// What follows from what was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    /// It is ours.
    Won,
    /// It is another run's.
    Lost(Stub),
    /// Nothing happened: try again.
    Again,
    /// An earlier attempt of this run arrived late, with other content: recover from it.
    Earlier,
    /// The name is blocked by something unreadable: recovery moves it aside.
    Blocked,
}

fn decide_seal(found: ReadBack, own_run: &str, own_sha256: &str) -> Decision {
    match found {
        ReadBack::Absent => Decision::Again,
        ReadBack::Unreadable => Decision::Blocked,
        ReadBack::Found { stub, .. } if stub.run != own_run => Decision::Lost(stub),
        ReadBack::Found { sha256, .. } if sha256 == own_sha256 => Decision::Won,
        ReadBack::Found { .. } => Decision::Earlier,
    }
}

impl Chain {
    /// Seals an epoch. Errors: `Unavailable` when it cannot be known or done now; recovery finds
    /// out what was sealed.
    pub async fn seal(&self, manifest: &Manifest) -> Result<Sealed> {
        if manifest.repairs != 0 {
            return Err(Error::bug("an epoch is not a repair"));
        }
        let path = self.series().path(manifest.epoch);
        self.seal_at(&path, manifest, Step::Sealed).await
    }

    /// Seals repair `manifest.repairs` of an epoch, `<n>.r<k>`. Errors as [`Self::seal`].
    pub async fn seal_repair(&self, manifest: &Manifest) -> Result<Sealed> {
        if manifest.repairs == 0 {
            return Err(Error::bug("a repair has a number from 1"));
        }
        let path = self.repair_path(manifest.epoch, manifest.repairs);
        self.seal_at(&path, manifest, Step::RepairSealed).await
    }

    async fn seal_at(&self, path: &Path, manifest: &Manifest, step: Step) -> Result<Sealed> {
        let encoded = wire::encode(manifest, self.series())?;
        for (side, content) in &encoded.sides {
            self.store().put(side, content.clone()).await?;
        }
        if step == Step::Sealed {
            reach(Step::SideFilesWritten, manifest.epoch);
        }
        let mut wait = FIRST_WAIT;
        let mut trouble = None;
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                self.clock().sleep(wait).await;
                wait *= 2;
            }
            let found = match self.store().create(path, encoded.bytes.clone()).await? {
                Create::Done => {
                    reach(step, manifest.epoch);
                    return Ok(Sealed::Won { sha256: encoded.sha256 });
                }
                Create::Exists => self.read_back(path).await,
                Create::Unknown(error) => {
                    trouble = Some(error);
                    self.read_back(path).await
                }
            };
            let decision = match found {
                Ok(found) => decide_seal(found, &manifest.run, &encoded.sha256),
                Err(error) if error.retry() => {
                    trouble = Some(error);
                    Decision::Again
                }
                Err(error) => return Err(error),
            };
            match decision {
                Decision::Again => {}
                Decision::Won => {
                    self.store().settle(path).await?;
                    reach(step, manifest.epoch);
                    return Ok(Sealed::Won { sha256: encoded.sha256 });
                }
                Decision::Lost(Stub { epoch, run, host, .. }) => {
                    return Ok(Sealed::Lost { run, host, epoch });
                }
                other => return Err(self.blocked(path, &other)),
            }
        }
        Err(self.gave_up(path, trouble))
    }

    async fn read_back(&self, path: &Path) -> Result<ReadBack> {
        let Some(bytes) = self.store().get(path).await? else { return Ok(ReadBack::Absent) };
        Ok(match wire::read_stub(&bytes) {
            Some(stub) => ReadBack::Found { stub, sha256: wire::hex(&bytes) },
            None => ReadBack::Unreadable,
        })
    }

    fn blocked(&self, path: &Path, decision: &Decision) -> Error {
        let place = self.store().describe(path);
        match decision {
            Decision::Earlier => {
                Error::unavailable(format!("an earlier attempt to seal arrived late path={place}"))
            }
            _ => Error::unavailable(format!("the manifest to seal is unreadable path={place}")),
        }
    }

    fn gave_up(&self, path: &Path, trouble: Option<Error>) -> Error {
        let place = self.store().describe(path);
        let error = Error::unavailable(format!(
            "cannot seal the epoch attempts={ATTEMPTS_MAX} path={place}"
        ))
        .hint("check the store; the next run finds out whether the epoch was sealed");
        match trouble {
            Some(cause) => error.because(cause),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seal_is_decided_on_what_reads_back() {
        let stub = |run: &str| Stub { format: 1, epoch: 7, run: run.into(), host: "h".into() };
        let found =
            |run: &str, hash: &str| ReadBack::Found { stub: stub(run), sha256: hash.into() };
        let cases = [
            (ReadBack::Absent, Decision::Again),
            (ReadBack::Unreadable, Decision::Blocked),
            (found("own", "1"), Decision::Won),
            (found("own", "2"), Decision::Earlier),
            (found("other", "1"), Decision::Lost(stub("other"))),
        ];
        for (read_back, decision) in cases {
            assert_eq!(decide_seal(read_back, "own", "1"), decision);
        }
    }
}
