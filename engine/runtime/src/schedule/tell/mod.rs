//! Tells what a run does: figures to the process's recorder, news to the run's bulletin.
//!
//! In: facts, as they happen in a run. Out: nothing else. It decides nothing, and what costs work to
//! find out is found out only if somebody looks.

mod bulletin;
mod gauges;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_core::metric::{self, PARTITIONS_MAX, Recorder, Series, bounded};
use sluice_core::{Clock, Error, Lag};
use sluice_lake::manifest::{Action, DataFile, EpochKind, FileRef, Manifest};

use crate::epoch::{Environment, Publisher, PublisherTable, Relations, SourceRun, Taken};
use crate::status::{At, Trouble};

pub(super) use bulletin::Bulletin;
pub(super) use gauges::Gauges;

/// Lag is looked at so often: what is scraped every few seconds need not be fresher.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// Who tells. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::schedule) struct Teller {
    pub metrics: Arc<dyn Recorder>,
    pub clock: Arc<dyn Clock>,
    pub job: String,
    pub bulletin: Bulletin,
    /// When lag was looked at last.
    looked: Arc<Mutex<Option<Duration>>>,
}

/// Where the time of an epoch went, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::schedule) struct Spent {
    /// Asking sources for rows.
    pub take: f64,
    /// From there to the last file.
    pub work: f64,
    /// The seal, with the wait for the publication before it.
    pub seal: f64,
}

impl Teller {
    pub fn new(env: &Environment, job: &str, follow: bool) -> Self {
        let (metrics, clock) = (env.metrics.clone(), env.clock.clone());
        let bulletin = Bulletin::new(env, follow);
        Self { metrics, clock, job: job.to_string(), bulletin, looked: Arc::default() }
    }

    /// Whether the job is run.
    pub fn up(&self, up: bool) {
        self.metrics.set(&metric::JOB_UP, &[&self.job], f64::from(u8::from(up)));
    }

    /// The run is at something else from now on.
    pub fn at(&self, at: At, epoch: Option<u64>) {
        let now = self.clock.wall_ms();
        self.bulletin.say(|note| {
            if note.at != at {
                (note.at, note.since_ms) = (at, now);
            }
            note.epoch = epoch;
        });
    }

    /// A phase of an epoch took so long.
    pub fn phase(&self, phase: &str, seconds: f64) {
        self.metrics.observe(&metric::EPOCH_SECONDS, &[&self.job, phase], seconds);
    }

    /// Sources answered: says how far they are behind, now and then.
    pub fn lag(&self, sources: &[SourceRun]) {
        if !self.metrics.is_on() {
            return;
        }
        let now = self.clock.monotonic();
        {
            let mut looked = self.looked.lock();
            if looked.is_some_and(|at| now.saturating_sub(at) < LAG_EVERY) {
                return;
            }
            *looked = Some(now);
        }
        let now_ms = self.clock.wall_ms();
        for run in sources {
            let lags = run.source.lag();
            let first = [self.job.as_str(), run.name.as_str()];
            let (rows, seconds) = lag_series(&lags, now_ms);
            self.metrics.replace(&metric::LAG_ROWS, &first, behind(&first, rows));
            self.metrics.replace(&metric::LAG_SECONDS, &first, behind(&first, seconds));
        }
    }

    /// An epoch is sealed.
    pub fn sealed(
        &self,
        manifest: &Manifest,
        rows: u64,
        spent: Spent,
        phases: &BTreeMap<&'static str, f64>,
    ) {
        let of = |name: &str| phases.get(name).copied().unwrap_or(0.0);
        let (decode, split, encode) = (of("decode"), of("split"), of("encode"));
        let Spent { take, work, seal } = spent;
        tracing::info!(
            job = self.job,
            epoch = manifest.epoch,
            rows,
            seconds = work + seal,
            take,
            work,
            seal,
            decode,
            split,
            encode,
            "epoch sealed"
        );
        let now = self.clock.wall_ms();
        self.bulletin.say(|note| note.sealed_at_ms = Some(now));
        if !self.metrics.is_on() {
            return;
        }
        let phases = [("take", take), ("work", work), ("seal", seal)];
        let cores = [("decode", decode), ("split", split), ("encode", encode)];
        phases.into_iter().chain(cores).for_each(|(phase, seconds)| self.phase(phase, seconds));
        self.metrics.count(&metric::EPOCHS, &[&self.job, kind_name(manifest.kind)], 1);
        self.rows(manifest);
        let job = &self.job;
        let watermarks = watermark_series(&manifest.watermarks);
        self.metrics.replace(&metric::WATERMARK, &[job], behind(&[job], watermarks));
        let bytes = |files: &[FileRef]| files.iter().map(|f| f.bytes).sum::<u64>() as f64;
        let state = manifest.state.iter().map(|(of, files)| (of.clone(), bytes(files)));
        self.metrics.replace(&metric::STATE_BYTES, &[job], behind(&[job], state.collect()));
    }

