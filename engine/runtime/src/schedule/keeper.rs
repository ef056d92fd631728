//! What a run does for its tables by itself, beside its epochs: checkpoints off the hot path,
//! folding, and once a day vacuum and old log entries.
//!
//! Nothing waits for it but the end of the run, and its failures are told and end nothing. What is
//! due follows from the chain alone, so that runs of one epoch each do as much as one long run.

use std::collections::BTreeMap;

use tokio::task::JoinHandle;

use super::upkeep::{Chores, House, Kept, Vacuum};

/// Manifests and records are folded once in so many epochs, at least and at most. Folding lists them
/// all: the longer a chain is, the more rarely, but not so that one fold could not take what has come.
const FOLD_EPOCHS: u64 = 64;
const FOLD_EPOCHS_MAX: u64 = 512;

/// A chain of so many times the epochs between two folds has them twice as far apart.
const FOLD_SHARE: u64 = 16;

const DAY_MS: i64 = 24 * 3_600_000;

/// An epoch and when it opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// The epoch.
    pub epoch: u64,
    /// Milliseconds since 1970.
    pub opened_at_ms: i64,
}

/// Works beside a run.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    task: Option<JoinHandle<()>>,
    /// Per table, the version whose checkpoint this run began last.
    checkpointed: BTreeMap<String, i64>,
    /// Up to when everything was looked at; none in the first epoch of a chain.
    seen: Option<Moment>,
}

impl Keeper {
    /// A keeper for a run that goes on after `last`.
    pub fn new(last: Option<Moment>) -> Self {
        Self { seen: last, ..Self::default() }
    }

    /// Per table, the version whose checkpoint this run began last.
    pub fn checkpointed(&self) -> &BTreeMap<String, i64> {
        &self.checkpointed
    }

    /// Begins what is due after an epoch was published; while it is still busy that waits for a
    /// later call.
    pub fn look(&mut self, house: House, now: Moment) {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let seen = self.seen.replace(now).unwrap_or(now);
        let chores = decide_chores(&house.tables, &self.checkpointed, seen, now);
        if chores.is_empty() {
            return;
        }
        for table in house.tables.iter().filter(|t| chores.checkpoint.contains(&t.name)) {
            self.checkpointed.insert(table.name.clone(), table.version);
        }
        self.task = Some(tokio::spawn(async move {
            match house.work(&chores).await {
                Ok(done) => done.iter().for_each(|line| tracing::info!("{line}")),
                Err(error) => {
                    tracing::warn!(error = error.chain(), "tables were not looked after");
                }
            }
        }));
    }

    /// Waits for what was begun.
    pub async fn finish(&mut self) {
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::warn!(%error, "tables were not looked after");
        }
    }
}

/// What is due at `now` that was not at `seen`.
fn decide_chores(
    tables: &[Kept],
    checkpointed: &BTreeMap<String, i64>,
    seen: Moment,
    now: Moment,
) -> Chores {
    let wants_checkpoint = |table: &&Kept| {
        let last = checkpointed.get(&table.name).copied().max(table.checkpoint);
        table.version - last.unwrap_or(-1) >= table.retention.checkpoint_interval
    };
    let day = |moment: Moment| moment.opened_at_ms.div_euclid(DAY_MS);
    let daily = day(seen) != day(now);
    let checkpoint = tables.iter().filter(wants_checkpoint).map(|t| t.name.clone());
    Chores {
        checkpoint: checkpoint.collect(),
        expire: daily,
        vacuum: daily.then(Vacuum::default),
        fold: daily || seen.epoch / fold_every(now.epoch) != now.epoch / fold_every(now.epoch),
    }
}

/// Epochs between two folds of a chain whose last is `epoch`: a power of two, so that they come at
/// the same epochs for as long as the chain has not doubled.
fn fold_every(epoch: u64) -> u64 {
    let share = (epoch / FOLD_SHARE).clamp(FOLD_EPOCHS, FOLD_EPOCHS_MAX);
    1 << share.ilog2()
}

#[cfg(test)]
mod tests {
    use sluice_core::Secrets;
    use sluice_lake::delta::Retention;
    use sluice_lake::store::open;

    use super::*;

    fn table(name: &str, version: i64, checkpoint: Option<i64>, interval: &str) -> Kept {
        let property = |key: &str| (key == "delta.checkpointInterval").then_some(interval);
        Kept {
            name: name.to_string(),
            location: open("memory://keeper/t", &Secrets::default()).unwrap(),
            version,
            checkpoint,
            retention: Retention::of(property),
        }
    }

    fn at(epoch: u64, hours: i64) -> Moment {
        Moment { epoch, opened_at_ms: hours * 3_600_000 }
    }

    #[test]
    fn checkpoints_are_due_every_so_many_versions() {
        let tables = [
            table("young", 98, None, "100"),
            table("first", 99, None, "100"),
            table("loaded", 150, Some(99), "100"),
            table("later", 199, Some(99), "100"),
            table("often", 20, Some(10), "10"),
            table("begun", 20, Some(10), "10"),
        ];
        let begun = BTreeMap::from([("begun".to_string(), 19)]);
        let chores = decide_chores(&tables, &begun, at(5, 1), at(6, 2));
        let due: Vec<&str> = chores.checkpoint.iter().map(String::as_str).collect();
        assert_eq!(due, ["first", "later", "often"]);
        assert!(!chores.expire && !chores.fold && chores.vacuum.is_none());
    }

    #[test]
    fn days_and_epochs_bring_the_rest() {
        // Daily, folding.
        let cases = [
            (at(5, 1), at(6, 2), false, false),
            (at(63, 1), at(64, 1), false, true),
            (at(60, 1), at(200, 2), false, true),
            (at(64, 1), at(127, 23), false, false),
            // Long chains.
            (at(2_047, 1), at(2_048, 1), false, true),
            (at(2_048, 1), at(2_175, 1), false, false),
            (at(2_175, 1), at(2_176, 1), false, true),
            (at(1_000_000, 1), at(1_000_447, 1), false, false),
            (at(1_000_447, 1), at(1_000_448, 1), false, true),
            (at(64, 1), at(65, 24), true, true),
            // A clock that jumps back is another day too: once more does no harm.
            (at(64, 25), at(65, 23), true, true),
        ];
        for (seen, now, daily, fold) in cases {
            let chores = decide_chores(&[], &BTreeMap::new(), seen, now);
            assert_eq!((chores.expire, chores.fold), (daily, fold), "{seen:?} {now:?}");
            assert_eq!(chores.vacuum, daily.then(Vacuum::default));
        }
    }
}
