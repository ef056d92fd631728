//! The deliverers of a run's sinks outside of the lake: begun with it, fed by what it publishes, and
//! ended with it.
//!
//! In: a graph and a lake. Out: one deliverer per such sink. How rows are delivered is
//! [`crate::outbox`]'s.

use sluice_core::{Error, OutletContext, Result, Secrets};
use sluice_lake::manifest::Manifest;
use tokio_util::sync::CancellationToken;

use super::report::Summary;
use crate::epoch::{Environment, Worker};
use crate::outbox::{Handle, Outbox, Setup};
use crate::plan::Graph;

/// All deliverers of a run.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    handles: Vec<Handle>,
}

impl Deliveries {
    /// Begins to deliver what waits in the lake.
    pub async fn start(
        env: &Environment,
        graph: &Graph,
        secrets: &Secrets,
        worker: &Worker,
    ) -> Result<Self> {
        // Other chains of the job feed no such sinks: outboxes are the job's own chain's.
        if worker.identity.chain != worker.identity.job {
            return Ok(Self::default());
        }
        let mut handles = Vec::new();
        let mut chain = None;
        for sink in graph.sinks.iter().map(|s| &s.spec) {
            let factory = env.registry.sink(&sink.connector);
            let factory = factory.ok_or_else(|| Error::bug("a sink has no connector"))?;
            let Some(outlet) = factory.build(&sink.config)?.outlet() else { continue };
            let name = match &chain {
                Some(name) => String::clone(name),
                None => chain.insert(chain_name(worker).await?).clone(),
            };
            let schema = graph.columns_of(&sink.from);
            let context = OutletContext {
                context: env.context(&graph.job.name, secrets),
                sink: sink.name.clone(),
                chain: name,
                schema: schema.ok_or_else(|| Error::bug("a sink is fed from nothing"))?,
            };
            let setup = Setup {
                outbox: Outbox::new(&worker.lake.root, &graph.job.name, &sink.name),
                outlet,
                context,
                chain: worker.lake.chain.clone(),
                sealed: worker.state.epoch.checked_sub(1),
                ids: env.ids.clone(),
                metrics: env.metrics.clone(),
                run: worker.identity.run.clone(),
                limits: sink.backlog,
            };
            handles.push(Handle::start(setup).await?);
        }
        Ok(Self { handles })
    }

    /// Says that an epoch is published.
    pub fn published(&self, manifest: &Manifest) {
        self.handles.iter().for_each(|handle| handle.published(manifest));
    }

    /// Whether one of them ended by itself: its error ends the run.
    pub fn failed(&self) -> bool {
        self.handles.iter().any(Handle::is_over)
    }

    /// Waits until all of them have room for another epoch.
    pub async fn room(&self, stop: &CancellationToken) -> Result<()> {
        for handle in &self.handles {
            handle.room(stop).await?;
        }
        Ok(())
    }

    /// Ends them all; with `drain` when everything is delivered. The first error is told.
    pub async fn end(
        self,
        drain: bool,
        stop: &CancellationToken,
        summary: &mut Summary,
    ) -> Result<()> {
        let ends = self.handles.into_iter().map(|handle| handle.end(drain, stop));
        let mut ended = Ok(());
        for (sink, given, end) in futures::future::join_all(ends).await {
            summary.given(&sink, given);
            ended = ended.and(end);
        }
        ended
    }
}

/// What the job's chain is called by the outside: its first incarnation, which a rebuild keeps and a
/// reset does not. So a runner of an earlier life is fenced, and another lake's is not.
async fn chain_name(worker: &Worker) -> Result<String> {
    let first = worker.lake.chain.get(0).await?;
    Ok(first.map_or(worker.identity.incarnation.clone(), |entry| entry.manifest.incarnation))
}
