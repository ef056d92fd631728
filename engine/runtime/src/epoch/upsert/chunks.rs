//! Rows sorted by key, cut into chunks that never divide a key.
//!
//! In: a stream in the order of some columns. Out: batches of about [`CHUNK_ROWS`] or [`CHUNK_BYTES`], more
//! only where one key has more. What the rows mean is not known here.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::row::{RowConverter, SortField};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use sluice_core::{Reservation, Result};

use crate::catalog::sql_error;
use crate::function::bytes_of;

/// Rows that are resolved at once: some 10 MiB with what is worked out of them, and enough to
/// amortise the work per chunk.
const CHUNK_ROWS: usize = 32 * 1024;

/// The same for wide rows.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// The chunks of a sorted stream.
pub(super) struct Chunks {
    rows: SendableRecordBatchStream,
    keys: Vec<usize>,
    waiting: Vec<RecordBatch>,
    ended: bool,
    memory: Box<dyn Reservation>,
}

impl Chunks {
    /// Chunks of `rows`, which are in the order of the columns `keys`.
    pub fn new(
        rows: SendableRecordBatchStream,
        keys: Vec<usize>,
        memory: Box<dyn Reservation>,
    ) -> Self {
        Self { rows, keys, waiting: Vec::new(), ended: false, memory }
    }

    /// The next chunk; none at the end. Errors: a single key has more rows than memory holds.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            while !self.ended && self.waiting_rows() < CHUNK_ROWS && self.bytes() < CHUNK_BYTES {
                // The sort made these rows already: they are held, whatever the share says.
                let bytes = self.take().await?;
                self.memory.insist(bytes)?;
            }
            if self.waiting.is_empty() {
                return Ok(None);
            }
            let chunk = concat_batches(&self.rows.schema(), &self.waiting)?;
            let end = if self.ended { chunk.num_rows() } else { self.last_border(&chunk)? };
            self.waiting.clear();
            if end < chunk.num_rows() {
                self.waiting.push(chunk.slice(end, chunk.num_rows() - end));
            }
            if end > 0 {
                return Ok(Some(chunk.slice(0, end)));
            }
            // All of it is one key: its history is judged as a whole.
            let bytes = self.take().await?;
            self.memory.resize(bytes)?;
        }
    }

    /// Waits for the next rows; the bytes of all that wait.
    async fn take(&mut self) -> Result<usize> {
        match self.rows.next().await {
            Some(batch) => {
                let batch = batch.map_err(|e| sql_error("rows of a keyed table failed", e))?;
                self.waiting.push(batch);
            }
            None => self.ended = true,
        }
        Ok(self.bytes())
    }

    fn bytes(&self) -> usize {
        self.waiting.iter().map(bytes_of).sum()
    }

    fn waiting_rows(&self) -> usize {
        self.waiting.iter().map(RecordBatch::num_rows).sum()
    }

    /// Where the last key of `chunk` begins: more of its rows may come.
    fn last_border(&self, chunk: &RecordBatch) -> Result<usize> {
        let keys = chunk.project(&self.keys)?;
        let fields = keys.schema();
        let fields = fields.fields().iter().map(|f| SortField::new(f.data_type().clone()));
        let rows = RowConverter::new(fields.collect())?.convert_columns(keys.columns())?;
        let mut start = chunk.num_rows().saturating_sub(1);
        while start > 0 && rows.row(start - 1) == rows.row(start) {
            start -= 1;
        }
        Ok(start)
    }
}
