//! Removing entries of the log that nobody reads any more.
//!
//! An entry goes only behind a checkpoint, when it is older than the table keeps its log, so that
//! every version younger than that can still be read. What later readers start from is never
//! touched. In: the log's listing. Out: what was deleted.

use object_store::ObjectMeta;

use sluice_core::{Result, Step, reach};

use super::log::{Name, hinted};
use crate::store::Location;

/// How long a table keeps its log unless `delta.logRetentionDuration` says otherwise: 30 days, as
/// Delta has it.
const LOG_RETENTION_MS: i64 = 30 * DAY_MS;

/// How long files that left a table stay unless `delta.deletedFileRetentionDuration` says
/// otherwise: 7 days, as Delta has it.
const FILE_RETENTION_MS: i64 = 7 * DAY_MS;

/// Commits between two checkpoints unless `delta.checkpointInterval` says otherwise. A checkpoint
/// costs what the table has files, an entry a reader one small request.
const CHECKPOINT_INTERVAL: i64 = 100;

const DAY_MS: i64 = 24 * 3_600_000;

/// What a table's properties say about its upkeep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Commits between two checkpoints, at least 1.
    pub checkpoint_interval: i64,
    /// How long entries of the log stay, milliseconds; none: forever.
    pub log_ms: Option<i64>,
    /// How long files that left the table stay, milliseconds.
    pub files_ms: i64,
}

impl Retention {
    /// Reads properties; `property` gives the value of one. What cannot be read keeps everything.
    pub fn of<'a>(property: impl Fn(&str) -> Option<&'a str>) -> Self {
        let interval = property("delta.checkpointInterval").and_then(|v| v.trim().parse().ok());
        let expires = property("delta.enableExpiredLogCleanup")
            .is_none_or(|v| !v.trim().eq_ignore_ascii_case("false"));
        let log_ms = match property("delta.logRetentionDuration") {
            Some(text) => interval_ms(text),
            None => Some(LOG_RETENTION_MS),
        };
        let files_ms = match property("delta.deletedFileRetentionDuration") {
            Some(text) => interval_ms(text).unwrap_or(i64::MAX),
            None => FILE_RETENTION_MS,
        };
        Self {
            checkpoint_interval: interval.filter(|n| *n > 0).unwrap_or(CHECKPOINT_INTERVAL),
            log_ms: log_ms.filter(|_| expires),
            files_ms,
        }
    }
}

/// Milliseconds of `interval 30 days`, as Delta writes it; none for what is no such text.
fn interval_ms(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let mut words = text.strip_prefix("interval").unwrap_or(&text).split_whitespace();
    let mut total: Option<i64> = None;
    while let Some(count) = words.next() {
        let count: i64 = count.parse().ok().filter(|n| *n >= 0)?;
        let unit = match words.next()?.trim_end_matches('s') {
            "week" => 7 * DAY_MS,
            "day" => DAY_MS,
            "hour" => 3_600_000,
            "minute" => 60_000,
            "second" => 1_000,
            "millisecond" => 1,
            _ => return None,
        };
        total = Some(total.unwrap_or(0).checked_add(count.checked_mul(unit)?)?);
    }
    total
}

/// What has to stay of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepLog {
    /// Now by the store's clock, milliseconds since 1970.
    pub now_ms: i64,
    /// Entries younger than this stay, milliseconds.
    pub retention_ms: i64,
    /// A version that somebody still reads, and all after it.
    pub since_version: Option<i64>,
}

/// An entry or checkpoint of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFile {
    /// Its version.
    pub version: i64,
    /// Whether it is a checkpoint, or a part of one, and not an entry.
    pub checkpoint: bool,
    /// How many parts its checkpoint has; 1 for an entry.
    pub parts: u32,
    /// When it was written by the store's clock, milliseconds since 1970.
    pub written_ms: i64,
}

/// The entries and checkpoints of a table's log.
pub async fn log_files(location: &Location) -> Result<Vec<LogFile>> {
    let found = list(location).await?;
    Ok(found.into_iter().map(|(file, _)| file).collect())
}

/// Deletes what [`decide_expired`] chooses, oldest first, and gives how many objects that were.
/// `epoch` is said with [`Step::LogExpired`], when one is gone and others are not.
pub async fn expire_log(location: &Location, keep: KeepLog, epoch: u64) -> Result<u64> {
    let found = list(location).await?;
    let files: Vec<LogFile> = found.iter().map(|(file, _)| *file).collect();
    let hint = hinted(location).await?;
    let expired = decide_expired(&files, hint, keep);
    for (nth, at) in expired.iter().enumerate() {
        if let Some((_, meta)) = found.get(*at) {
            location.store.delete(&meta.location).await?;
        }
        if nth == 0 {
            reach(Step::LogExpired, epoch);
        }
    }
    Ok(expired.len() as u64)
}

