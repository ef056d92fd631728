//! Writes a Delta checkpoint, so that clients need not read the whole log.
//!
//! The delta-rs library does it; it costs as much as the table has files, so it is called between
//! epochs and never by the committer. Entries of the log are never deleted here.

use deltalake::DeltaTable;
use deltalake::logstore::{StorageConfig, logstore_with};
use deltalake::protocol::checkpoints::create_checkpoint;
use url::Url;

use sluice_core::{Error, Result};

use crate::store::{Location, Scheme};

/// Writes a checkpoint of the newest version and gives that version. Idempotent.
pub async fn checkpoint(location: &Location) -> Result<i64> {
    let failed = |e| {
        let table = location.describe();
        Error::unavailable(format!("cannot write a delta checkpoint table={table}")).because(e)
    };
    let mut table = library_table(location)?;
    table.load().await.map_err(failed)?;
    create_checkpoint(&table, None).await.map_err(failed)?;
    let version = table.version().and_then(|v| i64::try_from(v).ok());
    version.ok_or_else(|| Error::bug("a loaded table has no version"))
}

/// The library's view of the table, not loaded.
pub(super) fn library_table(location: &Location) -> Result<DeltaTable> {
    let store = location.store.object_store();
    let log = logstore_with(store, &path_url(location)?, StorageConfig::default());
    let log = log.map_err(|e| Error::bug("the delta library refuses our URL").because(e))?;
    Ok(DeltaTable::new(log))
}

/// A URL with the location's path. The library only takes the path from it and whether listings
/// are sorted, which those of local disk (`file`) are not; requests go through our own store.
fn path_url(location: &Location) -> Result<Url> {
    let root = match location.store.scheme() {
        Scheme::Local => "file:///",
        _ => "memory:///",
    };
    let bug = || Error::bug("a constant URL does not parse");
    let mut url = Url::parse(root).map_err(|e| bug().because(e))?;
    url.path_segments_mut()
        .map_err(|()| bug())?
        .pop_if_empty()
        .extend(location.path.parts().map(|part| part.as_ref().to_string()));
    Ok(url)
}
