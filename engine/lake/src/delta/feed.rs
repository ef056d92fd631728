//! A table as a stream: what is in it at one version, and what each later version did to its rows.
//!
//! In: a location. Out: files, and for each whether its rows came, went, or are themselves changes.
//! Entries of the log are read as they are and nothing is added up, so that a version costs what its
//! own entry costs. Which changes a reader wants, and where it stands, it knows itself.
//!
//! ```text
//! commit has `cdc` lines ──► those alone: their rows say what they are
//!           none         ──► removed files are deletes, added files inserts
//!           dataChange: false, or a compaction of Sluice ──► nothing
//! ```

mod extent;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use sha2::{Digest, Sha256};

use sluice_core::{Error, Result};

use super::action::{self, Cdc, Line, Metadata, Remove};
use super::schema::parse_schema;
use super::{load_at, log, protocol};
use crate::manifest::DataFile;
use crate::store::{Location, Versioned};

pub use extent::Extent;

/// Entries read at once: hides a store's latency, and entries are small.
const READS_MAX: usize = 16;

/// The column of change files that says what happened to a row.
pub const CHANGE_TYPE: &str = "_change_type";

/// A table's log, read version by version.
#[derive(Debug, Clone)]
pub struct Feed {
    location: Location,
}

/// A table as it is at a version.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The version.
    pub version: i64,
    /// When it was committed, milliseconds since 1970; where that is forgotten, when its newest file
    /// was written.
    pub committed_ms: i64,
    /// What its entry is recognised by; none where the log starts with a checkpoint.
    pub entry: Option<Mark>,
    /// The table's own id.
    pub table: String,
    /// The columns.
    pub schema: SchemaRef,
    /// Whether it has partition columns.
    pub partitioned: bool,
    /// Active files, in the order in which they were written, then by path.
    pub files: Vec<DataFile>,
}

/// What an entry of the log is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Half of the SHA-256 of its bytes, in hex.
    pub hash: String,
    /// What the store says of the object, to be asked again without reading it.
    stamp: String,
}

/// What one version did.
#[derive(Debug)]
pub struct Version {
    /// The version.
    pub version: i64,
    /// When it was committed, milliseconds since 1970: as its entry says, else as the store does.
    pub committed_ms: i64,
    /// What it says it did, such as `MERGE`; empty if it does not say.
    pub operation: String,
    /// What its entry is recognised by.
    pub entry: Mark,
    /// The new definition and its columns, when it has one.
    pub definition: Option<(Metadata, SchemaRef)>,
    /// Files whose rows came.
    pub inserts: Vec<DataFile>,
    removes: Vec<Remove>,
    cdc: Vec<Cdc>,
}

/// A file of a version, and what its rows are.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// What happened to the rows.
    pub rows: Rows,
    /// The file.
    pub file: DataFile,
}

/// What the rows of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// They came.
    Inserted,
    /// They went.
    Deleted,
    /// Each says so itself, in [`CHANGE_TYPE`].
    Changed,
}

impl Version {
    /// Whether rows that were there went or became others.
    pub fn takes_away(&self) -> bool {
        !self.removes.is_empty()
    }

    /// Whether a file was removed without a word on its partition.
    pub fn lacks_partitions(&self) -> bool {
        self.removes.iter().any(|remove| remove.partition_values.is_none())
    }

    /// All changes, deletes first; `partitioned` says whether the table has partition columns.
    pub fn changes(self, partitioned: bool) -> Result<Vec<Piece>> {
        let piece = |rows: Rows| move |file: DataFile| Piece { rows, file };
        if !self.cdc.is_empty() {
            let files = self.cdc.into_iter().map(Cdc::data_file);
            return files.map(|file| file.map(piece(Rows::Changed))).collect();
        }
        let removed = self.removes.into_iter().map(|remove| remove.data_file(partitioned));
        let removed = removed.map(|file| file.map(piece(Rows::Deleted)));
        let added = self.inserts.into_iter().map(piece(Rows::Inserted)).map(Ok);
        removed.chain(added).collect()
    }

    fn of(version: i64, entry: &Versioned, lines: Vec<Line>) -> Result<Self> {
        let mut found = Self {
            version,
            committed_ms: entry.meta.last_modified.timestamp_millis(),
            operation: String::new(),
            entry: Mark::of(entry),
            definition: None,
            inserts: Vec::new(),
            removes: Vec::new(),
            cdc: Vec::new(),
        };
        let (mut rewrites, mut ours) = (true, false);
        for line in lines {
            if let Some(protocol) = &line.protocol {
                protocol::check_protocol(protocol)?;
            }
            if let Some(metadata) = line.meta_data {
                protocol::check_definition(&metadata)?;
                let schema = parse_schema(&metadata.schema_string)?;
                found.definition = Some((metadata, schema));
            }
            if let Some(info) = &line.commit_info {
                found.committed_ms = committed_ms(info).unwrap_or(found.committed_ms);
                found.operation = text(info, "operation").to_string();
                ours = text(info, "engineInfo").starts_with("sluice/");
            }
            if let Some(add) = line.add {
                // Without a data change it can still have what nobody here can read.
                let change = add.data_change;
                let file = add.data_file()?;
                rewrites &= !change;
                found.inserts.extend(change.then_some(file));
            }
            found.removes.extend(line.remove.filter(|remove| remove.data_change));
            found.cdc.extend(line.cdc);
        }
        // Our compactions say of their removes that they change data, for the sake of writers that
        // look at nothing else; see `commit`.
        if ours && rewrites && found.operation == "OPTIMIZE" {
            found.removes.clear();
        }
        Ok(found)
    }
}

