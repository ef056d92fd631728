//! Who changed what: an append-only log for people, in the state folder.
//!
//! In: a change, as it is done. Out: a line of JSON, written and synced one by one by a thread of its
//! own, and the newest ones in memory. Each process writes files of its own, which are small and few:
//! the oldest go. It records what was asked for here, not what jobs do.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use chrono::{DateTime, SecondsFormat};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sluice_core::{Clock, Error, Ids, Result};
use utoipa::ToSchema;

use super::error::scrubbed;
use super::request;

/// Entries in memory, which pages and the API show.
const KEPT_MAX: usize = 1_000;

/// Entries that wait to be written. A change takes longer than a sync, so there are never many.
const WAITING_MAX: usize = 1_024;

/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Files that are kept: 64 MiB in all, years of changes by hand.
const FILES_MAX: usize = 16;

/// Characters of one field.
const FIELD_MAX: usize = 1_024;

/// The end of the files' names.
const EXTENSION: &str = "jsonl";

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Entry {
    /// When, in UTC.
    pub(crate) at: String,
    /// Who asked for it.
    pub(crate) who: String,
    /// What was asked for, such as `run`.
    pub(crate) what: String,
    /// Of what, such as a job's name.
    pub(crate) about: String,
    /// How it ended, such as `done` or `refused`.
    pub(crate) outcome: String,
    /// The request's id; none where it was no request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
}