    /// What became of the rows of a sealed epoch.
    fn rows(&self, manifest: &Manifest) {
        let metrics = &self.metrics;
        let count = |metric, source: &str, table: &str, outcome: &str, by: u64| {
            if by > 0 {
                metrics.count(metric, &[&self.job, source, table, outcome], by);
            }
        };
        for (name, part) in &manifest.sources {
            let rows = part.rows;
            let outcomes = [
                ("decoded", rows.decoded),
                ("rejected", rows.rejected),
                ("pruned", rows.pruned),
                ("lost", part.lost),
            ];
            outcomes.into_iter().for_each(|(how, by)| count(&metric::ROWS, name, "", how, by));
        }
        for (name, part) in &manifest.tables {
            let counts = part.counts;
            let outcomes = [
                ("written", counts.written),
                ("quarantined", counts.quarantined),
                ("dropped", counts.dropped),
                ("late", counts.late),
                ("deduplicated", counts.deduplicated),
                ("deleted", counts.deletes),
                ("removed", counts.removed),
            ];
            outcomes.into_iter().for_each(|(how, by)| count(&metric::ROWS, "", name, how, by));
            let (written, removed) = action_bytes(&part.action);
            count(&metric::BYTES, "", name, "written", written);
            count(&metric::BYTES, "", name, "removed", removed);
        }
    }

    /// What a sealed epoch had taken.
    pub fn took(&self, taken: &[Taken]) {
        for source in taken.iter().filter(|_| self.metrics.is_on()) {
            let bytes = source.splits.iter().map(|split| split.bytes).sum();
            let labels = [self.job.as_str(), &source.name, "", "taken"];
            self.metrics.count(&metric::BYTES, &labels, bytes);
        }
    }

    /// What tables hold.
    pub fn tables(&self, relations: &Relations) {
        if !self.metrics.is_on() {
            return;
        }
        let there = || relations.values().filter(|r| r.exists);
        let files = there().map(|r| (r.name.clone(), r.files.len() as f64)).collect();
        let bytes = |files: &[DataFile]| files.iter().map(|f| f.bytes).sum::<u64>() as f64;
        let bytes = there().map(|r| (r.name.clone(), bytes(&r.files))).collect();
        let first = [self.job.as_str()];
        self.metrics.replace(&metric::FILES, &first, behind(&first, files));
        self.metrics.replace(&metric::TABLE_BYTES, &first, behind(&first, bytes));
    }

    /// An epoch is published.
    pub fn published(
        &self,
        publisher: &Publisher,
        epoch: u64,
        seconds: f64,
        checkpointed: &BTreeMap<String, i64>,
    ) {
        tracing::info!(job = self.job, epoch, seconds, "epoch published");
        if !self.metrics.is_on() {
            return;
        }
        self.phase("publish", seconds);
        let now = self.clock.wall_ms() as f64 / 1e3;
        self.metrics.set(&metric::LAST_EPOCH, &[&self.job], now);
        let since = |(name, table): (&String, &PublisherTable)| {
            let head = table.head.as_ref()?;
            let last = checkpointed.get(name).copied().max(head.checkpoint);
            Some((name.clone(), (head.version - last.unwrap_or(-1)) as f64))
        };
        let logs = publisher.tables.iter().filter_map(since).collect();
        let first = [self.job.as_str()];
        self.metrics.replace(&metric::LOG_VERSIONS, &first, behind(&first, logs));
    }

    /// The run failed, whether or not it goes on.
    pub fn failed(&self, error: &Error) {
        let kind = error.kind().name();
        self.metrics.count(&metric::FAILURES, &[&self.job, kind], 1);
        let (at_ms, message) = (self.clock.wall_ms(), error.chain());
        let trouble = Trouble { at_ms, kind: kind.to_string(), message };
        self.bulletin.say(|note| note.trouble = Some(trouble));
    }

    /// Whether a dependency does not answer.
    pub fn missing(&self, dependency: &str, missing: bool) {
        let value = f64::from(u8::from(missing));
        self.metrics.set(&metric::DEPENDENCY_MISSING, &[&self.job, dependency], value);
    }

    /// All of these answer, and there are no others.
    pub fn nothing_missing(&self, dependencies: &[String]) {
        let first = [self.job.as_str()];
        let here = dependencies.iter().map(|name| (name.clone(), 0.0)).collect();
        self.metrics.replace(&metric::DEPENDENCY_MISSING, &first, behind(&first, here));
    }

    /// No dependency is left alone any more, whatever an earlier run said.
    pub fn no_circuit(&self) {
        self.metrics.replace(&metric::CIRCUIT_OPEN, &[&self.job], Vec::new());
    }

