//! What a run has of a sink's deliverer: to feed it, to wait for room, to end it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use sluice_core::metric::Recorder;
use sluice_core::{Breaker, Error, Ids, Outlet, OutletContext, Result, format_bytes, format_count};
use sluice_lake::manifest::{Chain, Manifest};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::decide::{Backlog, Pressure, decide_pressure};
use super::deliver::Deliverer;
use super::folder::{Outbox, Waiting};
use crate::job::BacklogLimits;

/// What a deliverer needs.
pub struct Setup {
    /// The outbox.
    pub outbox: Outbox,
    /// The sink.
    pub outlet: Arc<dyn Outlet>,
    /// What it is opened with.
    pub context: OutletContext,
    /// The job's epochs.
    pub chain: Chain,
    /// The last of them.
    pub sealed: Option<u64>,
    /// Random identifiers.
    pub ids: Arc<dyn Ids>,
    /// Who watches.
    pub metrics: Arc<dyn Recorder>,
    /// This run.
    pub run: String,
    /// What may wait.
    pub limits: BacklogLimits,
}

/// What there is to tell of a deliverer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Given {
    /// What waits.
    pub waiting: Backlog,
    /// Rows delivered since it began.
    pub delivered: u64,
    /// Rows refused since it began.
    pub undelivered: u64,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// Whether it ended.
    pub ended: bool,
}

/// A deliverer at work.
#[derive(Debug)]
pub struct Handle {
    sink: String,
    limits: BacklogLimits,
    /// As long as the backlog allows: each epoch waits for room before it begins.
    feed: mpsc::UnboundedSender<Waiting>,
    given: Arc<watch::Sender<Given>>,
    over: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Handle {
    /// Begins to deliver what waits in the lake. The outside is first asked by the task.
    pub async fn start(setup: Setup) -> Result<Self> {
        let Setup { outbox, outlet, context, chain, sealed, ids, metrics, run, limits } = setup;
        let record = outbox.record().await?;
        let waiting = outbox.waiting(&chain, record.as_ref().map(|r| r.epoch)).await?;
        let mut given = Given::default();
        waiting.iter().for_each(|w| given.waiting.add(w.backlog()));
        let given = Arc::new(watch::Sender::new(given));
        let (feed, fed) = mpsc::unbounded_channel();
        let over = CancellationToken::new();
        let sink = outbox.sink().to_string();
        let (clock, memory) = (context.context.clock.clone(), context.context.memory.clone());
        let (schema, job) = (context.schema.clone(), context.context.job.clone());
        let deliverer = Deliverer {
            outbox,
            delivery: outlet.open(context)?,
            schema,
            clock,
            ids,
            memory,
            metrics,
            breaker: Breaker::default(),
            job,
            run,
            sealed,
            record,
            queue: VecDeque::from(waiting),
            feed: fed,
            over: over.clone(),
            given: given.clone(),
        };
        let told = given.clone();
        let task = tokio::spawn(async move {
            let ended = deliverer.run().await;
            told.send_modify(|given| given.ended = true);
            ended
        });
        Ok(Self { sink, limits, feed, given, over, task })
    }

    /// The sink.
    pub fn sink(&self) -> &str {
        &self.sink
    }

    /// Says that an epoch is published.
    pub fn published(&self, manifest: &Manifest) {
        let Some(waiting) = Waiting::of(manifest, &self.sink) else { return };
        self.given.send_modify(|given| given.waiting.add(waiting.backlog()));
        // A task that ended tells why when it is waited for.
        drop(self.feed.send(waiting));
    }

    /// Whether it ended by itself.
    pub fn is_over(&self) -> bool {
        self.given.borrow().ended
    }

    /// Waits until another epoch may wait. Errors: `Unavailable` when the outbox is full and nothing
    /// is delivered.
    pub async fn room(&self, stop: &CancellationToken) -> Result<()> {
        let mut changes = self.given.subscribe();
        let mut told = false;
        loop {
            let given = *changes.borrow_and_update();
            if given.ended || stop.is_cancelled() {
                return Ok(());
            }
            match decide_pressure(given.waiting, self.limits, given.failures) {
                Pressure::Room => return Ok(()),
                Pressure::Full => return Err(self.full(given)),
                Pressure::Wait => {}
            }
            if !std::mem::replace(&mut told, true) {
                let epochs = given.waiting.epochs;
                tracing::info!(sink = self.sink, epochs, "the next epoch waits for a sink");
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = changes.changed() => {
                    changed.map_err(|e| Error::bug("a deliverer vanished").because(e))?;
                }
            }
        }
    }

    fn full(&self, given: Given) -> Error {
        let Given { waiting, .. } = given;
        let epochs = format_count(waiting.epochs, "epoch");
        let (rows, bytes) = (format_count(waiting.rows, "row"), format_bytes(waiting.bytes));
        Error::unavailable(format!(
            "the outbox of a sink is full and nothing is delivered sink={} waiting={epochs}, \
             {rows}, {bytes}",
            self.sink
        ))
        .with_retry(false)
        .hint(
            "nothing is lost: mend what keeps the sink from taking rows (`sluice status` shows \
             it) and run again; `backlog` says how much may wait",
        )
    }

    /// Ends it: when all is delivered (`drain`), or after the file that is on its way. `stop` cuts
    /// the former short. Gives what there was to tell.
    pub async fn end(self, drain: bool, stop: &CancellationToken) -> (String, Given, Result<()>) {
        let Self { sink, feed, given, over, mut task, .. } = self;
        if !drain {
            over.cancel();
        }
        drop(feed);
        let ended = tokio::select! {
            ended = &mut task => ended,
            () = stop.cancelled() => {
                over.cancel();
                task.await
            }
        };
        let ended = ended.map_err(|e| Error::bug("a deliverer ended by itself").because(e));
        let given = *given.borrow();
        (sink, given, ended.and_then(|ended| ended))
    }
}
