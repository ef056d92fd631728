//! Finds the rows of a table that have given keys: statistics first, key columns next, whole rows
//! last and only where a key was found.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::concat_batches;
use futures::stream::{self, StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::RowSelection;

use sluice_core::{Error, Result};

use super::keys::KeySet;
use crate::manifest::DataFile;
use crate::parquet::{Layout, Read, read_file};

/// Files searched at once: decoding keeps a core busy, the second hides the store's latency.
const FILES_AT_ONCE: usize = 2;

/// What a lookup found.
#[derive(Debug, Clone)]
pub struct Matches {
    /// Full rows of the table, as they stood, in the order of the files.
    pub rows: RecordBatch,
    /// The files that hold at least one of them.
    pub files: Vec<DataFile>,
}

/// The rows of `files` whose columns `keys` equal a row of `key_rows`; null equals null. All found
/// rows are in memory at once.
pub async fn lookup(
    layout: &Layout,
    files: &[DataFile],
    keys: &[String],
    key_rows: &RecordBatch,
) -> Result<Matches> {
    let set = KeySet::new(&layout.schema, keys, key_rows)?;
    let found = holding(layout, files, &set).await?;
    let rows: Vec<Vec<RecordBatch>> = stream::iter(found.clone())
        .map(|(file, selection)| async move {
            let read = Read { selection: Some(selection), ..Read::default() };
            read_file(layout, &file, read).await?.try_collect().await
        })
        .buffered(FILES_AT_ONCE)
        .try_collect()
        .await?;
    let rows = concat_batches(&layout.schema, rows.iter().flatten())?;
    Ok(Matches { rows, files: found.into_iter().map(|(file, _)| file).collect() })
}

/// The files that hold a key, with the rows that do.
pub(super) async fn holding(
    layout: &Layout,
    files: &[DataFile],
    set: &KeySet,
) -> Result<Vec<(DataFile, RowSelection)>> {
    let mut candidates = Vec::new();
    for file in files {
        if set.may_be_in(file)? {
            candidates.push(file.clone());
        }
    }
    let found: Vec<_> = stream::iter(candidates)
        .map(|file| async move {
            let rows = search(layout, &file, set).await?;
            Ok::<_, Error>((file, rows))
        })
        .buffered(FILES_AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().filter_map(|(file, rows)| Some((file, rows?))).collect())
}

/// The rows of one file with a key of the set; `None` when there are none.
async fn search(layout: &Layout, file: &DataFile, set: &KeySet) -> Result<Option<RowSelection>> {
    let mut batches = read_file(layout, file, Read::columns(&set.names())).await?;
    let mut hits: Vec<BooleanArray> = Vec::new();
    while let Some(batch) = batches.try_next().await? {
        hits.push(set.contains(&batch)?);
    }
    let any = hits.iter().any(|h| h.true_count() > 0);
    Ok(any.then(|| RowSelection::from_filters(&hits)))
}
