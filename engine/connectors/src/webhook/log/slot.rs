//! Where logs lie, and whose they are: numbered slots of one folder, each behind a lock of the
//! system.
//!
//! In: the folder of a source. Out: slots that this process has to itself, for as long as it holds
//! the lock. A process takes the lowest slot that is free and goes on with its numbers, so that two
//! processes may take in deliveries at the same time and need not know of each other. The lock ends
//! with the process, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sluice_core::{Error, Result};

/// Slots of one source: each is a process that lives, or ended with rows that nobody read yet. More
/// than a few mean that something never ends or never reads.
pub(in crate::webhook) const SLOTS_MAX: u32 = 64;

/// Where the logs of one source lie.
#[derive(Debug, Clone)]
pub(in crate::webhook) struct Place {
    folder: PathBuf,
}

impl Place {
    /// Below the state folder of a process.
    pub(in crate::webhook) fn new(state: &Path, job: &str, source: &str) -> Self {
        Self { folder: state.join("webhooks").join(file_name(job)).join(file_name(source)) }
    }

    /// The folder.
    pub(in crate::webhook) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The database of a slot.
    pub(super) fn slot(&self, slot: u32) -> PathBuf {
        self.folder.join(slot.to_string())
    }

    /// The database of the ids.
    pub(super) fn index(&self) -> PathBuf {
        self.folder.join("index")
    }

    /// Slots that some process made, in order.
    pub(in crate::webhook) fn slots(&self) -> Result<Vec<u32>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed("a folder of logs cannot be listed", &self.folder, e)),
        };
        let mut slots = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed("a folder cannot be listed", &self.folder, e))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".lock"));
            slots.extend(number.and_then(|number| number.parse::<u32>().ok()));
        }
        slots.sort_unstable();
        Ok(slots)
    }

    /// How often somebody took the slot; none where that cannot be told.
    pub(in crate::webhook) fn times_taken(&self, slot: u32) -> Option<u64> {
        times(&self.lock_file(slot))
    }

    /// Takes a slot; none if another process, or another part of this one, has it.
    pub(super) fn lock(&self, slot: u32) -> Result<Option<Lock>> {
        self.take(self.lock_file(slot))
    }

    /// Takes the ids, as [`Place::lock`] takes a slot.
    pub(super) fn lock_index(&self) -> Result<Option<Lock>> {
        self.take(self.folder.join("index.lock"))
    }

    fn take(&self, path: PathBuf) -> Result<Option<Lock>> {
        let wrong = |e: io::Error| failed("a log cannot be locked", &path, e);
        make_folder(&self.folder).map_err(wrong)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(wrong)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(wrong(e)),
        }
        // For others to see that it was taken again, and for people. It is never empty in between:
        // the count would begin anew.
        let count = times(&path).unwrap_or(0).saturating_add(1);
        let text = format!("{count} {}\n", std::process::id());
        let written = file.write_all(text.as_bytes());
        written.and_then(|()| file.set_len(text.len() as u64)).map_err(wrong)?;
        Ok(Some(Lock { _file: file }))
    }

    fn lock_file(&self, slot: u32) -> PathBuf {
        self.folder.join(format!("{slot}.lock"))
    }
}

/// A slot that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// How often a lock was taken, as its file says.
fn times(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

/// A name as that of a file: what may mean something else there is written as `%2F`.
fn file_name(name: &str) -> String {
    let mut file = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => file.push(char::from(byte)),
            other => file.push_str(&format!("%{other:02X}")),
        }
    }
    file
}

/// Makes a folder and those around it, each on disk before anything is put into it.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_folder(parent)?;
    }
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    sync_folder(parent.unwrap_or(Path::new(".")))
}

/// Makes the names in a folder last.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn failed(
    what: &str,
    path: &Path,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::unavailable(format!("{what} path={}", path.display()))
        .because(error)
        .hint("is there room on the disk, and may this user write there?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_had_by_one_at_a_time() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::new(state.path(), "../a b", "s");
        assert_eq!(place.folder(), state.path().join("webhooks/%2E%2E%2Fa%20b/s"));
        assert!(place.slots().unwrap().is_empty());
        let first = place.lock(0).unwrap().unwrap();
        assert!(place.lock(0).unwrap().is_none());
        let _other = place.lock(1).unwrap().unwrap();
        drop(first);
        assert!(place.lock(0).unwrap().is_some());
        assert_eq!(place.slots().unwrap(), [0, 1]);
        assert_eq!((place.times_taken(0), place.times_taken(7)), (Some(2), None));
        let ids = place.lock_index().unwrap().unwrap();
        assert!(place.lock_index().unwrap().is_none());
        drop(ids);
        assert_eq!(place.slots().unwrap(), [0, 1], "the ids are no slot");
    }
}
