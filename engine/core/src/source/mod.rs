//! What a source promises: to say what is there, up to a limit, and to read it again if asked.
//!
//! A source knows partitions and offsets, not SQL, and owns no control loop: the epoch loop asks.
//! The path is `poll → Intake { splits or batches } → Reader::open → Decoded`.

mod held;
mod shard;
mod standing;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{Advance, FieldSpec, Offsets, Result};

pub use held::Held;
pub use shard::{Membership, Shard};
pub use standing::{Lag, Recount, Standing};

/// The hidden last column of decoded rows (Int64): the row's order within its epoch. Larger is
/// later; unique within one intake.
pub const POSITION_COLUMN: &str = "_position";

/// The column of a table whose rows may be taken back: the object a row came from (Utf8).
pub const SOURCE_FILE_COLUMN: &str = "_source_file";

/// The column of rows with `on_new_column: rescue` (Utf8, the last but the position): what the schema
/// has no column for, as the text of a JSON object; null where there is nothing.
pub const RESCUED_COLUMN: &str = "_rescued";

/// Columns that sources add beside what their data has, and that tables may keep under these names.
/// All other names that begin with `_` are the engine's.
pub const PASSED_COLUMNS: [&str; 16] = [
    RESCUED_COLUMN,
    "_topic",
    "_partition",
    "_offset",
    "_timestamp",
    "_key",
    "_headers",
    "_path",
    "_query",
    "_received_at",
    "_event_id",
    "_op",
    "_source_ts",
    "_commit_version",
    "_commit_timestamp",
    "_change_type",
];

/// The column of rejected rows that says which file they stood in.
pub const REJECTED_FILE_COLUMN: &str = "source_file";

/// How much one poll may take. The source may stop earlier, never later than the first split
/// that crosses a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Rows, estimated where they cannot be known.
    pub rows: u64,
    /// Bytes as stored.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// Where to go on after a restart: what the last sealed epoch held of this source.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The next position per partition; empty on the first run.
    pub offsets: Offsets,
    /// All state rows the source handed out in sealed epochs, in order.
    pub state: Vec<RecordBatch>,
    /// Read what the first poll is to take to its end before taking it: an error of kind
    /// `Unreadable` came up while it was read.
    pub careful: bool,
    /// Take nothing that comes after this call: the run is to end.
    pub bounded: bool,
    /// Go on behind what is lost instead of refusing to: somebody looked at it and said so.
    pub accept_loss: bool,
    /// Take only this slice of the partitions: others take the rest, under chains of their own. Only
    /// where the source's factory says that there are slices.
    pub shard: Option<Shard>,
}

/// A readable piece of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Its number within the intake, from 0; orders rows of different splits.
    pub ordinal: u32,
    /// What it is a piece of: a path, a partition. Shown to people.
    pub object: String,
    /// Bytes or rows `[start, end)` of the object, in the source's own unit.
    pub range: (u64, u64),
    /// Estimated rows, for planning.
    pub rows: u64,
    /// Bytes as stored, for planning and progress.
    pub bytes: u64,
    /// Whatever else the reader needs; small.
    pub detail: serde_json::Value,
    /// What is to be decoded, where it was fetched before the plan runs.
    pub held: Held,
}

/// What one poll found.
#[derive(Debug, Clone, Default)]
pub struct Intake {
    /// What was taken, per partition. Empty means nothing is there.
    pub advances: Vec<Advance>,
    /// Pieces to be read inside the plan.
    pub splits: Vec<Split>,
    /// State rows to seal with the epoch (a file source's newly seen files); always one schema.
    pub state: Option<RecordBatch>,
    /// Positions in the advances that hold no row and never did, or none any more: markers of
    /// transactions, aborted rows, rows compacted away. None where positions are not rows.
    pub gaps: Option<u64>,
    /// Positions in the advances whose rows were gone before they could be taken
    /// ([`Start::accept_loss`]).
    pub lost: u64,
    /// The newest event time among what was taken, milliseconds since 1970, per partition of which one
    /// is known before rows are decoded.
    pub newest_ms: BTreeMap<String, i64>,
    /// Whether more is there right now, or still comes to a run that is to end: it is asked for at
    /// once, and the run does not end before.
    pub more: bool,
    /// Whether nothing more can be held: the intake has to close.
    pub full: bool,
    /// Things a person should know, such as a changed file; each ends as a log line.
    pub notes: Vec<String>,
    /// Paths whose earlier rows are to be retracted by `_source_file` (`on_changed_file: replace`).
    pub retracted: Vec<String>,
    /// Objects that were taken and cannot be read at all: each is one rejected row and no split.
    pub unreadable: Vec<Rejected>,
    /// Columns of what comes next that the source's schema does not have. They are to be added to
    /// it, and the job planned anew, before the next poll takes what has them.
    pub columns: Vec<FieldSpec>,
}

