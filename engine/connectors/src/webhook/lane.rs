//! The logs that a source reads: where it begins in each, and which ones others left.
//!
//! In: a log, and where manifests say that it ends. Out: a lane, or the word that nothing is in it;
//! and what cannot be gone on with: rows that are gone, a log that is older than the manifests. It
//! takes no rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_core::{Error, Ids, Kind, Result};

use super::channel::Channel;
use super::log::Log;

/// A log that is read.
pub(super) struct Lane {
    pub log: Arc<Log>,
    /// The next row to take.
    pub at: u64,
    /// Behind the last row of a run that is to end.
    until: Option<u64>,
    /// Rows before `at` that are gone, and were not told yet.
    pub lost: u64,
    /// When the last row came that was taken.
    pub taken_ms: Option<i64>,
}

impl Lane {
    /// Behind the last row that is to be taken now.
    pub(super) fn end(&self) -> u64 {
        let next = self.log.next();
        self.until.map_or(next, |until| until.min(next))
    }
}

/// How logs are taken up.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    /// Nothing is taken that comes later.
    pub bounded: bool,
    /// What is lost is gone on behind.
    pub accept_loss: bool,
}

/// What a log is that was found.
pub(super) enum Found {
    Lane(Lane),
    /// All of it is published, and it is not ours: the slot, and how often somebody had taken it.
    Empty(u32, Option<u64>),
}

/// Where reading a log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    At(u64),
    /// Rows before this one are gone.
    Behind {
        lost: u64,
        at: u64,
    },
    /// It lacks what was taken of it: it is an older copy.
    Older,
}

/// Where to begin in a log that keeps rows from `first` on and of which nobody can have read more
/// than what is before `seen`; manifests took what is before `known`. How many rows there are says
/// nothing: an older copy gives the numbers of those it lacks to others.
fn begin(first: u64, seen: u64, known: Option<u64>) -> Begin {
    match known {
        None => Begin::At(first),
        Some(known) if known < first => Begin::Behind { lost: first - known, at: first },
        Some(known) if known > seen => Begin::Older,
        Some(known) => Begin::At(known),
    }
}

/// Begins to read a log of which manifests took what is before `known`. Gives what a person should
/// know with it. Blocks. Errors: of kind `Data` when something is lost that nobody accepted.
pub(super) fn take_up(
    channel: &Channel,
    ids: &dyn Ids,
    log: Arc<Log>,
    known: Option<u64>,
    terms: Terms,
) -> Result<(Found, Option<String>)> {
    let partition = log.partition();
    let (at, lost, note) = match begin(log.first(), log.seen(), known) {
        Begin::At(at) => {
            // What is before it is published: nobody seeks before that.
            if known.is_some() {
                forget(channel, &log, at);
            }
            (at, 0, None)
        }
        Begin::Behind { lost, at } => {
            let note = format!("rows are gone partition={partition} rows={lost}");
            (at, lost, Some(accepted(note, terms)?))
        }
        Begin::Older => {
            let note = format!("a log is older than what was taken of it partition={partition}");
            let note = accepted(note, terms)?;
            log.renew(ids)?;
            (log.first(), 0, Some(format!("{note} now={}", log.partition())))
        }
    };
    if lost == 0 && log.first() == log.next() && !is_own(channel, &log) {
        // As long as it is ours nobody else takes it. Then it is closed, which takes a moment.
        let slot = log.slot();
        return Ok((Found::Empty(slot, channel.place.times_taken(slot)), note));
    }
    log.begin_reading()?;
    let until = terms.bounded.then(|| log.next());
    Ok((Found::Lane(Lane { log, at, until, lost, taken_ms: None }), note))
}

/// `loss`, if it was accepted.
fn accepted(loss: String, terms: Terms) -> Result<String> {
    if terms.accept_loss {
        return Ok(loss);
    }
    Err(Error::new(Kind::Data, loss)
        .hint("look at the folder of the log; --accept-loss goes on behind what is gone"))
}

/// Removes published rows from a log. Where that fails they stay longer than they have to, and are
/// not taken again. Blocks.
pub(super) fn forget(channel: &Channel, log: &Log, row: u64) {
    if let Err(error) = channel.forget(log, row) {
        let (partition, error) = (log.partition(), error.chain());
        tracing::warn!(partition, error, "published rows could not be removed");
    }
}

/// Whether a log is the one that this process writes to.
pub(super) fn is_own(channel: &Channel, log: &Arc<Log>) -> bool {
    channel.log().is_some_and(|own| Arc::ptr_eq(&own, log))
}

/// What was found in the slots of others.
pub(super) struct Left {
    /// Logs with rows in them, of processes that have ended.
    pub logs: Vec<Arc<Log>>,
    /// Whether somebody has one: rows may wait in it for as long as it likes.
    pub locked: bool,
}

/// Looks for logs that other processes left with rows in them; `held` are those that are read, and
/// `empty` slots that nobody need look at while they are taken as often as that. Blocks.
pub(super) fn left(
    channel: &Channel,
    ids: &dyn Ids,
    held: &[u32],
    empty: &mut BTreeMap<u32, u64>,
) -> Result<Left> {
    let place = &channel.place;
    let mut left = Left { logs: Vec::new(), locked: false };
    for slot in place.slots()?.into_iter().filter(|slot| !held.contains(slot)) {
        // Nobody had it since it was empty.
        if empty.get(&slot).is_some_and(|taken| Some(*taken) == place.times_taken(slot)) {
            continue;
        }
        let Some(log) = Log::open(place, slot, ids)? else {
            left.locked = true;
            continue;
        };
        if log.first() < log.next() {
            left.logs.push(log);
        } else if let Some(taken) = place.times_taken(slot) {
            empty.insert(slot, taken);
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_begins_where_manifests_end_or_says_what_is_gone() {
        let cases = [
            ((5, 9, None), Begin::At(5)),
            ((5, 9, Some(5)), Begin::At(5)),
            ((5, 9, Some(9)), Begin::At(9)),
            ((5, 9, Some(3)), Begin::Behind { lost: 2, at: 5 }),
            ((5, 9, Some(10)), Begin::Older),
            ((0, 0, None), Begin::At(0)),
        ];
        for ((first, seen, known), expected) in cases {
            assert_eq!(begin(first, seen, known), expected);
        }
    }
}
