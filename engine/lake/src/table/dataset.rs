//! Parquet datasets: staged files copied to final names, and the files a reader may see.
//!
//! Final names carry incarnation and epoch, so a reader takes what is published up to an epoch of
//! one life of the job, and ignores everything else in the folder. Staged files are deleted by
//! clean-up, not here.

use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;

use sluice_core::{Error, Result, Step, reach};

use crate::manifest::{Copy, DataFile, FilesAction};
use crate::parquet::values_of_path;
use crate::store::{Copied, Location, Store};

/// Copies at once: each is one request, or one hard link.
const COPIES_AT_ONCE: usize = 8;

/// Characters of the incarnation in a file name: enough that two lives never share them.
const INCARNATION_CHARS: usize = 8;

/// Digits of the epoch in a file name, so that names sort as numbers.
const EPOCH_DIGITS: usize = 20;

/// Which files of a dataset to see.
#[derive(Debug, Clone, Copy)]
pub struct Dataset<'a> {
    /// The incarnation, whole or its first eight characters.
    pub incarnation: &'a str,
    /// The last epoch whose files count.
    pub epoch: u64,
    /// Partition columns, outermost folder first.
    pub partition_by: &'a [String],
}

/// The beginning of the final names of one epoch: `part-<incarnation>-<epoch>`.
pub fn dataset_prefix(incarnation: &str, epoch: u64) -> String {
    format!("part-{}-{epoch:020}", short(incarnation))
}

/// Gives the staged files of `epoch` their final names. Idempotent: a staged file that is gone was
/// published before, which is checked. Errors: `Conflict` when neither is there.
pub async fn publish_files(
    store: &Store,
    action: &FilesAction,
    epoch: u64,
    incarnation: &str,
) -> Result<()> {
    stream::iter(action.copies.clone())
        .map(|copy| async move {
            publish(store, &copy).await?;
            reach(Step::FileCopied, epoch);
            Ok::<(), Error>(())
        })
        .buffer_unordered(COPIES_AT_ONCE)
        .try_collect::<()>()
        .await?;
    if action.clear {
        clear(store, &path(&action.location)?, incarnation).await?;
    }
    Ok(())
}

/// The files that some life of a job published below a folder.
pub async fn published_files(location: &Location) -> Result<Vec<Path>> {
    let listed = location.store.list(&location.path).await?;
    let files = listed.into_iter().map(|meta| meta.location);
    Ok(files.filter(|path| path.filename().and_then(parse).is_some()).collect())
}

/// Deletes what other lives than `incarnation` published below a folder.
async fn clear(store: &Store, folder: &Path, incarnation: &str) -> Result<()> {
    let location = Location { store: store.clone(), path: folder.clone() };
    for path in published_files(&location).await? {
        let life = path.filename().and_then(parse).map(|(life, _)| life);
        if life != Some(short(incarnation)) {
            store.delete(&path).await?;
        }
    }
    Ok(())
}

/// The life of a job, as the first characters of its incarnation, that a final name is of; none for
/// a file that is not ours.
pub fn life_of(name: &str) -> Option<&str> {
    parse(name).map(|(life, _)| life)
}

/// Incarnation and epoch of a final name; none for a file that is not ours.
fn parse(name: &str) -> Option<(&str, u64)> {
    let (life, rest) = name.strip_prefix("part-")?.split_once('-')?;
    let (epoch, _) = rest.split_once('-')?;
    let ours = life.len() == INCARNATION_CHARS && epoch.len() == EPOCH_DIGITS;
    Some((life, epoch.parse().ok().filter(|_| ours)?))
}

