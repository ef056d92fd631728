//! Listing folders of the local disk, with one look at each file.
//!
//! In: a folder. Out: what is in it, or below it, as the inner store lists it: links are followed,
//! what goes away meanwhile is passed over, and names of unfinished writes (`a#1`) are hidden. The
//! inner store asks the disk four times for each file and takes its path apart as a URL, which is
//! most of what a run over very many files that were taken already costs.

use std::fs::{self, DirEntry, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use object_store::path::Path;
use object_store::{ListResult, ObjectMeta, Result};

use super::local::failed;

/// All files below `folder`, whose path on the store is `at`.
pub(super) fn below(folder: PathBuf, at: &Path) -> Result<Vec<ObjectMeta>> {
    let mut found = Vec::new();
    let mut open: Vec<Folder> = Folder::open(folder, at)?.into_iter().collect();
    while let Some(folder) = open.pop() {
        let level = folder.look()?;
        found.extend(level.files);
        if level.folders.is_empty() {
            continue;
        }
        let mut above = folder.above;
        above.extend(fs::metadata(&folder.path).map(|meta| id(&meta)));
        for Inner { name, linked } in level.folders {
            let path = folder.path.join(&name);
            if linked.is_some_and(|linked| above.contains(&linked)) {
                let message = format!("a link leads back above itself path={}", path.display());
                return Err(failed(io::Error::other(message)));
            }
            open.push(Folder { path, at: join(&folder.at, &name), above: above.clone() });
        }
    }
    Ok(found)
}

/// What lies directly in `folder`, whose path on the store is `at`.
pub(super) fn within(folder: PathBuf, at: &Path) -> Result<ListResult> {
    let Some(folder) = Folder::open(folder, at)? else {
        return Ok(ListResult { common_prefixes: Vec::new(), objects: Vec::new() });
    };
    let level = folder.look()?;
    let folders = level.folders.iter().map(|inner| Path::parse(join(&folder.at, &inner.name)));
    let mut common_prefixes = folders.collect::<std::result::Result<Vec<Path>, _>>()?;
    common_prefixes.sort();
    Ok(ListResult { common_prefixes, objects: level.files })
}

/// A folder that is to be looked into.
struct Folder {
    path: PathBuf,
    /// Its path on the store.
    at: String,
    /// Those it lies in.
    above: Vec<Id>,
}

/// Device and number of a folder.
type Id = (u64, u64);

/// What one folder holds.
#[derive(Default)]
struct Level {
    files: Vec<ObjectMeta>,
    folders: Vec<Inner>,
}

/// A folder in a folder.
struct Inner {
    name: String,
    /// What a link leads to; none where there is no link.
    linked: Option<Id>,
}

impl Folder {
    /// The folder at `path`; none where there is none.
    fn open(path: PathBuf, at: &Path) -> Result<Option<Self>> {
        let folder = Self { path, at: at.to_string(), above: Vec::new() };
        let meta = there(fs::metadata(&folder.path)).map_err(|e| folder.failed(e))?;
        Ok(meta.is_some_and(|meta| meta.is_dir()).then_some(folder))
    }

    fn look(&self) -> Result<Level> {
        let mut level = Level::default();
        let Some(entries) = there(fs::read_dir(&self.path)).map_err(|e| self.failed(e))? else {
            return Ok(level);
        };
        for entry in entries {
            let Some(entry) = there(entry).map_err(|e| self.failed(e))? else { continue };
            self.add(&entry, &mut level)?;
        }
        Ok(level)
    }

    fn add(&self, entry: &DirEntry, level: &mut Level) -> Result<()> {
        let Some(kind) = there(entry.file_type()).map_err(|e| self.failed(e))? else {
            return Ok(());
        };
        let name = entry.file_name().into_string().map_err(|name| {
            let message = format!("a name is not in UTF-8 name={}", name.display());
            self.failed(io::Error::new(ErrorKind::InvalidData, message))
        })?;
        if kind.is_dir() {
            level.folders.push(Inner { name, linked: None });
            return Ok(());
        }
        // A link that leads nowhere is nothing.
        let meta = match kind.is_symlink() {
            true => fs::metadata(entry.path()).ok(),
            false => there(entry.metadata()).map_err(|e| self.failed(e))?,
        };
        match meta {
            Some(meta) if meta.is_dir() => {
                level.folders.push(Inner { name, linked: Some(id(&meta)) });
            }
            Some(meta) if meta.is_file() && !is_unfinished(&name) => {
                level.files.push(object(Path::parse(join(&self.at, &name))?, &meta)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> object_store::Error {
        let message = format!("cannot list folder={}: {error}", self.path.display());
        failed(io::Error::new(error.kind(), message))
    }
}

/// What was asked for; none where it is not there, or no more.
fn there<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_string() } else { format!("{at}/{name}") }
}

fn id(meta: &Metadata) -> Id {
    (meta.dev(), meta.ino())
}

/// Whether a name is one that writes use before they are done, see [`super::local`].
fn is_unfinished(name: &str) -> bool {
    let suffix = name.split_once('#').map(|(_, suffix)| suffix);
    suffix.is_some_and(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()))
}

/// What the inner store would say of a file: its etag has to be the one that reading gives.
fn object(location: Path, meta: &Metadata) -> Result<ObjectMeta> {
    let (inode, size) = (meta.ino(), meta.len());
    let modified = meta.modified().map_err(failed)?;
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    let e_tag = Some(format!("{inode:x}-{since:x}-{size:x}"));
    Ok(ObjectMeta { location, last_modified: modified.into(), size, e_tag, version: None })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use futures::TryStreamExt;
    use object_store::ObjectStore;
    use object_store::local::LocalFileSystem;

    use super::*;

    fn sorted(mut found: Vec<ObjectMeta>) -> Vec<ObjectMeta> {
        found.sort_by(|a, b| a.location.cmp(&b.location));
        found
    }

    #[tokio::test]
    async fn it_lists_what_the_inner_store_lists() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for inner in ["b/empty", "b/e f/g", "other"] {
            fs::create_dir_all(root.join(inner)).unwrap();
        }
        let files =
            ["a.csv", "b/c d.csv", "b/ü%20#.csv", "b/x#1", "b/x#y", "b/e f/g/.h", "other/o"];
        for (i, file) in files.iter().enumerate() {
            fs::write(root.join(file), "x".repeat(i)).unwrap();
        }
        symlink(root.join("a.csv"), root.join("b/link.csv")).unwrap();
        symlink(root.join("nowhere"), root.join("b/dangling.csv")).unwrap();
        symlink(root.join("other"), root.join("b/linked")).unwrap();
        let _socket = UnixListener::bind(root.join("b/socket")).unwrap();

        let inner = LocalFileSystem::new();
        for place in ["", "b", "b/e f", "b/linked", "a.csv", "nowhere"] {
            let path = root.join(place);
            let at = Path::from_absolute_path(&path).unwrap();
            let wanted = inner.list(Some(&at)).try_collect().await.unwrap();
            let found = below(path.clone(), &at).unwrap();
            assert_eq!(sorted(found), sorted(wanted), "{place:?}");
            let mut wanted = inner.list_with_delimiter(Some(&at)).await.unwrap();
            // A socket is no file, whoever asks.
            wanted.objects.retain(|object| object.location.filename() != Some("socket"));
            let found = within(path, &at).unwrap();
            assert_eq!(found.common_prefixes, wanted.common_prefixes, "{place:?}");
            assert_eq!(sorted(found.objects), sorted(wanted.objects), "{place:?}");
        }
        let all = below(root.clone(), &Path::from_absolute_path(&root).unwrap()).unwrap();
        assert_eq!(all.len(), 8);

        symlink(root.join("b"), root.join("b/e f/circle")).unwrap();
        let at = Path::from_absolute_path(&root).unwrap();
        assert!(inner.list(Some(&at)).try_collect::<Vec<_>>().await.is_err());
        assert!(below(root, &at).is_err());
    }
}
