//! Where reading a partition begins: a pure function of what was sealed and what the broker has.
//!
//! In: facts about one partition. Out: an offset, or what is lost and why. Nothing is ever reset in
//! silence: going on behind a loss is decided by whoever runs the job.

use sluice_core::{Error, Kind};

/// What is known of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// The next position after the last sealed epoch, if the partition was read before.
    pub recorded: Option<u64>,
    /// Whether the topic is another one of the same name than the one that was read.
    pub recreated: bool,
    /// The first offset that can still be read.
    pub low: u64,
    /// The offset behind the last message that may be read.
    pub high: u64,
    /// Where the source's `start:` says to begin with a partition that was never read.
    pub start: u64,
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Here; nothing is missing.
    At(u64),
    /// Messages from `from` on are gone; `to` is the first that is there.
    Gone {
        /// What would have been read next.
        from: u64,
        /// What can be read.
        to: u64,
    },
    /// The partition ends before what was read: it was cut off.
    Backwards {
        /// What would have been read next.
        recorded: u64,
        /// The end of the partition.
        high: u64,
    },
    /// The topic was deleted and created again: what came after `recorded` in the old one is gone.
    Recreated {
        /// What would have been read next.
        recorded: u64,
        /// The first message of the new one.
        low: u64,
    },
}

/// Where to begin.
pub(super) fn place(facts: Facts) -> Place {
    let Some(recorded) = facts.recorded else {
        return Place::At(facts.start.max(facts.low));
    };
    if facts.recreated {
        Place::Recreated { recorded, low: facts.low }
    } else if recorded > facts.high {
        Place::Backwards { recorded, high: facts.high }
    } else if recorded < facts.low {
        Place::Gone { from: recorded, to: facts.low }
    } else {
        Place::At(recorded)
    }
}

/// The hint of every loss.
const HINT: &str = "the rows cannot be had any more; `sluice run --accept-loss` goes on behind them \
                    and writes down what is lost";

impl Place {
    /// The loss as an error; none when nothing is lost.
    pub(super) fn loss(self, partition: &str) -> Option<Error> {
        let message = match self {
            Place::At(_) => return None,
            Place::Gone { from, to } => {
                let rows = to - from;
                format!(
                    "messages were deleted before they were read partition={partition} \
                     offsets={from}..{to} rows={rows}"
                )
            }
            Place::Backwards { recorded, high } => format!(
                "the partition ends before what was read of it partition={partition} \
                 read_to={recorded} ends_at={high}"
            ),
            Place::Recreated { recorded, low } => format!(
                "the topic was deleted and created again partition={partition} \
                 read_to={recorded} begins_at={low}"
            ),
        };
        Some(Error::new(Kind::Data, message).hint(HINT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told_and_nothing_else_is() {
        let plain = Facts { recorded: None, recreated: false, low: 10, high: 20, start: 0 };
        let read = |recorded| Facts { recorded: Some(recorded), ..plain };
        let cases = [
            (plain, Place::At(10)),
            (Facts { start: 15, ..plain }, Place::At(15)),
            (read(10), Place::At(10)),
            (read(20), Place::At(20)),
            (read(9), Place::Gone { from: 9, to: 10 }),
            (read(21), Place::Backwards { recorded: 21, high: 20 }),
            (Facts { recreated: true, ..read(12) }, Place::Recreated { recorded: 12, low: 10 }),
            (Facts { recreated: true, ..plain }, Place::At(10)),
            // An empty partition whose messages were all deleted.
            (Facts { low: 20, ..read(20) }, Place::At(20)),
        ];
        for (facts, expected) in cases {
            assert_eq!(place(facts), expected, "{facts:?}");
            assert_eq!(expected.loss("t/0").is_some(), !matches!(expected, Place::At(_)));
        }
    }
}