/// The log.
#[derive(Debug)]
pub(crate) struct Activity {
    clock: Arc<dyn Clock>,
    last: Mutex<VecDeque<Entry>>,
    sender: Mutex<Option<SyncSender<Entry>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Activity {
    /// The log in `<state>/activity`, with what earlier processes wrote. Errors: `Unavailable` where
    /// the folder cannot be made.
    pub(crate) fn open(state: &Path, clock: Arc<dyn Clock>, ids: &dyn Ids) -> Result<Arc<Self>> {
        let folder = state.join("activity");
        let failed = |e: io::Error| {
            let message = format!("cannot keep the activity log folder={}", folder.display());
            Error::unavailable(message).hint("serve.state names a folder to write to").because(e)
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        let last = Mutex::new(read(&folder).map_err(failed)?);
        let mut files = Files {
            folder: folder.clone(),
            suffix: ids.fresh().chars().take(8).collect(),
            begun_ms: clock.wall_ms(),
            count: 0,
            open: None,
        };
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let writer = std::thread::Builder::new()
            .name("activity".to_string())
            .spawn(move || files.write_all(&receiver))
            .map_err(failed)?;
        let (sender, writer) = (Mutex::new(Some(sender)), Mutex::new(Some(writer)));
        Ok(Arc::new(Self { clock, last, sender, writer }))
    }

    /// Records a change. It is written soon; what cannot be written is told in the process's log.
    pub(crate) fn record(&self, who: &str, what: &str, about: &str, outcome: &str) {
        let at = DateTime::from_timestamp_millis(self.clock.wall_ms()).unwrap_or_default();
        let entry = Entry {
            at: at.to_rfc3339_opts(SecondsFormat::Millis, true),
            who: cut(who),
            what: cut(what),
            about: cut(about),
            outcome: cut(outcome),
            request_id: request::current(),
        };
        {
            let mut last = self.last.lock();
            if last.len() >= KEPT_MAX {
                last.pop_front();
            }
            last.push_back(entry.clone());
        }
        let sender = self.sender.lock();
        let Some(sender) = sender.as_ref() else {
            tracing::warn!(who, what, about, "a change after the activity log was closed");
            return;
        };
        if let Err(TrySendError::Full(entry) | TrySendError::Disconnected(entry)) =
            sender.try_send(entry)
        {
            let Entry { who, what, about, .. } = entry;
            tracing::error!(who, what, about, "a change is not in the activity log");
        }
    }

    /// The last `n` changes, newest first.
    pub(crate) fn last(&self, n: usize) -> Vec<Entry> {
        self.last.lock().iter().rev().take(n).cloned().collect()
    }

    /// Waits until all is written. Blocks for a moment; nothing is recorded after it.
    pub(crate) fn close(&self) {
        drop(self.sender.lock().take());
        let writer = self.writer.lock().take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the activity log broke off");
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.close();
    }
}

/// A field with the secrets of addresses blanked, and not longer than people read.
fn cut(text: &str) -> String {
    scrubbed(text).chars().take(FIELD_MAX).collect()
}

/// The files that this process writes.
struct Files {
    folder: PathBuf,
    suffix: String,
    begun_ms: i64,
    count: u64,
    open: Option<(File, u64)>,
}

impl Files {
    fn write_all(&mut self, entries: &Receiver<Entry>) {
        for entry in entries {
            if let Err(error) = self.write(&entry) {
                // The next entry begins a file of its own, behind whatever is half written.
                self.open = None;
                let Entry { who, what, about, .. } = entry;
                tracing::error!(%error, who, what, about, "a change is not in the activity log");
            }
        }
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let (file, written) = match self.open.as_mut().filter(|(_, n)| *n < FILE_BYTES_MAX) {
            Some(open) => open,
            None => self.begin()?,
        };
        file.write_all(&line)?;
        file.sync_data()?;
        *written += line.len() as u64;
        Ok(())
    }

    /// Begins a file, and deletes the oldest.
    fn begin(&mut self) -> io::Result<&mut (File, u64)> {
        // Names sort by age, and two processes never have one.
        let (begun, count, suffix) = (self.begun_ms, self.count, &self.suffix);
        let name = format!("{begun:015}-{count:06}-{suffix}.{EXTENSION}");
        self.count += 1;
        let file = OpenOptions::new().append(true).create(true).open(self.folder.join(name))?;
        File::open(&self.folder)?.sync_all()?;
        let all = listed(&self.folder)?;
        for old in all.iter().take(all.len().saturating_sub(FILES_MAX)) {
            fs::remove_file(old)?;
        }
        Ok(self.open.insert((file, 0)))
    }
}

/// The files of the log, oldest first.
fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The newest entries that are there. Lines that a crash cut off are passed over.
fn read(folder: &Path) -> io::Result<VecDeque<Entry>> {
    let mut last = VecDeque::new();
    for file in listed(folder)?.into_iter().rev() {
        let text = match fs::read(&file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            // Another process of this project rotated it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in text.lines().rev() {
            if last.len() >= KEPT_MAX {
                return Ok(last);
            }
            if let Ok(entry) = serde_json::from_str(line) {
                last.push_front(entry);
            }
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use sluice_core::ManualClock;

    use super::*;
    use crate::clock::RandomIds;

    fn open(state: &Path, ms: i64) -> Arc<Activity> {
        Activity::open(state, Arc::new(ManualClock::at(ms)), &RandomIds).unwrap()
    }

    #[test]
    fn changes_outlive_the_process() {
        let state = tempfile::tempdir().unwrap();
        let first = open(state.path(), 1_000);
        first.record("ana", "run", "bookings", "done");
        first.record("ana\nops", "reload", "\"}{", "refused");
        first.close();
        first.record("ana", "run", "late", "done");
        let second = open(state.path(), 2_000);
        second.record("ops", "pause", "bookings", "done");
        let names = |log: &Activity| -> Vec<String> {
            log.last(10).into_iter().map(|e| format!("{}:{}", e.who, e.what)).collect()
        };
        assert_eq!(names(&second), ["ops:pause", "ana\nops:reload", "ana:run"]);
        let newest = second.last(1).remove(0);
        assert_eq!((newest.at.as_str(), newest.request_id), ("1970-01-01T00:00:02.000Z", None));
    }

    #[test]
    fn a_line_that_was_cut_off_is_passed_over() {
        let state = tempfile::tempdir().unwrap();
        let first = open(state.path(), 1_000);
        first.record("ana", "run", "bookings", "done");
        first.close();
        let file = listed(&state.path().join("activity")).unwrap().remove(0);
        let mut text = fs::read(&file).unwrap();
        text.extend_from_slice(b"{\"at\":\"19");
        fs::write(&file, text).unwrap();
        assert_eq!(open(state.path(), 2_000).last(10).len(), 1);
    }

    #[test]
    fn files_are_few() {
        let state = tempfile::tempdir().unwrap();
        for ms in 0..40 {
            let log = open(state.path(), ms);
            log.record("ana", "run", &ms.to_string(), "done");
            log.close();
        }
        let folder = state.path().join("activity");
        assert_eq!(listed(&folder).unwrap().len(), FILES_MAX);
        assert_eq!(open(state.path(), 99).last(1)[0].about, "39");
    }

    #[test]
    fn fields_are_cut_and_addresses_blanked() {
        let state = tempfile::tempdir().unwrap();
        let log = open(state.path(), 0);
        log.record("ana", "run", "https://a:b@c/d?e=f", &"x".repeat(5_000));
        let entry = log.last(1).remove(0);
        assert_eq!(entry.about, "https://***@c/d?***");
        assert_eq!(entry.outcome.len(), FIELD_MAX);
    }
}
