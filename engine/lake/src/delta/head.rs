//! A table at one version, in memory: what the last checkpoint and the entries since add up to.
//!
//! Entries are applied one after another; where they come from is not known here.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;

use sluice_core::Result;

use super::action::{self, Metadata, Protocol};
use super::expire::Retention;
use super::schema::parse_schema;
use super::{log, protocol};
use crate::manifest::DataFile;
use crate::parquet::Layout;
use crate::store::Location;

/// A table at one version, complete.
#[derive(Debug, Clone)]
pub struct Head {
    /// The version of the log.
    pub version: i64,
    /// The columns.
    pub schema: SchemaRef,
    /// The last `metaData` line.
    pub metadata: Metadata,
    /// The last `protocol` line.
    pub protocol: Protocol,
    /// Active files by path. A file without statistics has a row count of 0, which means unknown.
    pub files: BTreeMap<String, DataFile>,
    /// The last version per application id.
    pub txns: BTreeMap<String, i64>,
    /// The checkpoint that it was loaded from; later ones are not looked for.
    pub checkpoint: Option<i64>,
}

impl Head {
    /// Partition columns, outermost folder first.
    pub fn partition_by(&self) -> &[String] {
        &self.metadata.partition_columns
    }

    /// The table's properties.
    pub fn properties(&self) -> &BTreeMap<String, String> {
        &self.metadata.configuration
    }

    /// What the table's properties say about its upkeep.
    pub fn retention(&self) -> Retention {
        Retention::of(|key| self.properties().get(key).map(String::as_str))
    }

    /// How to read and write the table's files.
    pub fn layout(&self, location: &Location) -> Result<Layout> {
        Layout::new(location.clone(), self.schema.clone(), self.partition_by().to_vec())
    }

    pub(super) fn of(state: log::Replay, location: &Location) -> Result<Self> {
        let (Some(metadata), Some(protocol)) = (state.metadata, state.protocol) else {
            return Err(log::gap(location, 0));
        };
        protocol::check_readable(&protocol, &metadata)?;
        Ok(Self {
            version: state.version,
            schema: parse_schema(&metadata.schema_string)?,
            metadata,
            protocol,
            files: state.files,
            txns: state.txns,
            checkpoint: state.checkpoint,
        })
    }

    /// Takes the entry after the head's version. An error changes nothing.
    pub(super) fn apply(&mut self, version: i64, lines: Vec<action::Line>) -> Result<EntryFacts> {
        let facts = EntryFacts::of(version, &lines)?;
        let metadata = facts.metadata.as_ref().unwrap_or(&self.metadata);
        let protocol = lines.iter().find_map(|l| l.protocol.as_ref()).unwrap_or(&self.protocol);
        protocol::check_readable(protocol, metadata)?;
        let schema = match &facts.metadata {
            Some(new) => parse_schema(&new.schema_string)?,
            None => self.schema.clone(),
        };
        let mut state = log::Replay {
            files: std::mem::take(&mut self.files),
            txns: std::mem::take(&mut self.txns),
            ..log::Replay::default()
        };
        let applied = state.apply(lines);
        self.files = state.files;
        self.txns = state.txns;
        applied?;
        self.schema = schema;
        if let Some(metadata) = state.metadata {
            self.metadata = metadata;
        }
        if let Some(protocol) = state.protocol {
            self.protocol = protocol;
        }
        self.version = version;
        Ok(facts)
    }
}

/// What one entry of the log did.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryFacts {
    /// The entry's version.
    pub version: i64,
    /// Transactions it recorded.
    pub txns: BTreeMap<String, i64>,
    /// Files it added.
    pub adds: Vec<String>,
    /// Files it removed.
    pub removes: Vec<String>,
    /// The new definition, when it has one.
    pub metadata: Option<Metadata>,
    /// Whether it rewrote the protocol.
    pub protocol: bool,
}

impl EntryFacts {
    pub(super) fn of(version: i64, lines: &[action::Line]) -> Result<Self> {
        let adds = lines.iter().filter_map(|l| l.add.as_ref());
        let removes = lines.iter().filter_map(|l| l.remove.as_ref());
        let txns = lines.iter().filter_map(|l| l.txn.as_ref());
        Ok(Self {
            version,
            txns: txns.map(|t| (t.app_id.clone(), t.version)).collect(),
            adds: adds.map(|a| action::plain(&a.path)).collect::<Result<_>>()?,
            removes: removes.map(|r| action::plain(&r.path)).collect::<Result<_>>()?,
            metadata: lines.iter().find_map(|l| l.meta_data.clone()),
            protocol: lines.iter().any(|l| l.protocol.is_some()),
        })
    }
}
