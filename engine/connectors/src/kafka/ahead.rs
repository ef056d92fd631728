//! What librdkafka may fetch ahead of the queue: a pure function of the memory and the partitions.
//!
//! In: bytes of the queue, how many partitions there are. Out: bytes of each, of all, and whether a
//! client can keep its limit when partitions come. Partitions have queues of their own, and librdkafka
//! holds each of them to the limit that the client was made with. Nothing is reserved here.

/// What all partitions may hold: a part of what the queue may have.
const AHEAD_SHARE: usize = 4;

/// Less is fetched of no partition: answers would hold next to nothing.
const EACH_MIN: usize = 64 * 1024;

/// Nor more: it is far beyond what a broker gives at once, and near the most that librdkafka takes.
const EACH_MAX: usize = 1024 * 1024 * 1024;

/// How much is fetched ahead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Bytes of one partition.
    pub each: usize,
    /// Bytes of all of them.
    pub all: usize,
}

impl Ahead {
    /// With a client for so many partitions that is made now.
    pub(super) fn of(queue_bytes: usize, partitions: usize) -> Self {
        let each = queue_bytes / AHEAD_SHARE / partitions.max(1);
        Self::with(each.clamp(EACH_MIN, EACH_MAX), partitions)
    }

    /// With the client that there is, when there are so many partitions; none when it has to be made
    /// anew, since with its limit they would hold more than twice of what they may.
    pub(super) fn grown(self, queue_bytes: usize, partitions: usize) -> Option<Self> {
        let anew = Self::of(queue_bytes, partitions);
        (self.each <= 2 * anew.each).then(|| Self::with(self.each, partitions))
    }

    fn with(each: usize, partitions: usize) -> Self {
        Self { each, all: each * partitions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;

    #[test]
    fn partitions_that_come_stay_within_the_memory() {
        // Bytes of the queue, partitions at first and then; bytes of each with the first client, and
        // with it or another of each and all.
        let cases = [
            (16 * MIB, 0, 1, 4 * MIB, true, (4 * MIB, 4 * MIB)),
            (16 * MIB, 4, 4, MIB, true, (MIB, 4 * MIB)),
            (16 * MIB, 4, 8, MIB, true, (MIB, 8 * MIB)),
            (16 * MIB, 4, 9, MIB, false, (4 * MIB / 9, 4 * MIB / 9 * 9)),
            (16 * MIB, 1, 64, 4 * MIB, false, (64 * KIB, 4 * MIB)),
            // Each at the least there is: another client would do the same, and all of it is counted.
            (16 * MIB, 64, 1_000, 64 * KIB, true, (64 * KIB, 1_000 * 64 * KIB)),
            (16 * MIB, 33, 1_000, 4 * MIB / 33, true, (4 * MIB / 33, 4 * MIB / 33 * 1_000)),
            (16 * MIB, 31, 1_000, 4 * MIB / 31, false, (64 * KIB, 1_000 * 64 * KIB)),
            (64 * 1024 * MIB, 1, 2, 1024 * MIB, true, (1024 * MIB, 2048 * MIB)),
        ];
        for (queue, before, now, each, stays, expected) in cases {
            let first = Ahead::of(queue, before);
            assert_eq!((first.each, first.all), (each, each * before), "{queue} {before}");
            let grown = first.grown(queue, now);
            assert_eq!(grown.is_some(), stays, "{queue} {before} {now}");
            let ahead = grown.unwrap_or_else(|| Ahead::of(queue, now));
            assert_eq!((ahead.each, ahead.all), expected, "{queue} {before} {now}");
            // What is counted is at most twice the share, or the least there is of each.
            assert!(ahead.all <= (queue / 2).max(2 * EACH_MIN * now), "{ahead:?}");
        }
    }
}
