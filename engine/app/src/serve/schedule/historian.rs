//! The keeper of the history: what was run lately, and the task that writes it down for good.
//!
//! ```text
//! a run ends ─► recent (memory) ─► record (state folder) ─► row (history) ─► record goes
//!                                        ▲                     │
//!                                        └── the store does not answer: tried again, runs go on
//! ```
//!
//! In: records, as runs end. Out: rows of the history; the newest records for who asks. It never
//! keeps a run from starting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use sluice_core::Result;
use sluice_core::metric::HISTORY_WAITING;
use sluice_runtime::epoch::Environment;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::desk::{Desk, Written};
use super::history::{History, Row};
use super::record::RunRecord;

/// Records kept in memory: some hours of a run every few seconds, a few hundred bytes each.
const RECENT_MAX: usize = 1_000;

/// Rows that one commit adds at most, a megabyte of records.
const ROWS_MAX: usize = 5_000;

/// How often it is looked what other processes wrote, where nothing happens here.
const LOOK: Duration = Duration::from_secs(10);

/// The longest wait for a history that does not answer.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The runs that ended last.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The newest last.
    all: VecDeque<RunRecord>,
    by_job: BTreeMap<String, Last>,
}

/// What is known of a job's last runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Last {
    /// The last that was not missed.
    pub run: Option<RunRecord>,
    /// Failures since one did not fail.
    pub failures: u32,
}

impl Recent {
    /// Takes note of a run that ended.
    pub fn add(&mut self, record: RunRecord) {
        let last = self.by_job.entry(record.job.clone()).or_default();
        if record.attempt > 0 {
            last.failures = if record.is_failure() { last.failures.saturating_add(1) } else { 0 };
            last.run = Some(record.clone());
        }
        if self.all.len() >= RECENT_MAX {
            self.all.pop_front();
        }
        self.all.push_back(record);
    }

    /// What earlier processes wrote, newest first, put before what is known.
    fn add_older(&mut self, older: Vec<RunRecord>) {
        let newer = std::mem::take(self);
        let is_known = |record: &RunRecord| newer.all.iter().any(|known| known.id == record.id);
        for record in older.into_iter().rev().filter(|record| !is_known(record)) {
            self.add(record);
        }
        for record in newer.all {
            self.add(record);
        }
    }

    /// Of one job.
    pub fn last(&self, job: &str) -> Last {
        self.by_job.get(job).cloned().unwrap_or_default()
    }

    /// The newest of one job or of all, newest first.
    fn newest(&self, job: Option<&str>, limit: usize) -> Vec<RunRecord> {
        let wanted = self.all.iter().rev().filter(|r| job.is_none_or(|job| r.job == job));
        wanted.take(limit).cloned().collect()
    }
}

/// What the history's task shares with who asks it.
#[derive(Debug)]
pub(super) struct Historian {
    environment: Environment,
    desk: Arc<Desk>,
    pub history: Arc<History>,
    recent: RwLock<Recent>,
    /// Records that wait to be written, as far as is known.
    waiting: AtomicU64,
    /// Said when one more waits.
    news: Notify,
    /// Why the history is not written, while it is not.
    trouble: watch::Sender<Option<String>>,
}

impl Historian {
    /// Nothing known yet; [`Historian::work`] is to be spawned.
    pub fn new(environment: &Environment, desk: Arc<Desk>, history: Arc<History>) -> Arc<Self> {
        Arc::new(Self {
            environment: environment.clone(),
            desk,
            history,
            recent: RwLock::default(),
            waiting: AtomicU64::new(0),
            news: Notify::new(),
            trouble: watch::Sender::new(None),
        })
    }

    /// Takes note of a run that ended, whose record is in the state folder.
    pub fn ended(&self, record: RunRecord) {
        self.recent.write().add(record);
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        self.environment.metrics.set(&HISTORY_WAITING, &[], waiting as f64);
        self.news.notify_one();
    }

    /// What is known of the last runs of a job.
    pub fn last(&self, job: &str) -> Last {
        self.recent.read().last(job)
    }

    /// Why the history is not written, while it is not.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// The newest runs that ended, newest first. What the history does not tell, because its store
    /// does not answer, is not among them.
    pub async fn newest(&self, job: Option<&str>, limit: usize) -> Result<Vec<RunRecord>> {
        let mut found = self.recent.read().newest(job, limit);
        if found.len() < limit {
            match self.history.newest(job, limit).await {
                Ok(older) => {
                    let new = |r: &RunRecord| found.iter().all(|known| known.id != r.id);
                    let older: Vec<RunRecord> = older.into_iter().filter(new).collect();
                    found.extend(older);
                }
                Err(error) if found.is_empty() => return Err(error),
                Err(error) => {
                    tracing::debug!(error = error.chain(), "the history of runs is not read");
                }
            }
        }
        found.sort_by_key(|record| std::cmp::Reverse(record.started_ms));
        found.truncate(limit);
        Ok(found)
    }

    /// Writes records down as they come, until stopped, and then once more. `may_write` is whether
    /// this process has the state folder; without, it only looks.
    pub async fn work(
        self: Arc<Self>,
        mut may_write: watch::Receiver<bool>,
        stop: CancellationToken,
    ) {
        let (mut failures, mut known) = (0_u32, false);
        loop {
            let (last, writes) = (stop.is_cancelled(), *may_write.borrow_and_update());
            let done = self.once(writes, &mut known).await;
            self.tell(done.as_ref().err());
            failures = if done.is_ok() { 0 } else { failures.saturating_add(1) };
            let wait = match &done {
                // More may have come than fits into one commit.
                Ok(added) if *added >= ROWS_MAX => continue,
                Ok(_) => LOOK,
                Err(_) => Duration::from_secs(2_u64.saturating_pow(failures.min(16))).min(WAIT_MAX),
            };
            if last {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.news.notified(), if failures == 0 => {}
                _ = may_write.changed(), if failures == 0 => {}
                () = self.environment.clock.sleep(wait) => {}
            }
        }
    }

