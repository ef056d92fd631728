//! The task that delivers one sink's outbox, epoch by epoch, at its own pace.
//!
//! In: what waits in the lake, and what a run publishes. Out: rows with the outside, records,
//! deleted files; what there is to tell, for who waits and who looks. It ends when it is told to,
//! when nothing more can come, and by errors that do not pass.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use sluice_core::metric::{CIRCUIT_OPEN, Recorder, SINK_FAILURES};
use sluice_core::{
    Breaker, BreakerState, Clock, Delivery, Error, Ids, Kind, Memory, OutboxPosition, Refused,
    Result, Step, backed_off, format_count, reach,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::decide::{ATTEMPTS_MAX, Begin, decide_begin, next_file};
use super::folder::{Outbox, Record, Trouble, Waiting};
use super::handle::Given;
use super::undelivered;

/// How long it goes on when the run is told to stop: what waits is a few seconds' work as long as
/// the outside takes it, and what is cut short is delivered by the next run.
const GRACE: Duration = Duration::from_secs(10);

/// What the task works with.
pub(super) struct Deliverer {
    pub outbox: Outbox,
    pub delivery: Box<dyn Delivery>,
    pub schema: SchemaRef,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub memory: Arc<dyn Memory>,
    pub metrics: Arc<dyn Recorder>,
    /// When the outside is tried again, and when it is left alone.
    pub breaker: Breaker,
    pub job: String,
    pub run: String,
    /// The last epoch of the chain when the task began.
    pub sealed: Option<u64>,
    /// The last record.
    pub record: Option<Record>,
    /// What is to be delivered, oldest first.
    pub queue: VecDeque<Waiting>,
    pub feed: mpsc::UnboundedReceiver<Waiting>,
    pub over: CancellationToken,
    pub given: Arc<watch::Sender<Given>>,
}

/// How far the first epoch of the queue is.
#[derive(Debug, Default)]
struct Progress {
    /// The next of its files.
    file: u32,
    /// Rows of it that were refused; none where an earlier attempt knows.
    refused: Option<u64>,
}

impl Deliverer {
    /// Delivers until it is over.
    pub async fn run(mut self) -> Result<()> {
        let mut failures = 0;
        // What an earlier run told is not known of this one.
        self.show(failures);
        loop {
            let (over, clock) = (self.over.clone(), self.clock.clone());
            let stopped = async {
                over.cancelled().await;
                clock.sleep(GRACE).await;
            };
            let ended = tokio::select! {
                ended = self.deliver_all(&mut failures) => ended,
                () = stopped => Ok(()),
            };
            let Err(error) = ended else { return Ok(()) };
            failures += 1;
            let wait = self.breaker.failed(self.clock.monotonic(), self.ids.chance());
            // However the dice fall, all attempts together take longer than a short restart.
            let wait = wait.max(backed_off(failures) / 2);
            self.tell(&error, failures, wait).await;
            // Who is told to stop leaves what waits to the next run: that is no failure.
            if error.retry() && self.over.is_cancelled() {
                return Ok(());
            }
            let last = self.feed.is_closed() && failures >= ATTEMPTS_MAX;
            if !error.retry() || last {
                return Err(self.given_up(error));
            }
            tokio::select! {
                () = self.over.cancelled() => return Ok(()),
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Connects and delivers until something fails or it is over.
    async fn deliver_all(&mut self, failures: &mut u32) -> Result<()> {
        let held = self.delivery.attach().await?;
        let recorded = self.record.as_ref().map(|record| record.epoch);
        let at = match decide_begin(recorded, held, self.newest()) {
            Begin::After(at) => at,
            Begin::Ahead(epoch) => return Err(self.ahead(epoch)),
        };
        let mut progress = self.skip(at).await?;
        if self.queue.is_empty() {
            // There is nothing by which it could show that it is well but that it answered.
            self.well(failures).await;
        }
        while self.next().await {
            while let Some(file) = self.file(progress.file) {
                let refused = self.hand_over(file).await?;
                progress.file += 1;
                progress.refused = progress.refused.map(|rows| rows + refused);
                self.well(failures).await;
            }
            self.settle(progress.refused).await?;
            progress = Progress { file: 0, refused: Some(0) };
        }
        Ok(())
    }

    /// The last epoch that is known to be sealed.
    fn newest(&self) -> Option<u64> {
        self.sealed.max(self.queue.back().map(|waiting| waiting.epoch))
    }

    /// Passes over what the outside has already.
    async fn skip(&mut self, at: Option<OutboxPosition>) -> Result<Progress> {
        while let Some(first) = self.queue.front() {
            let files = u32::try_from(first.files.len()).unwrap_or(u32::MAX);
            match next_file(at, first.epoch, files) {
                None => self.settle(None).await?,
                Some(0) => return Ok(Progress { file: 0, refused: Some(0) }),
                Some(file) => return Ok(Progress { file, refused: None }),
            }
        }
        Ok(Progress { file: 0, refused: Some(0) })
    }

    /// Whether something is to be delivered; waits for it.
    async fn next(&mut self) -> bool {
        if self.queue.is_empty() {
            tokio::select! {
                biased;
                waiting = self.feed.recv() => self.queue.extend(waiting),
                () = self.over.cancelled() => {}
            }
        }
        !self.queue.is_empty()
    }

    /// The position of a file of the first epoch; none when it has no such file.
    fn file(&self, file: u32) -> Option<OutboxPosition> {
        let first = self.queue.front()?;
        let there = usize::try_from(file).is_ok_and(|n| n < first.files.len());
        there.then_some(OutboxPosition { epoch: first.epoch, file })
    }

    /// Delivers one file. Gives the rows that were refused.
    async fn hand_over(&mut self, at: OutboxPosition) -> Result<u64> {
        let index = usize::try_from(at.file).unwrap_or(usize::MAX);
        let file = self.queue.front().and_then(|first| first.files.get(index)).cloned();
        let file = file.ok_or_else(|| Error::bug("a file of an outbox is not in its epoch"))?;
        let rows = match self.outbox.open(&file, &self.schema).await {
            Err(error) if error.kind() == Kind::Conflict => {
                return Err(self.gone(at, error).await?);
            }
            other => other?,
        };
        let refused = self.delivery.deliver(at, rows).await?;
        self.keep_refused(at, &file, &refused).await?;
        reach(Step::RowsHandedOver, at.epoch);
        self.delivery.commit().await?;
        reach(Step::Delivered, at.epoch);
        let refused = refused.len() as u64;
        self.given.send_modify(|given| {
            given.delivered += file.rows.saturating_sub(refused);
            given.undelivered += refused;
        });
        Ok(refused)
    }

    /// Why a file is not there: another runner may have delivered it.
    async fn gone(&mut self, at: OutboxPosition, error: Error) -> Result<Error> {
        let newest = self.outbox.record().await?.filter(|record| record.epoch >= at.epoch);
        Ok(newest.map_or(error, |record| {
            let (sink, run) = (self.outbox.sink(), record.run);
            Error::fenced(format!("another runner delivers now sink={sink} run={run}"))
                .hint("the other runner goes on; stop it before you start this one again")
        }))
    }

    async fn keep_refused(
        &mut self,
        at: OutboxPosition,
        file: &sluice_lake::manifest::OutboxFile,
        refused: &[Refused],
    ) -> Result<()> {
        if let Some(first) = refused.first() {
            let (sink, rows) = (self.outbox.sink(), refused.len());
            let reason = &first.reason;
            tracing::warn!(sink, epoch = at.epoch, rows, reason, "a sink refused rows");
        }
        let rows = self.outbox.open(file, &self.schema).await?;
        undelivered::keep(&self.outbox, at, rows, refused, &*self.memory).await
    }

    /// Records that the first epoch is delivered, and deletes its files.
    async fn settle(&mut self, refused: Option<u64>) -> Result<()> {
        let Some(first) = self.queue.front() else { return Ok(()) };
        let refused = match refused {
            Some(refused) => refused,
            None => {
                let only = (first.epoch, first.epoch);
                undelivered::undelivered_rows(&self.outbox, &self.schema, only).await?
            }
        };
        let by = (self.run.as_str(), self.clock.wall_ms());
        let record = Record::after(self.record.as_ref(), first, refused, by);
        let record = self.outbox.write_record(&record).await?;
        reach(Step::DeliveryRecorded, first.epoch);
        // From here on it is delivered, whatever becomes of the files.
        let before = self.record.replace(record);
        let Some(first) = self.queue.pop_front() else { return Ok(()) };
        let backlog = first.backlog();
        self.given.send_modify(|given| given.waiting.take(backlog));
        tracing::debug!(sink = self.outbox.sink(), epoch = first.epoch, "an epoch was delivered");
        let gone = self.outbox.discard(&first.files).await;
        let gone = gone.and(match before {
            Some(before) if before.epoch < first.epoch => {
                self.outbox.forget_record(before.epoch).await
            }
            _ => Ok(()),
        });
        if let Err(error) = gone {
            tracing::debug!(error = error.chain(), "a file of an outbox was not deleted");
        }
        Ok(())
    }

    /// Everything is as it should be.
    async fn well(&mut self, failures: &mut u32) {
        if *failures == 0 {
            return;
        }
        *failures = 0;
        self.breaker.proved();
        self.show(0);
        self.given.send_modify(|given| given.failures = 0);
        tracing::info!(sink = self.outbox.sink(), "a sink takes rows again");
        if let Err(error) = self.outbox.set_trouble(None).await {
            tracing::debug!(error = error.chain(), "what `status` shows was not written");
        }
    }

    /// Something failed.
    async fn tell(&mut self, error: &Error, failures: u32, wait: Duration) {
        self.show(failures);
        self.given.send_modify(|given| given.failures = failures);
        let (sink, text) = (self.outbox.sink(), error.chain());
        let (open, wait_s) = (self.is_left_alone(), wait.as_secs_f64());
        tracing::warn!(sink, failures, open, wait_s, error = text, "rows wait for a sink");
        let at_ms = self.clock.wall_ms();
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        let until_ms = open.then(|| at_ms.saturating_add(wait_ms));
        let trouble = Trouble { error: text, failures, at_ms, until_ms };
        if let Err(error) = self.outbox.set_trouble(Some(&trouble)).await {
            tracing::debug!(error = error.chain(), "what `status` shows was not written");
        }
    }

    /// Shows who watches how many attempts failed in a row, and whether the sink is left alone.
    fn show(&self, failures: u32) {
        let (job, sink) = (self.job.as_str(), self.outbox.sink());
        self.metrics.set(&SINK_FAILURES, &[job, sink], f64::from(failures));
        let open = f64::from(u8::from(self.is_left_alone()));
        self.metrics.set(&CIRCUIT_OPEN, &[job, &format!("sink:{sink}")], open);
    }

    fn is_left_alone(&self) -> bool {
        self.breaker.state(self.clock.monotonic()) == BreakerState::Open
    }

    fn ahead(&self, epoch: u64) -> Error {
        let (sink, sealed) = (self.outbox.sink(), self.newest());
        let sealed = sealed.map_or("none".to_string(), |n| n.to_string());
        Error::conflict(format!(
            "a sink has an epoch that was never sealed here sink={sink} delivered={epoch} \
             sealed={sealed}"
        ))
        .hint(
            "this lake is older than what was delivered from it: restore the newer one, or reset \
             the job, which then delivers everything again",
        )
    }

    /// What ends the task, with what that leaves behind.
    fn given_up(&self, error: Error) -> Error {
        if error.kind() == Kind::Fenced {
            return error;
        }
        let waiting = self.given.borrow().waiting;
        let (sink, kind) = (self.outbox.sink(), error.kind());
        let rows = format_count(waiting.rows, "row");
        let hint = match error.hint_text() {
            Some(hint) => hint.to_string(),
            None => "mend what keeps the sink from taking rows".to_string(),
        };
        Error::new(kind, format!("{rows} could not be delivered sink={sink}"))
            .because(error)
            .with_retry(false)
            .hint(format!("{hint}; nothing is lost: they are delivered by the next run"))
    }
}
