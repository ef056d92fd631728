//! Compaction: many small files of one partition become few large ones with the same rows.

use std::collections::BTreeMap;

use futures::future::{FutureExt, TryFutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};

use sluice_core::{Error, Result};

use crate::manifest::DataFile;
use crate::parquet::{Layout, PartitionedWriter, Read, read_file};
use crate::table::Prepared;

/// Files opened before their turn: enough to hide a store's latency; a small one is read whole then,
/// of others the footer.
const OPEN_AHEAD: usize = 8;

/// When files are worth rewriting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactOptions {
    /// The size wanted; files below half of it are small. Default 128 MiB.
    pub target_bytes: u64,
    /// Small files a partition must have before it is touched; default 8, so that each byte is
    /// rewritten a few times in its life and not at every epoch.
    pub files_min: usize,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { target_bytes: 128 * 1024 * 1024, files_min: 8 }
    }
}

/// Files of one partition that become one.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The partition.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// At least two files, sorted by path.
    pub files: Vec<DataFile>,
}

/// Which of a table's files to rewrite together: first-fit decreasing into bins of the wanted
/// size, per partition. No file is in two groups.
pub fn plan_compaction(files: &[DataFile], options: CompactOptions) -> Vec<Group> {
    let mut partitions: BTreeMap<&BTreeMap<String, Option<String>>, Vec<&DataFile>> =
        BTreeMap::new();
    for file in files.iter().filter(|f| f.bytes < options.target_bytes / 2) {
        partitions.entry(&file.partition_values).or_default().push(file);
    }
    let mut groups = Vec::new();
    for (values, mut small) in partitions {
        if small.len() < options.files_min.max(2) {
            continue;
        }
        small.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
        for bin in pack(&small, options.target_bytes) {
            let mut files: Vec<DataFile> = bin.into_iter().cloned().collect();
            files.sort_by(|a, b| a.path.cmp(&b.path));
            groups.push(Group { partition_values: values.clone(), files });
        }
    }
    groups
}

/// Writes the files that replace the group's. An error of kind `Data` when the rows written are
/// not as many as the log says.
pub async fn compact(
    layout: &Layout,
    group: &Group,
    mut writer: PartitionedWriter,
) -> Result<Prepared> {
    let mut read = 0;
    let opened = group.files.iter().map(|file| {
        read_file(layout, file, Read::default()).map_ok(move |batches| (file, batches)).boxed()
    });
    let mut opened = stream::iter(opened.collect::<Vec<_>>()).buffered(OPEN_AHEAD);
    while let Some((file, mut batches)) = opened.try_next().await? {
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows() as u64;
            writer.write(&batch).await?;
        }
        if file.stats.is_some() && rows != file.rows {
            let (path, logged) = (&file.path, file.rows);
            return Err(Error::data(format!(
                "a data file has other rows than the log says path={path} rows={rows} log={logged}"
            ))
            .hint("`sluice audit` shows what else is wrong; rebuild the table with --rebuild"));
        }
        read += rows;
    }
    let adds = writer.finish().await?;
    let written: u64 = adds.iter().map(|f| f.rows).sum();
    if written != read {
        return Err(Error::bug(format!("compaction lost rows read={read} written={written}")));
    }
    Ok(Prepared { adds, removes: group.files.clone() })
}

/// Bins of at least two files, each at most `target` bytes; `files` is sorted by size, large first.
fn pack<'a>(files: &[&'a DataFile], target: u64) -> Vec<Vec<&'a DataFile>> {
    let mut bins: Vec<(u64, Vec<&DataFile>)> = Vec::new();
    for file in files {
        match bins.iter_mut().find(|(bytes, _)| bytes + file.bytes <= target) {
            Some((bytes, bin)) => {
                *bytes += file.bytes;
                bin.push(file);
            }
            None => bins.push((file.bytes, vec![file])),
        }
    }
    bins.into_iter().map(|(_, bin)| bin).filter(|bin| bin.len() > 1).collect()
}
