//! What one poll takes of the logs: which rows, in which splits, and what of it came twice.
//!
//! In: where each log is to be read from, and up to what. Out: splits, and how far each log was
//! taken. The ids of what is taken are on the disk before anybody gets it. It moves nothing:
//! whoever asked puts down what was taken.

use std::sync::Arc;

use serde_json::Value;
use sluice_core::{Held, Limit, Result, Split};

use super::log::Log;
use super::log::index::{Index, Met};
use super::log::record::Head;
use super::rows::Piece;

/// A split ends at this many rows or bytes: enough to make opening it cheap, few enough to keep all
/// cores busy.
const SPLIT_ROWS: u64 = 64 * 1024;
const SPLIT_BYTES: u64 = 4 * 1024 * 1024;

/// One poll takes at most this: more is there, and the next one takes it.
const POLL_ROWS: u64 = 1_000_000;
const POLL_BYTES: u64 = 256 * 1024 * 1024;

/// And at most this many ids that are new: they are in memory until they are on the disk, in one
/// write.
const POLL_IDS: usize = 100_000;

/// Deliveries that are looked at together.
const HEADS_AT_ONCE: usize = 1024;

/// A log, from the next row to take to behind the last that is there.
pub(super) struct Want {
    pub log: Arc<Log>,
    pub at: u64,
    pub to: u64,
}

/// How far one log was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    /// Behind the last row that was taken.
    pub to: u64,
    /// Rows that came twice.
    pub passed_over: u64,
    /// When the last delivery came.
    pub last_ms: Option<i64>,
}

/// What was taken.
pub(super) struct Gathered {
    pub splits: Vec<Split>,
    /// Of each log, in order.
    pub moved: Vec<Moved>,
    /// Whether more is there.
    pub more: bool,
}

/// Takes what is there, up to `limit`. Blocks.
pub(super) fn gather(
    wants: &[Want],
    index: Option<&Index>,
    window_ms: i64,
    limit: Limit,
) -> Result<Gathered> {
    let (mut left_rows, mut left_bytes) = (limit.rows.min(POLL_ROWS), limit.bytes.min(POLL_BYTES));
    let mut met = Met::default();
    let mut gathered = Gathered { splits: Vec::new(), moved: Vec::new(), more: false };
    for want in wants {
        let mut moved = Moved { to: want.at, passed_over: 0, last_ms: None };
        let mut cut = Cut::new(&want.log, want.at);
        while moved.to < want.to && left_rows > 0 && left_bytes > 0 && met.count() < POLL_IDS {
            let mut heads = want.log.heads(moved.to, want.to, HEADS_AT_ONCE)?;
            // The id of a delivery that is not taken now would let its double in another log be
            // passed over, and acknowledged, before it.
            heads.truncate(fitting(&heads, &mut left_rows, &mut left_bytes));
            let doubles = match index {
                Some(index) => index.sift(want.log.number(), &heads, window_ms, &mut met)?,
                None => vec![false; heads.len()],
            };
            for (head, double) in heads.iter().zip(doubles) {
                moved.to = head.end();
                moved.passed_over += if double { u64::from(head.rows) } else { 0 };
                moved.last_ms = Some(head.received_ms);
                cut.add(head, double, &mut gathered.splits);
            }
        }
        cut.end(&mut gathered.splits);
        gathered.more |= moved.to < want.to;
        gathered.moved.push(moved);
    }
    if let Some(index) = index {
        index.keep(met)?;
    }
    Ok(gathered)
}

/// How many deliveries are taken until nothing is left to be taken.
fn fitting(heads: &[Head], left_rows: &mut u64, left_bytes: &mut u64) -> usize {
    let mut count = 0;
    for head in heads {
        if *left_rows == 0 || *left_bytes == 0 {
            break;
        }
        *left_rows = left_rows.saturating_sub(u64::from(head.rows));
        *left_bytes = left_bytes.saturating_sub(head.bytes);
        count += 1;
    }
    count
}

/// The split that is being filled.
struct Cut<'l> {
    log: &'l Arc<Log>,
    from: u64,
    to: u64,
    rows: u64,
    bytes: u64,
    holes: Vec<(u64, u64)>,
}

impl<'l> Cut<'l> {
    fn new(log: &'l Arc<Log>, from: u64) -> Self {
        Self { log, from, to: from, rows: 0, bytes: 0, holes: Vec::new() }
    }

    fn add(&mut self, head: &Head, double: bool, splits: &mut Vec<Split>) {
        self.to = head.end();
        if double {
            self.holes.push((head.first, head.end()));
        } else {
            self.rows += u64::from(head.rows);
            self.bytes += head.bytes;
        }
        if self.rows >= SPLIT_ROWS || self.bytes >= SPLIT_BYTES {
            self.end(splits);
        }
    }

    /// Ends the split; one without rows is none.
    fn end(&mut self, splits: &mut Vec<Split>) {
        let (range, log) = ((self.from, self.to), self.log);
        let piece = Piece { log: log.clone(), holes: std::mem::take(&mut self.holes) };
        if self.rows > 0 {
            splits.push(Split {
                ordinal: u32::try_from(splits.len()).unwrap_or(u32::MAX),
                object: log.partition(),
                range,
                rows: self.rows,
                bytes: self.bytes,
                detail: Value::Null,
                held: Held::new(Arc::new(piece)),
            });
        }
        *self = Self::new(log, self.to);
    }
}
