//! The chain of one job's epochs: finding the last one, reading any of them.
//!
//! In: a lake and a job. Out: [`Entry`]s, checked against what they say of themselves. Sealing is
//! in `seal`, clean-up in `fold`; whether a table agrees with the chain is the runtime's question.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;

use sluice_core::{Clock, Error, Result};

use crate::store::{Location, Series, Store};

use super::wire::{self, Read, Stored};
use super::{FileRef, Manifest, job_folder};

/// Manifests read ahead by [`Chain::range`]: enough to hide a store's latency, few enough that
/// large side files do not pile up.
const READ_AHEAD: usize = 8;

/// A sealed manifest as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The manifest, side files included.
    pub manifest: Manifest,
    /// SHA-256 of its bytes in hex: `previous` of the next one.
    pub sha256: String,
}

/// The epochs of one job under `<lake>/_sluice/<job>/epochs`.
#[derive(Debug, Clone)]
pub struct Chain {
    job: String,
    series: Series,
    clock: Arc<dyn Clock>,
}

/// What reading one manifest found.
enum Found {
    Absent,
    Unreadable,
    Entry(Box<Entry>),
}

impl Chain {
    /// The chain of `job` in `lake`; nothing is read yet.
    pub fn new(lake: &Location, job: &str, clock: Arc<dyn Clock>) -> Self {
        let series = Series::new(job_folder(lake, job).child("epochs"));
        Self { job: job.to_string(), series, clock }
    }

    /// The job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The last sealed epoch; none when nothing was sealed. An unreadable last manifest counts as
    /// not sealed: the holder of the lease calls [`Self::discard_unreadable`] for the next number
    /// before it seals. What is returned is durable, so that one may act on it.
    ///
    /// Errors: `Conflict` when a manifest before the last is gone or unreadable.
    pub async fn last(&self) -> Result<Option<Entry>> {
        let Some(newest) = self.series.newest().await? else { return Ok(None) };
        let path = self.series.path(newest);
        let entry = match self.read(&path, newest).await? {
            Found::Entry(entry) => *entry,
            Found::Absent => return Err(self.missing(newest)),
            Found::Unreadable if newest == 0 => return Ok(None),
            Found::Unreadable => {
                self.get(newest - 1).await?.ok_or_else(|| self.missing(newest - 1))?
            }
        };
        self.store().settle(&self.series.path(entry.manifest.epoch)).await?;
        Ok(Some(entry))
    }

    /// Epoch `n`, none when it is not there. Errors: `Conflict` when it is unreadable.
    pub async fn get(&self, n: u64) -> Result<Option<Entry>> {
        self.readable(&self.series.path(n), n).await
    }

    /// The repair of epoch `n` with the highest number; none when it was never repaired.
    pub async fn latest_repair(&self, n: u64) -> Result<Option<Entry>> {
        let mut latest = None;
        for k in 1.. {
            match self.readable(&self.repair_path(n, k), n).await? {
                Some(entry) => latest = Some(entry),
                None => break,
            }
        }
        Ok(latest)
    }

    /// The numbers of all manifests that are there, sorted. For `audit`, which finds the gaps.
    pub async fn numbers(&self) -> Result<Vec<u64>> {
        let listed = self.series.listed().await?;
        Ok(listed.into_iter().filter(|(_, rest, _)| rest == ".json").map(|(n, _, _)| n).collect())
    }

