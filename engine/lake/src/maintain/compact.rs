//! Compaction: many small files of one partition become few large ones with the same rows.
//!
//! In: a table's files and a budget. Out: groups of files, and for each the file that replaces it.
//! What is rewritten in which order depends on the files alone. Sorting is in `zorder`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use futures::future::{FutureExt, TryFutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};

use sluice_core::{Error, Result};

use crate::manifest::DataFile;
use crate::parquet::{Layout, PartitionedWriter, Read, read_file};
use crate::table::Prepared;

/// Files of one tier are at most this many times as large as each other. Joined with their likes
/// alone, bytes are rewritten once per tier: a table that grows by a small file per epoch would
/// otherwise rewrite its newest large file every few epochs.
const TIER_FACTOR: u64 = 8;

/// Files smaller than this are of the lowest tier: what a file costs is not its bytes any more.
const TIER_BYTES_MIN: u64 = 4 * 1024;

/// Files opened before their turn: enough to hide a store's latency; a small one is read whole then,
/// of others the footer.
const OPEN_AHEAD: usize = 8;

/// When files are worth rewriting, and how many at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactOptions {
    /// The size wanted; files below half of it are small. Default 128 MiB.
    pub target_bytes: u64,
    /// Small files of about one size that a partition must have before it is touched; default 8, so
    /// that each byte is rewritten a few times in its life and not at every epoch. With two or less
    /// all small files are joined, whatever their sizes.
    pub files_min: usize,
    /// Bytes of files that one round reads at most.
    pub round_bytes: u64,
    /// Files that one round reads at most: each is a request or two.
    pub round_files: usize,
    /// Unsorted bytes a partition must have before they are sorted; default 0. Few files are hardly
    /// narrower for being sorted among themselves.
    pub sort_bytes_min: u64,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self {
            target_bytes: 128 * 1024 * 1024,
            files_min: 8,
            round_bytes: u64::MAX,
            round_files: usize::MAX,
            sort_bytes_min: 0,
        }
    }
}

impl CompactOptions {
    /// Whether a file is worth joining with others.
    pub fn is_small(&self, file: &DataFile) -> bool {
        file.bytes < self.target_bytes / 2
    }
}

/// Files of one partition that are rewritten together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The partition.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Oldest first.
    pub files: Vec<DataFile>,
}

impl Group {
    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// Rows of its files; none when the log does not know them all.
    pub fn rows(&self) -> Option<u64> {
        self.files.iter().map(|f| f.stats.as_ref().map(|_| f.rows)).sum()
    }
}

/// Which of a table's files one round rewrites, each group into one file of about the wanted size.
/// No file is in two groups; those groups come first that rid the table of most files.
///
/// Files are joined in the order of their age, so that what came together stays together and
/// bounds of times and serial numbers stay narrow. Any two small files fit into one: when there is
/// no group for `files_min` of two, no partition has more than one small file.
pub fn plan_compaction(files: &[DataFile], options: CompactOptions) -> Vec<Group> {
    let mut groups = Vec::new();
    for (values, small) in partitions(files.iter().filter(|f| options.is_small(f))) {
        for mut alike in tiers(small, options) {
            if alike.len() < options.files_min.max(2) {
                continue;
            }
            alike.sort_by(|a, b| age(a).cmp(&age(b)));
            let bins = bins(&alike, options).into_iter().filter(|bin| bin.len() > 1);
            groups.extend(bins.map(|bin| Group {
                partition_values: values.clone(),
                files: bin.into_iter().cloned().collect(),
            }));
        }
    }
    // Stable: groups of as many files stay in the order of partitions and age.
    groups.sort_by_key(|group: &Group| Reverse(group.files.len()));
    within_budget(groups, options)
}

/// Files of about one size together; all together where somebody wants as few as can be.
fn tiers(files: Vec<&DataFile>, options: CompactOptions) -> Vec<Vec<&DataFile>> {
    if options.files_min <= 2 {
        return vec![files];
    }
    let mut tiers: BTreeMap<u32, Vec<&DataFile>> = BTreeMap::new();
    for file in files {
        let times = (file.bytes / TIER_BYTES_MIN).max(1);
        tiers.entry(times.ilog(TIER_FACTOR)).or_default().push(file);
    }
    tiers.into_values().collect()
}

/// Files by partition.
pub(super) fn partitions<'a>(
    files: impl Iterator<Item = &'a DataFile>,
) -> BTreeMap<&'a BTreeMap<String, Option<String>>, Vec<&'a DataFile>> {
    let mut partitions: BTreeMap<_, Vec<&DataFile>> = BTreeMap::new();
    for file in files {
        partitions.entry(&file.partition_values).or_default().push(file);
    }
    partitions
}

/// What files are ordered by: oldest first, and alike whoever asks.
pub(super) fn age(file: &DataFile) -> (i64, &str) {
    (file.modified_ms, &file.path)
}

/// The groups that one round's budget allows, in their order; one that is too large is passed over.
pub(super) fn within_budget(groups: Vec<Group>, options: CompactOptions) -> Vec<Group> {
    let (mut bytes, mut files) = (options.round_bytes, options.round_files);
    let mut affordable = |group: &Group| {
        let (read, opened) = (group.bytes(), group.files.len());
        if read > bytes || opened > files {
            return false;
        }
        bytes -= read;
        files -= opened;
        true
    };
    groups.into_iter().filter(|group| affordable(group)).collect()
}

/// Neighbours together, up to the wanted size or a round's whole budget, whichever is less.
fn bins<'a>(files: &[&'a DataFile], options: CompactOptions) -> Vec<Vec<&'a DataFile>> {
    let bytes_max = options.target_bytes.min(options.round_bytes);
    let mut bins: Vec<(u64, Vec<&DataFile>)> = Vec::new();
    for file in files {
        match bins.last_mut() {
            Some((bytes, bin))
                if *bytes + file.bytes <= bytes_max && bin.len() < options.round_files =>
            {
                *bytes += file.bytes;
                bin.push(file);
            }
            _ => bins.push((file.bytes, vec![file])),
        }
    }
    bins.into_iter().map(|(_, bin)| bin).collect()
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
        check_rows(file, rows)?;
        read += rows;
    }
    replaced(group, read, writer.finish().await?)
}

/// An error of kind `Data` when a file has other rows than the log says.
pub(super) fn check_rows(file: &DataFile, rows: u64) -> Result<()> {
    if file.stats.is_none() || rows == file.rows {
        return Ok(());
    }
    let (path, logged) = (&file.path, file.rows);
    Err(Error::data(format!(
        "a data file has other rows than the log says path={path} rows={rows} log={logged}"
    ))
    .hint("`sluice audit` shows what else is wrong; rebuild the table with --rebuild"))
}

/// The group's files replaced by `adds`; a bug when rows were lost on the way.
pub fn replaced(group: &Group, read: u64, adds: Vec<DataFile>) -> Result<Prepared> {
    let written: u64 = adds.iter().map(|f| f.rows).sum();
    if written != read {
        return Err(Error::bug(format!("compaction lost rows read={read} written={written}")));
    }
    Ok(Prepared { adds, removes: group.files.clone() })
}
