//! The databases that logs lie in: how they are made so that a crash leaves none half made, how
//! they are opened again, and how little memory they take.
//!
//! In: folders. Out: open databases. A new one is made beside its place and put there in one step.
//! What is in them is their owners' business.

use std::error::Error as StdError;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode};
use sluice_core::{Error, Ids, Kind, Result};

use super::LIFE;
use super::mend::{mend, newest};
use super::slot::{Place, failed, make_folder, sync_folder};

/// Blocks of files that are kept in memory: what is read is read once, in order.
const CACHE_BYTES: u64 = 1024 * 1024;

/// What is kept in memory before it becomes a file; twice of it while one is written. A smaller one
/// would make more files than are merged again.
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;

/// Journals on disk: two of those that the store makes. They are deleted when what they hold is in
/// files.
const JOURNAL_BYTES: u64 = 128 * 1024 * 1024;

/// One thread writes files while another merges them: with one, deliveries would wait for merges.
const THREADS: usize = 2;

/// Open files of one database.
const FILES_MAX: usize = 64;

/// Parts of memory that wait to become files, and files that wait to be merged, before writers do.
/// The store itself lets them wait at 4 and 30, and for ever if its threads ended meanwhile because
/// the disk is full; here the wait ends then.
const FILLED_MAX: usize = 3;
const RUNS_MAX: usize = 20;

/// What is copied at once.
const COPY_BYTES: usize = 64 * 1024;

/// How long such a wait is before it is looked again: a part is written in some ten of them.
const BEHIND_WAIT: Duration = Duration::from_millis(5);

/// A slot's database.
pub(super) struct Opened {
    pub heads: Keyspace,
    pub bodies: Keyspace,
    pub facts: Keyspace,
    pub database: Database,
}

/// Opens the database of a slot, which is ours; makes it if there is none.
pub(super) fn open(place: &Place, slot: u32, ids: &dyn Ids) -> Result<Opened> {
    let path = place.slot(slot);
    let life = fresh_life(ids)?;
    ensure(&path, |database| {
        let opened = slot_of(database.clone())?;
        opened.facts.insert(LIFE, life.to_be_bytes())
    })?;
    reopened(&path)?.and_then(slot_of).map_err(|error| told(&path, error))
}

/// A life that no log had.
pub(super) fn fresh_life(ids: &dyn Ids) -> Result<u32> {
    let life = ids.fresh();
    let life = life.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    life.ok_or_else(|| Error::bug("an identifier has no digits"))
}

fn slot_of(database: Database) -> fjall::Result<Opened> {
    let heads = database.keyspace("heads", options)?;
    let bodies = database.keyspace("bodies", options)?;
    let facts = database.keyspace("facts", options)?;
    Ok(Opened { heads, bodies, facts, database })
}

/// The database of a folder that was closed in whatever way. Errors: those of the disk, and of
/// mending it.
pub(super) fn reopened(path: &Path) -> Result<fjall::Result<Database>> {
    written_anew(path).map_err(|e| failed("a journal cannot be written anew", path, e))?;
    let opened = database(path);
    let torn = matches!(opened, Err(fjall::Error::JournalRecovery(_)));
    Ok(if torn && mend(path)? { database(path) } else { opened })
}

/// Writes the newest journal of a database once more. What could not be written before is in the
/// system's memory and counts as written there: it would be read, more would be added behind it,
/// and with the power all of it would be gone.
fn written_anew(path: &Path) -> io::Result<()> {
    let Some(journal) = newest(path)? else { return Ok(()) };
    let new = journal.with_extension("new");
    if let Err(error) = copy(&journal, &new) {
        // A full disk is not to be filled further.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    fs::rename(&new, &journal)?;
    sync_folder(path)
}

/// Copies a journal without the zeros at its end, from memory: the system itself may copy what is
/// on the disk.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let (mut bytes, zeros) = (vec![0_u8; COPY_BYTES], vec![0_u8; COPY_BYTES]);
    let (mut at, mut end) = (0, 0);
    loop {
        let count = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        // Most of a new one is zeros, which are not written.
        if bytes[..count] != zeros[..count] {
            to.seek(SeekFrom::Start(at))?;
            to.write_all(&bytes[..count])?;
            let behind = bytes[..count].iter().rev().take_while(|byte| **byte == 0).count();
            end = at + (count - behind) as u64;
        }
        at += count as u64;
    }
    to.set_len(end)?;
    to.sync_all()
}

