//! What a reset of a job, a table or a view has to do with recovery: the mark it leaves, and what is
//! the job's own to be deleted.
//!
//! In: the mark, if there is one. Out: what the run that opens the job does afresh. What is deleted
//! and asked is `maintain`'s.

mod mark;
mod owned;

use std::collections::BTreeSet;

use sluice_core::Result;
use sluice_lake::manifest::Entry;

use super::open::RecoverOptions;
use crate::epoch::Lake;

pub use mark::Mark;
pub(super) use mark::half_reset;
pub use owned::{Owned, owned};

/// What a reset left to do: views to be built afresh, and in `options` whether everything is.
pub(super) async fn marked(
    lake: &Lake,
    last: Option<&Entry>,
    options: &mut RecoverOptions,
) -> Result<BTreeSet<String>> {
    let Some(mark) = Mark::read(lake).await? else { return Ok(BTreeSet::new()) };
    match mark.pending(lake, last.map(|entry| &entry.manifest)).await? {
        Some(Mark::Job) => Err(half_reset(lake.chain.job())),
        Some(Mark::Tables { tables, views, .. }) if options.marks => {
            if !tables.is_empty() && !options.adopt {
                tracing::info!(?tables, "a reset asks for all tables to be made again");
                options.rebuild = true;
            }
            Ok(views.into_iter().collect())
        }
        Some(Mark::Tables { .. }) => Ok(BTreeSet::new()),
        None => {
            Mark::remove(lake).await?;
            Ok(BTreeSet::new())
        }
    }
}
