//! Who is told of a run, and who stops it.
//!
//! In: what the process shares. Out: one thing that a run carries along. It decides nothing.

use sluice_core::Result;
use tokio_util::sync::CancellationToken;

use crate::epoch::Environment;
use crate::schedule::circuit::Circuits;
use crate::schedule::report::Progress;
use crate::schedule::tell::{Bulletin, Teller};

/// Who is told of a run, and who stops it.
#[derive(Clone, Copy)]
pub(in crate::schedule) struct Around<'a> {
    pub progress: &'a dyn Progress,
    pub stop: &'a CancellationToken,
    pub teller: &'a Teller,
    pub circuits: &'a Circuits,
}

/// What a run that is not tried again tells of itself.
pub(in crate::schedule) struct Told {
    teller: Teller,
    circuits: Circuits,
}

impl Told {
    /// Of a run of `job`.
    pub fn of(env: &Environment, job: &str) -> Self {
        let teller = Teller::new(env, job, false);
        let circuits = Circuits::new(env, &teller);
        Self { teller, circuits }
    }

    /// Tells whether the store let a chain be opened.
    pub fn opened<T>(&self, opened: Result<T>) -> Result<T> {
        match &opened {
            Ok(_) => self.circuits.store_answered(),
            Err(error) => self.circuits.missed(error),
        }
        opened
    }

    /// Tells whether `sources` let this process in.
    pub fn joined<'n, T>(
        &self,
        joined: Result<T>,
        sources: impl Iterator<Item = &'n str>,
    ) -> Result<T> {
        match &joined {
            Ok(_) => self.circuits.sources_answered(sources),
            Err(error) => self.circuits.missed(error),
        }
        joined
    }

    /// Where what it says is posted.
    pub fn bulletin(&self) -> Bulletin {
        self.teller.bulletin.clone()
    }

    /// Around a run that tells `progress` and is stopped by `stop`.
    pub fn around<'a>(
        &'a self,
        progress: &'a dyn Progress,
        stop: &'a CancellationToken,
    ) -> Around<'a> {
        Around { progress, stop, teller: &self.teller, circuits: &self.circuits }
    }
}
