//! What a power cut leaves of a write: the end of a journal whose pages came to the disk only in
//! part.
//!
//! In: the folder of a database that does not open. Out: the same without the batches at its end
//! that are torn, or the word that the damage is of another kind. A batch that was synced is
//! followed by others only when it is whole, so at most one batch of new entries can be torn, and
//! nobody was told that it is there. Batches that remove are not synced and may go with it: what
//! they removed comes back, and is before what manifests took. The journal is kept aside as it was.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use sluice_core::Result;

use super::slot::{failed, sync_folder};
use super::store::database;

/// Batches at the end that are looked at: those since the last sync.
const LOOKED_AT_MAX: usize = 64;

/// How the store ends a batch.
const TRAILER: &[u8] = b"FJL\x03";

/// A batch of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Batch {
    end: usize,
    /// Whether it removes something.
    removes: bool,
}

/// Takes what is torn off the newest journal of a database that nobody has open. Says whether that
/// mended it. Errors: those of the disk.
pub(super) fn mend(path: &Path) -> Result<bool> {
    let wrong = |e: io::Error| failed("a torn journal cannot be mended", path, e);
    let Some(journal) = newest(path).map_err(wrong)? else { return Ok(false) };
    let bytes = fs::read(&journal).map_err(wrong)?;
    let batches = walk(&bytes);
    // What follows has lost the form of batches. One may be torn, and not those behind it.
    let formless = &bytes[batches.last().map_or(0, |batch| batch.end)..];
    if formless.windows(TRAILER.len()).filter(|bytes| *bytes == TRAILER).count() > 1 {
        return Ok(false);
    }
    let scratch = path.with_extension("mend");
    let mut whole = None;
    // None at first: what is torn may have lost the form of a batch.
    for dropped in 0..=batches.len().min(LOOKED_AT_MAX) {
        let kept = batches.len() - dropped;
        let end = kept.checked_sub(1).map_or(0, |last| batches[last].end);
        if opens(&scratch, &bytes[..end]).map_err(wrong)? {
            whole = Some((end, &batches[kept..]));
            break;
        }
    }
    remove(&scratch).map_err(wrong)?;
    let Some((end, torn)) = whole else { return Ok(false) };
    if torn.iter().filter(|batch| !batch.removes).count() > 1 {
        return Ok(false);
    }
    if torn.is_empty() && bytes[end..].iter().all(|byte| *byte == 0) {
        // This journal is whole: the damage is in an older one.
        return Ok(false);
    }
    let aside = journal.with_extension("torn");
    fs::copy(&journal, &aside).map_err(wrong)?;
    let file = OpenOptions::new().write(true).open(&journal).map_err(wrong)?;
    file.set_len(end as u64).and_then(|()| file.sync_all()).map_err(wrong)?;
    sync_folder(path).map_err(wrong)?;
    let (journal, bytes) = (journal.display(), bytes.len() - end);
    tracing::warn!(%journal, bytes, "the end of a journal was torn; nobody was told of it");
    Ok(true)
}

/// The journal that was written last.
pub(super) fn newest(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl"));
        let number = number.and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|n| newest.as_ref().is_none_or(|(max, _)| n > max)) {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Whether the store takes these bytes as a journal: an empty database is given them.
fn opens(scratch: &Path, bytes: &[u8]) -> io::Result<bool> {
    remove(scratch)?;
    if database(scratch).is_err() {
        return Err(io::Error::other("no database can be made to try a journal with"));
    }
    fs::write(scratch.join("0.jnl"), bytes)?;
    Ok(database(scratch).is_ok())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The batches of a journal, by their form alone.
fn walk(bytes: &[u8]) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut from = Fields { bytes, at: 0 };
    while let Some(batch) = from.batch() {
        batches.push(batch);
    }
    batches
}

struct Fields<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Fields<'_> {
    fn batch(&mut self) -> Option<Batch> {
        let mut removes = false;
        // Its beginning: how many items there are, and the batch's number.
        (self.number::<1>()? == 1).then_some(())?;
        self.take(4 + 8)?;
        loop {
            match self.number::<1>()? {
                2 => {
                    // What it does, how it is compressed, the part of the database; then lengths.
                    removes |= self.number::<1>()? != 0;
                    self.take(1 + 8)?;
                    let (key, _, value) =
                        (self.number::<2>()?, self.number::<4>()?, self.number::<4>()?);
                    self.take(key.checked_add(value)?)?;
                }
                3 => {
                    self.take(8)?;
                    (self.take(TRAILER.len())? == TRAILER).then_some(())?;
                    return Some(Batch { end: self.at, removes });
                }
                4 => {
                    self.take(8)?;
                }
                _ => return None,
            }
        }
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// A number of `N` bytes, the least first.
    fn number<const N: usize>(&mut self) -> Option<usize> {
        let bytes = self.take(N)?;
        Some(bytes.iter().rev().fold(0, |number, byte| (number << 8) | usize::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_make_a_walk_panic() {
        bolero::check!().with_iterations(5_000).with_max_len(80).for_each(|bytes: &[u8]| {
            let begun = [&[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], bytes].concat();
            walk(bytes);
            walk(&begun);
        });
    }
}
