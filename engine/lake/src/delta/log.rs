//! The log on the store: names of entries and checkpoints, and replaying them into a state.
//!
//! A load reads the newest complete checkpoint and the entries after it; a refresh reads only
//! entries that are new, by asking for n+1 until there is none. Checkpoints of every kind (one
//! file, several parts, V2 with sidecars) hold the same lines as entries.

use std::collections::BTreeMap;

use arrow::json::LineDelimitedWriter;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::schema::types::SchemaDescriptor;
use serde::Deserialize;

use sluice_core::{Error, Result};

use super::action::{self, Line, Metadata, Protocol};
use crate::manifest::DataFile;
use crate::parquet::ObjectReader;
use crate::store::Location;

/// Entries read at once while loading: hides a store's latency, and entries are small.
pub(super) const READS_MAX: usize = 16;

/// Leaf columns of a checkpoint that we need; the parsed forms beside them can be large.
const CHECKPOINT_COLUMNS: &[&str] = &[
    "add.path",
    "add.partitionValues",
    "add.size",
    "add.modificationTime",
    "add.stats",
    "add.deletionVector",
    "remove.path",
    "remove.deletionTimestamp",
    "metaData",
    "protocol",
    "txn",
    "sidecar.path",
];

/// The path of entry `version`.
pub(super) fn entry_path(location: &Location, version: i64) -> Result<Path> {
    Ok(location.join(&format!("_delta_log/{version:020}.json"))?.path)
}

/// The lines of entry `version`; `None` when it is not there.
pub(super) async fn entry(location: &Location, version: i64) -> Result<Option<Vec<Line>>> {
    let path = entry_path(location, version)?;
    let Some(bytes) = location.store.get(&path).await? else { return Ok(None) };
    Ok(Some(action::parse(&bytes, path.as_ref())?))
}

/// What the lines so far add up to.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub version: i64,
    pub metadata: Option<Metadata>,
    pub protocol: Option<Protocol>,
    pub files: BTreeMap<String, DataFile>,
    pub txns: BTreeMap<String, i64>,
    /// Removed files with the time they were removed, milliseconds since 1970.
    pub tombstones: BTreeMap<String, i64>,
    /// The version of the checkpoint it began with.
    pub checkpoint: Option<i64>,
}

impl Replay {
    /// Takes the lines of one entry or of one part of a checkpoint. An error changes nothing.
    pub(super) fn apply(&mut self, lines: Vec<Line>) -> Result<()> {
        let (mut adds, mut removes, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for mut line in lines {
            if let Some(remove) = line.remove.take() {
                removes.push((action::plain(&remove.path)?, remove.deletion_timestamp));
            }
            if let Some(add) = line.add.take() {
                adds.push(add.data_file()?);
            }
            rest.push(line);
        }
        for (path, at) in removes {
            self.files.remove(&path);
            self.tombstones.insert(path, at.unwrap_or(0));
        }
        for file in adds {
            self.tombstones.remove(&file.path);
            self.files.insert(file.path.clone(), file);
        }
        for line in rest {
            self.txns.extend(line.txn.map(|txn| (txn.app_id, txn.version)));
            self.metadata = line.meta_data.or(self.metadata.take());
            self.protocol = line.protocol.or(self.protocol.take());
        }
        Ok(())
    }
}

/// The state at `until`, or at the newest version; `None` when there is no table, or none yet.
pub(super) async fn replay(location: &Location, until: Option<i64>) -> Result<Option<Replay>> {
    let until = until.unwrap_or(i64::MAX);
    let listing = Listing::read(location, until).await?;
    let Some(last) = listing.last() else {
        return if listing.later { Err(gap(location, until)) } else { Ok(None) };
    };
    let mut state = Replay::default();
    let mut next = 0;
    if let Some((version, parts)) = &listing.checkpoint {
        read_checkpoint(location, parts, &mut state).await?;
        state.checkpoint = Some(*version);
        next = version + 1;
    }
    let mut entries = stream::iter(next..=last)
        .map(|version| async move { Ok::<_, Error>((version, entry(location, version).await?)) })
        .buffered(READS_MAX);
    while let Some((version, lines)) = entries.try_next().await? {
        state.apply(lines.ok_or_else(|| gap(location, version))?)?;
    }
    state.version = last;
    Ok(Some(state))
}

/// The error for an entry that is not there although a later one is.
pub(super) fn gap(location: &Location, version: i64) -> Error {
    Error::conflict(format!(
        "an entry of the delta log is missing table={} version={version}",
        location.describe()
    ))
    .hint("restore the entry from a backup, or rebuild the table with --rebuild")
}

/// What the log's folder holds from the newest complete checkpoint on.
pub(super) struct Listing {
    pub checkpoint: Option<(i64, Vec<Path>)>,
    newest_entry: Option<i64>,
    /// Whether the log goes on after the version asked for.
    later: bool,
}

impl Listing {
    pub async fn read(location: &Location, until: i64) -> Result<Self> {
        let folder = location.join("_delta_log")?;
        let hint = hinted(location).await?.filter(|version| *version <= until);
        let found = match hint {
            Some(version) => {
                let offset = folder.join(&format!("{version:020}"))?.path;
                let found = folder.store.list_after(&folder.path, &offset).await?;
                // A hint that points at nothing is not believed.
                if Self::of(&found, until).checkpoint.is_some() {
                    found
                } else {
                    folder.store.list(&folder.path).await?
                }
            }
            None => folder.store.list(&folder.path).await?,
        };
        Ok(Self::of(&found, until))
    }

