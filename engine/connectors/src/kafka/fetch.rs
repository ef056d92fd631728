//! The thread that fetches: messages of all partitions, ahead of the epochs, as long as there is room.
//!
//! In: partitions with the offsets to begin at. Out: lanes of messages, one per partition, in the
//! order of offsets. An epoch takes what is there and never waits for a broker. What is lost or wrong
//! is put down per lane; what follows from it is the source's to decide.
//!
//! A lane's position is behind what has come and nowhere else: messages, and what librdkafka takes for
//! itself, marks of transactions and rows of those that were aborted. No broker is believed about an
//! end that was not read up to: one that leads since a moment ago may know less of it than the one
//! before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use sluice_core::{Error, Result};
use tokio::sync::Notify;

use super::connection::failed;
use super::events::Events;
use super::rows::{Headers, Kept, Message, Messages, Room};

/// Messages that are handed over at a time: the lanes are locked meanwhile, and intakes wait.
const ROUND: usize = 256;

/// How long the thread sleeps when nobody wakes it: room that came back is noticed that late.
const NAP: Duration = Duration::from_millis(10);

/// A partition to fetch.
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    /// The partition's name in offsets.
    pub key: Arc<str>,
    pub topic: Arc<str>,
    pub number: i32,
    /// The first offset wanted.
    pub from: u64,
    /// Where to end, for a run that takes what is there.
    pub end: Option<u64>,
}

/// What was fetched of one partition and not taken yet.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub ready: VecDeque<Messages>,
    /// The position behind what was fetched.
    pub next: u64,
    /// Whether the broker had nothing more when it was last asked.
    dry: bool,
    /// Whether all is there that is to be taken for now.
    pub at_end: bool,
}

impl Lane {
    /// Everything before `passed` has come, of a partition that is read up to `end`.
    fn came(&mut self, passed: u64, end: Option<u64>) {
        self.next = self.next.max(end.map_or(passed, |end| passed.min(end)));
        self.at_end = match end {
            Some(end) => self.next >= end,
            None => self.dry,
        };
    }
}

#[derive(Default)]
struct State {
    lanes: BTreeMap<Arc<str>, Lane>,
    trouble: Option<Error>,
}

/// What the thread and the source share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told when something was fetched or went wrong.
    pub news: Notify,
    pub room: Arc<Room>,
    stopped: AtomicBool,
    orders: Mutex<Vec<Assigned>>,
}

impl Shared {
    /// What went wrong, once.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.state.lock().trouble.take()
    }

    /// Does something with the lanes, quickly.
    pub(super) fn with_lanes<T>(&self, act: impl FnOnce(&mut BTreeMap<Arc<str>, Lane>) -> T) -> T {
        act(&mut self.state.lock().lanes)
    }
}

/// The thread at work; it ends when this is dropped.
pub(super) struct Fetcher {
    pub shared: Arc<Shared>,
    pub consumer: Arc<BaseConsumer<Events>>,
    thread: Thread,
}