    /// The epochs of `range` in order. A missing or unreadable one is an error in its place; the
    /// stream goes on after it.
    pub fn range(&self, range: Range<u64>) -> BoxStream<'_, Result<Entry>> {
        let read = move |n| async move { self.get(n).await?.ok_or_else(|| self.missing(n)) };
        stream::iter(range).map(read).buffered(READ_AHEAD).boxed()
    }

    /// All epochs that are there, in order, without looking for gaps: [`Self::numbers`] tells.
    pub async fn all(&self) -> Result<BoxStream<'_, Result<Entry>>> {
        let read = move |n| async move { self.get(n).await?.ok_or_else(|| self.missing(n)) };
        Ok(stream::iter(self.numbers().await?).map(read).buffered(READ_AHEAD).boxed())
    }

    /// Whether epoch `n` was sealed and is still there.
    pub async fn exists(&self, n: u64) -> Result<bool> {
        self.series.has(n).await
    }

    /// Whether a just won `n` continues the chain. False means that the chain went on long ago,
    /// `n` was cleaned up, and its name was free again: the runner was fenced and must stop.
    pub async fn continues(&self, n: u64) -> Result<bool> {
        match n {
            0 => Ok(true),
            // The first manifest is never cleaned up, so it cannot tell for the second.
            1 => Ok(self.exists(0).await? && self.base().await?.is_none()),
            _ => self.exists(n - 1).await,
        }
    }

    /// Moves the hint to `n`.
    pub async fn set_last(&self, n: u64) -> Result<()> {
        self.series.set_hint(n).await
    }

    /// Moves what stands at `n` aside, to `<name>.unreadable`, if it is unreadable, so that `n`
    /// can be sealed. Returns whether it did. Only the holder of the lease may call this.
    pub async fn discard_unreadable(&self, n: u64) -> Result<bool> {
        let path = self.series.path(n);
        let Some(found) = self.store().get_versioned(&path).await? else { return Ok(false) };
        if wire::read_stub(&found.bytes).is_some() {
            return Ok(false);
        }
        self.store().put(&self.series.companion(n, ".json.unreadable"), found.bytes).await?;
        // Somebody who took over may have done the same and sealed `n` since.
        let now = self.store().head(&path).await?;
        if now.is_none_or(|now| now.e_tag != found.version.e_tag) {
            return Ok(false);
        }
        self.store().delete(&path).await?;
        tracing::warn!(job = self.job, epoch = n, "an unreadable manifest was moved aside");
        Ok(true)
    }

    pub(super) fn series(&self) -> &Series {
        &self.series
    }

    pub(super) fn store(&self) -> &Store {
        &self.series.folder().store
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    pub(super) fn repair_path(&self, n: u64, k: u32) -> Path {
        self.series.companion(n, &format!(".r{k}.json"))
    }

    pub(super) fn missing(&self, n: u64) -> Error {
        let place = self.store().describe(&self.series.path(n));
        Error::conflict(format!("a manifest is gone epoch={n} path={place}"))
            .hint("restore it from a backup, or start anew with `--rebuild`")
    }

    async fn readable(&self, path: &Path, n: u64) -> Result<Option<Entry>> {
        match self.read(path, n).await? {
            Found::Absent => Ok(None),
            Found::Entry(entry) => Ok(Some(*entry)),
            Found::Unreadable => Err(self
                .wrong(path, "a manifest is unreadable")
                .hint("restore it from a backup, or start anew with `--rebuild`")),
        }
    }

    async fn read(&self, path: &Path, n: u64) -> Result<Found> {
        let Some(bytes) = self.store().get(path).await? else { return Ok(Found::Absent) };
        let mut stored = match wire::read(&bytes) {
            Read::Unreadable => return Ok(Found::Unreadable),
            Read::Stored(stored) => stored,
            Read::Newer(format) => {
                let what = format!("a later version of sluice wrote this manifest format={format}");
                return Err(Error::config(format!("{what} path={}", self.store().describe(path)))
                    .hint("run the version that wrote it, or a later one"));
            }
        };
        let sides = self.sides(&mut stored).await?;
        let manifest = stored.finish(sides)?;
        if manifest.epoch != n || manifest.job != self.job {
            return Err(self
                .wrong(path, "a manifest stands at another's name")
                .hint("somebody copied files inside the lake; restore them from a backup"));
        }
        Ok(Found::Entry(Box::new(Entry { manifest, sha256: wire::hex(&bytes) })))
    }

    async fn sides(&self, stored: &mut Stored) -> Result<Vec<(FileRef, Bytes)>> {
        let mut read = Vec::new();
        for side in stored.sides() {
            let path = Path::parse(&side.path).ok();
            let content = match &path {
                Some(path) => self.store().get(path).await?,
                None => None,
            };
            let Some(content) = content else {
                let what = format!("a side file of a manifest is gone path={}", side.path);
                return Err(Error::conflict(what).hint("restore it from a backup"));
            };
            read.push((side, content));
        }
        Ok(read)
    }

    fn wrong(&self, path: &Path, what: &str) -> Error {
        Error::conflict(format!("{what} path={}", self.store().describe(path)))
    }
}