/// Which of the log's files may go, as indices into `files`, oldest version first.
///
/// Every version that is younger than the retention, or read by somebody, needs the newest
/// checkpoint at or before it and the entries after that; so does every reader that believes the
/// hint (`_last_checkpoint`).
pub fn decide_expired(files: &[LogFile], hint: Option<i64>, keep: KeepLog) -> Vec<usize> {
    let is_old = |f: &LogFile| keep.now_ms.saturating_sub(f.written_ms) >= keep.retention_ms;
    let entries = || files.iter().filter(|f| !f.checkpoint);
    let newest = entries().map(|f| f.version).max();
    let young = entries().filter(|f| !is_old(f)).map(|f| f.version).min();
    // The version that the oldest young entry changed was current until then.
    let young = young.map(|version| version - 1);
    let needed = [young, keep.since_version, hint, newest].into_iter().flatten().min();
    let Some(needed) = needed.filter(|_| hint.is_some()) else { return Vec::new() };
    let complete = |f: &&LogFile| {
        let parts = files.iter().filter(|o| o.checkpoint && o.version == f.version);
        f.checkpoint && f.version <= needed && parts.count() >= f.parts as usize
    };
    let Some(start) = files.iter().filter(complete).map(|f| f.version).max() else {
        return Vec::new();
    };
    let mut expired: Vec<usize> =
        (0..files.len()).filter(|i| files[*i].version < start && is_old(&files[*i])).collect();
    expired.sort_by_key(|i| (files[*i].version, files[*i].checkpoint));
    expired
}

async fn list(location: &Location) -> Result<Vec<(LogFile, ObjectMeta)>> {
    let folder = location.join("_delta_log")?;
    let found = folder.store.list(&folder.path).await?;
    let file = |meta: ObjectMeta| {
        let written_ms = meta.last_modified.timestamp_millis();
        let file = match meta.location.filename().and_then(Name::parse)? {
            Name::Entry(version) => LogFile { version, checkpoint: false, parts: 1, written_ms },
            Name::Checkpoint { version, parts } => {
                LogFile { version, checkpoint: true, parts, written_ms }
            }
        };
        Some((file, meta))
    };
    Ok(found.into_iter().filter_map(file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_as_delta_writes_them() {
        let cases = [
            ("interval 30 days", Some(30 * DAY_MS)),
            ("interval 1 week", Some(7 * DAY_MS)),
            ("INTERVAL 1 day 12 hours", Some(DAY_MS + 12 * 3_600_000)),
            ("0 seconds", Some(0)),
            ("interval", None),
            ("interval 3 moons", None),
            ("interval -1 days", None),
            ("soon", None),
        ];
        for (text, want) in cases {
            assert_eq!(interval_ms(text), want, "{text}");
        }
        let none = Retention::of(|_| None);
        assert_eq!(none.log_ms, Some(LOG_RETENTION_MS));
        assert_eq!((none.files_ms, none.checkpoint_interval), (7 * DAY_MS, 100));
        let odd = Retention::of(|key| match key {
            "delta.checkpointInterval" => Some("0"),
            "delta.enableExpiredLogCleanup" => Some("false"),
            _ => Some("for long"),
        });
        assert_eq!((odd.log_ms, odd.files_ms, odd.checkpoint_interval), (None, i64::MAX, 100));
    }

    /// Entries 0 to 9 written at their number, checkpoints at `checkpoints`.
    fn log(checkpoints: &[i64]) -> Vec<LogFile> {
        let file =
            |version, checkpoint| LogFile { version, checkpoint, parts: 1, written_ms: version };
        let entries = (0..10).map(|v| file(v, false));
        entries.chain(checkpoints.iter().map(|v| file(*v, true))).collect()
    }

    #[test]
    fn only_what_lies_behind_an_old_checkpoint_goes() {
        let keep =
            |retention_ms, since_version| KeepLog { now_ms: 10, retention_ms, since_version };
        let none: &[i64] = &[];
        let cases = [
            (none, None, keep(0, None), 0),
            (&[5], None, keep(0, None), 0),
            (&[5], Some(5), keep(0, None), 5),
            // Entry 6 is young: version 5 was current until it came.
            (&[5], Some(5), keep(5, None), 5),
            (&[5], Some(5), keep(6, None), 0),
            (&[2, 5], Some(5), keep(6, None), 2),
            (&[2, 5], Some(5), keep(0, Some(3)), 2),
            (&[2, 5], Some(5), keep(0, Some(7)), 6),
            // A hint that was left behind is still believed by readers.
            (&[2, 5], Some(2), keep(0, None), 2),
            (&[2, 5], Some(5), keep(100, None), 0),
            (&[9], Some(9), keep(-100, None), 9),
        ];
        for (checkpoints, hint, keep, want) in cases {
            let files = log(checkpoints);
            let gone = decide_expired(&files, hint, keep);
            assert_eq!(gone.len(), want, "{checkpoints:?} {hint:?} {keep:?}");
            let versions: Vec<i64> = gone.iter().map(|i| files[*i].version).collect();
            assert!(versions.is_sorted(), "oldest first");
        }
        let mut half = log(&[5]);
        half[10].parts = 2;
        assert!(decide_expired(&half, Some(5), keep(0, None)).is_empty(), "half a checkpoint");
    }
}