    /// Looks at the history, and adds what waits. Gives how many rows that were.
    pub(super) async fn once(&self, writes: bool, known: &mut bool) -> Result<usize> {
        self.history.refresh().await?;
        if !*known {
            let older = self.history.newest(None, RECENT_MAX).await?;
            self.recent.write().add_older(older);
            *known = true;
        }
        if !writes {
            return Ok(0);
        }
        let (rows, waiting) = self.waiting().await?;
        let ids: Vec<String> = rows.iter().map(|row| row.record.id.clone()).collect();
        if !rows.is_empty() {
            self.history.add(rows).await?;
            for id in &ids {
                self.desk.forget(id).await?;
            }
        }
        let left = waiting.saturating_sub(ids.len() as u64);
        self.waiting.store(left, Ordering::Relaxed);
        self.environment.metrics.set(&HISTORY_WAITING, &[], left as f64);
        if let Err(error) = self.history.tidy().await {
            tracing::warn!(error = error.chain(), "the history of runs was not looked after");
        }
        Ok(ids.len())
    }

    /// Records that wait, of each writer those with the lowest numbers; and how many wait in all.
    async fn waiting(&self) -> Result<(Vec<Row>, u64)> {
        // Of those of this process, only what is durable now: a listing may show a later record and
        // not an earlier one, and the history takes none behind its back.
        let durable = self.desk.durable();
        let own = self.desk.writer().to_string();
        let (mut rows, mut waiting) = (Vec::new(), 0);
        self.desk
            .for_each(|Written { record, writer, number, .. }| {
                if number == 0 || (writer == own && number > durable) {
                    return;
                }
                waiting += 1;
                rows.push(Row { record, writer, number });
                if rows.len() >= 2 * ROWS_MAX {
                    lowest(&mut rows);
                }
            })
            .await?;
        lowest(&mut rows);
        Ok((rows, waiting))
    }

    fn tell(&self, error: Option<&sluice_core::Error>) {
        let now = error.map(|error| format!("the history of runs waits: {}", error.chain()));
        let changed = self.trouble.borrow().is_some() != now.is_some();
        match (&now, changed) {
            (Some(text), true) => tracing::warn!("{text}"),
            (None, true) => tracing::info!("the history of runs is written again"),
            (_, false) => {}
        }
        self.trouble.send_if_modified(|trouble| {
            let news = *trouble != now;
            *trouble = now;
            news
        });
    }
}

/// Leaves the rows with the lowest numbers, writer by writer.
fn lowest(rows: &mut Vec<Row>) {
    rows.sort_by(|a, b| (&a.writer, a.number).cmp(&(&b.writer, b.number)));
    rows.truncate(ROWS_MAX);
}

#[cfg(test)]
mod tests {
    use super::super::record::outcome;
    use super::*;

    fn record(id: usize, job: &str, outcome: &str) -> RunRecord {
        RunRecord {
            id: id.to_string(),
            job: job.to_string(),
            attempt: u32::from(outcome != outcome::MISSED),
            started_ms: i64::try_from(id).unwrap(),
            outcome: outcome.to_string(),
            ..RunRecord::default()
        }
    }

    #[test]
    fn the_last_runs_are_known_and_failures_in_a_row_are_counted() {
        let mut recent = Recent::default();
        for (id, outcome) in
            ["failed", "done", "failed", "missed", "timed_out"].into_iter().enumerate()
        {
            recent.add(record(id, "a", outcome));
        }
        recent.add(record(9, "b", "missed"));
        assert_eq!(recent.last("a").failures, 2);
        assert_eq!(recent.last("a").run.unwrap().outcome, "timed_out");
        assert!(recent.last("b").run.is_none() && recent.last("c").run.is_none());
        let ids = |job, limit| -> Vec<String> {
            recent.newest(job, limit).into_iter().map(|r| r.id).collect()
        };
        assert_eq!(ids(None, 2), ["9", "4"]);
        assert_eq!(ids(Some("a"), 9), ["4", "3", "2", "1", "0"]);
    }

    #[test]
    fn what_earlier_processes_wrote_stands_before_and_memory_is_bounded() {
        let mut recent = Recent::default();
        recent.add(record(7, "a", "failed"));
        let older = (0..RECENT_MAX).rev().map(|id| record(id, "a", "failed")).collect();
        recent.add_older(older);
        assert_eq!(recent.all.len(), RECENT_MAX);
        assert_eq!(recent.all.back().unwrap().id, "7");
        assert_eq!(recent.last("a").failures as usize, RECENT_MAX);
    }

    #[test]
    fn rows_of_a_writer_go_in_the_order_of_their_numbers() {
        let row = |writer: &str, number| Row {
            record: RunRecord::default(),
            writer: writer.to_string(),
            number,
        };
        let mut rows: Vec<Row> = (1..=ROWS_MAX as u64).rev().map(|n| row("b", n)).collect();
        rows.push(row("a", 99));
        lowest(&mut rows);
        assert_eq!((rows.len(), rows[0].writer.as_str(), rows[1].number), (ROWS_MAX, "a", 1));
        assert_eq!(rows.last().unwrap().number, ROWS_MAX as u64 - 1);
    }
}