impl Mark {
    fn of(entry: &Versioned) -> Self {
        Self { hash: hash(&entry.bytes), stamp: stamp(&entry.meta) }
    }
}

impl Feed {
    /// The log of the table at `location`.
    pub fn new(location: Location) -> Self {
        Self { location }
    }

    /// The table's folder.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The table at `version`; none when there is no table. Errors: `Conflict` for a version that
    /// cannot be put together any more, or a table that we cannot read (naming the feature).
    pub async fn snapshot(&self, version: i64) -> Result<Option<Snapshot>> {
        let Some(head) = load_at(&self.location, version).await? else { return Ok(None) };
        let entry = self.entry(version).await?;
        let mut files: Vec<DataFile> = head.files.into_values().collect();
        files.sort_by(|a, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
        let written = files.last().map_or(0, |file| file.modified_ms);
        let (mut committed_ms, mut mark) = (written, None);
        if let Some((found, bytes)) = entry {
            let lines = action::parse(&bytes.bytes, &found)?;
            committed_ms = Version::of(version, &bytes, lines)?.committed_ms;
            mark = Some(Mark::of(&bytes));
        }
        Ok(Some(Snapshot {
            version,
            committed_ms,
            entry: mark,
            table: head.metadata.id.clone(),
            schema: head.schema,
            partitioned: !head.metadata.partition_columns.is_empty(),
            files,
        }))
    }

    /// Up to `count` versions from `first` on, as far as they are there one after another.
    pub async fn read(&self, first: i64, count: usize) -> Result<Vec<Version>> {
        let last = first.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        let mut entries = stream::iter(first..last)
            .map(|version| async move { Ok::<_, Error>((version, self.entry(version).await?)) })
            .buffered(READS_MAX);
        let mut versions = Vec::new();
        while let Some((version, Some((name, entry)))) = entries.try_next().await? {
            let read = action::parse(&entry.bytes, &name)
                .and_then(|lines| Version::of(version, &entry, lines))
                .map_err(|e| of_version(e, version));
            match read {
                Ok(read) => versions.push(read),
                // What comes before it can be taken; it is met again.
                Err(_) if !versions.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(versions)
    }

    /// Whether the entry of `version` is the one that `mark` was made of; none when it is gone.
    pub async fn is_still(&self, version: i64, mark: &Mark) -> Result<Option<bool>> {
        let path = log::entry_path(&self.location, version)?;
        let Some(meta) = self.location.store.head(&path).await? else { return Ok(None) };
        if stamp(&meta) == mark.stamp {
            return Ok(Some(true));
        }
        Ok(self.mark(version).await?.map(|now| now.hash == mark.hash))
    }

    /// What the entry of `version` is recognised by; none when it is not there.
    pub async fn mark(&self, version: i64) -> Result<Option<Mark>> {
        Ok(self.entry(version).await?.map(|(_, entry)| Mark::of(&entry)))
    }

    async fn entry(&self, version: i64) -> Result<Option<(String, Versioned)>> {
        if version < 0 {
            return Ok(None);
        }
        let path = log::entry_path(&self.location, version)?;
        let found = self.location.store.get_versioned(&path).await?;
        Ok(found.map(|entry| (path.to_string(), entry)))
    }
}

/// The same error, with the version behind its message.
pub fn of_version(error: Error, version: i64) -> Error {
    let message = format!("{} version={version}", error.message());
    let named = Error::new(error.kind(), message).with_retry(error.retry());
    let hint = error.hint_text().map(str::to_string);
    let named = named.because(error);
    match hint {
        Some(hint) => named.hint(hint),
        None => named,
    }
}

fn hash(bytes: &Bytes) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn stamp(meta: &object_store::ObjectMeta) -> String {
    let etag = meta.e_tag.as_deref().unwrap_or_default().trim_matches('"');
    format!("{etag} {} {}", meta.last_modified.timestamp(), meta.size)
}

fn text<'a>(info: &'a Value, key: &str) -> &'a str {
    info.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn committed_ms(info: &Value) -> Option<i64> {
    let time = |key: &str| info.get(key).and_then(Value::as_i64);
    time("inCommitTimestamp").or_else(|| time("timestamp"))
}
