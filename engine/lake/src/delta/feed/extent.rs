//! Which versions of a log can be read one after another, told by a listing.

use std::collections::BTreeSet;

use sluice_core::{Error, Result};

use super::Feed;
use crate::delta::log_files;

/// What a log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first version whose entry is there with those of all later ones; behind the newest when
    /// a checkpoint is all there is.
    pub first: i64,
    /// The newest version.
    pub newest: i64,
}

impl Feed {
    /// What the log has; none when there is no table.
    pub async fn extent(&self) -> Result<Option<Extent>> {
        let files = log_files(self.location()).await?;
        let Some(newest) = files.iter().map(|file| file.version).max() else { return Ok(None) };
        let entries: BTreeSet<i64> =
            files.iter().filter(|file| !file.checkpoint).map(|file| file.version).collect();
        let missing = (0..=newest).rev().find(|version| !entries.contains(version));
        Ok(Some(Extent { first: missing.map_or(0, |version| version + 1), newest }))
    }

    /// The first version of `extent` that was committed at `ms` or later; behind the newest when
    /// there is none. Errors: `Conflict` when earlier ones that were may be gone.
    pub async fn version_at(&self, extent: Extent, ms: i64) -> Result<i64> {
        let (mut low, mut high) = (extent.first, extent.newest + 1);
        // Times of commits only ever grow, but for clocks that were set back.
        while low < high {
            let middle = low + (high - low) / 2;
            let read = self.read(middle, 1).await?;
            let Some(version) = read.first() else { break };
            match version.committed_ms < ms {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        if low == extent.first && low > 0 && low <= extent.newest {
            let table = self.location().describe();
            let message = format!(
                "versions since this time are not in the log any more table={table} first={low}"
            );
            return Err(Error::conflict(message)
                .hint("start with `earliest`, or with the first version that is there"));
        }
        Ok(low)
    }
}
