//! Generated rows as a source: counted, cut into ranges, made when they are read.
//!
//! In: a plan and a clock. Out: splits of row numbers, and batches made from them. The offset is
//! the number of rows handed out; a source whose `rows` shrank below it has nothing more to give.
//!
//! With a `rate` rows come as time passes. A run that is to end waits for the last of them, and takes
//! what gathered meanwhile; one that follows takes what is due whenever it asks.
//!
//! Of several shards each makes blocks of [`BLOCK_ROWS`] rows in turn, as if every block went to the
//! next of a topic's partitions. A shard counts its own rows only.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt;
use serde_json::Value;
use sluice_core::{
    Advance, Clock, Decoded, Error, Held, Intake, Lag, Limit, Offset, Offsets, Reader, Result,
    RowStream, Scan, Shard, Source, Split, Start,
};

use super::config::Settings;
use super::plan::Plan;

/// The only partition.
pub(super) const PARTITION: &str = "rows";

/// Rows of a split: enough to make opening it cheap, few enough to keep all cores busy.
const SPLIT_ROWS: u64 = 256 * 1024;

/// Rows of one shard before the next shard's begin: what fits a batch several times, and yet so few
/// that shards of small samples have rows too.
const BLOCK_ROWS: u64 = 1024;

/// Rows of a batch: what DataFusion's own operators work in, so that nothing is cut or joined.
const BATCH_ROWS: u64 = 8 * 1024;

/// What a row is taken to weigh in limits and plans; it is made, not stored.
const ROW_BYTES: u64 = 64;

/// Splits of one poll: a billion rows, so that the list stays small whatever the limit.
const SPLITS_MAX: u64 = 4096;

/// How long a run that is to end lets rows gather, and the longest wait in one poll: each of its polls
/// is an epoch with files of its own, and between polls it does whatever else it was asked to do.
const GATHER: Duration = Duration::from_millis(500);

/// The shortest wait: below it clocks do not tell one time from the next.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// What is said of rows that a run which is to end cannot wait for.
const ENDLESS: &str = "a run that ends takes none of the rows, which have no end: give `rows`, or let \
                       it follow";

/// A source of generated rows.
#[derive(Debug)]
pub(super) struct Rows {
    plan: Arc<Plan>,
    clock: Arc<dyn Clock>,
    rows: Option<u64>,
    rate: Option<f64>,
    /// Whether the run is to end.
    bounded: bool,
    /// Whether it was said that there is nothing to take.
    told: bool,
    /// Which rows are ours.
    shard: Shard,
    /// Rows of ours handed out.
    taken: u64,
    /// Where this run began: rows handed out before it, and when it was.
    began: (u64, Duration),
}

impl Rows {
    /// A source that stands at its first row.
    pub(super) fn new(settings: &Settings, plan: Arc<Plan>, clock: Arc<dyn Clock>) -> Self {
        Self {
            plan,
            began: (0, clock.monotonic()),
            clock,
            rows: settings.rows,
            rate: settings.rate,
            bounded: false,
            told: false,
            shard: Shard { index: 0, count: 1 },
            taken: 0,
        }
    }

    /// How many rows of ours there will have been.
    fn all(&self) -> u64 {
        self.rows.map_or(u64::MAX, |rows| own_rows(rows, self.shard))
    }

    /// Rows of ours per second, if they are not all there at once.
    fn pace(&self) -> Option<f64> {
        self.rate.map(|rate| rate / f64::from(self.shard.count))
    }

    fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began.1)
    }

    /// How many rows of ours there are by now.
    fn due(&self) -> u64 {
        let Some(pace) = self.pace() else { return self.all() };
        let made = (self.elapsed().as_secs_f64() * pace) as u64;
        self.all().min(self.began.0.saturating_add(made))
    }

    /// Whether a run that is to end has rows to wait for.
    fn awaits(&self) -> bool {
        self.bounded && self.rate.is_some() && self.taken < self.all()
    }

    /// How long a run that is to end waits before it takes up to `most` rows; nothing where enough of
    /// them are there.
    fn wait(&self, most: u64) -> Option<Duration> {
        let pace = self.pace().filter(|_| self.awaits())?;
        let gathered = (pace * GATHER.as_secs_f64()) as u64;
        let rows = gathered.max(1).min(most).min(self.all() - self.taken);
        let until = self.taken + rows;
        if self.due() >= until {
            return None;
        }
        let due = (until - self.began.0) as f64 / pace;
        let due = Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX);
        Some(due.saturating_sub(self.elapsed()).clamp(WAIT_MIN, GATHER))
    }

    /// What a run that is to end takes of rows without end.
    fn endless(&mut self) -> Intake {
        let untold = !std::mem::replace(&mut self.told, true);
        Intake {
            notes: untold.then(|| ENDLESS.to_string()).into_iter().collect(),
            ..Intake::default()
        }
    }
}

