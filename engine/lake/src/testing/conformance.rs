//! The promises of [`Store`], checked on any implementation: local, memory, S3, GCS, Azure.

use bytes::Bytes;
use object_store::{MultipartUpload as _, ObjectStoreExt as _};

use sluice_core::{Error, Kind, Result};

use crate::store::{Copied, Create, Location, Scheme, Store, Updated};

/// The least that S3 takes as a part that is not the last.
const PART_BYTES: usize = 5 * 1024 * 1024;

/// Runs the suite in `folder`, which must be empty, and leaves a few objects there.
pub async fn store_conformance(folder: &Location) -> Result<()> {
    folder.store.probe(&folder.path).await?;
    ensure(folder.store.list(&folder.path).await?.is_empty(), "a probe leaves nothing behind")?;
    reads_and_writes(folder).await?;
    conditions(folder).await?;
    listings(folder).await?;
    uploads(folder).await?;
    copies(folder).await
}

/// Objects that are uploaded in parts, as large files are.
async fn uploads(folder: &Location) -> Result<()> {
    let (store, path) = (&folder.store, folder.join("parts/big.bin")?.path);
    let inner = store.object_store();
    let begin = || inner.put_multipart(&path);
    let failed = |e| Error::unavailable("an upload in parts failed").because(e);
    let bytes: Vec<u8> = (0..PART_BYTES * 2 + 1_000).map(|n| (n % 251) as u8).collect();
    let mut upload = begin().await.map_err(failed)?;
    for part in bytes.chunks(PART_BYTES) {
        upload.put_part(Bytes::copy_from_slice(part).into()).await.map_err(failed)?;
    }
    ensure(store.head(&path).await?.is_none(), "nothing is seen of an upload before its end")?;
    upload.complete().await.map_err(failed)?;
    let size = store.head(&path).await?.map(|meta| meta.size);
    ensure(size == Some(bytes.len() as u64), "an upload in parts has all of them")?;
    let border = PART_BYTES - 2..PART_BYTES + 2;
    let range = border.start as u64..border.end as u64;
    let read = store.get_range(&path, range).await?;
    ensure(read[..] == bytes[border], "a range reads over the border of two parts")?;
    ensure(
        store.get(&path).await?.is_some_and(|read| read[..] == bytes[..]),
        "parts keep their order",
    )?;
    store.delete(&path).await?;
    let mut upload = begin().await.map_err(failed)?;
    upload.put_part(text("part").into()).await.map_err(failed)?;
    upload.abort().await.map_err(failed)?;
    ensure(store.head(&path).await?.is_none(), "an upload that is given up leaves nothing")
}

async fn reads_and_writes(folder: &Location) -> Result<()> {
    let (store, path) = (&folder.store, folder.join("rw/a b/object.bin")?.path);
    ensure(store.get(&path).await?.is_none(), "a missing object is none")?;
    ensure(store.head(&path).await?.is_none(), "a missing object has no head")?;
    let gone = store.get_range(&path, 0..1).await.err().map(|e| e.kind());
    ensure(gone == Some(Kind::Conflict), "a range of a missing object is a conflict")?;
    store.delete(&path).await?;
    store.put(&path, text("one")).await?;
    store.put(&path, text("four")).await?;
    ensure(store.get(&path).await? == Some(text("four")), "the last write wins")?;
    ensure(store.get_range(&path, 1..3).await? == text("ou"), "a range is read")?;
    let size = store.head(&path).await?.map(|meta| meta.size);
    ensure(size == Some(4), "the head has the size")?;
    store.delete(&path).await?;
    ensure(store.get(&path).await?.is_none(), "a deleted object is gone")
}

async fn conditions(folder: &Location) -> Result<()> {
    let (store, path) = (&folder.store, folder.join("conditions/object")?.path);
    let first = store.create(&path, text("1")).await?;
    ensure(matches!(first, Create::Done), "the first create succeeds")?;
    let second = store.create(&path, text("2")).await?;
    ensure(matches!(second, Create::Exists), "the second create does not")?;
    let Some(read) = store.get_versioned(&path).await? else {
        return Err(broken("what was created reads back"));
    };
    ensure(read.bytes == text("1"), "the second create changes nothing")?;
    let update = store.update_if(&path, text("three"), read.version.clone()).await?;
    ensure(matches!(update, Updated::Done), "an update of what was read succeeds")?;
    let late = store.update_if(&path, text("4"), read.version.clone()).await?;
    ensure(matches!(late, Updated::Changed), "an update of an old version does not")?;
    ensure(store.get(&path).await? == Some(text("three")), "and changes nothing")?;
    store.delete(&path).await?;
    let gone = store.update_if(&path, text("5"), read.version).await?;
    ensure(matches!(gone, Updated::Changed), "an update of a deleted object does not succeed")
}

async fn listings(folder: &Location) -> Result<()> {
    let root = folder.child("list");
    let names = ["b", "a/2", "a/1", "c=%20x/é"];
    for name in names {
        root.store.put(&root.join(name)?.path, text(name)).await?;
    }
    let whole = listed(&root.store, &root).await?;
    ensure(whole == ["a/1", "a/2", "b", "c=%20x/é"], "a listing is complete and sorted")?;
    let after = root.store.list_after(&root.path, &root.join("a/2")?.path).await?;
    ensure(after.len() == 2, "a listing after an offset leaves out the offset")?;
    let none = root.store.list(&folder.child("nothing").path).await?;
    ensure(none.is_empty(), "a folder that is not there is empty")?;
    let folders = root.store.folders(&root.path).await?;
    ensure(folders == ["a", "c=%20x"], "folders are listed by name")
}

async fn copies(folder: &Location) -> Result<()> {
    let (store, from) = (&folder.store, folder.join("copy/from")?.path);
    let to = folder.join("copy/deep/er/to")?.path;
    store.put(&from, text("copied")).await?;
    for _ in 0..2 {
        ensure(store.copy_new_or_same(&from, &to).await? == Copied::Done, "copies repeat")?;
    }
    ensure(store.get(&to).await? == Some(text("copied")), "the copy has the bytes")?;
    store.delete(&from).await?;
    let gone = store.copy_new_or_same(&from, &to).await?;
    ensure(gone == Copied::SourceGone, "a source that is gone is said to be")?;
    ensure(store.get(&to).await? == Some(text("copied")), "the copy outlives its source")?;
    if store.scheme() == Scheme::Local {
        store.put(&from, text("another file")).await?;
        let other = store.copy_new_or_same(&from, &to).await.err().map(|e| e.kind());
        ensure(other == Some(Kind::Conflict), "another file at the target is a conflict")?;
    }
    Ok(())
}

async fn listed(store: &Store, root: &Location) -> Result<Vec<String>> {
    let found = store.list(&root.path).await?;
    let below = |path: &str| path.trim_start_matches(root.path.as_ref())[1..].to_string();
    Ok(found.iter().map(|meta| below(meta.location.as_ref())).collect())
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn ensure(holds: bool, promise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(broken(promise)) }
}

fn broken(promise: &str) -> Error {
    Error::bug(format!("the store breaks a promise: {promise}"))
}