/// A row that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Path or partition.
    pub object: String,
    /// Byte offset of the row in the uncompressed object, or its row number where there are no
    /// bytes.
    pub position: u64,
    /// The row as it stood there; cut at 64 KiB.
    pub bytes: Vec<u8>,
    /// Why, naming the field.
    pub reason: String,
}

/// What a plan needs of a split; by default everything.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// The columns whose values are used, by their names in the reader's schema; none means all.
    pub columns: Option<Vec<String>>,
    /// What is true of every row that is used. The plan checks it again: they may be ignored.
    pub bounds: Vec<Bound>,
}

impl Scan {
    /// Whether the values of a column are used.
    pub fn wants(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|wanted| wanted.iter().any(|name| name == column))
    }
}

/// A column held against a constant. Like in SQL it is not true where the column is null.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The column's name in the reader's schema.
    pub column: String,
    /// How the column compares with the value.
    pub comparison: Comparison,
    /// One value, not null, of the column's type.
    pub value: ArrayRef,
}

/// How a column compares with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    Greater,
}

/// One chunk of a split after decoding.
#[derive(Debug)]
pub struct Decoded {
    /// Rows with the reader's schema; [`POSITION_COLUMN`] is its last column.
    pub rows: RecordBatch,
    /// Rows that could not be decoded; never an error of the job.
    pub rejected: Vec<Rejected>,
    /// Rows that were not read, because the scan's bounds rule all rows of the chunk out. Whether
    /// they could have been decoded is not known; then there are no others.
    pub pruned: u64,
}

impl Decoded {
    /// A chunk that was read.
    pub fn new(rows: RecordBatch, rejected: Vec<Rejected>) -> Self {
        Self { rows, rejected, pruned: 0 }
    }

    /// A chunk of so many rows, of the reader's `schema`, that was not.
    pub fn pruned(schema: SchemaRef, rows: u64) -> Self {
        Self { rows: RecordBatch::new_empty(schema), rejected: Vec::new(), pruned: rows }
    }
}

/// Decoded chunks in the split's order.
pub type RowStream = BoxStream<'static, Result<Decoded>>;

/// Opens splits. Cheap to clone through `Arc`, used from many threads, outlives the poll.
///
/// Guarantee: the same split always gives the same rows and the same rejected rows, or an error
/// that names the object: of kind `Data` when it changed, worth a new poll; of kind `Unreadable`
/// when it cannot be read to its end, which a careful poll finds ([`Start::careful`]).
///
/// A scan changes no rows, only how much of them is read. Whatever it says, a split has the same
/// chunks; each has the same rows at the same positions and the same rejected rows, or is pruned,
/// all of it, if its rows are ruled out by the bounds. Columns that are not wanted may hold
/// nulls instead of their values.
pub trait Reader: Send + Sync + std::fmt::Debug {
    /// The rows' schema, [`POSITION_COLUMN`] last.
    fn schema(&self) -> SchemaRef;

    /// Opens one split, of which `scan` is needed. Batches hold at most 64 Ki rows. Dropping the
    /// stream stops the read.
    fn open(&self, split: Split, scan: &Scan) -> RowStream;
}

/// A stream of rows that can be read again from recorded offsets.
///
/// Order of calls: `seek` once, then `poll` and `acknowledge` in turn. Offsets handed out by
/// successive polls join without gap or overlap. An error from `poll` leaves the source where it
/// was before the call.
#[async_trait]
pub trait Source: Send {
    /// Goes to where the last sealed epoch ended; an empty start means the beginning.
    async fn seek(&mut self, start: Start) -> Result<()>;

    /// Says what is there after the last poll, up to `limit`. Cancel-safe.
    async fn poll(&mut self, limit: Limit) -> Result<Intake>;

    /// A reader for the splits of the last poll.
    fn reader(&self) -> Arc<dyn Reader>;

    /// Says that everything before `offsets` is published. Idempotent.
    async fn acknowledge(&mut self, offsets: &Offsets) -> Result<()>;

    /// How far the last poll is behind what its partitions have, as far as that is known without
    /// asking anybody.
    fn lag(&self) -> Vec<Lag> {
        Vec::new()
    }
}

/// `schema` with [`POSITION_COLUMN`] appended.
pub fn with_position(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(POSITION_COLUMN, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

/// Columns of every `<source>__rejected` table.
pub fn rejected_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("epoch", DataType::Int64, false),
        Field::new(REJECTED_FILE_COLUMN, DataType::Utf8, false),
        Field::new("position", DataType::Int64, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("bytes", DataType::Binary, true),
    ]))
}
