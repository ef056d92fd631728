//! Taking what sources have, until a pure function of rows, bytes, files, time and end closes the
//! intake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use sluice_core::{
    Advance, FieldSpec, Intake, Kind, Limit, Memory, Offsets, Reader, Rejected, Result,
};
use sluice_core::{Source, Split};
use tokio_util::sync::CancellationToken;

use super::Environment;
use crate::catalog::{Aside, Tally};
use crate::job::EpochLimits;

/// How long to wait before asking sources again that had nothing: short enough not to be felt,
/// long enough not to burn a core.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A source at work.
pub struct SourceRun {
    /// Its name in the job.
    pub name: String,
    /// The connector's source.
    pub source: Box<dyn Source>,
    /// The next position per partition after everything taken so far.
    pub offsets: Offsets,
}

/// What one epoch took of one source.
#[derive(Debug)]
pub struct Taken {
    /// The source's name.
    pub name: String,
    /// What was taken per partition.
    pub advances: Vec<Advance>,
    /// The next position per partition.
    pub offsets: Offsets,
    /// State rows to seal.
    pub state: Vec<RecordBatch>,
    /// Opens the splits.
    pub reader: Arc<dyn Reader>,
    /// What there is to read; ordinals are unique.
    pub splits: Vec<Split>,
    /// Files whose earlier rows are to be retracted.
    pub retracted: Vec<String>,
    /// Files that cannot be read at all.
    pub unreadable: Vec<Rejected>,
    /// Positions that hold no row, where positions are rows.
    pub gaps: Option<u64>,
    /// Positions whose rows were gone.
    pub lost: u64,
    /// The newest event time that was taken, per partition of which one is known.
    pub newest_ms: BTreeMap<String, i64>,
    /// What reading found.
    pub tally: Arc<Tally>,
}

impl Taken {
    /// How much became a rejected row: rows of files, and files that cannot be read.
    pub fn rejected(&self) -> u64 {
        self.tally.rejected() + self.unreadable.len() as u64
    }
}

/// Facts the closing of an intake depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Estimated rows taken.
    pub rows: u64,
    /// Bytes taken.
    pub bytes: u64,
    /// Splits taken.
    pub splits: u64,
    /// Time since the epoch opened.
    pub open_for: Duration,
    /// Whether some source has more right now.
    pub more: bool,
    /// Whether some source can hold no more.
    pub full: bool,
    /// Whether the run goes on when sources are empty.
    pub follow: bool,
}

/// What to do with an open intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Close it and run the epoch.
    Close,
    /// Ask the sources again at once.
    Ask,
    /// Ask the sources again after a pause.
    Wait,
    /// Nothing was taken and nothing will come: the run is over.
    End,
}

/// Whether an intake is closed: the only place that decides it.
pub fn decide(facts: Facts, limits: &EpochLimits) -> Next {
    let full = facts.full || facts.rows >= limits.rows || facts.bytes >= limits.bytes;
    let late = limits.every.is_none_or(|every| facts.open_for >= every);
    match (facts.splits > 0, facts.more) {
        (true, _) if full => Next::Close,
        // Without `follow` the epoch takes what is there; with it, it stays open until `every`.
        (true, true) if limits.every.is_none() => Next::Close,
        (_, true) => Next::Ask,
        (true, false) if late || !facts.follow => Next::Close,
        (true, false) => Next::Wait,
        (false, false) if facts.follow => Next::Wait,
        (false, false) => Next::End,
    }
}

/// How taking ended.
#[derive(Debug)]
pub enum Closed {
    /// An epoch is to be run over this.
    Epoch(Vec<Taken>),
    /// Nothing was taken: what comes next has columns that these sources do not know yet.
    Wider(BTreeMap<String, Vec<FieldSpec>>),
    /// The run is over, or was stopped before anything was taken.
    End,
}

