//! Local disk, durable: what was written stays written after a power cut.
//!
//! `object_store`'s own `LocalFileSystem` never syncs. Here a whole object is written beside its
//! name, synced, linked or renamed into place, and its folders are synced up to the first one
//! known to be durable. Listing is [`super::walk`]'s, reading and deleting are the inner store's.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart,
};
use parking_lot::Mutex;

use super::{fault::io_kind, walk};

/// Folders remembered as durable. A dataset with more partitions than this syncs some parents
/// twice, which is slow but right.
const DURABLE_FOLDERS_MAX: usize = 16_384;

/// Put into the extensions of a write that may be lost in a power cut, such as a hint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fleeting;

/// `LocalFileSystem` with fsync.
#[derive(Debug, Clone)]
pub(super) struct DurableDisk {
    inner: LocalFileSystem,
    folders: Arc<Folders>,
}

impl DurableDisk {
    /// The whole local disk; `fsync: false` makes it as fast and as fragile as the inner store.
    pub(super) fn new(fsync: bool) -> Self {
        let folders = Folders { fsync, durable: Mutex::new(HashSet::new()) };
        Self { inner: LocalFileSystem::new(), folders: Arc::new(folders) }
    }

    async fn sync(&self, location: &Path) -> Result<()> {
        let path = self.inner.path_to_filesystem(location)?;
        let folders = self.folders.clone();
        blocking(move || folders.sync(&path).map_err(failed)).await
    }
}

impl std::fmt::Display for DurableDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DurableDisk({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for DurableDisk {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if matches!(opts.mode, PutMode::Update(_)) || !opts.attributes.is_empty() {
            return self.inner.put_opts(location, payload, opts).await;
        }
        let path = self.inner.path_to_filesystem(location)?;
        let folders = match opts.extensions.get::<Fleeting>() {
            Some(_) => Arc::new(Folders::fleeting()),
            None => self.folders.clone(),
        };
        let create = opts.mode == PutMode::Create;
        blocking(move || {
            place(&path, create, &folders, |file| {
                payload.iter().try_for_each(|part| file.write_all(part))
            })
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(DurableUpload { inner, disk: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let at = prefix.cloned().unwrap_or_default();
        let listed = blocking(move || walk::below(folder_of(&at), &at));
        let found = stream::once(listed).map_ok(|found| stream::iter(found.into_iter().map(Ok)));
        found.try_flatten().boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let at = prefix.cloned().unwrap_or_default();
        blocking(move || walk::within(folder_of(&at), &at)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let create = options.mode == CopyMode::Create;
        match self.inner.copy_opts(from, to, options).await {
            Err(e) if io_kind(&e) == Some(ErrorKind::CrossesDevices) => {}
            Err(e) => return Err(e),
            Ok(()) => return self.sync(to).await,
        }
        // Another mount: no link can reach it, so the bytes are copied.
        let (from, to) = (self.inner.path_to_filesystem(from)?, self.inner.path_to_filesystem(to)?);
        let folders = self.folders.clone();
        blocking(move || {
            let mut source = File::open(&from).map_err(failed)?;
            place(&to, create, &folders, |file| io::copy(&mut source, file).map(|_| ()))
        })
        .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.sync(to).await?;
        let old = self.inner.path_to_filesystem(from)?;
        let folders = self.folders.clone();
        blocking(move || folders.sync_above(&old).map_err(failed)).await
    }
}

/// A multipart upload whose file is synced when it is complete.
#[derive(Debug)]
struct DurableUpload {
    inner: Box<dyn MultipartUpload>,
    disk: DurableDisk,
    location: Path,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        self.disk.sync(&self.location).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

/// Makes an existing file and its folders durable, whoever wrote it.
pub(super) async fn settle(path: PathBuf) -> Result<()> {
    let folders = Folders { fsync: true, durable: Mutex::new(HashSet::new()) };
    blocking(move || folders.sync(&path).map_err(failed)).await
}

/// Which folders are known to be durable.
#[derive(Debug)]
struct Folders {
    fsync: bool,
    durable: Mutex<HashSet<PathBuf>>,
}

impl Folders {
    fn fleeting() -> Self {
        Self { fsync: false, durable: Mutex::new(HashSet::new()) }
    }

    /// Syncs a file, then its folders.
    fn sync(&self, path: &FilePath) -> io::Result<()> {
        if !self.fsync {
            return Ok(());
        }
        File::open(path)?.sync_all()?;
        self.sync_above(path)
    }

    /// Syncs the folder that holds `path`, and every folder above that may be new.
    fn sync_above(&self, path: &FilePath) -> io::Result<()> {
        let Some(mut folder) = path.parent().filter(|_| self.fsync) else { return Ok(()) };
        sync_folder(folder)?;
        while !self.durable.lock().contains(folder) {
            let Some(above) = folder.parent() else { break };
            sync_folder(above)?;
            self.remember(folder);
            folder = above;
        }
        Ok(())
    }

    fn remember(&self, folder: &FilePath) {
        let mut durable = self.durable.lock();
        if durable.len() >= DURABLE_FOLDERS_MAX {
            durable.clear();
        }
        durable.insert(folder.to_path_buf());
    }
}

/// Syncs one folder. A folder that may not be opened was not made by us, and a file system that
/// cannot sync folders has no use for it.
fn sync_folder(folder: &FilePath) -> io::Result<()> {
    match File::open(folder).and_then(|f| f.sync_all()) {
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Writes a whole file beside its name, then puts it there at once: by hard link when it must be
/// new, else by rename. A name that is taken is made durable too, since its reader acts on it.
fn place(
    path: &FilePath,
    create: bool,
    folders: &Folders,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<()> {
    let (mut file, staged) = stage(path).map_err(failed)?;
    let filled = write(&mut file).and_then(|()| match folders.fsync {
        true => file.sync_all(),
        false => Ok(()),
    });
    let placed = filled.and_then(|()| match create {
        true => std::fs::hard_link(&staged, path),
        false => std::fs::rename(&staged, path),
    });
    if create || placed.is_err() {
        let _ = std::fs::remove_file(&staged);
    }
    match placed {
        Err(e) if create && e.kind() == ErrorKind::AlreadyExists => {
            folders.sync(path).map_err(failed)?;
            Err(object_store::Error::AlreadyExists {
                path: path.display().to_string(),
                source: e.into(),
            })
        }
        Err(e) => Err(failed(e)),
        Ok(()) => folders.sync_above(path).map_err(failed),
    }
}

/// Opens `<path>#<n>`, a name that the inner store hides from listings, making folders as needed.
fn stage(path: &FilePath) -> io::Result<(File, PathBuf)> {
    let mut n = 1u32;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{n}"));
        let staged = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Ok(file) => return Ok((file, staged)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => n += 1,
            Err(e) if e.kind() == ErrorKind::NotFound => match path.parent() {
                Some(folder) => std::fs::create_dir_all(folder)?,
                None => return Err(e),
            },
            Err(e) => return Err(e),
        }
    }
}

/// The folder at a path of the store, which is the whole disk.
fn folder_of(at: &Path) -> PathBuf {
    PathBuf::from(format!("/{at}"))
}

pub(super) fn failed(error: io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "local disk", source: error.into() }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}
