//! What a table looks like to who looks after it: its files by size and age, its log by length.
//!
//! In: files, or a log. Out: counts. Nothing is changed.

use serde::Serialize;

use sluice_core::Result;

use super::compact::{CompactOptions, partitions};
use crate::delta;
use crate::manifest::DataFile;
use crate::store::Location;

/// The files of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableFacts {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the smallest file.
    pub bytes_min: u64,
    /// Bytes of the largest file.
    pub bytes_max: u64,
    /// When the oldest file was written, milliseconds since 1970; none without files, and where
    /// nobody knows.
    pub oldest_ms: Option<i64>,
    /// When the newest file was written.
    pub newest_ms: Option<i64>,
    /// Small files that share their partition with other small ones: what compaction would join.
    pub small_files: u64,
    /// Their bytes.
    pub small_bytes: u64,
}

/// Counts a table's files.
pub fn table_facts(files: &[DataFile], options: CompactOptions) -> TableFacts {
    let small = partitions(files.iter().filter(|f| options.is_small(f)));
    let small: Vec<&DataFile> = small.into_values().filter(|f| f.len() > 1).flatten().collect();
    let written = || files.iter().map(|f| f.modified_ms).filter(|ms| *ms > 0);
    let bytes = |files: &mut dyn Iterator<Item = &DataFile>| files.map(|f| f.bytes).sum();
    TableFacts {
        files: files.len() as u64,
        bytes: bytes(&mut files.iter()),
        bytes_min: files.iter().map(|f| f.bytes).min().unwrap_or(0),
        bytes_max: files.iter().map(|f| f.bytes).max().unwrap_or(0),
        oldest_ms: written().min(),
        newest_ms: written().max(),
        small_files: small.len() as u64,
        small_bytes: bytes(&mut small.iter().copied()),
    }
}

/// The log of a Delta table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LogFacts {
    /// Entries that are there.
    pub entries: u64,
    /// The newest version; none when there is no log.
    pub version: Option<i64>,
    /// The version of the newest checkpoint; none before the first.
    pub checkpoint: Option<i64>,
}

/// Counts what lies in a table's log: one listing.
pub async fn log_facts(location: &Location) -> Result<LogFacts> {
    let found = delta::log_files(location).await?;
    let entries = found.iter().filter(|f| !f.checkpoint).map(|f| f.version);
    let checkpoints = found.iter().filter(|f| f.checkpoint).map(|f| f.version);
    Ok(LogFacts {
        entries: entries.clone().count() as u64,
        version: entries.max(),
        checkpoint: checkpoints.max(),
    })
}
