//! Whether a job published something since it was looked at last.
//!
//! In: a lake, a job, the time. Out: its newest records, of its own chain and those beside it. Most
//! looks ask for one object per chain, the record that comes next; only now and then everything is
//! looked for, which finds chains that are new and jobs that began again.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_core::Result;
use sluice_lake::snapshot::{Published, Snapshots};
use sluice_lake::store::Location;

use crate::recover::{beside, united};

/// How long chains that are new may stay unseen. A look for everything lists a folder, which costs
/// money in a bucket.
const WHOLE_EVERY: Duration = Duration::from_secs(5);

/// Records that are followed in one look: more than come between two, few enough not to hold up
/// those of other jobs.
const AHEAD_MAX: u64 = 32;

/// What is known of the records of a job.
#[derive(Debug, Default)]
pub(super) struct Look {
    own: Option<Published>,
    beside: BTreeMap<String, Published>,
    whole_at: Option<Duration>,
}

/// What a look found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Whether there are records that were not known.
    pub newer: bool,
    /// Whether everything was looked for.
    pub whole: bool,
}

impl Look {
    /// Looks again at `now`, by a monotonic clock. After an error less is known than before, and
    /// the next look asks for everything.
    pub async fn again(&mut self, lake: &Location, job: &str, now: Duration) -> Result<Looked> {
        let due = self.whole_at.take().filter(|at| now.saturating_sub(*at) < WHOLE_EVERY);
        let newer = match due {
            Some(_) => self.ahead(lake, job).await?,
            None => self.whole(lake, job).await?,
        };
        self.whole_at = due.or(Some(now));
        Ok(Looked { newer, whole: due.is_none() })
    }

    /// What readers see of the job; none before its first epoch.
    pub fn published(&self) -> Option<Published> {
        let own = self.own.clone()?;
        Some(united(own, self.beside.values().cloned().collect()))
    }

    async fn whole(&mut self, lake: &Location, job: &str) -> Result<bool> {
        let own = Snapshots::new(lake, job).latest().await?;
        let mut others = BTreeMap::new();
        if own.is_some() {
            for chain in beside(lake, job).await? {
                if let Some(last) = Snapshots::new(lake, &chain).latest().await? {
                    others.insert(chain, last);
                }
            }
        }
        let newer = self.own != own || self.beside != others;
        self.own = own;
        self.beside = others;
        Ok(newer)
    }

    async fn ahead(&mut self, lake: &Location, job: &str) -> Result<bool> {
        let mut newer = false;
        if let Some(record) = after(lake, job, self.own.as_ref()).await? {
            self.own = Some(record);
            newer = true;
        }
        for (chain, last) in &mut self.beside {
            if let Some(record) = after(lake, chain, Some(last)).await? {
                *last = record;
                newer = true;
            }
        }
        Ok(newer)
    }
}

/// The newest record of a chain that follows on `last`; none where none does.
async fn after(
    lake: &Location,
    chain: &str,
    last: Option<&Published>,
) -> Result<Option<Published>> {
    let records = Snapshots::new(lake, chain);
    let next = last.map_or(0, |last| last.epoch + 1);
    let mut newest = None;
    for epoch in next..next + AHEAD_MAX {
        let Some(record) = records.get(epoch).await? else { break };
        newest = Some(record);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(job: &str, epoch: u64, life: &str) -> Published {
        Published {
            epoch,
            incarnation: life.to_string(),
            job: job.to_string(),
            published_at_ms: 0,
            tables: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn records_are_followed_and_now_and_then_looked_for() {
        let lake = sluice_lake::store::open("memory://look/lake", &Default::default()).unwrap();
        let mut look = Look::default();
        let second = Duration::from_secs(1);
        let looked = |newer, whole| Looked { newer, whole };
        assert_eq!(look.again(&lake, "a", second).await.unwrap(), looked(false, true));
        assert_eq!(look.published(), None);

        let own = Snapshots::new(&lake, "a");
        own.write(&record("a", 0, "x")).await.unwrap();
        own.write(&record("a", 1, "x")).await.unwrap();
        assert_eq!(look.again(&lake, "a", 2 * second).await.unwrap(), looked(true, false));
        assert_eq!(look.published().unwrap().epoch, 1);
        assert_eq!(look.again(&lake, "a", 3 * second).await.unwrap(), looked(false, false));

        // A chain beside is seen when everything is looked for, and followed from then on.
        let beside = Snapshots::new(&lake, "a@1of2");
        beside.write(&record("a@1of2", 0, "x")).await.unwrap();
        assert_eq!(look.again(&lake, "a", 4 * second).await.unwrap(), looked(false, false));
        assert_eq!(look.again(&lake, "a", 6 * second).await.unwrap(), looked(true, true));
        assert_eq!(look.published().unwrap().epoch, 2);
        beside.write(&record("a@1of2", 1, "x")).await.unwrap();
        assert_eq!(look.again(&lake, "a", 7 * second).await.unwrap(), looked(true, false));
        assert_eq!(look.published().unwrap().epoch, 3);
    }
}
