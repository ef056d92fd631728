//! Files of a table to rows.
//!
//! In: a split as the source cut it. Out: decoded chunks with what is not in the file: partition
//! columns, which the log has, and where each row came from. A split says all that is needed, so splits
//! are read in any order, together or alone, and again.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sluice_core::{
    Common, DataSchema, Decoded, Error, FieldSpec, Memory, Reader, Result, RowStream, Scan, Share,
    Split,
};
use sluice_lake::delta::feed::CHANGE_TYPE;
use sluice_lake::parquet::value_array;
use sluice_lake::store::Store;

use super::config::{COMMIT_TIMESTAMP, COMMIT_VERSION, Settings};
use crate::files::object::{Found, Object};
use crate::format::parquet::{Layout, Origin, Rows};

/// All splits of a source hold no more than this part of the pool while they can do with less; as for
/// files.
const DECODING_SHARE: usize = 8;

/// A split's `detail`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Detail {
    pub(super) found: Found,
    /// The file's number within its intake.
    pub(super) file: u32,
    /// Row groups, the second not among them.
    pub(super) groups: (usize, usize),
    /// The number of the first row in the file.
    pub(super) row: u64,
    /// What happened to all rows; none where each says so itself.
    pub(super) change: Option<String>,
    /// Where each says so: whether those are wanted that came, and not those that went.
    pub(super) came: bool,
    pub(super) version: i64,
    pub(super) committed_ms: i64,
    /// Values of partition columns, by their names in the table.
    pub(super) partition: BTreeMap<String, Option<String>>,
}

/// Opens splits of one table.
#[derive(Debug)]
pub(super) struct TableReader {
    store: Store,
    settings: Arc<Settings>,
    memory: Common,
}

impl Reader for TableReader {
    fn schema(&self) -> SchemaRef {
        self.settings.schema.clone()
    }

    fn open(&self, split: Split, scan: &Scan) -> RowStream {
        let opened = self.prepare(split, scan);
        let chunks = futures::stream::once(async {
            let (rows, finish) = opened?;
            Ok::<_, Error>((rows.await?, finish))
        });
        let chunks = chunks.flat_map(|opened| match opened {
            Ok(opened) => futures::stream::try_unfold(opened, |(mut rows, finish)| async move {
                let Some(decoded) = rows.next().await? else { return Ok(None) };
                Ok(Some((finish.apply(decoded)?, (rows, finish))))
            })
            .boxed(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        });
        chunks.boxed()
    }
}

impl TableReader {
    /// A reader for the files of `source` on `store`.
    pub(super) fn new(
        source: &str,
        store: Store,
        settings: Arc<Settings>,
        memory: &dyn Memory,
    ) -> Self {
        let share = memory.bytes_max().map_or(usize::MAX, |bytes| bytes / DECODING_SHARE);
        let owner = format!("decoding of source {source}");
        let memory = Common::of(Share::of(memory, &owner, share));
        Self { store, settings, memory }
    }

    fn prepare(
        &self,
        split: Split,
        scan: &Scan,
    ) -> Result<(impl Future<Output = Result<Rows<Object>>> + use<>, Finish)> {
        let strange = || Error::bug(format!("a split of another source object={}", split.object));
        let detail: Detail =
            serde_json::from_value(split.detail.clone()).map_err(|e| strange().because(e))?;
        let object = Object::new(self.store.clone(), detail.found.clone())?;
        let layout = Arc::new(Layout::new(&self.columns(&detail))?);
        let origin =
            Origin { object: detail.found.path.clone(), file: detail.file, row: detail.row };
        let groups = detail.groups.0..detail.groups.1;
        let rows =
            Rows::open(object, layout, groups, origin, scan_of(scan, &detail), self.memory.part());
        Ok((rows, Finish { settings: self.settings.clone(), detail }))
    }

