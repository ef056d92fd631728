//! Rows that an epoch sets aside while it runs: those that could not be decoded, those for the
//! quarantine.
//!
//! In: batches of one schema. Out: the same batches in the same order, once. As a rule they are few
//! and stay in memory, within a small part of the pool; more wait in a temporary file, which has no
//! name and goes with the process. What they mean is not known here.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use sluice_core::{Error, Memory, Reservation, Result, Share};

/// Part of the pool that the rows of one owner may take before they go to disk: so little that bad
/// data costs good data nothing.
const POOL_SHARE: usize = 32;

/// Rows set aside; by default without a limit of memory.
#[derive(Default)]
pub struct Aside {
    memory: Option<Box<dyn Reservation>>,
    held: Vec<RecordBatch>,
    spilled: Option<StreamWriter<BufWriter<File>>>,
    rows: u64,
}

impl Aside {
    /// None yet, for `owner`.
    pub fn of(memory: &dyn Memory, owner: &str) -> Self {
        let share = memory.bytes_max().map_or(usize::MAX, |bytes| bytes / POOL_SHARE);
        Self { memory: Some(Share::of(memory, owner, share)), ..Self::default() }
    }

    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes rows. Errors: `Unavailable` when the disk does not.
    pub fn push(&mut self, rows: RecordBatch) -> Result<()> {
        self.rows += rows.num_rows() as u64;
        let bytes = rows.get_array_memory_size();
        self.held.push(rows);
        let Some(memory) = &mut self.memory else { return Ok(()) };
        if memory.resize(memory.bytes() + bytes).is_err() {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        for rows in std::mem::take(&mut self.held) {
            let file = match &mut self.spilled {
                Some(file) => file,
                none => {
                    let file = BufWriter::new(tempfile::tempfile().map_err(disk)?);
                    none.insert(StreamWriter::try_new(file, &rows.schema())?)
                }
            };
            file.write(&rows)?;
        }
        if let Some(memory) = &mut self.memory {
            memory.resize(0)?;
        }
        Ok(())
    }

    /// All batches.
    pub fn batches(self) -> Result<impl Iterator<Item = Result<RecordBatch>> + Send> {
        let Self { memory, held, spilled, .. } = self;
        let spilled = spilled.map(|file| -> Result<_> {
            let mut file = file.into_inner()?.into_inner().map_err(|e| disk(e.into_error()))?;
            file.rewind().map_err(disk)?;
            Ok(StreamReader::try_new(BufReader::new(file), None)?)
        });
        let spilled = spilled.transpose()?.into_iter().flatten().map(|rows| Ok(rows?));
        // What is held is given back when the last of it was.
        Ok(spilled.chain(held.into_iter().map(move |rows| {
            let _held = &memory;
            Ok(rows)
        })))
    }
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spilled = self.spilled.is_some();
        f.debug_struct("Aside").field("rows", &self.rows).field("spilled", &spilled).finish()
    }
}

fn disk(error: std::io::Error) -> Error {
    Error::unavailable("rows that are set aside cannot be kept in a temporary file")
        .because(error)
        .hint("make room in the folder for temporary files, or name another with TMPDIR")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use sluice_core::testing::Pool;

    use super::*;

    #[test]
    fn rows_come_back_in_order_whatever_the_memory() {
        for pool in [0, 32 * 1024, 1 << 30] {
            let mut aside = Aside::of(&Pool::of(pool), "test");
            for first in (0..1000).step_by(10) {
                let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + 10));
                aside.push(RecordBatch::try_from_iter([("n", numbers)]).unwrap()).unwrap();
            }
            assert_eq!(aside.rows(), 1000);
            assert_eq!(aside.spilled.is_some(), pool < 1 << 30, "{pool}");
            let batches: Vec<RecordBatch> = aside.batches().unwrap().map(|b| b.unwrap()).collect();
            let found =
                batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values());
            assert!(found.copied().eq(0..1000), "{pool}");
        }
    }
}
