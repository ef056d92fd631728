//! What became of a table since its last position was sealed.
//!
//! In: facts about the log. Out: whether reading goes on, or what is lost. Nothing is read here.

use sluice_core::Error;
use sluice_lake::delta::feed::Extent;

use super::position::Position;

/// What is known of the log, beside the position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// What the log has.
    pub(super) extent: Extent,
    /// Whether the entry of the position's version is the one that was read; none when it is gone or
    /// never was there.
    pub(super) same_entry: Option<bool>,
    /// The table's id, where it had to be asked.
    pub(super) table: Option<&'a str>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next version follows what was taken.
    GoesOn,
    /// Another table stands in the place of the one that was read.
    Recreated,
    /// The log ends before the position: the table was set back.
    SetBack,
    /// The version at the position is another one than was taken.
    Rewritten,
    /// Versions from the first to the last of these were not taken and are gone.
    Gone(i64, i64),
}

/// Holds a log against a position.
pub(super) fn judge(position: &Position, facts: Facts) -> Verdict {
    let Extent { first, newest } = facts.extent;
    // A version that was begun has to be read again.
    let next = if position.files.is_some() { position.version } else { position.version + 1 };
    let table = position.table.as_str();
    if facts.table.is_some_and(|now| !table.is_empty() && now != table) {
        return Verdict::Recreated;
    }
    if newest < position.version {
        return Verdict::SetBack;
    }
    if facts.same_entry == Some(false) {
        return Verdict::Rewritten;
    }
    // The rows of a snapshot can be told from a checkpoint; whether they are is found out by trying.
    let in_snapshot = position.snapshot && position.files.is_some();
    if next < first && next <= newest && !in_snapshot {
        return Verdict::Gone(next, first - 1);
    }
    Verdict::GoesOn
}

/// The error for a verdict that stops the job; none for one that does not.
pub(super) fn refusal(verdict: Verdict, table: &str, position: &Position) -> Option<Error> {
    let version = position.version;
    let (message, hint) = match verdict {
        Verdict::GoesOn => return None,
        Verdict::Recreated => (
            format!(
                "another table stands in the place of the one that was read table={table} version={version}"
            ),
            "with --accept-loss the new table is read from its beginning: all its rows, then what comes",
        ),
        Verdict::SetBack => (
            format!(
                "the table was set back behind what was read of it table={table} version={version}"
            ),
            "put its log back; with --accept-loss only what comes from now on is read",
        ),
        Verdict::Rewritten => (
            format!(
                "the log was rewritten: a version is not the one that was read table={table} version={version}"
            ),
            "put its log back; with --accept-loss reading goes on behind this version",
        ),
        Verdict::Gone(from, to) => (
            format!(
                "versions were cleaned up before they were read table={table} from={from} to={to}"
            ),
            "let the table keep its log longer (delta.logRetentionDuration); with --accept-loss reading \
             goes on behind them",
        ),
    };
    Some(Error::conflict(message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_on_or_something_is_lost() {
        let at = |version, files, snapshot| Position {
            version,
            files,
            snapshot,
            table: "a".into(),
            entry: "e".into(),
        };
        let extent = |first, newest| Extent { first, newest };
        let cases = [
            (at(5, None, false), extent(0, 9), Some(true), None, Verdict::GoesOn),
            (at(5, None, false), extent(0, 5), Some(true), None, Verdict::GoesOn),
            (at(5, None, false), extent(6, 9), None, Some("a"), Verdict::GoesOn),
            (at(5, None, false), extent(6, 5), None, Some("a"), Verdict::GoesOn),
            (at(5, None, false), extent(8, 9), None, Some("a"), Verdict::Gone(6, 7)),
            (at(5, Some(1), false), extent(6, 9), None, Some("a"), Verdict::Gone(5, 5)),
            (at(5, Some(1), true), extent(6, 9), None, Some("a"), Verdict::GoesOn),
            (at(5, None, false), extent(0, 3), None, Some("a"), Verdict::SetBack),
            (at(5, None, false), extent(0, 3), None, Some("b"), Verdict::Recreated),
            (at(5, None, false), extent(0, 9), Some(false), Some("b"), Verdict::Recreated),
            (at(5, None, false), extent(0, 9), Some(false), Some("a"), Verdict::Rewritten),
            (at(-1, None, false), extent(0, 3), None, None, Verdict::GoesOn),
            (at(-1, None, false), extent(2, 3), None, None, Verdict::Gone(0, 1)),
        ];
        for (position, extent, same_entry, table, want) in cases {
            let facts = Facts { extent, same_entry, table };
            let verdict = judge(&position, facts);
            assert_eq!(verdict, want, "{position:?} {facts:?}");
            let refused = refusal(verdict, "t", &position);
            assert_eq!(refused.is_none(), want == Verdict::GoesOn);
            let hinted =
                refused.iter().all(|e| e.hint_text().is_some_and(|h| h.contains("--accept-loss")));
            assert!(hinted, "{refused:?}");
        }
    }
}
