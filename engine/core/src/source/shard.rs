//! Shards: fixed slices of a source's partitions, and who of several processes runs which.
//!
//! In: a number of slices. Out: whether a partition belongs to one, and what a connector promises
//! that decides between processes. Nothing correct rests on that decision: two processes that run
//! one shard at a time meet at its seal, where one of them loses.

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::Result;

/// A slice of the partitions: those whose number leaves `index` when divided by `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// Which slice, from 0.
    pub index: u32,
    /// How many there are, at least 1.
    pub count: u32,
}

impl Shard {
    /// All slices of `count`, in order.
    pub fn all(count: u32) -> impl Iterator<Item = Shard> {
        (0..count).map(move |index| Shard { index, count })
    }

    /// Whether partition number `partition` belongs to the slice.
    pub fn takes(&self, partition: u64) -> bool {
        partition % u64::from(self.count.max(1)) == u64::from(self.index)
    }
}

/// One process among those that run the shards of a job.
///
/// Guarantee: while members come and go, each shard is sooner or later told to one of them that
/// lives. For a while it may be told to two, or to none. Dropping it leaves the group.
#[async_trait]
pub trait Membership: Send {
    /// The shards that this process is to run from now on. It answers at once when called for the
    /// first time, if only with nothing, and then whenever the members were counted anew, even if
    /// the answer is the same: a shard that was lost meanwhile is then ours again. Cancel-safe.
    /// Errors: of kind `Unavailable` when the group cannot be reached any more.
    async fn next(&mut self) -> Result<BTreeSet<u32>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_belongs_to_one_slice() {
        for count in 1..7 {
            for partition in 0..40 {
                let takers = Shard::all(count).filter(|shard| shard.takes(partition));
                assert_eq!(takers.count(), 1, "partition {partition} of {count}");
            }
        }
    }
}