/// The published files of a dataset, sorted by path. Their row counts are not known and given as
/// 0, without statistics. Files whose folders do not match the partition columns are ignored.
pub async fn list_dataset(location: &Location, wanted: Dataset<'_>) -> Result<Vec<DataFile>> {
    let mut files = Vec::new();
    for meta in location.store.list(&location.path).await? {
        let Some(path) = below(location, &meta.location) else { continue };
        let name = path.rsplit('/').next().unwrap_or(&path);
        if !is_visible(name, wanted.incarnation, wanted.epoch) {
            continue;
        }
        let Some(partition_values) = values_of_path(&path, wanted.partition_by) else { continue };
        files.push(DataFile {
            path,
            partition_values,
            bytes: meta.size,
            rows: 0,
            modified_ms: meta.last_modified.timestamp_millis(),
            stats: None,
        });
    }
    Ok(files)
}

async fn publish(store: &Store, copy: &Copy) -> Result<()> {
    let (from, to) = (path(&copy.from)?, path(&copy.to)?);
    match store.copy_new_or_same(&from, &to).await? {
        Copied::Done => Ok(()),
        Copied::SourceGone if store.head(&to).await?.is_some() => Ok(()),
        Copied::SourceGone => Err(Error::conflict(format!(
            "a staged file is gone and was not published path={}",
            store.describe(&to)
        ))
        .hint("something other than sluice deleted it; make the table again with --rebuild")),
    }
}

fn path(text: &str) -> Result<Path> {
    Path::parse(text)
        .map_err(|e| Error::data(format!("not a path of a store path={text:?}")).because(e))
}

/// The path relative to `location`.
fn below(location: &Location, object: &Path) -> Option<String> {
    let root = location.path.as_ref();
    if root.is_empty() {
        return Some(object.to_string());
    }
    object.as_ref().strip_prefix(root)?.strip_prefix('/').map(str::to_string)
}

fn is_visible(name: &str, incarnation: &str, last: u64) -> bool {
    let ours = |(life, epoch): (&str, u64)| life == short(incarnation) && epoch <= last;
    name.ends_with(".parquet") && parse(name).is_some_and(ours)
}

fn short(incarnation: &str) -> &str {
    incarnation.get(..INCARNATION_CHARS).unwrap_or(incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_published_files_of_this_life_count() {
        let name = |incarnation, epoch| format!("{}-0.parquet", dataset_prefix(incarnation, epoch));
        let ours = "0123456789ab";
        assert!(is_visible(&name(ours, 7), ours, 7));
        assert!(is_visible(&name(ours, 0), &ours[..8], 7));
        assert!(!is_visible(&name(ours, 8), ours, 7));
        assert!(!is_visible(&name("9123456789ab", 7), ours, 7));
        for other in ["x.parquet", "part-01234567-7-0.parquet", "part-01234567-1-0.csv", ""] {
            assert!(!is_visible(other, ours, 7), "{other}");
        }
    }

    #[tokio::test]
    async fn a_new_life_deletes_the_files_of_others_and_nothing_else() {
        let lake = crate::store::open("memory://dataset-clear/lake", &Default::default()).unwrap();
        let keep = ["x.csv", "a=1/part-1.parquet", "part-01234567-00000000000000000002-0.csv"];
        let gone = [
            "part-89abcdef-00000000000000000007-0.csv",
            "a=1/part-89abcdef-00000000000000000001-0.parquet",
        ];
        for name in keep.iter().chain(&gone) {
            lake.store.put(&lake.join(name).unwrap().path, "x".into()).await.unwrap();
        }
        assert_eq!(published_files(&lake).await.unwrap().len(), 3);
        let action = FilesAction { location: lake.path.to_string(), ..FilesAction::default() };
        publish_files(&lake.store, &action, 9, "0123456789ab").await.unwrap();
        assert_eq!(lake.store.list(&lake.path).await.unwrap().len(), 5, "nothing asked for it");
        let action = FilesAction { clear: true, ..action };
        publish_files(&lake.store, &action, 9, "0123456789ab").await.unwrap();
        let left = lake.store.list(&lake.path).await.unwrap();
        assert_eq!(left.len(), keep.len());
        assert!(!left.iter().any(|meta| meta.location.as_ref().contains("89abcdef")));
    }
}