    /// Whether a dependency is left alone.
    pub fn circuit(&self, dependency: &str, open: bool) {
        let value = f64::from(u8::from(open));
        self.metrics.set(&metric::CIRCUIT_OPEN, &[&self.job, dependency], value);
    }
}

/// Figures by name.
type Named = Vec<(String, f64)>;

/// Rows and seconds that partitions are behind, where that is known.
fn lag_series(lags: &[Lag], now_ms: i64) -> (Named, Named) {
    let rows = lags.iter().map(|lag| (lag.partition.clone(), lag.rows as f64)).collect();
    let seconds = lags.iter().filter_map(|lag| {
        let behind = match lag.rows {
            0 => 0.0,
            _ => now_ms.saturating_sub(lag.taken_ms?).max(0) as f64 / 1e3,
        };
        Some((lag.partition.clone(), behind))
    });
    let seconds = bounded(seconds.collect(), PARTITIONS_MAX, f64::max);
    (bounded(rows, PARTITIONS_MAX, |a, b| a + b), seconds)
}

/// Watermarks in seconds: where they are too many, those that are furthest behind.
fn watermark_series(watermarks: &BTreeMap<String, i64>) -> Named {
    let backwards = watermarks.iter().map(|(of, ms)| (of.clone(), -(*ms as f64) / 1e3));
    let told = bounded(backwards.collect(), PARTITIONS_MAX, f64::max);
    told.into_iter().map(|(of, seconds)| (of, -seconds)).collect()
}

/// Figures behind the labels that they have in common.
fn behind(first: &[&str], figures: Named) -> Vec<Series> {
    let labels = |last: String| {
        first.iter().map(|label| (*label).to_string()).chain([last]).collect::<Vec<String>>()
    };
    figures.into_iter().map(|(last, figure)| (labels(last), figure)).collect()
}

fn action_bytes(action: &Action) -> (u64, u64) {
    match action {
        Action::None => (0, 0),
        Action::Delta(action) => {
            let added = action.adds.iter().map(|f| f.bytes).sum();
            (added, action.removes.iter().map(|f| f.bytes).sum())
        }
        Action::Files(files) => (files.copies.iter().map(|c| c.bytes).sum(), 0),
        Action::Outbox(outbox) => (outbox.files.iter().map(|f| f.bytes).sum(), 0),
    }
}

fn kind_name(kind: EpochKind) -> &'static str {
    match kind {
        EpochKind::Data => "data",
        EpochKind::Compaction => "compaction",
        EpochKind::Rebuild => "rebuild",
        EpochKind::Adopt => "adopt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_an_age_only_while_rows_wait() {
        let lag = |partition: &str, rows, taken_ms| Lag {
            partition: partition.to_string(),
            rows,
            taken_ms,
        };
        let lags = [
            lag("t/0", 5, Some(40_000)),
            lag("t/1", 0, Some(1_000)),
            lag("t/2", 7, None),
            lag("t/3", 1, Some(99_000)),
        ];
        let (rows, seconds) = lag_series(&lags, 50_000);
        let named = |list: &[(&str, f64)]| -> Vec<(String, f64)> {
            list.iter().map(|(name, figure)| (name.to_string(), *figure)).collect()
        };
        assert_eq!(rows, named(&[("t/0", 5.0), ("t/1", 0.0), ("t/2", 7.0), ("t/3", 1.0)]));
        // A clock that jumped back makes nothing negative.
        assert_eq!(seconds, named(&[("t/0", 10.0), ("t/1", 0.0), ("t/3", 0.0)]));
    }

    #[test]
    fn partitions_beyond_the_limit_are_one() {
        let lag = |n: usize| Lag { partition: format!("t/{n}"), rows: 1, taken_ms: Some(0) };
        let lags: Vec<Lag> = (0..PARTITIONS_MAX + 5).map(lag).collect();
        let (rows, seconds) = lag_series(&lags, 3_000);
        assert_eq!(rows.len(), PARTITIONS_MAX + 1);
        assert_eq!(rows.last(), Some(&("other".to_string(), 5.0)));
        assert_eq!(seconds.last(), Some(&("other".to_string(), 3.0)));
        // Of watermarks the lowest count.
        let all = (0..).map(|n: i64| (format!("s/t/{n:03}"), n * 1_500));
        let told = watermark_series(&all.take(PARTITIONS_MAX + 5).collect());
        assert_eq!(told.len(), PARTITIONS_MAX + 1);
        assert_eq!(told[2], ("s/t/002".to_string(), 3.0));
        let least = PARTITIONS_MAX as f64 * 1.5;
        assert_eq!(told.last(), Some(&("other".to_string(), least)));
    }
}
