//! How far a table was read, as it is sealed with an epoch.
//!
//! In and out: text that people can read too, such as `version=17 files=3 table=… entry=…`.

use sluice_core::{Error, Offset, Result};

/// The one partition.
pub(super) const PARTITION: &str = "versions";

/// A place in a table's stream: everything up to it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// The version that was taken last, whole or in part; −1 before the first.
    pub(super) version: i64,
    /// How many of its files were taken; none for all.
    pub(super) files: Option<u64>,
    /// Whether those are files of the table as it was at the version, and not of what it did.
    pub(super) snapshot: bool,
    /// The table's own id; empty while there is no table.
    pub(super) table: String,
    /// What the version's entry is recognised by; empty where its log had none.
    pub(super) entry: String,
}

impl Position {
    /// As it is sealed.
    pub(super) fn offset(&self) -> Offset {
        let mut text = format!("version={}", self.version);
        if let Some(files) = self.files {
            text.push_str(&format!(" files={files}"));
        }
        if self.snapshot {
            text.push_str(" of=snapshot");
        }
        for (key, value) in [("table", &self.table), ("entry", &self.entry)] {
            if !value.is_empty() {
                text.push_str(&format!(" {key}={value}"));
            }
        }
        Offset::Cursor(text)
    }

    /// Reads what was sealed. Errors: `Bug` for what no version of this source ever sealed.
    pub(super) fn read(offset: &Offset) -> Result<Option<Self>> {
        let text = match offset {
            Offset::Cursor(text) => text,
            Offset::At(0) => return Ok(None),
            Offset::At(_) => return Err(strange(offset)),
        };
        let value = |key: &str| {
            let mut parts = text.split(' ').filter_map(|part| part.split_once('='));
            parts.find(|(found, _)| *found == key).map(|(_, value)| value)
        };
        let version = value("version").and_then(|text| text.parse().ok());
        let files = value("files").map(|text| text.parse().map_err(|_| strange(offset)));
        Ok(Some(Self {
            version: version.ok_or_else(|| strange(offset))?,
            files: files.transpose()?,
            snapshot: value("of") == Some("snapshot"),
            table: value("table").unwrap_or_default().to_string(),
            entry: value("entry").unwrap_or_default().to_string(),
        }))
    }
}

/// A table's id as positions have it.
pub(super) fn table_id(id: &str) -> String {
    id.replace(char::is_whitespace, "_")
}

fn strange(offset: &Offset) -> Error {
    Error::bug(format!("not a position in a delta table offset={offset:?}"))
}
