//! Writes a Delta checkpoint, so that clients need not read the whole log.
//!
//! In: a location. Out: a checkpoint of its newest version. One that goes on from an earlier
//! checkpoint is made from that and the entries since, whose rows pass through a few at a time; the
//! first, and all in which there is something that we do not write, the delta-rs library makes.
//! It costs as much as the table has files, and had in the last week, so it is called between epochs
//! and never by the committer. Entries of the log are never deleted here.

mod extend;
mod news;

use deltalake::protocol::checkpoints::create_checkpoint;

use sluice_core::{Error, Result};

use super::library::library_table;
use super::log::Listing;
use crate::store::Location;

/// Writes a checkpoint of the newest version and gives that version. Idempotent.
pub async fn checkpoint(location: &Location) -> Result<i64> {
    let listing = Listing::read(location, i64::MAX).await?;
    if let (Some(last), Some((version, parts))) = (listing.last(), &listing.checkpoint) {
        if *version == last {
            return Ok(last);
        }
        if let [path] = &parts[..]
            && extend::extend(location, (*version, path), last).await?
        {
            return Ok(last);
        }
    }
    made_by_library(location).await
}

async fn made_by_library(location: &Location) -> Result<i64> {
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

#[cfg(test)]
pub(super) use extend::extend;