/// The database of a folder.
pub(super) fn database(path: &Path) -> fjall::Result<Database> {
    Database::builder(path)
        .cache_size(CACHE_BYTES)
        .worker_threads(THREADS)
        .max_journaling_size(JOURNAL_BYTES)
        .max_cached_files(Some(FILES_MAX))
        .open()
}

/// How a part of a database is kept.
pub(super) fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
}

/// Waits until the store keeps up with what is written to it. Call it before a batch. Blocks.
/// Errors: the store gave up, and takes nothing any more.
pub(super) fn keep_up(database: &Database, parts: [&Keyspace; 2]) -> fjall::Result<()> {
    let is_behind = |part: &Keyspace| {
        part.sealed_memtable_count() >= FILLED_MAX || part.tree.l0_run_count() >= RUNS_MAX
    };
    loop {
        // It writes nothing anew, and fails where a thread of the store has failed.
        database.persist(PersistMode::Buffer)?;
        if !parts.into_iter().any(is_behind) {
            return Ok(());
        }
        thread::sleep(BEHIND_WAIT);
    }
}

/// Makes a database with what `fill` puts into it, if there is none: beside its place first, so
/// that a crash leaves a folder that nobody looks at.
pub(super) fn ensure(path: &Path, fill: impl FnOnce(&Database) -> fjall::Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let new = path.with_extension("new");
    let wrong = |e: io::Error| failed("a log cannot be made", &new, e);
    if new.exists() {
        fs::remove_dir_all(&new).map_err(wrong)?;
    }
    make_folder(&new).map_err(wrong)?;
    let write = || -> fjall::Result<()> {
        let database = database(&new)?;
        fill(&database)?;
        database.persist(PersistMode::SyncAll)
    };
    write().map_err(|error| told(&new, error))?;
    sync_tree(&new).map_err(wrong)?;
    fs::rename(&new, path).map_err(wrong)?;
    sync_folder(path.parent().unwrap_or(Path::new("."))).map_err(wrong)
}

/// Makes everything in a folder last: the store does so with files, and not with every name.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_tree(&entry.path())?,
            false => File::open(entry.path())?.sync_all()?,
        }
    }
    sync_folder(folder)
}

/// What an error of opening means: the disk is away, somebody has it, or it is damaged.
pub(super) fn told(path: &Path, error: fjall::Error) -> Error {
    match error {
        error if is_of_disk(&error) => failed("a log of webhooks cannot be opened", path, error),
        fjall::Error::Locked => {
            let path = path.display();
            Error::unavailable(format!("another process has a log of webhooks path={path}"))
                .hint("it lets go of it when it ends")
        }
        error => {
            let message = format!("a log of webhooks is damaged path={}", path.display());
            Error::new(Kind::Data, message).because(error).hint(
                "restore the folder, or move it away to go on without what no epoch took of it",
            )
        }
    }
}

/// Whether an error of opening a log goes for all logs there: nothing can be written.
pub(super) fn goes_for_all(error: &Error) -> bool {
    let mut cause = StdError::source(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return matches!(
                io.kind(),
                ErrorKind::StorageFull
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::ReadOnlyFilesystem
                    | ErrorKind::PermissionDenied
            );
        }
        cause = error.source();
    }
    false
}

/// Whether the disk did not do what it was asked for, a full one above all. A file that is not
/// there or ends too early is damage.
fn is_of_disk(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Io(io) | fjall::Error::Storage(LsmError::Io(io)) => !matches!(
            io.kind(),
            ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::UnexpectedEof
                | ErrorKind::InvalidData
        ),
        // One of its threads met such an error before.
        fjall::Error::Poisoned => true,
        _ => false,
    }
}