    /// What is looked for in the file: a partition column is none of its required ones.
    fn columns(&self, detail: &Detail) -> DataSchema {
        let of_table = self.settings.fields.iter().map(|field| {
            let outside = detail.partition.contains_key(field.origin());
            FieldSpec { required: field.required && !outside, ..field.clone() }
        });
        let change = detail.change.is_none().then(|| FieldSpec {
            name: CHANGE_TYPE.to_string(),
            data_type: "string".to_string(),
            ..FieldSpec::default()
        });
        DataSchema { schema: None, doc: None, fields: of_table.chain(change).collect() }
    }
}

/// What a file itself can answer of a scan.
fn scan_of(scan: &Scan, detail: &Detail) -> Scan {
    let mut scan = scan.clone();
    if detail.change.is_none() {
        // Rows are chosen by it: chunks of a row group that is ruled out would count the others too.
        scan.bounds.clear();
        scan.columns.iter_mut().for_each(|columns| columns.push(CHANGE_TYPE.to_string()));
    }
    // Where all rows have one value that is not in the file, they would be taken for nulls.
    scan.bounds.retain(|bound| {
        let made = [CHANGE_TYPE, COMMIT_VERSION, COMMIT_TIMESTAMP].contains(&bound.column.as_str());
        !made && !detail.partition.contains_key(&bound.column)
    });
    scan
}

/// Rows of a file to rows of the source.
struct Finish {
    settings: Arc<Settings>,
    detail: Detail,
}

impl Finish {
    fn apply(&self, decoded: Decoded) -> Result<Decoded> {
        let Decoded { rows, mut rejected, pruned } = decoded;
        let schema = &self.settings.schema;
        if pruned > 0 {
            return Ok(Decoded::pruned(schema.clone(), pruned));
        }
        let mut rows = rows;
        if self.detail.change.is_none() {
            rows = filter_record_batch(&rows, &self.chosen(&rows)?)?;
            if !self.detail.came {
                // They are told with the rows that came: the file is read twice.
                rejected.clear();
            }
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        for (field, spec) in schema.fields().iter().zip(&self.settings.fields) {
            columns.push(match self.detail.partition.get(spec.origin()) {
                Some(text) => {
                    let (of, count) = (field.data_type(), rows.num_rows());
                    value_array(text.as_deref(), of, field.name(), count)?
                }
                None => column(&rows, field.name())?,
            });
        }
        for field in schema.fields().iter().skip(columns.len()) {
            columns.push(self.made(field.name(), &rows)?);
        }
        Ok(Decoded::new(RecordBatch::try_new(schema.clone(), columns)?, rejected))
    }

    /// A column that is not the table's.
    fn made(&self, name: &str, rows: &RecordBatch) -> Result<ArrayRef> {
        let count = rows.num_rows();
        Ok(match name {
            COMMIT_VERSION => Arc::new(Int64Array::from_value(self.detail.version, count)),
            COMMIT_TIMESTAMP => {
                let micros = self.detail.committed_ms.saturating_mul(1000);
                let times = TimestampMicrosecondArray::from_value(micros, count);
                Arc::new(times.with_timezone("UTC"))
            }
            CHANGE_TYPE => match &self.detail.change {
                Some(change) => Arc::new(StringArray::from_iter_values(vec![change; count])),
                None => column(rows, name)?,
            },
            _ => column(rows, name)?,
        })
    }

    /// Which rows of a change file are wanted. Errors: `Unreadable` for one that does not say what
    /// happened.
    fn chosen(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let changes = column(rows, CHANGE_TYPE)?;
        let changes = changes.as_string::<i32>();
        let mut chosen = Vec::with_capacity(changes.len());
        for change in changes {
            let came = match change {
                Some("insert" | "update_postimage") => true,
                Some("delete" | "update_preimage") => false,
                other => {
                    let path = &self.detail.found.path;
                    let message = format!(
                        "a change file has rows of an unknown kind kind={:?} path={path}",
                        other.unwrap_or_default()
                    );
                    return Err(Error::unreadable(message).hint("see what its writer means by it"));
                }
            };
            chosen.push(came == self.detail.came);
        }
        Ok(BooleanArray::from(chosen))
    }
}

fn column(rows: &RecordBatch, name: &str) -> Result<ArrayRef> {
    let found = rows.column_by_name(name).cloned();
    found.ok_or_else(|| Error::bug(format!("a column was not read column={name}")))
}
