//! Tables as the delta-rs library sees them: for checkpoints, and for tables that others wrote.
//!
//! In: a location. Out: the library's table over our own store, so that there is one way to open a
//! store and one place for its credentials. Nothing is read here.

use std::sync::Arc;

use deltalake::DeltaTable;
use deltalake::logstore::{StorageConfig, logstore_with};
use object_store::limit::LimitStore;
use url::Url;

use sluice_core::{Error, Result};

use crate::store::{Location, Scheme};

/// Requests of the library to a store at a time. It reads a log with a hundred at once, and on local
/// disk each of them is a thread that stays, with what the allocator keeps for it.
const REQUESTS_AT_ONCE: usize = 8;

/// The library's view of the table, not loaded.
pub fn library_table(location: &Location) -> Result<DeltaTable> {
    let store = Arc::new(LimitStore::new(location.store.object_store(), REQUESTS_AT_ONCE));
    let log = logstore_with(store, &library_url(location)?, StorageConfig::default());
    let log = log.map_err(|e| Error::bug("the delta library refuses our URL").because(e))?;
    Ok(DeltaTable::new(log))
}

/// A URL with the location's path. The library takes the path from it and whether listings are
/// sorted, which those of local disk (`file`) are not, and tells stores apart by its host;
/// requests go through our own store.
fn library_url(location: &Location) -> Result<Url> {
    let root = match location.store.scheme() {
        Scheme::Local => "file:///".to_string(),
        _ => {
            let id = location.store.id();
            let host = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
            format!("memory://{}/", id.chars().map(host).collect::<String>())
        }
    };
    let bug = || Error::bug("a store has no URL for the delta library");
    let mut url = Url::parse(&root).map_err(|e| bug().because(e))?;
    url.path_segments_mut()
        .map_err(|()| bug())?
        .pop_if_empty()
        .extend(location.path.parts().map(|part| part.as_ref().to_string()));
    Ok(url)
}
