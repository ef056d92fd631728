//! Where an outbox lies in the lake, what waits in it, and the record of what was delivered.
//!
//! ```text
//! _sluice/<job>/outbox/<sink>/<epoch>-<unique>-<k>.parquet     rows, named by the epoch's manifest
//! _sluice/<job>/delivered/<sink>/<epoch>.json                  all rows of the epoch are delivered
//! _sluice/<job>/delivered/<sink>/trouble.json                  why nothing is; a hint for people
//! _sluice/<job>/undelivered/<sink>/<epoch>-<file>.parquet      rows that the sink refused
//! ```

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use sluice_core::{Error, OutboxRows, Result};
use sluice_lake::manifest::{Action, Chain, DataFile, Manifest, OutboxFile, job_folder};
use sluice_lake::parquet::{Layout, Read, read_file};
use sluice_lake::store::{Create, Location, Series};

use super::decide::Backlog;
use crate::plan::sink_name;

/// The folder of all outboxes in a job's folder.
const OUTBOX: &str = "outbox";

/// One sink's outbox.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// The store's root.
    root: Location,
    job: Location,
    sink: String,
}

/// What one epoch has for a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The epoch.
    pub epoch: u64,
    /// The life of the chain it belongs to.
    pub incarnation: String,
    /// Its files.
    pub files: Vec<OutboxFile>,
}

impl Waiting {
    /// What the epoch of `manifest` has for `sink`; none when there are no rows.
    pub fn of(manifest: &Manifest, sink: &str) -> Option<Self> {
        let Action::Outbox(outbox) = &manifest.tables.get(&sink_name(sink))?.action else {
            return None;
        };
        let (epoch, incarnation) = (manifest.epoch, manifest.incarnation.clone());
        let files = outbox.files.clone();
        (!files.is_empty()).then_some(Self { epoch, incarnation, files })
    }

    /// Its part of the backlog.
    pub fn backlog(&self) -> Backlog {
        let rows = self.files.iter().map(|f| f.rows).sum();
        Backlog { epochs: 1, rows, bytes: self.files.iter().map(|f| f.bytes).sum() }
    }
}

/// All rows of an epoch, and of those before it, are delivered or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The epoch.
    pub epoch: u64,
    /// The life of the chain it belongs to.
    pub incarnation: String,
    /// Rows delivered in this life so far.
    pub delivered: u64,
    /// Rows refused in this life so far.
    pub undelivered: u64,
    /// The run that wrote the record.
    pub run: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

impl Record {
    /// The record of `waiting`, of whose rows `refused` were, after that of an earlier epoch.
    pub fn after(
        before: Option<&Record>,
        waiting: &Waiting,
        refused: u64,
        (run, at_ms): (&str, i64),
    ) -> Self {
        let rows = waiting.backlog().rows;
        // Of another life other rows are told.
        let same = before.filter(|record| record.incarnation == waiting.incarnation);
        let (delivered, undelivered) = same.map_or((0, 0), |r| (r.delivered, r.undelivered));
        Self {
            epoch: waiting.epoch,
            incarnation: waiting.incarnation.clone(),
            delivered: delivered + rows.saturating_sub(refused),
            undelivered: undelivered + refused,
            run: run.to_string(),
            at_ms,
        }
    }
}

/// Why rows wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The last error.
    pub error: String,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// When the last one failed, milliseconds since 1970.
    pub at_ms: i64,
    /// Until when the sink is left alone because it failed again and again, milliseconds since 1970;
    /// none while it is tried as often as otherwise.
    #[serde(default)]
    pub until_ms: Option<i64>,
}

impl Outbox {
    /// The outbox of a sink of `job` in `lake`; nothing is read yet.
    pub fn new(lake: &Location, job: &str, sink: &str) -> Self {
        let root = Location { store: lake.store.clone(), path: Path::default() };
        Self { root, job: job_folder(lake, job), sink: sink.to_string() }
    }

    /// The sink.
    pub fn sink(&self) -> &str {
        &self.sink
    }

