//! A lock file of the local disk, and whether a process of this machine lives.
//!
//! The operating system frees the lock when its holder dies, however it dies. Whoever takes over
//! from a holder that hangs replaces the file, so that the old lock is on a file without a name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use sluice_core::{Error, Result};

use crate::store::IN_THE_WAY;

/// Tries to lock a file that others replace at the same time.
const ATTEMPTS_MAX: u32 = 16;

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub(super) struct LockFile {
    _file: File,
}

impl LockFile {
    /// Locks `path`, making its folder as needed; none when another holds it. With `take_over` a
    /// lock that another holds is replaced.
    pub(super) async fn take(path: PathBuf, take_over: bool) -> Result<Option<LockFile>> {
        let shown = path.display().to_string();
        let work = move || take(&path, take_over);
        let taken = match tokio::task::spawn_blocking(work).await {
            Ok(taken) => taken,
            Err(e) => return Err(Error::bug("a blocking task ended early").because(e)),
        };
        let file = taken.map_err(|e| {
            let message = format!("cannot lock path={shown}");
            match e.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    Error::config(message).hint("check that this user may write here")
                }
                ErrorKind::NotADirectory
                | ErrorKind::IsADirectory
                | ErrorKind::AlreadyExists
                | ErrorKind::NotFound => Error::config(message).hint(IN_THE_WAY),
                _ => Error::unavailable(message),
            }
            .because(e)
        })?;
        Ok(file.map(|file| LockFile { _file: file }))
    }
}

/// Whether process `pid` of this machine lives; none where that cannot be told.
pub(super) fn process_alive(pid: u32) -> Option<bool> {
    if !Path::new("/proc/self/stat").exists() {
        return None;
    }
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // A process that ended and was not waited for is not alive.
        Ok(stat) => stat.rsplit(')').next().map(|rest| !rest.trim_start().starts_with(['Z', 'X'])),
        Err(e) if e.kind() == ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

fn take(path: &Path, mut take_over: bool) -> io::Result<Option<File>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    for _ in 0..ATTEMPTS_MAX {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) if is_still(&file, path)? => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) if take_over => match std::fs::remove_file(path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => take_over = false,
            },
            Err(TryLockError::WouldBlock) => return Ok(None),
        }
    }
    Err(io::Error::from(ErrorKind::ResourceBusy))
}

/// Whether `path` is still the name of `file`.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok(named.ino() == own.ino() && named.dev() == own.dev()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether `path` is still the name of `file`: a locked file cannot be replaced here.
#[cfg(not(unix))]
fn is_still(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}