    fn of(found: &[object_store::ObjectMeta], until: i64) -> Self {
        let (mut newest_entry, mut later) = (None, false);
        let mut parts: BTreeMap<(i64, u32), Vec<Path>> = BTreeMap::new();
        for meta in found {
            match meta.location.filename().and_then(Name::parse) {
                Some(Name::Entry(version)) if version <= until => {
                    newest_entry = newest_entry.max(Some(version));
                }
                Some(Name::Checkpoint { version, parts: of }) if version <= until => {
                    parts.entry((version, of)).or_default().push(meta.location.clone());
                }
                Some(_) => later = true,
                None => {}
            }
        }
        let complete = parts.into_iter().rev().find(|((_, of), have)| have.len() >= *of as usize);
        let checkpoint = complete.map(|((version, of), mut have)| {
            have.truncate(of as usize);
            (version, have)
        });
        Self { checkpoint, newest_entry, later }
    }

    pub fn last(&self) -> Option<i64> {
        self.newest_entry.max(self.checkpoint.as_ref().map(|(version, _)| *version))
    }
}

/// What a file name in the log's folder means.
#[derive(Debug, PartialEq)]
pub(super) enum Name {
    Entry(i64),
    Checkpoint { version: i64, parts: u32 },
}

impl Name {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (digits, rest) = name.split_once('.')?;
        if digits.len() != 20 {
            return None;
        }
        let version = digits.parse().ok()?;
        let one = Some(Self::Checkpoint { version, parts: 1 });
        match rest.split('.').collect::<Vec<_>>()[..] {
            ["json"] => Some(Self::Entry(version)),
            ["checkpoint", "parquet"] | ["checkpoint", _, "parquet" | "json"] => one,
            ["checkpoint", _, of, "parquet"] => {
                Some(Self::Checkpoint { version, parts: of.parse().ok().filter(|n| *n > 0)? })
            }
            _ => None,
        }
    }
}

/// The version that the log's hint names as its last checkpoint.
pub(super) async fn hinted(location: &Location) -> Result<Option<i64>> {
    #[derive(Deserialize)]
    struct Hint {
        version: i64,
    }
    let path = location.join("_delta_log/_last_checkpoint")?.path;
    let bytes = location.store.get(&path).await?;
    Ok(bytes.and_then(|b| serde_json::from_slice::<Hint>(&b).ok()).map(|hint| hint.version))
}

async fn read_checkpoint(location: &Location, parts: &[Path], state: &mut Replay) -> Result<()> {
    for part in parts {
        let mut sidecars = Vec::new();
        for lines in read_part(location, part).await? {
            sidecars
                .extend(lines.iter().filter_map(|l| l.sidecar.as_ref()).map(|s| s.path.clone()));
            state.apply(lines)?;
        }
        for sidecar in sidecars {
            let path = location.join(&format!("_delta_log/_sidecars/{sidecar}"))?.path;
            for lines in read_part(location, &path).await? {
                state.apply(lines)?;
            }
        }
    }
    Ok(())
}

/// The lines of one checkpoint file, a batch at a time.
async fn read_part(location: &Location, path: &Path) -> Result<Vec<Vec<Line>>> {
    let gone = || Error::conflict(format!("a checkpoint is gone path={path}"));
    if path.extension() == Some("json") {
        let bytes = location.store.get(path).await?.ok_or_else(gone)?;
        return Ok(vec![action::parse(&bytes, path.as_ref())?]);
    }
    let damaged = |e| Error::data(format!("a checkpoint cannot be read path={path}")).because(e);
    let size = location.store.head(path).await?.ok_or_else(gone)?.size;
    let reader = ObjectReader::new(&location.store, path.clone(), size);
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(damaged)?;
    let mask = checkpoint_mask(builder.parquet_schema());
    let mut rows = builder.with_projection(mask).build().map_err(damaged)?;
    let mut parts = Vec::new();
    while let Some(batch) = rows.try_next().await.map_err(damaged)? {
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(&batch)?;
        writer.finish()?;
        parts.push(action::parse(&writer.into_inner(), path.as_ref())?);
    }
    Ok(parts)
}

fn checkpoint_mask(schema: &SchemaDescriptor) -> ProjectionMask {
    let wanted = |path: &str| {
        let below =
            |w: &&str| path.strip_prefix(*w).is_some_and(|r| r.is_empty() || r.starts_with('.'));
        CHECKPOINT_COLUMNS.iter().any(below)
    };
    let leaves = schema.columns().iter().enumerate();
    let leaves = leaves.filter(|(_, column)| wanted(&column.path().string())).map(|(i, _)| i);
    ProjectionMask::leaves(schema, leaves.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are() {
        let zeros = "0".repeat(19);
        let checkpoint = |parts| Some(Name::Checkpoint { version: 7, parts });
        let cases = [
            ("7.json", Some(Name::Entry(7))),
            ("7.checkpoint.parquet", checkpoint(1)),
            ("7.checkpoint.0000000001.0000000003.parquet", checkpoint(3)),
            ("7.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json", checkpoint(1)),
            ("7.crc", None),
            ("7.9.compacted.json", None),
        ];
        for (name, want) in cases {
            assert_eq!(Name::parse(&format!("{zeros}{name}")), want, "{name}");
        }
        assert_eq!(Name::parse("_last_checkpoint"), None);
    }
}