    /// The folder of its files.
    pub fn files(&self) -> Location {
        self.job.child(OUTBOX).child(&self.sink)
    }

    /// The folder of rows that the sink refused.
    pub fn undelivered(&self) -> Location {
        self.job.child("undelivered").child(&self.sink)
    }

    /// How a file is read, with the columns that the sink gets now.
    pub fn layout(&self, schema: &SchemaRef) -> Layout {
        let (location, schema) = (self.root.clone(), schema.clone());
        Layout { location, schema, partition_by: Vec::new() }
    }

    /// The rows of a file. Errors: `Conflict` when it is gone.
    pub async fn open(&self, file: &OutboxFile, schema: &SchemaRef) -> Result<OutboxRows> {
        let found = self.root.store.head(&self.root.join(&file.path)?.path).await?;
        if found.is_none_or(|meta| meta.size != file.bytes) {
            return Err(Error::conflict(format!(
                "a file of an outbox is gone or cut sink={} path={}",
                self.sink, file.path
            ))
            .hint("restore it from a backup; its rows are with no sink"));
        }
        read_file(&self.layout(schema), &data_file(file), Read::default()).await
    }

    /// What sealed epochs behind `after` have for the sink, oldest first. Only their files are
    /// listed: an outbox that was never written to costs one request.
    pub async fn waiting(&self, chain: &Chain, after: Option<u64>) -> Result<Vec<Waiting>> {
        let listed = self.listed().await?;
        let mut waiting = Vec::new();
        for epoch in listed.keys().filter(|epoch| after.is_none_or(|after| **epoch > after)) {
            // One that was never sealed left orphans.
            let Some(entry) = chain.get(*epoch).await? else { continue };
            let named = Waiting::of(&entry.manifest, &self.sink);
            let there = |w: &Waiting| {
                let there = &listed[epoch];
                w.files.iter().any(|f| there.iter().any(|m| m.location.as_ref() == f.path))
            };
            waiting.extend(named.filter(there));
        }
        Ok(waiting)
    }

    /// The files of the outbox by epoch.
    async fn listed(&self) -> Result<BTreeMap<u64, Vec<ObjectMeta>>> {
        let folder = self.files();
        Ok(by_epoch(folder.store.list(&folder.path).await?))
    }

    /// Deletes the files of an epoch that was delivered. One that stays is an orphan.
    pub async fn discard(&self, files: &[OutboxFile]) -> Result<()> {
        for file in files {
            self.root.store.delete(&self.root.join(&file.path)?.path).await?;
        }
        Ok(())
    }

    fn records(&self) -> Series {
        Series::new(self.job.child("delivered").child(&self.sink))
    }

    /// The last record; none before the first. Errors: `Conflict` when it is unreadable.
    pub async fn record(&self) -> Result<Option<Record>> {
        let records = self.records();
        let listed = records.listed().await?;
        let newest = listed.iter().filter(|(_, rest, _)| rest == ".json").map(|(n, ..)| *n).max();
        match newest {
            Some(epoch) => self.record_of(epoch).await,
            None => Ok(None),
        }
    }

