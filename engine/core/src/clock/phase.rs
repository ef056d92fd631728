//! Where the time of a run goes: seconds per phase of the data's path, added up over all cores.
//!
//! In: work, as it is done. Out: a sum per phase. Waiting is in no phase, but for the commit, which
//! is little else. It decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Clock;

/// A part of the path from bytes to a visible table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Bytes to typed rows.
    Decode,
    /// Rows of an epoch to rows of a partition.
    Split,
    /// Rows to the pages of files.
    Encode,
    /// The seal and the publication, from the last file to the published record.
    Commit,
}

impl Phase {
    /// All of them, in the order of the path.
    pub const ALL: [Self; 4] = [Self::Decode, Self::Split, Self::Encode, Self::Commit];

    /// Its name for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Split => "split",
            Self::Encode => "encode",
            Self::Commit => "commit",
        }
    }
}

/// The time spent in each phase so far.
#[derive(Debug)]
pub struct Phases {
    clock: Arc<dyn Clock>,
    nanos: [AtomicU64; Phase::ALL.len()],
}

impl Phases {
    /// Nothing spent yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, nanos: Default::default() })
    }

    /// Does `work` and counts its time.
    pub fn during<T>(&self, phase: Phase, work: impl FnOnce() -> T) -> T {
        let began = self.clock.monotonic();
        let done = work();
        self.since(phase, began);
        done
    }

    /// Counts the time since `began`, which the same clock told.
    pub fn since(&self, phase: Phase, began: Duration) {
        let spent = self.clock.monotonic().saturating_sub(began);
        let nanos = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.nanos[phase as usize].fetch_add(nanos, Ordering::Relaxed);
    }

    /// The seconds of each phase since they were last taken, by name.
    pub fn take(&self) -> BTreeMap<&'static str, f64> {
        let nanos = |phase: Phase| self.nanos[phase as usize].swap(0, Ordering::Relaxed);
        let seconds = |phase: Phase| Duration::from_nanos(nanos(phase)).as_secs_f64();
        Phase::ALL.into_iter().map(|phase| (phase.name(), seconds(phase))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    #[test]
    fn time_is_counted_where_it_was_spent_and_taken_once() {
        let clock = Arc::new(ManualClock::at(0));
        let phases = Phases::new(clock.clone());
        let done = phases.during(Phase::Split, || {
            clock.advance_ms(1500);
            7
        });
        phases.during(Phase::Split, || clock.advance_ms(500));
        phases.since(Phase::Commit, Duration::from_millis(1000));
        let expected = [("commit", 1.0), ("decode", 0.0), ("encode", 0.0), ("split", 2.0)];
        assert_eq!((done, phases.take()), (7, BTreeMap::from(expected)));
        assert!(phases.take().values().all(|seconds| *seconds == 0.0));
    }
}
