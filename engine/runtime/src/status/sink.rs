//! How far the sinks outside of the lake are.

use serde::Serialize;
use sluice_core::Result;

use crate::epoch::Lake;
use crate::outbox::{Backlog, Outbox, Trouble};
use crate::query::Readable;

/// A sink outside of the lake.
#[derive(Debug, Clone, Serialize)]
pub struct SinkFacts {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub target: String,
    /// The last epoch with rows for it that is delivered; none before the first.
    pub delivered_epoch: Option<u64>,
    /// Rows delivered since the job was last built from its beginning.
    pub delivered: u64,
    /// Rows that it refused since then.
    pub undelivered: u64,
    /// What waits.
    pub waiting: Backlog,
    /// Why, when somebody tried and failed.
    pub trouble: Option<Trouble>,
}

/// The sinks of a job that are outside of the lake.
pub(super) async fn sinks(job: &Readable, lake: &Lake) -> Result<Vec<SinkFacts>> {
    let mut all = Vec::new();
    for sink in job.graph.outlets() {
        let outbox = Outbox::new(&lake.root, &job.graph.job.name, &sink.spec.name);
        let record = outbox.record().await?;
        let delivered_epoch = record.as_ref().map(|record| record.epoch);
        let mut waiting = Backlog::default();
        for epoch in outbox.waiting(&lake.chain, delivered_epoch).await? {
            waiting.add(epoch.backlog());
        }
        let rows = record.map_or((0, 0), |record| (record.delivered, record.undelivered));
        all.push(SinkFacts {
            name: sink.spec.name.clone(),
            target: sink.target.clone().unwrap_or_default(),
            delivered_epoch,
            delivered: rows.0,
            undelivered: rows.1,
            waiting,
            trouble: outbox.trouble().await?,
        });
    }
    Ok(all)
}
