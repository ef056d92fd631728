//! Versions on their way to be taken: what of a commit is read, and whether it may be.
//!
//! In: a version of the log and the settings. Out: [`Work`], or why the job has to stop. Files are not
//! looked at here.

use arrow::datatypes::{Schema, SchemaRef};
use sluice_core::{Error, Result};
use sluice_lake::delta::feed::{Piece, Rows, Snapshot, Version, of_version};
use sluice_lake::manifest::DataFile;

use super::config::{OnChange, Settings};
use super::position::table_id;

/// Bytes of a row, where a log does not say how many a file has.
const ROW_BYTES: u64 = 64;

/// The files of one version, in the order in which they are taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Work {
    pub(super) version: i64,
    pub(super) committed_ms: i64,
    /// The table's id.
    pub(super) table: String,
    /// What the version's entry is recognised by; empty where there is none.
    pub(super) entry: String,
    /// Whether it is the table as it was then, and not what the version did.
    pub(super) snapshot: bool,
    pub(super) parts: Vec<Part>,
    /// Versions before it that are gone.
    pub(super) lost: u64,
    pub(super) notes: Vec<String>,
}

/// A file, or one kind of the rows of a change file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) rows: Rows,
    /// Of a change file: whether it is the rows that came, and not those that went.
    pub(super) came: bool,
    pub(super) file: DataFile,
}

impl Part {
    /// Rows, estimated where the log does not say.
    pub(super) fn estimate(&self) -> u64 {
        if self.file.rows > 0 { self.file.rows } else { (self.file.bytes / ROW_BYTES).max(1) }
    }
}

/// What a table's columns are.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub(super) schema: SchemaRef,
    pub(super) partitioned: bool,
}

impl Work {
    /// A place in the log where nothing is taken.
    pub(super) fn mark(version: i64, table: &str, entry: &str) -> Self {
        let (table, entry) = (table_id(table), entry.to_string());
        Self { version, table, entry, ..Self::default() }
    }

    /// All rows of a table.
    pub(super) fn of_snapshot(snapshot: Snapshot) -> Self {
        let inserted = |file| Part { rows: Rows::Inserted, came: true, file };
        Self {
            version: snapshot.version,
            committed_ms: snapshot.committed_ms,
            table: table_id(&snapshot.table),
            entry: snapshot.entry.map(|mark| mark.hash).unwrap_or_default(),
            snapshot: true,
            parts: snapshot.files.into_iter().map(inserted).collect(),
            ..Self::default()
        }
    }

    /// What a version of the table `table` did. `partitioned` is asked only where files were removed.
    /// Errors: `Data` for a version that the settings refuse.
    pub(super) fn of(
        version: Version,
        table: &str,
        partitioned: bool,
        settings: &Settings,
    ) -> Result<Self> {
        let mut work = Self {
            committed_ms: version.committed_ms,
            ..Self::mark(version.version, table, &version.entry.hash)
        };
        if settings.feed {
            work.parts = ordered(version.changes(partitioned)?);
        } else if version.takes_away() {
            let (number, operation) = (version.version, &version.operation);
            if settings.on_change == OnChange::Fail {
                let path = &settings.path;
                return Err(Error::data(format!(
                    "a version deletes or changes rows, and only appends are read version={number} \
                     operation={operation:?} table={path}"
                ))
                .hint(
                    "read all changes with `changes: feed`, best of a table with \
                     delta.enableChangeDataFeed, or pass over such versions with `on_change: ignore`",
                ));
            }
            work.notes.push(format!(
                "a version that deletes or changes rows is passed over version={number} \
                 operation={operation:?}"
            ));
        } else {
            let inserted = |file| Part { rows: Rows::Inserted, came: true, file };
            work.parts = version.inserts.into_iter().map(inserted).collect();
        }
        Ok(work)
    }
}

/// Rows that went come before those that came, whatever file they are in: of a key that was changed
/// the new row is the last one.
fn ordered(pieces: Vec<Piece>) -> Vec<Part> {
    let (mut went, mut came) = (Vec::new(), Vec::new());
    for Piece { rows, file } in pieces {
        if rows != Rows::Inserted {
            went.push(Part { rows, came: false, file: file.clone() });
        }
        if rows != Rows::Deleted {
            came.push(Part { rows, came: true, file });
        }
    }
    went.append(&mut came);
    went
}

/// Holds the columns that a version gives a table against the source's. `before` are those that it
/// had until then, where they are known. Errors: `Data` naming version and column.
pub(super) fn check_columns(
    settings: &Settings,
    now: &Schema,
    before: Option<&Schema>,
    version: i64,
) -> Result<()> {
    settings.layout.check(now, &settings.path).map_err(|e| of_version(e, version))?;
    let has = |schema: &Schema, field: &str| schema.field_with_name(field).is_ok();
    let dropped = |field: &&str| before.is_some_and(|before| has(before, field));
    let missing = settings.fields.iter().map(|field| field.origin());
    let mut missing = missing.filter(|field| !has(now, field)).filter(dropped);
    match missing.next() {
        None => Ok(()),
        Some(field) => Err(Error::data(format!(
            "a column is not in the table any more column={field} version={version} table={}",
            settings.path
        ))
        .hint("take it out of the source's schema, or put it back into the table")),
    }
}

/// Refuses columns that a table does not have at all. Errors: `Config` naming the column.
pub(super) fn check_names(settings: &Settings, now: &Schema, version: i64) -> Result<()> {
    let mut fields = settings.fields.iter().map(|field| field.origin());
    match fields.find(|field| now.field_with_name(field).is_err()) {
        None => Ok(()),
        Some(field) => {
            let names: Vec<&str> = now.fields().iter().map(|f| f.name().as_str()).collect();
            Err(Error::config(format!(
                "a column is not in the table column={field} version={version} table={}",
                settings.path
            ))
            .hint(format!("the table has {}", names.join(", "))))
        }
    }
}
