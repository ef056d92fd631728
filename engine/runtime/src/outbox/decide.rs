//! What to do, as functions of what is known: where to go on, and whether a new epoch may begin. How
//! long to wait after a failure is [`sluice_core::Breaker`]'s.

use serde::Serialize;
use sluice_core::OutboxPosition;

use crate::job::BacklogLimits;

/// Attempts in a row that may fail before a run that is to end gives up, and before a full outbox
/// stops one that is not: with the waits between them about ten seconds and what the outside takes
/// to fail, longer than the usual hiccup and shorter than a person's patience.
pub(super) const ATTEMPTS_MAX: u32 = 5;

/// What waits in an outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Epochs with rows.
    pub epochs: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Backlog {
    /// Adds what else waits.
    pub fn add(&mut self, other: Backlog) {
        self.epochs += other.epochs;
        self.rows += other.rows;
        self.bytes += other.bytes;
    }

    /// Takes away what waits no more.
    pub fn take(&mut self, other: Backlog) {
        self.epochs = self.epochs.saturating_sub(other.epochs);
        self.rows = self.rows.saturating_sub(other.rows);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// Whether a new epoch may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// It may.
    Room,
    /// It waits until something is delivered.
    Wait,
    /// Nothing is delivered: the job stops.
    Full,
}

/// Decides whether a new epoch may begin.
pub fn decide_pressure(backlog: Backlog, limits: BacklogLimits, failures: u32) -> Pressure {
    if backlog.epochs < limits.epochs && backlog.bytes < limits.bytes {
        Pressure::Room
    } else if failures < ATTEMPTS_MAX {
        Pressure::Wait
    } else {
        Pressure::Full
    }
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// Behind this position, or at the beginning.
    After(Option<OutboxPosition>),
    /// The outside has an epoch that the chain never sealed.
    Ahead(u64),
}

/// Decides where to go on: `recorded` is the last epoch that is recorded as delivered, `held` what
/// the outside says of itself, `sealed` the last epoch of the chain. The record is written after
/// the outside has the rows, so the outside's own word is never behind it unless it was lost.
pub(super) fn decide_begin(
    recorded: Option<u64>,
    held: Option<OutboxPosition>,
    sealed: Option<u64>,
) -> Begin {
    let recorded = recorded.map(|epoch| OutboxPosition { epoch, file: u32::MAX });
    match recorded.max(held) {
        Some(at) if sealed.is_none_or(|sealed| at.epoch > sealed) => Begin::Ahead(at.epoch),
        at => Begin::After(at),
    }
}

/// The first file of `epoch`, which has so many, that is not delivered; none when all are.
pub(super) fn next_file(delivered: Option<OutboxPosition>, epoch: u64, files: u32) -> Option<u32> {
    let next = match delivered {
        Some(at) if at.epoch > epoch => return None,
        Some(at) if at.epoch == epoch => at.file.checked_add(1)?,
        _ => 0,
    };
    (next < files).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, file: u32) -> Option<OutboxPosition> {
        Some(OutboxPosition { epoch, file })
    }

    #[test]
    fn delivery_goes_on_behind_what_is_known() {
        let cases = [
            // Recorded, held, sealed.
            (None, None, None, Begin::After(None)),
            (None, None, Some(7), Begin::After(None)),
            (Some(3), None, Some(7), Begin::After(at(3, u32::MAX))),
            // The outside got a file and the runner died before it wrote a record.
            (Some(3), at(4, 0), Some(7), Begin::After(at(4, 0))),
            (None, at(4, 2), Some(7), Begin::After(at(4, 2))),
            // The outside forgot.
            (Some(5), at(4, 2), Some(7), Begin::After(at(5, u32::MAX))),
            // The lake is older than what was delivered from it.
            (Some(3), at(8, 0), Some(7), Begin::Ahead(8)),
            (None, at(0, 0), None, Begin::Ahead(0)),
        ];
        for (recorded, held, sealed, expected) in cases {
            let begin = decide_begin(recorded, held, sealed);
            assert_eq!(begin, expected, "{recorded:?} {held:?} {sealed:?}");
        }
    }

    #[test]
    fn files_are_delivered_in_order_and_once() {
        let cases = [
            (None, 4, 2, Some(0)),
            (at(3, u32::MAX), 4, 2, Some(0)),
            (at(4, 0), 4, 2, Some(1)),
            (at(4, 1), 4, 2, None),
            (at(4, u32::MAX), 4, 2, None),
            (at(5, 0), 4, 2, None),
        ];
        for (delivered, epoch, files, expected) in cases {
            assert_eq!(next_file(delivered, epoch, files), expected, "{delivered:?}");
        }
    }

    #[test]
    fn a_full_outbox_waits_while_something_moves() {
        let limits = BacklogLimits { epochs: 3, bytes: 100 };
        let backlog = |epochs, bytes| Backlog { epochs, rows: 0, bytes };
        let cases = [
            (backlog(2, 99), ATTEMPTS_MAX, Pressure::Room),
            (backlog(3, 0), 0, Pressure::Wait),
            (backlog(0, 100), ATTEMPTS_MAX - 1, Pressure::Wait),
            (backlog(3, 0), ATTEMPTS_MAX, Pressure::Full),
        ];
        for (backlog, failures, expected) in cases {
            assert_eq!(decide_pressure(backlog, limits, failures), expected, "{backlog:?}");
        }
    }
}
