//! What an epoch manifest says: everything that follows from having sealed the epoch.
//!
//! These structs are the JSON that is written; they decide nothing. A field is added with
//! `#[serde(default)]`; a change that old readers would get wrong raises [`FORMAT`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use sluice_core::{Advance, Offsets};

/// The manifest format that this version writes and the highest it reads.
pub const FORMAT: u32 = 1;

/// One sealed epoch, or a repair of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The job, with `@<name>` for a chain of its own.
    pub job: String,
    /// The number, from 0, without gaps.
    pub epoch: u64,
    /// Which life of the chain this is.
    pub incarnation: String,
    /// The run that sealed it.
    pub run: String,
    /// SHA-256 in hex of the bytes of manifest n−1; none for the first.
    pub previous: Option<String>,
    /// The hash of the job's definition.
    pub definition: String,
    /// When the epoch opened, milliseconds since 1970; what `now()` answered in it.
    pub opened_at_ms: i64,
    /// The machine that sealed it.
    pub host: String,
    /// Why the epoch exists.
    pub kind: EpochKind,
    /// What was taken, per source.
    #[serde(default)]
    pub sources: BTreeMap<String, SourcePart>,
    /// The next position after this epoch, for every source, also those it took nothing of.
    #[serde(default)]
    pub offsets: BTreeMap<String, Offsets>,
    /// Watermarks after this epoch: the newest event time, milliseconds since 1970, up to which a
    /// partition was taken, as `source/partition`. It never goes back. Partitions whose source knows
    /// no event time have none.
    #[serde(default)]
    pub watermarks: BTreeMap<String, i64>,
    /// The complete list of files that make up the state now, per operator or source.
    #[serde(default)]
    pub state: BTreeMap<String, Vec<FileRef>>,
    /// What happens to each table, and the counts of its rows.
    #[serde(default)]
    pub tables: BTreeMap<String, TablePart>,
    /// Hashes of parts of the job that no table carries in its properties, also of sources that
    /// are not in the job any more.
    #[serde(default)]
    pub definitions: BTreeMap<String, String>,
    /// 0 for an epoch; k for its k-th repair, `<n>.r<k>`.
    #[serde(default)]
    pub repairs: u32,
}

/// Why an epoch exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochKind {
    /// Rows of sources were worked.
    Data,
    /// Files of tables were rewritten, rows are the same.
    Compaction,
    /// A new life that replaces the tables.
    Rebuild,
    /// A new life that goes on with tables as they are found.
    Adopt,
}

/// What one epoch took of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePart {
    /// Per partition, from where to where.
    pub advances: Vec<Advance>,
    /// What became of the rows.
    pub rows: Counts,
    /// Positions that hold no row; none where positions are not rows. Positions are rows and gaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gaps: Option<u64>,
    /// Positions whose rows were gone before they could be taken, as somebody accepted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Rows of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that could be decoded.
    pub decoded: u64,
    /// Rows that could not.
    pub rejected: u64,
    /// Rows that were not read, because no statement that reads the source needs one of them.
    #[serde(default)]
    pub pruned: u64,
}

impl Counts {
    /// All rows that were taken.
    pub fn taken(&self) -> u64 {
        self.decoded + self.rejected + self.pruned
    }

    /// Adds those of another epoch or source.
    pub fn add(&mut self, other: &Counts) {
        self.decoded += other.decoded;
        self.rejected += other.rejected;
        self.pruned += other.pruned;
    }
}

/// What one epoch does to one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TablePart {
    /// Where the rows went.
    pub counts: TableCounts,
    /// What publishing has to do.
    pub action: Action,
}

/// Rows of a table in one epoch. `entering` is the sum of `written`, `quarantined`, `dropped`,
/// `late` and `deduplicated`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableCounts {
    /// Rows the SQL read; the difference to `entering` is the SQL's own filtering and grouping.
    pub rows_in: u64,
    /// Rows the SQL gave: what enters the table's checks.
    pub entering: u64,
    /// Rows written to the table.
    pub written: u64,
    /// Rows that broke an expectation and were kept in `__quarantine`.
    pub quarantined: u64,
    /// Rows that broke an expectation and are only counted.
    pub dropped: u64,
    /// Rows behind the watermark.
    pub late: u64,
    /// Rows of a keyed table that another row of the same epoch or a newer one replaced.
    pub deduplicated: u64,
    /// Rows of a keyed table that asked for their key to be deleted.
    pub deletes: u64,
    /// Rows that stood in the table before and were replaced or deleted by this epoch.
    pub removed: u64,
}

