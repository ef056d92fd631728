//! The rows of one place as a source: how far they were taken is an offset like any other.
//!
//! In: the files of a `__rejected` or `__quarantine` table, and the offsets of the last replay. Out:
//! one intake with all rows that came since. The partition is the table by its id, so that a table
//! that was made anew is read from its beginning; the offset is an epoch of the job: every row says
//! in which it came.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use sluice_core::{
    Advance, Held, Intake, Limit, Offset, Offsets, Reader, Result, Source, Split, Start,
};
use sluice_lake::manifest::DataFile;
use sluice_lake::parquet::Layout;

use super::reader::{Stored, Where};

/// What there is to be taken.
pub(super) struct Places {
    /// The table's id.
    pub table: String,
    /// Its files.
    pub files: Vec<DataFile>,
    /// Epochs before this one are passed over.
    pub since: Option<u64>,
    /// The last epoch that rows can be of.
    pub stamp: u64,
}

/// Rows that are taken again, once.
#[derive(Debug)]
pub(super) struct Replay {
    partition: String,
    from: u64,
    to: u64,
    files: Vec<(usize, DataFile)>,
    reader: Arc<Stored>,
}

impl Replay {
    pub fn new(
        places: Places,
        layout: Layout,
        rows: Where,
        offsets: &Offsets,
    ) -> (Self, Arc<Stored>) {
        let from = offsets.get(&places.table).and_then(Offset::at).unwrap_or(0);
        let to = places.stamp + 1;
        let epochs = from.max(places.since.unwrap_or(0))..to;
        let column = rows.epoch_column();
        let may_have = |file: &DataFile| match range(file, column) {
            Some((least, largest)) => least < epochs.end && largest >= epochs.start,
            None => true,
        };
        let files = places.files.iter().cloned().enumerate().filter(|(_, f)| may_have(f)).collect();
        let reader = Arc::new(Stored::new(layout, places.files, rows, epochs.clone()));
        let counts = reader.clone();
        (Self { partition: places.table, from, to, files, reader }, counts)
    }
}

/// The least and the largest epoch of a file's rows, where its statistics tell.
fn range(file: &DataFile, column: &str) -> Option<(u64, u64)> {
    let stats: Value = serde_json::from_str(file.stats.as_deref()?).ok()?;
    let of = |bound: &str| stats.get(bound)?.get(column)?.as_u64();
    Some((of("minValues")?, of("maxValues")?))
}

#[async_trait]
impl Source for Replay {
    async fn seek(&mut self, _start: Start) -> Result<()> {
        Ok(())
    }

    async fn poll(&mut self, _limit: Limit) -> Result<Intake> {
        let files = std::mem::take(&mut self.files);
        if files.is_empty() || self.from >= self.to {
            return Ok(Intake::default());
        }
        let split = |(ordinal, (index, file)): (u32, (usize, DataFile))| Split {
            ordinal,
            object: file.path,
            range: (0, file.rows),
            rows: file.rows,
            bytes: file.bytes,
            detail: Value::from(index),
            held: Held::default(),
        };
        let (from, to) = (Offset::At(self.from), Offset::At(self.to));
        self.from = self.to;
        Ok(Intake {
            advances: vec![Advance { partition: self.partition.clone(), from, to }],
            splits: (0..).zip(files).map(split).collect(),
            ..Intake::default()
        })
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.reader.clone()
    }

    async fn acknowledge(&mut self, _offsets: &Offsets) -> Result<()> {
        Ok(())
    }
}