#[async_trait]
impl Source for Rows {
    async fn seek(&mut self, start: Start) -> Result<()> {
        self.taken = match start.offsets.get(PARTITION) {
            None => 0,
            Some(Offset::At(taken)) => *taken,
            Some(Offset::Cursor(cursor)) => {
                return Err(Error::config(format!("not a count of rows cursor={cursor:?}"))
                    .hint("the source was of another kind; rename it or rebuild the job"));
            }
        };
        self.shard = start.shard.unwrap_or(self.shard);
        self.bounded = start.bounded;
        self.began = (self.taken, self.clock.monotonic());
        Ok(())
    }

    async fn poll(&mut self, limit: Limit) -> Result<Intake> {
        if self.bounded && self.rows.is_none() {
            return Ok(self.endless());
        }
        let most = limit.rows.min(limit.bytes / ROW_BYTES).clamp(1, SPLITS_MAX * SPLIT_ROWS);
        if let Some(wait) = self.wait(most) {
            self.clock.sleep(wait).await;
        }
        let due = self.due();
        let from = self.taken;
        let to = due.min(from.saturating_add(most));
        if to <= from {
            return Ok(Intake { more: self.awaits(), ..Intake::default() });
        }
        self.taken = to;
        Ok(Intake {
            advances: vec![Advance {
                partition: PARTITION.into(),
                from: Offset::At(from),
                to: Offset::At(to),
            }],
            splits: splits(from, to),
            more: to < due,
            ..Intake::default()
        })
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(Maker { plan: self.plan.clone(), shard: self.shard })
    }

    async fn acknowledge(&mut self, _offsets: &Offsets) -> Result<()> {
        Ok(())
    }

    fn lag(&self) -> Vec<Lag> {
        // Without an end there is always more.
        if self.rows.is_none() && self.rate.is_none() {
            return Vec::new();
        }
        let rows = self.due().saturating_sub(self.taken);
        vec![Lag { partition: PARTITION.into(), rows, taken_ms: None }]
    }
}

fn splits(from: u64, to: u64) -> Vec<Split> {
    let starts = (from..to).step_by(SPLIT_ROWS as usize);
    let split = |(ordinal, start): (u32, u64)| {
        let end = to.min(start + SPLIT_ROWS);
        Split {
            ordinal,
            object: PARTITION.into(),
            range: (start, end),
            rows: end - start,
            bytes: (end - start) * ROW_BYTES,
            detail: Value::Null,
            held: Held::default(),
        }
    };
    (0..).zip(starts).map(split).collect()
}

/// Makes the rows of splits.
#[derive(Debug)]
struct Maker {
    plan: Arc<Plan>,
    shard: Shard,
}

impl Reader for Maker {
    fn schema(&self) -> SchemaRef {
        self.plan.schema_with_position().clone()
    }

    fn open(&self, split: Split, _scan: &Scan) -> RowStream {
        let (plan, shard, (start, end)) = (self.plan.clone(), self.shard, split.range);
        let mut at = start;
        let ranges = std::iter::from_fn(move || {
            let next = next_batch(at, end, shard);
            at = next.end;
            (next.start < next.end).then_some(next)
        });
        let batch = move |own: Range<u64>| {
            let from = row_of(own.start, shard);
            let rows = plan.rows(from..from + (own.end - own.start))?;
            Ok(Decoded::new(rows, Vec::new()))
        };
        futures::stream::iter(ranges).map(batch).boxed()
    }
}

/// The rows of ours from `at` that are made at once: rows of one block follow each other.
fn next_batch(at: u64, end: u64, shard: Shard) -> Range<u64> {
    let block_end = (at / BLOCK_ROWS + 1) * BLOCK_ROWS;
    let most = if shard.count == 1 { at + BATCH_ROWS } else { block_end };
    at..end.min(most)
}

/// The number, among all rows, of row `own` of a shard.
fn row_of(own: u64, shard: Shard) -> u64 {
    let (block, within) = (own / BLOCK_ROWS, own % BLOCK_ROWS);
    (block * u64::from(shard.count) + u64::from(shard.index)) * BLOCK_ROWS + within
}

/// How many of the first `rows` rows are a shard's.
fn own_rows(rows: u64, shard: Shard) -> u64 {
    let round = BLOCK_ROWS * u64::from(shard.count);
    let before = u64::from(shard.index) * BLOCK_ROWS;
    rows / round * BLOCK_ROWS + (rows % round).saturating_sub(before).min(BLOCK_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_each_row_once() {
        for (count, rows) in [(1, 0), (1, 5000), (3, 10), (3, 1024), (3, 9 * 1024 + 7), (4, 8192)] {
            let mut all = Vec::new();
            for shard in Shard::all(count) {
                let (mut at, end) = (0, own_rows(rows, shard));
                while at < end {
                    let batch = next_batch(at, end, shard);
                    let from = row_of(batch.start, shard);
                    all.extend(from..from + (batch.end - batch.start));
                    at = batch.end;
                }
            }
            all.sort_unstable();
            assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{count} shards of {rows} rows");
        }
    }
}