impl TableCounts {
    /// Whether every entering row is accounted for.
    pub fn balances(&self) -> bool {
        let out = [
            self.written,
            self.quarantined,
            self.dropped,
            self.late,
            self.deduplicated,
            self.deletes,
        ];
        out.iter().try_fold(0u64, |sum, n| sum.checked_add(*n)) == Some(self.entering)
    }

    /// Adds the counts of another epoch.
    pub fn add(&mut self, other: &TableCounts) {
        self.rows_in += other.rows_in;
        self.entering += other.entering;
        self.written += other.written;
        self.quarantined += other.quarantined;
        self.dropped += other.dropped;
        self.late += other.late;
        self.deduplicated += other.deduplicated;
        self.deletes += other.deletes;
        self.removed += other.removed;
    }
}

/// What publishing has to do for a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "one per table and epoch, almost always Delta")]
pub enum Action {
    /// Commit to a Delta table.
    Delta(DeltaAction),
    /// Copy staged files to their final names.
    Files(FilesAction),
    /// Nothing: rows wait in files of an outbox to be delivered.
    Outbox(OutboxAction),
    /// Nothing.
    None,
}

impl Action {
    /// Whether rows of the table may be others afterwards.
    pub fn changes(&self) -> bool {
        match self {
            Action::None | Action::Outbox(_) => false,
            Action::Delta(delta) => {
                let moves = !delta.adds.is_empty() || !delta.removes.is_empty();
                delta.replace || (moves && delta.data_change)
            }
            Action::Files(files) => files.replace || !files.copies.is_empty(),
        }
    }
}

/// A file that the epoch wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// From the store's root.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash in hex, where it is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// One commit to a Delta table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeltaAction {
    /// The table's folder, from the store's root.
    pub location: String,
    /// The version it was prepared against; none when the table is created.
    pub base_version: Option<i64>,
    /// Schema and properties, when the table is created or replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<TableMeta>,
    /// Whether all active files go and the metadata is replaced, in the same commit.
    #[serde(default)]
    pub replace: bool,
    /// New metadata with columns or properties added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evolve: Option<TableMeta>,
    /// Files that become active.
    #[serde(default)]
    pub adds: Vec<DataFile>,
    /// Files that stop being active.
    #[serde(default)]
    pub removes: Vec<DataFile>,
    /// Keyed rows with weights, to be applied again if a removed file is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_file: Option<FileRef>,
    /// False when the rows are the same afterwards, as in a compaction.
    pub data_change: bool,
    /// The operation named in the commit: `WRITE`, `MERGE`, `OPTIMIZE`.
    pub operation: String,
}

/// What a Delta table is, besides its files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableMeta {
    /// Delta's `schemaString`: JSON.
    pub schema: String,
    /// Partition columns in order.
    pub partition_by: Vec<String>,
    /// Table properties.
    pub properties: BTreeMap<String, String>,
    /// A UUID given by the caller.
    pub id: String,
    /// The table's name.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

/// A Parquet file with rows of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// From the table's folder, not percent-encoded beyond what the object's own name is.
    pub path: String,
    /// Partition values as Delta writes them; none is NULL.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Its size.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
    /// Delta's statistics: JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
}

/// Files that become visible under their final names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesAction {
    /// The folder of the dataset, from the store's root.
    pub location: String,
    /// Staged file and final name.
    pub copies: Vec<Copy>,
    /// Whether earlier files of the dataset stop counting.
    #[serde(default)]
    pub replace: bool,
    /// Whether files of earlier lives of the job are deleted.
    #[serde(default)]
    pub clear: bool,
}

/// Rows that wait for a sink outside of the lake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxAction {
    /// Parquet files in the order in which they are delivered.
    pub files: Vec<OutboxFile>,
}

/// A file of an outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxFile {
    /// From the store's root.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
}

/// One staged file and its final name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// The staged file, from the store's root.
    pub from: String,
    /// The final name, from the store's root.
    pub to: String,
    /// Its size.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Partition values as Delta writes them; none is NULL.
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
}