impl Fetcher {
    /// Starts a thread that fetches with `consumer`, which nobody else assigns partitions to.
    pub(super) fn start(
        name: &str,
        bootstrap: &str,
        consumer: BaseConsumer<Events>,
        kept: Kept,
        skip_tombstones: bool,
        room: Arc<Room>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            news: Notify::new(),
            room,
            stopped: AtomicBool::new(false),
            orders: Mutex::default(),
        });
        let consumer = Arc::new(consumer);
        let work = Work {
            shared: shared.clone(),
            consumer: consumer.clone(),
            bootstrap: bootstrap.to_string(),
            kept,
            skip_tombstones,
            lanes: Vec::new(),
        };
        let handle = thread::Builder::new()
            .name(format!("kafka-{name}"))
            .spawn(move || work.run())
            .map_err(|e| Error::unavailable("no thread can be started").because(e))?;
        Ok(Self { shared, consumer, thread: handle.thread().clone() })
    }

    /// Adds partitions.
    pub(super) fn assign(&self, partitions: Vec<Assigned>) {
        let mut state = self.shared.state.lock();
        for partition in &partitions {
            let at_end = partition.end.is_some_and(|end| partition.from >= end);
            let lane = Lane { next: partition.from, at_end, ..Lane::default() };
            state.lanes.insert(partition.key.clone(), lane);
        }
        drop(state);
        self.shared.orders.lock().extend(partitions);
        self.thread.unpark();
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// What the thread has.
struct Work {
    shared: Arc<Shared>,
    consumer: Arc<BaseConsumer<Events>>,
    bootstrap: String,
    kept: Kept,
    skip_tombstones: bool,
    lanes: Vec<(Assigned, PartitionQueue<Events>)>,
}

/// How a round over one partition ended.
enum Round {
    /// Nothing is there.
    Empty,
    /// Something was fetched.
    Some,
    /// The partition was read to where the run is to end.
    Done,
    /// It cannot be read on.
    Trouble(KafkaError),
}

impl Work {
    fn run(mut self) {
        while !self.shared.stopped.load(Ordering::Relaxed) {
            let orders = std::mem::take(&mut *self.shared.orders.lock());
            if let Err(error) = self.obey(orders) {
                return self.trouble("a partition cannot be read", &error);
            }
            if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                self.consumer.context().met(&error);
            }
            let mut busy = false;
            for i in 0..self.lanes.len() {
                if !self.shared.room.has_some() {
                    break;
                }
                let (lane, queue) = &self.lanes[i];
                match self.round(lane, queue) {
                    Round::Empty => {}
                    Round::Some => busy = true,
                    Round::Done => {
                        let done = self.list([lane]);
                        if let Err(error) = done.and_then(|done| self.consumer.pause(&done)) {
                            return self.trouble("a partition cannot be paused", &error);
                        }
                    }
                    // What came behind it is not to be taken.
                    Round::Trouble(error) => {
                        let what = format!("a partition cannot be read partition={}", lane.key);
                        return self.trouble(&what, &error);
                    }
                }
            }
            if !busy {
                thread::park_timeout(NAP);
            }
        }
    }

    /// Begins with partitions. Their queues are split off before anything is fetched: a message in
    /// another queue would come out of turn.
    fn obey(&mut self, orders: Vec<Assigned>) -> std::result::Result<(), KafkaError> {
        if orders.is_empty() {
            return Ok(());
        }
        let list = self.list(&orders)?;
        for order in orders {
            let queue = self.consumer.split_partition_queue(&order.topic, order.number);
            if let Some(mut queue) = queue {
                let thread = thread::current();
                queue.set_nonempty_callback(move || thread.unpark());
                self.lanes.push((order, queue));
            }
        }
        self.consumer.incremental_assign(&list)
    }

    fn list<'a>(
        &self,
        lanes: impl IntoIterator<Item = &'a Assigned>,
    ) -> std::result::Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for lane in lanes {
            let from = Offset::Offset(i64::try_from(lane.from).unwrap_or(i64::MAX));
            list.add_partition_offset(&lane.topic, lane.number, from)?;
        }
        Ok(list)
    }

    fn trouble(&self, what: &str, error: &KafkaError) {
        let error = failed(what, &self.bootstrap, error);
        self.shared.state.lock().trouble.get_or_insert(error);
        self.shared.news.notify_one();
    }

    /// Fetches what is there of one partition, up to a limit.
    fn round(&self, assigned: &Assigned, queue: &PartitionQueue<Events>) -> Round {
        let mut state = self.shared.state.lock();
        let Some(lane) = state.lanes.get_mut(&assigned.key) else { return Round::Empty };
        let mut ended = Round::Empty;
        for _ in 0..ROUND {
            match queue.poll(Duration::ZERO) {
                None => break,
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    lane.dry = true;
                    let passed = self.consumer.context().passed().unwrap_or(0);
                    lane.came(passed, assigned.end);
                    ended = Round::Some;
                }
                Some(Err(error)) => {
                    ended = Round::Trouble(error);
                    break;
                }
                Some(Ok(message)) => {
                    let offset = u64::try_from(message.offset()).unwrap_or(0);
                    if assigned.end.is_some_and(|end| offset >= end) {
                        lane.came(offset, assigned.end);
                        ended = Round::Done;
                        break;
                    }
                    if offset < lane.next {
                        // Fetched again after a reconnect.
                        continue;
                    }
                    lane.dry = false;
                    lane.came(offset + 1, assigned.end);
                    if message.payload().is_some() || !self.skip_tombstones {
                        self.add(lane, assigned, &message);
                    }
                    ended = Round::Some;
                }
            }
        }
        drop(state);
        if !matches!(ended, Round::Empty) {
            self.consumer.context().set_down(false);
            self.shared.news.notify_one();
        }
        ended
    }

    fn add(&self, lane: &mut Lane, assigned: &Assigned, message: &BorrowedMessage<'_>) {
        if lane.ready.back().is_none_or(Messages::is_full) {
            let (room, kept) = (&self.shared.room, self.kept);
            let (key, topic) = (&assigned.key, &assigned.topic);
            lane.ready.push_back(Messages::new(key, topic, assigned.number, kept, room));
        }
        let Some(chunk) = lane.ready.back_mut() else { return };
        chunk.push(Message {
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            value: message.payload(),
            key: message.key(),
            headers: if self.kept.headers { headers(message) } else { Headers::new() },
        });
    }
}

fn headers(message: &BorrowedMessage<'_>) -> Headers {
    let Some(headers) = message.headers() else { return Headers::new() };
    headers.iter().map(|h| (h.key.to_string(), h.value.map(<[u8]>::to_vec))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_behind_what_has_come_and_no_further() {
        // The position, whether the broker had nothing more, what has passed, where the run ends; the
        // position then, and whether all is there.
        let cases = [
            (5, false, 6, None, 6, false),
            (5, true, 5, None, 5, true),
            // Marks of transactions.
            (5, true, 6, None, 6, true),
            (5, true, 0, None, 5, true),
            // A broker that knows less of the end than the one that was asked for it.
            (5, true, 5, Some(9), 5, false),
            (5, true, 8, Some(9), 8, false),
            (5, true, 9, Some(9), 9, true),
            (8, false, 9, Some(9), 9, true),
            // What came after the end was known is not of this run.
            (5, false, 12, Some(9), 9, true),
        ];
        for (next, dry, passed, end, then, at_end) in cases {
            let mut lane = Lane { next, dry, ..Lane::default() };
            lane.came(passed, end);
            assert_eq!((lane.next, lane.at_end), (then, at_end), "{next} {dry} {passed} {end:?}");
        }
    }
}
