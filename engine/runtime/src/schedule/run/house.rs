//! The own chain of a job whose rows come by chains beside it: it makes the tables and looks after
//! them.
//!
//! ```text
//! found ─► tables are there ─► shards append ──────────────►
//!                                 keep house: join files, checkpoints, vacuum, requests
//! ```
//!
//! In: the opened chain. Out: epochs without sources. Appends of the shards never remove anything,
//! so that nothing they do can cross what is done here.

use std::time::Duration;

use sluice_core::{Error, Result};
use sluice_lake::delta;
use sluice_lake::manifest::{EpochKind, Lease};

use super::{Ended, House, Moment, Run};
use crate::schedule::Summary;

/// How often tables are looked at: often enough that a shard with an epoch a second leaves a few
/// dozen small files at most, seldom enough that the looks are not felt.
const LOOK: Duration = Duration::from_secs(5);

impl Run<'_> {
    /// Makes what is not there, and ends.
    pub(in crate::schedule) async fn found(&mut self, summary: &mut Summary) -> Result<()> {
        let founded = match self.worker.unfounded() {
            true => self.make_tables(summary).await,
            false => Ok(()),
        };
        self.close(founded.map(|()| Ended::Over), summary).await.map(drop)
    }

    async fn make_tables(&mut self, summary: &mut Summary) -> Result<()> {
        let opened = self.env.clock.monotonic();
        let again = !self.worker.state.leftovers.is_empty();
        let kind = if again { EpochKind::Rebuild } else { EpochKind::Data };
        let manifest = self.worker.found(kind).await?;
        self.seal(manifest, opened, summary).await
    }

    /// Looks after the tables once, and ends.
    pub(in crate::schedule) async fn tidy(&mut self, summary: &mut Summary) -> Result<()> {
        let tidied = self.look_after(summary).await;
        self.close(tidied.map(|()| Ended::Over), summary).await.map(drop)
    }

    /// Looks after the tables until stopped.
    pub(in crate::schedule) async fn keep_house(&mut self, summary: &mut Summary) -> Result<()> {
        let mut kept = Ok(());
        while kept.is_ok() && !self.around.stop.is_cancelled() {
            kept = self.look_after(summary).await;
            tokio::select! {
                () = self.around.stop.cancelled() => {}
                () = self.env.clock.sleep(LOOK) => {}
            }
        }
        self.close(kept.map(|()| Ended::Over), summary).await.map(drop)
    }

    /// Seals an epoch in which nothing happens, and gives its number and the lease.
    pub(in crate::schedule) async fn pause(
        &mut self,
        summary: &mut Summary,
    ) -> Result<(Lease, u64)> {
        let opened = self.env.clock.monotonic();
        let manifest = self.worker.pause();
        let epoch = manifest.epoch;
        self.seal(manifest, opened, summary).await?;
        self.finish_publishing(None).await?;
        self.cleaner.finish().await?;
        let tender = self.tender.take().ok_or_else(|| Error::bug("a run without a lease"))?;
        Ok((tender.end().await?, epoch))
    }

    async fn look_after(&mut self, summary: &mut Summary) -> Result<()> {
        self.catch_up().await?;
        self.upkeep(summary).await?;
        self.compact(summary).await?;
        self.finish_publishing(None).await?;
        if let (true, Some(publisher)) = (self.options.upkeep, &self.publisher) {
            let epoch = self.worker.state.epoch.saturating_sub(1);
            let opened_at_ms = self.env.clock.wall_ms();
            self.keeper.look(House::of(publisher, epoch), Moment { epoch, opened_at_ms });
        }
        Ok(())
    }

    /// Brings the heads up to what the other chains did.
    async fn catch_up(&mut self) -> Result<()> {
        self.finish_publishing(None).await?;
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        for (name, table) in &mut publisher.tables {
            let Some(head) = &mut table.head else { continue };
            let news = delta::refresh(&table.location, head).await?;
            if let Some(relation) = self.worker.state.relations.get_mut(name)
                && !news.is_empty()
            {
                relation.files = head.files.values().cloned().collect();
            }
        }
        Ok(())
    }
}
