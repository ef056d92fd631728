//! One run of one job, from its first try to get the job to its end.
//!
//! In: a job and how long it may take. Out: what it did, and what went wrong. A job that another
//! process holds is waited for: that is no failure. Whether it is tried again after one is decided
//! elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sluice_core::{Error, Kind, format_count};
use sluice_runtime::epoch::Environment;
use sluice_runtime::query::Readable;
use sluice_runtime::recover::replan;
use sluice_runtime::schedule::{EpochReport, Progress, RunOptions, Summary, run_job};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it is tried to get a job that another process holds: the new process of a rolling
/// restart is at work a second after the old one let go.
const HELD: Duration = Duration::from_secs(1);

/// A run that was stopped because it took too long may finish its epoch for as long again, a minute
/// at least. Then it is cut off, which the protocol allows at any moment: a source that hangs would
/// hold the job for ever.
const GRACE_MIN: Duration = Duration::from_secs(60);

/// A run to be done.
pub(super) struct Order {
    pub environment: Environment,
    pub job: Readable,
    /// Whether it has no end of its own.
    pub follows: bool,
    /// How long it may take, where it has one.
    pub timeout: Option<Duration>,
    /// Whether it begins although another runner has the job.
    pub take_over: bool,
    /// Cancelled when it is to end after its epoch.
    pub stop: CancellationToken,
    /// What it tells meanwhile.
    pub told: Arc<Told>,
}

/// What a run tells while it is at work.
#[derive(Debug)]
pub(super) struct Told {
    job: String,
    epochs: AtomicU64,
    rows: AtomicU64,
    holder: Mutex<Option<String>>,
    changes: watch::Sender<u64>,
}

impl Told {
    /// Nothing yet of a run of `job`; `changes` is counted up when there is news.
    pub fn new(job: &str, changes: watch::Sender<u64>) -> Arc<Self> {
        Arc::new(Self {
            job: job.to_string(),
            epochs: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            holder: Mutex::new(None),
            changes,
        })
    }

    /// Epochs sealed and rows taken so far.
    pub fn so_far(&self) -> (u64, u64) {
        (self.epochs.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed))
    }

    /// Who holds the job, where another process does.
    pub fn holder(&self) -> Option<String> {
        self.holder.lock().clone()
    }

    fn held_by(&self, holder: Option<String>) {
        let news = std::mem::replace(&mut *self.holder.lock(), holder.clone()) != holder;
        if news {
            self.changed();
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}

impl Progress for Told {
    fn intake(&self, _job: &str, _rows_estimated: u64, _bytes: u64) {
        self.held_by(None);
    }

    fn epoch(&self, _job: &str, report: &EpochReport) {
        self.epochs.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(report.rows, Ordering::Relaxed);
        self.changed();
    }

    fn note(&self, text: &str) {
        tracing::warn!(job = self.job, "{text}");
    }
}

/// What came of a run.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub epochs: u64,
    /// Rows of sources.
    pub rows: u64,
    /// Bytes written to tables and sinks.
    pub bytes: u64,
    /// Files that could not be read at all, in words.
    pub unreadable: Option<String>,
    /// What went wrong.
    pub error: Option<Error>,
    /// How long it may take, if it took longer.
    pub timed_out: Option<Duration>,
}

impl Done {
    /// A run whose task ended by itself.
    pub fn lost(error: tokio::task::JoinError) -> Self {
        let error = Error::bug("a run ended in the middle").because(error);
        Self { error: Some(error), ..Self::default() }
    }

    fn add(&mut self, summary: &Summary) {
        self.epochs += summary.epochs;
        self.bytes += summary.tables.iter().map(|table| table.bytes).sum::<u64>();
        self.bytes += summary.sinks.iter().map(|sink| sink.bytes).sum::<u64>();
        if let Some(first) = summary.unreadable.first() {
            let files = format_count(summary.unreadable.len() as u64, "file");
            let (path, reason) = (&first.path, &first.reason);
            self.unreadable = Some(format!("{files} could not be read: {reason} path={path}"));
        }
    }
}

/// Does a run.
pub(super) async fn work(order: Order) -> Done {
    let mut done = Done::default();
    // Once: two processes that take a job from each other do nothing else.
    let mut take_over = order.take_over;
    loop {
        let (summary, error, timed_out) = try_once(&order, take_over).await;
        take_over = false;
        done.add(&summary);
        done.timed_out = timed_out;
        match error {
            Some(error) if error.kind() == Kind::Fenced && timed_out.is_none() => {
                if order.stop.is_cancelled() {
                    break;
                }
                order.told.held_by(Some(error.message().to_string()));
            }
            error => {
                done.error = error;
                break;
            }
        }
        tokio::select! {
            () = order.stop.cancelled() => break,
            () = order.environment.clock.sleep(HELD) => {}
        }
    }
    order.told.held_by(None);
    done.rows = order.told.so_far().1;
    done
}

/// Opens the job and runs it. Gives what it did, what went wrong, and its time limit if that was
/// reached.
async fn try_once(order: &Order, take_over: bool) -> (Summary, Option<Error>, Option<Duration>) {
    let Order { environment, job, follows, stop, told, .. } = order;
    let clock = &environment.clock;
    // What keeps the lake from being read the run itself will meet and say.
    let graph = tokio::select! {
        graph = replan(environment, &job.graph, &job.secrets) => graph,
        () = stop.cancelled() => return (Summary::default(), None, None),
    };
    let graph = graph.unwrap_or_else(|_| job.graph.clone());
    let options = RunOptions { follow: *follows, take_over, ..RunOptions::default() };
    let own = stop.child_token();
    let run = run_job(environment, &graph, &job.secrets, &options, told.as_ref(), own.clone());
    tokio::pin!(run);
    let Some(limit) = order.timeout.filter(|_| !follows) else {
        let (summary, ended) = run.await;
        return (summary, ended.err(), None);
    };
    tokio::select! {
        (summary, ended) = &mut run => return (summary, ended.err(), None),
        () = clock.sleep(limit) => own.cancel(),
    }
    tokio::select! {
        (summary, ended) = &mut run => (summary, ended.err(), Some(limit)),
        () = clock.sleep(limit.max(GRACE_MIN)) => {
            let text = "a run took too long, did not end after its epoch and was cut off";
            (Summary::default(), Some(Error::unavailable(text)), Some(limit))
        }
    }
}
