//! Chunks of new and old rows to the rows a table gets, with all that is learnt on the way.
//!
//! In: chunks that hold all rows of their keys. Out: rows to write; which old rows go, what is
//! remembered, quarantined and counted, and the change file that a lost race is repaired from.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter_record_batch, is_null, not};
use arrow::datatypes::{SchemaRef, UInt32Type};
use parking_lot::Mutex;
use sluice_core::{Error, Result};
use sluice_lake::manifest::TableCounts;
use sluice_lake::store::Location;
use sluice_lake::table::ChangeWriter;

use super::super::routing::{Outcome, Router};
use super::chunks::Chunks;
use super::entering::Entering;
use crate::operator::upsert::{Remembered, UpsertSpec, key_batch, resolve};

/// The rows of one file that go.
pub(super) struct Gone(BooleanBufferBuilder);

impl Gone {
    fn none(rows: usize) -> Self {
        let mut bits = BooleanBufferBuilder::new(rows);
        bits.append_n(rows, false);
        Self(bits)
    }

    /// Whether any row goes.
    pub fn any(&self) -> bool {
        self.0.as_slice().iter().any(|byte| *byte != 0)
    }

    /// One bit per row of the file.
    pub fn bits(&self) -> BooleanBuffer {
        self.0.finish_cloned()
    }
}

/// The upsert of one epoch at work.
pub(super) struct Resolving {
    pub chunks: Chunks,
    pub spec: UpsertSpec,
    /// The table's columns.
    pub schema: SchemaRef,
    pub remembered: Option<Remembered>,
    pub seen: Arc<Mutex<Entering>>,
    pub router: Router,
    pub outcome: Outcome,
    pub counts: TableCounts,
    /// Per file that was found, in the same order.
    pub gone: Vec<Gone>,
    pub change: Option<ChangeWriter>,
    pub change_at: Location,
}

impl Resolving {
    /// The rows to write of the next chunk; none at the end.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(chunk) = self.chunks.next().await? else { return Ok(None) };
        self.open()?;
        let trace = chunk.num_columns() - 3;
        let is_new = is_null(chunk.column(trace))?;
        let marked: Vec<usize> = (0..trace).collect();
        let incoming = filter_record_batch(&chunk, &is_new)?.project(&marked)?;
        if incoming.num_rows() == 0 {
            return Ok(Some(RecordBatch::new_empty(self.schema.clone())));
        }
        let old = filter_record_batch(&chunk, &not(&is_new)?)?;
        let places = old.project(&[trace, trace + 1])?;
        let table: Vec<usize> = (0..self.schema.fields().len()).collect();
        let old =
            RecordBatch::try_new(self.schema.clone(), old.project(&table)?.columns().to_vec())?;
        let incoming = vec![incoming];
        let keys = key_batch(&self.spec, &incoming)?;
        let known = self.remembered.as_ref().map(|r| r.of(&keys)).transpose()?;
        let resolved =
            tokio::task::block_in_place(|| resolve(&self.spec, &incoming, &old, known.as_ref()))?;
        if let (Some(kept), Some(rows)) = (&mut self.remembered, &resolved.remember) {
            kept.put(rows)?;
        }
        self.router.without_key(&resolved.null_keys, &mut self.outcome)?;
        self.mark(&places, &resolved.removed_rows)?;
        if let Some(change) = &mut self.change {
            change.delete(&resolved.removed_keys).await?;
            change.upsert(&resolved.rows).await?;
        }
        self.counts.written += resolved.inserted + resolved.updated;
        self.counts.deduplicated += resolved.deduplicated;
        self.counts.deletes += resolved.deleted;
        self.counts.removed += resolved.removed_rows.len() as u64;
        Ok(Some(resolved.rows))
    }

    /// Makes room for what is learnt about the files found; they are known when the first chunk
    /// comes out of the sort.
    fn open(&mut self) -> Result<()> {
        let seen = self.seen.lock();
        if self.gone.is_empty() && !seen.found.is_empty() {
            self.gone = seen.found.iter().map(|found| Gone::none(found.len())).collect();
            self.change = Some(ChangeWriter::new(&self.change_at, &self.schema)?);
        }
        Ok(())
    }

    fn mark(&mut self, places: &RecordBatch, removed: &[usize]) -> Result<()> {
        let files = places.column(0).as_primitive::<UInt32Type>();
        let rows = places.column(1).as_primitive::<UInt32Type>();
        for &row in removed {
            let gone = self.gone.get_mut(files.value(row) as usize);
            let gone = gone.ok_or_else(|| Error::bug("a row is of no file that was found"))?;
            gone.0.set_bit(rows.value(row) as usize, true);
        }
        Ok(())
    }
}