/// Asks all sources until the intake is closed, or until `stop` is cancelled: an answer that does not
/// come at once is not waited for then. `over` is asked after each round in which all sources answered
/// whether that was the last one.
pub async fn take(
    sources: &mut [SourceRun],
    limits: &EpochLimits,
    follow: bool,
    env: &Environment,
    stop: &CancellationToken,
    over: &(dyn Fn(&[SourceRun], bool) -> bool + Send + Sync),
) -> Result<Closed> {
    let clock = &env.clock;
    let opened = clock.monotonic();
    let mut taken: Vec<Taken> = Vec::new();
    let mut facts = Facts {
        rows: 0,
        bytes: 0,
        splits: 0,
        open_for: Duration::ZERO,
        more: false,
        full: false,
        follow,
    };
    loop {
        facts.more = false;
        let mut trouble = None;
        let mut wider = BTreeMap::new();
        for run in sources.iter_mut() {
            let limit = Limit {
                rows: limits.rows.saturating_sub(facts.rows).max(1),
                bytes: limits.bytes.saturating_sub(facts.bytes).max(1),
                files: limits.files,
            };
            let Some(answer) = ask(run, limit, stop).await else { break };
            let intake = match answer {
                Ok(intake) => intake,
                Err(error) if error.kind() == Kind::Data => {
                    trouble.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            facts.more |= intake.more;
            facts.full |= intake.full;
            if !intake.columns.is_empty() {
                wider.insert(run.name.clone(), intake.columns.clone());
            }
            if intake.advances.is_empty() {
                continue;
            }
            facts.rows += intake.splits.iter().map(|s| s.rows).sum::<u64>();
            facts.bytes += intake.splits.iter().map(|s| s.bytes).sum::<u64>();
            facts.splits += 1;
            add(&mut taken, run, intake, &*env.memory);
        }
        facts.open_for = clock.monotonic().saturating_sub(opened);
        if let Some(error) = trouble {
            // What came before it is an epoch of its own; the next one meets the error first.
            return if taken.is_empty() { Err(error) } else { Ok(Closed::Epoch(taken)) };
        }
        if stop.is_cancelled() || over(&*sources, taken.is_empty()) {
            return Ok(if taken.is_empty() { Closed::End } else { Closed::Epoch(taken) });
        }
        if !wider.is_empty() {
            // The schema is constant within an epoch: the next one begins with what is wider.
            return Ok(if taken.is_empty() { Closed::Wider(wider) } else { Closed::Epoch(taken) });
        }
        match decide(facts, limits) {
            Next::Close => return Ok(Closed::Epoch(taken)),
            Next::End => return Ok(Closed::End),
            Next::Ask => {}
            Next::Wait => clock.sleep(ASK_AGAIN).await,
        }
    }
}

/// Asks one source; nothing if the run is stopped before it answers.
async fn ask(
    run: &mut SourceRun,
    limit: Limit,
    stop: &CancellationToken,
) -> Option<Result<Intake>> {
    let answer = tokio::select! {
        biased;
        answer = run.source.poll(limit) => answer,
        () = stop.cancelled() => return None,
    };
    for note in answer.iter().flat_map(|intake| &intake.notes) {
        tracing::warn!(source = run.name, "{note}");
    }
    Some(answer.map_err(|e| e.at_source(&run.name)))
}

/// Joins a poll to what the epoch has of the source already. One poll per epoch keeps one reader;
/// a second poll's splits follow the first's.
fn add(taken: &mut Vec<Taken>, run: &mut SourceRun, intake: Intake, memory: &dyn Memory) {
    for advance in &intake.advances {
        run.offsets.insert(advance.partition.clone(), advance.to.clone());
    }
    let at = taken.iter_mut().find(|t| t.name == run.name);
    let entry = match at {
        Some(entry) => entry,
        None => {
            taken.push(Taken {
                name: run.name.clone(),
                advances: Vec::new(),
                offsets: Offsets::new(),
                state: Vec::new(),
                reader: run.source.reader(),
                splits: Vec::new(),
                retracted: Vec::new(),
                unreadable: Vec::new(),
                gaps: None,
                lost: 0,
                newest_ms: BTreeMap::new(),
                tally: Arc::new(Tally::new(Aside::of(
                    memory,
                    &format!("rejected rows of source {}", run.name),
                ))),
            });
            let last = taken.len() - 1;
            &mut taken[last]
        }
    };
    let first = u32::try_from(entry.splits.len()).unwrap_or(u32::MAX);
    for (i, mut split) in intake.splits.into_iter().enumerate() {
        split.ordinal = first.saturating_add(u32::try_from(i).unwrap_or(u32::MAX));
        entry.splits.push(split);
    }
    for advance in intake.advances {
        match entry.advances.iter_mut().find(|a| a.partition == advance.partition) {
            Some(before) => before.to = advance.to,
            None => entry.advances.push(advance),
        }
    }
    entry.offsets = run.offsets.clone();
    entry.state.extend(intake.state);
    entry.retracted.extend(intake.retracted);
    entry.unreadable.extend(intake.unreadable);
    entry.lost += intake.lost;
    for (partition, ms) in intake.newest_ms {
        let newest = entry.newest_ms.entry(partition).or_insert(ms);
        *newest = ms.max(*newest);
    }
    entry.gaps = match (entry.gaps, intake.gaps) {
        (Some(before), Some(more)) => Some(before + more),
        (before, more) => before.or(more),
    };
    entry.reader = run.source.reader();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(rows: u64, splits: u64, more: bool, follow: bool, ms: u64) -> Facts {
        let open_for = Duration::from_millis(ms);
        Facts { rows, bytes: 0, splits, open_for, more, full: false, follow }
    }

    #[test]
    fn an_intake_closes_when_full_late_or_at_the_end() {
        let plain = EpochLimits { every: None, rows: 100, bytes: 1 << 30, files: 10 };
        let timed = EpochLimits { every: Some(Duration::from_secs(1)), ..plain.clone() };
        let cases = [
            (facts(100, 1, true, true, 0), &plain, Next::Close),
            (facts(10, 1, true, false, 0), &plain, Next::Close),
            (facts(10, 1, true, true, 0), &timed, Next::Ask),
            (facts(100, 1, true, true, 0), &timed, Next::Close),
            (facts(10, 1, false, true, 0), &timed, Next::Wait),
            (facts(10, 1, false, true, 1000), &timed, Next::Close),
            (facts(10, 1, false, false, 0), &timed, Next::Close),
            (facts(0, 0, false, false, 0), &plain, Next::End),
            (facts(0, 0, false, true, 0), &plain, Next::Wait),
            (facts(0, 0, true, false, 0), &plain, Next::Ask),
        ];
        for (facts, limits, next) in cases {
            assert_eq!(decide(facts, limits), next, "{facts:?}");
        }
    }
}
