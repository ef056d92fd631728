//! The lines of a Delta log entry, read and written; the same lines make up a checkpoint.
//!
//! Lines that do not change what the table holds (`domainMetadata` and others) are read past. Paths
//! are percent-encoded in the log and plain everywhere else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use sluice_core::{Error, Result};

use crate::manifest::DataFile;
use crate::parquet::{percent_decode, percent_encode};

/// Characters of a path that the log keeps as they are.
const KEPT: &[u8] = b"-_.~/=";

/// What a table is, as its last `metaData` line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The table's own id; changes when it is replaced by another table.
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Always parquet.
    #[serde(default)]
    pub format: Format,
    /// The columns as JSON.
    pub schema_string: String,
    /// Partition columns, outermost folder first.
    #[serde(default)]
    pub partition_columns: Vec<String>,
    /// The table's properties.
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
}

/// How data files are encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Format {
    /// `parquet`.
    pub provider: String,
    /// Empty.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Self {
        Self { provider: "parquet".into(), options: BTreeMap::new() }
    }
}

/// What a client must understand to read or write the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// 1 to 3.
    pub min_reader_version: i32,
    /// 1 to 7.
    pub min_writer_version: i32,
    /// Named features, from reader version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    /// Named features, from writer version 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

/// One line; all parts but one are absent.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    pub add: Option<Add>,
    pub remove: Option<Remove>,
    pub meta_data: Option<Metadata>,
    pub protocol: Option<Protocol>,
    pub txn: Option<Transaction>,
    pub sidecar: Option<Sidecar>,
    pub cdc: Option<Cdc>,
    /// For people, and writers put into it what they like.
    pub commit_info: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    pub path: String,
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
    pub size: i64,
    #[serde(default)]
    pub modification_time: i64,
    pub stats: Option<String>,
    pub deletion_vector: Option<Value>,
    /// Not known in a checkpoint.
    #[serde(default)]
    pub data_change: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    pub path: String,
    #[serde(default)]
    pub deletion_timestamp: Option<i64>,
    #[serde(default)]
    pub data_change: bool,
    /// Absent where the writer leaves out what the `add` said.
    pub partition_values: Option<BTreeMap<String, Option<String>>>,
    pub size: Option<i64>,
    pub stats: Option<String>,
    pub deletion_vector: Option<Value>,
}

/// A file that says which rows changed, and how.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cdc {
    pub path: String,
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub size: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transaction {
    pub app_id: String,
    pub version: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Sidecar {
    pub path: String,
}

impl Add {
    /// The file; its row count is 0 and its statistics absent when the log does not know them.
    pub(super) fn data_file(self) -> Result<DataFile> {
        if self.deletion_vector.is_some() {
            return Err(super::protocol::refused("deletionVectors"));
        }
        let stats = self.stats.filter(|text| rows_of(text).is_some());
        Ok(DataFile {
            path: plain(&self.path)?,
            partition_values: self.partition_values,
            bytes: u64::try_from(self.size).unwrap_or(0),
            rows: stats.as_deref().and_then(rows_of).unwrap_or(0),
            modified_ms: self.modification_time,
            stats,
        })
    }
}

/// The plain path of a path in the log; a file outside the table is refused.
pub(super) fn plain(path: &str) -> Result<String> {
    if path.contains("://") || path.starts_with('/') {
        return Err(Error::conflict(format!("a table names a file outside itself path={path}"))
            .hint("shallow clones are not supported: copy the table in full"));
    }
    percent_decode(path)
        .ok_or_else(|| Error::data(format!("a path in the log is not UTF-8 path={path}")))
}

impl Remove {
    /// The file that was removed, as far as the line says it. Errors: `Conflict` for one with a
    /// deletion vector, or without partition values where the table has some.
    pub(super) fn data_file(self, partitioned: bool) -> Result<DataFile> {
        if self.deletion_vector.is_some() {
            return Err(super::protocol::refused("deletionVectors"));
        }
        if partitioned && self.partition_values.is_none() {
            let message = format!("a removed file has no partition values path={}", self.path);
            return Err(Error::conflict(message)
                .hint("its writer leaves them out of the log, so its rows cannot be told"));
        }
        Ok(DataFile {
            path: plain(&self.path)?,
            partition_values: self.partition_values.unwrap_or_default(),
            bytes: self.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            rows: self.stats.as_deref().and_then(rows_of).unwrap_or(0),
            modified_ms: 0,
            stats: None,
        })
    }
}

impl Cdc {
    /// The file; how many rows it has is not known.
    pub(super) fn data_file(self) -> Result<DataFile> {
        Ok(DataFile {
            path: plain(&self.path)?,
            partition_values: self.partition_values,
            bytes: u64::try_from(self.size).unwrap_or(0),
            rows: 0,
            modified_ms: 0,
            stats: None,
        })
    }
}

/// The lines of `text`, one JSON object each.
pub(super) fn parse(text: &[u8], name: &str) -> Result<Vec<Line>> {
    let lines = text.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let parse = |line: &[u8]| {
        serde_json::from_slice(line).map_err(|e| {
            Error::data(format!("an entry of the delta log is damaged entry={name}"))
                .hint("restore the file from a backup, or rebuild the table with --rebuild")
                .because(e)
        })
    };
    lines.map(parse).collect()
}

/// An `add` line.
pub(super) fn add_line(file: &DataFile, data_change: bool) -> Value {
    json!({"add": {
        "path": percent_encode(&file.path, KEPT),
        "partitionValues": file.partition_values,
        "size": file.bytes,
        "modificationTime": file.modified_ms,
        "dataChange": data_change,
        "stats": file.stats,
    }})
}

/// A `remove` line.
pub(super) fn remove_line(file: &DataFile, data_change: bool, now_ms: i64) -> Value {
    json!({"remove": {
        "path": percent_encode(&file.path, KEPT),
        "deletionTimestamp": now_ms,
        "dataChange": data_change,
        "extendedFileMetadata": true,
        "partitionValues": file.partition_values,
        "size": file.bytes,
    }})
}

fn rows_of(stats: &str) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rows {
        num_records: u64,
    }
    serde_json::from_str::<Rows>(stats).ok().map(|rows| rows.num_records)
}
