//! Copy-on-write: the rows of some files without those of given keys, plus new rows, as new files.

use arrow::array::RecordBatch;
use arrow::compute::{filter_record_batch, not};
use futures::stream::TryStreamExt;

use sluice_core::Result;

use super::Prepared;
use super::keys::KeySet;
use crate::manifest::DataFile;
use crate::parquet::{Layout, PartitionedWriter, Read, read_file};

/// What to take out of which files and what to put in.
#[derive(Debug, Clone, Copy)]
pub struct Rewrite<'a> {
    /// The files that hold rows with the keys; others are not looked at.
    pub matched: &'a [DataFile],
    /// Key columns.
    pub keys: &'a [String],
    /// Rows with those columns; every row of `matched` with one of these keys goes.
    pub key_rows: &'a RecordBatch,
    /// Rows that come in.
    pub new_rows: &'a [RecordBatch],
}

/// Writes the files that replace `matched`. One pass over each, a batch at a time.
pub async fn rewrite(
    layout: &Layout,
    change: Rewrite<'_>,
    mut writer: PartitionedWriter,
) -> Result<Prepared> {
    if !change.matched.is_empty() {
        let set = KeySet::new(&layout.schema, change.keys, change.key_rows)?;
        for file in change.matched {
            let mut batches = read_file(layout, file, Read::default()).await?;
            while let Some(batch) = batches.try_next().await? {
                let kept = filter_record_batch(&batch, &not(&set.contains(&batch)?)?)?;
                writer.write(&kept).await?;
            }
        }
    }
    for rows in change.new_rows {
        writer.write(rows).await?;
    }
    Ok(Prepared { adds: writer.finish().await?, removes: change.matched.to_vec() })
}
