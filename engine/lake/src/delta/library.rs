//! Tables as the delta-rs library sees them: for checkpoints, and for tables that others wrote.
//!
//! In: a location. Out: the library's table over our own store, so that there is one way to open a
//! store and one place for its credentials. Nothing is read here.

use deltalake::DeltaTable;
use deltalake::logstore::{StorageConfig, logstore_with};
use url::Url;

use sluice_core::{Error, Result};

use crate::store::{Location, Scheme};

/// The library's view of the table, not loaded.
pub fn library_table(location: &Location) -> Result<DeltaTable> {
    let store = location.store.object_store();
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
