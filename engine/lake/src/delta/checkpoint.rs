//! Writes a Delta checkpoint, so that clients need not read the whole log.
//!
//! The delta-rs library does it; it costs as much as the table has files, so it is called between
//! epochs and never by the committer. Entries of the log are never deleted here.

use deltalake::protocol::checkpoints::create_checkpoint;

use sluice_core::{Error, Result};

use super::library::library_table;
use crate::store::Location;

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