    async fn record_of(&self, epoch: u64) -> Result<Option<Record>> {
        let (records, store) = (self.records(), &self.root.store);
        let path = records.path(epoch);
        let Some(bytes) = store.get(&path).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            let place = store.describe(&path);
            Error::conflict(format!("a record of what was delivered is unreadable path={place}"))
                .hint("restore it from a backup, or delete it if the one before it is still there")
                .because(e)
        })
    }

    /// Writes a record. Where somebody wrote one of this epoch before, it says the same and stays.
    pub async fn write_record(&self, record: &Record) -> Result<Record> {
        let json = |e| Error::bug("cannot write a delivery record as json").because(e);
        let bytes = Bytes::from(serde_json::to_vec(record).map_err(json)?);
        let (path, store) = (self.records().path(record.epoch), &self.root.store);
        match store.create(&path, bytes.clone()).await? {
            Create::Done => {}
            Create::Unknown(_) => store.put(&path, bytes).await?,
            Create::Exists => match self.record_of(record.epoch).await {
                Ok(Some(found)) => {
                    store.settle(&path).await?;
                    return Ok(found);
                }
                _ => store.put(&path, bytes).await?,
            },
        }
        Ok(record.clone())
    }

    /// Deletes the record of an epoch that newer ones follow.
    pub async fn forget_record(&self, epoch: u64) -> Result<()> {
        self.root.store.delete(&self.records().path(epoch)).await
    }

    fn trouble_path(&self) -> Path {
        self.records().folder().child("trouble.json").path
    }

    /// Why rows wait; none when nobody said.
    pub async fn trouble(&self) -> Result<Option<Trouble>> {
        let found = self.root.store.get(&self.trouble_path()).await?;
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Says why rows wait, or that they do not any more.
    pub async fn set_trouble(&self, trouble: Option<&Trouble>) -> Result<()> {
        let (store, path) = (&self.root.store, self.trouble_path());
        match trouble {
            None => store.delete(&path).await,
            Some(trouble) => {
                let json = |e| Error::bug("cannot write an error as json").because(e);
                let bytes = serde_json::to_vec(trouble).map_err(json)?;
                store.put_hint(&path, bytes.into()).await
            }
        }
    }
}

/// A file of an outbox as a reader wants it.
pub(super) fn data_file(file: &OutboxFile) -> DataFile {
    let (path, bytes, rows) = (file.path.clone(), file.bytes, file.rows);
    DataFile { path, bytes, rows, ..DataFile::default() }
}

fn by_epoch(listed: Vec<ObjectMeta>) -> BTreeMap<u64, Vec<ObjectMeta>> {
    let mut found: BTreeMap<u64, Vec<ObjectMeta>> = BTreeMap::new();
    for meta in listed {
        if let Some((epoch, _)) = Series::parse(&meta.location) {
            found.entry(epoch).or_default().push(meta);
        }
    }
    found
}

/// The first epoch that some outbox of a job still has files of: its manifest and those after it
/// have to stay. None when no outbox has any.
pub async fn needed_since(lake: &Location, job: &str) -> Result<Option<u64>> {
    let folder = job_folder(lake, job).child(OUTBOX);
    let found = by_epoch(folder.store.list(&folder.path).await?);
    Ok(found.into_keys().next())
}

/// Files in the outboxes of a job that are older than `older_than_ms` and wait for nobody: they
/// were delivered, or no sealed epoch names them.
pub async fn orphans(
    lake: &Location,
    job: &str,
    chain: &Chain,
    (older_than_ms, now_ms): (i64, i64),
) -> Result<Vec<ObjectMeta>> {
    let all = job_folder(lake, job).child(OUTBOX);
    let mut found = Vec::new();
    for sink in all.store.folders(&all.path).await? {
        let outbox = Outbox::new(lake, job, &sink);
        let listed = outbox.listed().await?;
        let delivered = outbox.record().await?.map(|record| record.epoch);
        for (epoch, files) in listed {
            let named: BTreeSet<String> = match delivered.is_some_and(|at| epoch <= at) {
                true => BTreeSet::new(),
                false => named(chain, epoch, &sink).await?,
            };
            let old = |meta: &ObjectMeta| {
                now_ms.saturating_sub(meta.last_modified.timestamp_millis()) >= older_than_ms
            };
            let gone = files.into_iter().filter(old);
            found.extend(gone.filter(|meta| !named.contains(meta.location.as_ref())));
        }
    }
    Ok(found)
}

async fn named(chain: &Chain, epoch: u64, sink: &str) -> Result<BTreeSet<String>> {
    let entry = chain.get(epoch).await?;
    let waiting = entry.and_then(|entry| Waiting::of(&entry.manifest, sink));
    Ok(waiting.into_iter().flat_map(|w| w.files).map(|f| f.path).collect())
}
