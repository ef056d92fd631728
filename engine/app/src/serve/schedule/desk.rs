//! The state folder: who schedules, what is to be remembered of each job, and the records of runs
//! that are not in the history yet.
//!
//! ```text
//! <state>/schedule.lock     held by the one process that starts runs; freed when it dies
//! <state>/schedule.json     last due times, paused jobs; replaced as a whole
//! <state>/runs/<run>.json   written before a run starts, again when it ended; goes when the
//!                           history has its row
//! ```
//!
//! Everything is durable before the call returns. A record that ended carries the writer and a
//! number that only grows: the history knows by them what it has, whoever writes it again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sluice_core::{Error, Result, Secrets};
use sluice_lake::store::{self, Location};

use super::record::{RunRecord, outcome};

/// The state folder of a project.
#[derive(Debug)]
pub(super) struct Desk {
    folder: Location,
    lock_path: PathBuf,
    lock: Mutex<Option<File>>,
    /// This process.
    writer: String,
    /// The last number that was given to a record.
    numbered: AtomicU64,
    /// The last number whose record is durable, and with it all before it.
    durable: AtomicU64,
}

/// What is remembered of all jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// Starts and successes so far: they are put in order by number, whatever the clock does.
    pub events: u64,
    /// By job.
    pub jobs: BTreeMap<String, KeptJob>,
}

/// What is remembered of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct KeptJob {
    /// The schedule that the rest is about.
    pub schedule: String,
    /// The last time that was served or passed, milliseconds since 1970.
    pub last_due_ms: Option<i64>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// The number of its last start.
    pub started: u64,
    /// The number of its last success.
    pub succeeded: u64,
    /// A run that is to go on in the next process.
    pub cut: Option<Cut>,
}

/// A run that ended with its process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    /// Which try it was.
    pub attempt: u32,
    /// What started it.
    pub trigger: String,
}

/// A record in the state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    /// The run.
    pub record: RunRecord,
    /// The time it was due at.
    #[serde(default)]
    pub due_ms: Option<i64>,
    /// Who wrote that it ended, and as which of their records; 0 while it is at work.
    #[serde(default)]
    pub writer: String,
    #[serde(default)]
    pub number: u64,
}

impl Written {
    /// Whether its run has ended.
    pub fn is_ended(&self) -> bool {
        self.number > 0
    }
}

impl Desk {
    /// The folder at `state`; `writer` is a name that no other process has or had.
    pub fn new(state: &Path, writer: String) -> Result<Self> {
        let folder = store::open(&state.display().to_string(), &Secrets::default())?;
        Ok(Self {
            folder,
            lock_path: state.join("schedule.lock"),
            lock: Mutex::new(None),
            writer,
            numbered: AtomicU64::new(0),
            durable: AtomicU64::new(0),
        })
    }

    /// This process, as its records name it.
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// Takes the right to start runs; false while another process has it.
    pub fn take(&self) -> Result<bool> {
        let mut lock = self.lock.lock();
        if lock.is_some() {
            return Ok(true);
        }
        let failed = |e: std::io::Error| {
            let path = self.lock_path.display();
            Error::config(format!("cannot lock the state folder path={path}"))
                .hint(
                    "`serve: {state: …}` names a folder on the local disk that this user may write",
                )
                .because(e)
        };
        if let Some(folder) = self.lock_path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.lock_path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => *lock = Some(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        Ok(lock.is_some())
    }

    /// Gives the right back.
    pub fn give_back(&self) {
        *self.lock.lock() = None;
    }

    /// What was remembered last. Errors: `Conflict` for a file that is none of ours.
    pub async fn kept(&self) -> Result<Kept> {
        Ok(read(&self.folder.child("schedule.json")).await?.unwrap_or_default())
    }

    /// Remembers.
    pub async fn keep(&self, kept: &Kept) -> Result<()> {
        write(&self.folder.child("schedule.json"), kept).await
    }

    /// Writes down that a run starts.
    pub async fn begin(&self, record: &RunRecord, due_ms: Option<i64>) -> Result<()> {
        let record = record.clone();
        let written = Written { record, due_ms, writer: String::new(), number: 0 };
        write(&self.place(&written.record.id), &written).await
    }

    /// Writes down how a run ended, or that one was missed. One call at a time: that all records
    /// before a number are durable is what [`Desk::durable`] tells.
    pub async fn end(&self, record: &RunRecord) -> Result<()> {
        let number = self.numbered.fetch_add(1, Ordering::SeqCst) + 1;
        let (record, writer) = (record.clone(), self.writer.clone());
        let written = Written { record, due_ms: None, writer, number };
        write(&self.place(&written.record.id), &written).await?;
        self.durable.store(number, Ordering::SeqCst);
        Ok(())
    }

    /// The last of this process's records that is durable, and with it all before.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::SeqCst)
    }

    /// Forgets a record: the history has its row, or its run did not start after all.
    pub async fn forget(&self, run: &str) -> Result<()> {
        let place = self.place(run);
        place.store.delete(&place.path).await
    }

    /// Calls `each` with every record, in no order.
    pub async fn for_each(&self, mut each: impl FnMut(Written) + Send) -> Result<()> {
        let folder = self.folder.child("runs");
        for found in folder.store.list(&folder.path).await? {
            if found.location.extension() != Some("json") {
                continue;
            }
            let place = Location { store: folder.store.clone(), path: found.location };
            match read(&place).await {
                Ok(Some(written)) => each(written),
                // It went meanwhile.
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(error = error.chain(), "a run's record is passed over")
                }
            }
        }
        Ok(())
    }

    /// The records of runs that did not end. Of a process that begins: of others, which died.
    pub async fn at_work(&self) -> Result<Vec<Written>> {
        let mut found = Vec::new();
        self.for_each(|written| {
            if !written.is_ended() {
                found.push(written);
            }
        })
        .await?;
        Ok(found)
    }

    /// Ends records of processes that died, and gives them as they are then.
    pub async fn interrupt(&self, records: &[Written], now_ms: i64) -> Result<Vec<RunRecord>> {
        let mut ended = Vec::new();
        for Written { record, .. } in records {
            let record = RunRecord {
                ended_ms: Some(now_ms),
                outcome: outcome::INTERRUPTED.to_string(),
                error: Some("its process ended before it".to_string()),
                ..record.clone()
            };
            self.end(&record).await?;
            ended.push(record);
        }
        Ok(ended)
    }

    fn place(&self, run: &str) -> Location {
        self.folder.child("runs").child(&format!("{run}.json"))
    }
}

async fn read<T: DeserializeOwned>(place: &Location) -> Result<Option<T>> {
    let Some(bytes) = place.store.get(&place.path).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::conflict(format!("a file of the state folder is damaged path={}", place.describe()))
            .hint("move it away; what it said of paused jobs, missed times or a run is lost then")
            .because(e)
    })
}

async fn write(place: &Location, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec(value);
    let json = json.map_err(|e| Error::bug("cannot write a record as json").because(e))?;
    place.store.put(&place.path, Bytes::from(json)).await
}
