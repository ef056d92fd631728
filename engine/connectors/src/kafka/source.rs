//! A source of messages: what is fetched ahead becomes the intake of an epoch.
//!
//! In: where the last sealed epoch ended. Out: splits that hold messages, and per partition from
//! where to where they go. Offsets are those of the manifests; the ones a group is given are for
//! people who look at lag. Partitions that come later are found while it runs and read from their
//! beginning; when they are many, fetching begins anew for all, behind what was taken.
//!
//! ```text
//! seek: look at topics ─► place each partition ─► thread fetches ─► poll takes what is there
//!                              │ something is lost
//!                              └► an error with the range, or behind it with accept_loss
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use sluice_core::{
    Advance, Clock, Context, Error, Held, Intake, Lag, Limit, Offset, Offsets, Reader, Reservation,
    Result, Source, Split, Start,
};
use tokio::task::JoinHandle;

use super::ahead::Ahead;
use super::broker::{Broker, Topic};
use super::config::Settings;
use super::connection::{Connection, failed};
use super::events::Events;
use super::fetch::{Assigned, Fetcher};
use super::partitions::{How, Known, Partition, Partitions};
use super::rows::{MessageReader, Messages, Room, kept};
use crate::format::message::MessageFormat;

/// How often partitions are looked at again: new ones are found that late.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// And while no broker answers.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A cluster that is away for this long ends the attempt: whoever runs the job says so and tries
/// again, more and more rarely.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// A run that takes what is there waits this long for more before it takes little: the first fetch of
/// many partitions does not come at once, and small epochs make small files.
const GATHER: Duration = Duration::from_millis(500);

/// Marks of transactions behind the last rows are passed with the next rows, or when none came for so
/// long: each would be an epoch by itself.
const MARKS_AFTER: Duration = Duration::from_secs(5);

/// The queue's part of the run's memory, and its bounds: below the least a fetch of a few partitions
/// fills it, above the most it is memory that plans may have better use for.
const QUEUE_SHARE: usize = 16;
const QUEUE_MIN: usize = 16 * 1024 * 1024;
const QUEUE_MAX: usize = 256 * 1024 * 1024;

/// What a broker is asked for of one partition at once; of a larger message it gives all.
const FETCH_MAX: usize = 1024 * 1024;

/// A source over the partitions of topics.
pub(super) struct KafkaSource {
    name: String,
    settings: Settings,
    connection: Connection,
    group: String,
    clock: Arc<dyn Clock>,
    broker: Broker,
    partitions: Partitions,
    fetcher: Option<Fetcher>,
    ahead: Ahead,
    reader: Arc<MessageReader>,
    room: Arc<Room>,
    /// What the queue and librdkafka's buffers take, for as long as the source lives.
    memory: Box<dyn Reservation>,
    bounded: bool,
    looking: Option<JoinHandle<Result<Vec<Topic>>>>,
    looked: Duration,
    /// When something was taken last.
    took: Duration,
    away_since: Option<Duration>,
}

impl KafkaSource {
    /// A source that has not asked anybody yet.
    pub(super) fn new(
        name: &str,
        settings: Settings,
        format: Arc<dyn MessageFormat>,
        context: &Context,
    ) -> Result<Self> {
        let connection = settings.connection.connection();
        let broker = Broker::new(&connection, settings.isolation.name())?;
        let share = context.memory.bytes_max().map_or(QUEUE_MAX / 2, |all| all / QUEUE_SHARE);
        let wanted = settings.queue_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = wanted.unwrap_or(share.clamp(QUEUE_MIN, QUEUE_MAX));
        let mut memory = context.memory.reserve(&format!("messages of source {name}"));
        memory.insist(bytes + Ahead::of(bytes, 1).all)?;
        Ok(Self {
            name: name.to_string(),
            group: settings.group_of(&context.job, name),
            connection,
            clock: context.clock.clone(),
            broker,
            partitions: Partitions::default(),
            fetcher: None,
            ahead: Ahead::default(),
            reader: Arc::new(settings.reader(format)),
            room: Room::new(bytes),
            memory,
            bounded: false,
            looking: None,
            looked: Duration::ZERO,
            took: Duration::ZERO,
            away_since: None,
            settings,
        })
    }

    /// Asks what there is, off the runtime's threads.
    fn look(&self) -> JoinHandle<Result<Vec<Topic>>> {
        let (broker, topics) = (self.broker.clone(), self.settings.topics.clone());
        tokio::task::spawn_blocking(move || broker.look(&topics))
    }

    /// Sets aside what may wait ahead. Each partition needs a little: where so many take more than
    /// there is, that little is seldom all used, and nobody is served by a job that ends.
    fn hold(&mut self, ahead: Ahead) {
        let bytes = self.room.bytes_max + ahead.all;
        if let Err(error) = self.memory.insist(bytes) {
            let error = error.chain();
            tracing::warn!(source = %self.name, bytes, error, "queues may take more than is set aside");
        }
    }

    /// Fetches these partitions and no others: what was fetched before and not taken is dropped.
    fn start_fetching(&mut self, partitions: Vec<Assigned>) -> Result<()> {
        let ahead = Ahead::of(self.room.bytes_max, partitions.len());
        self.hold(ahead);
        let mut config = self.connection.client();
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("isolation.level", self.settings.isolation.name())
            .set("queued.max.messages.kbytes", (ahead.each / 1024).to_string())
            .set("fetch.message.max.bytes", ahead.each.min(FETCH_MAX).to_string());
        if self.connection.option("fetch.wait.max.ms").is_none() {
            // An idle topic is asked ten times a second: what comes is there at once either way.
            config.set("fetch.wait.max.ms", "100");
        }
        let consumer: BaseConsumer<Events> = config
            .create_with_context(Events::default())
            .map_err(|e| failed("no consumer can be made", self.connection.bootstrap(), &e))?;
        let kept = kept(&self.settings.metadata);
        let skip = self.settings.skips_tombstones(self.reader.format.as_ref());
        let (name, bootstrap) = (&self.name, self.connection.bootstrap());
        let fetcher = Fetcher::start(name, bootstrap, consumer, kept, skip, self.room.clone())?;
        fetcher.assign(partitions);
        self.fetcher = Some(fetcher);
        self.ahead = ahead;
        Ok(())
    }

    /// Fetches these partitions too, which are among those placed.
    fn fetch_also(&mut self, new: Vec<Assigned>) -> Result<()> {
        let count = self.partitions.all().count();
        let Some(ahead) = self.ahead.grown(self.room.bytes_max, count) else {
            let all = self.partitions.assigned();
            return self.start_fetching(all);
        };
        self.hold(ahead);
        self.ahead = ahead;
        if let Some(fetcher) = &self.fetcher {
            fetcher.assign(new);
        }
        Ok(())
    }

    /// Takes what a look found: partitions that are new, and how far the others go.
    async fn refresh(&mut self) -> Result<()> {
        if self.bounded {
            return Ok(());
        }
        let now = self.clock.monotonic();
        if self.looking.is_none() {
            let every = if self.is_away() { LOOK_AGAIN } else { LOOK_EVERY };
            if now.saturating_sub(self.looked) >= every {
                self.partitions.look();
                self.looking = Some(self.look());
                self.looked = now;
            }
        }
        let Some(look) = self.looking.take_if(|look| look.is_finished()) else { return Ok(()) };
        let found = look.await.map_err(|e| Error::bug("a look at topics broke off").because(e))?;
        match found {
            Ok(topics) => {
                self.away_since = None;
                if let Some(fetcher) = &self.fetcher {
                    fetcher.consumer.context().set_down(false);
                }
                let new = self.partitions.found(&topics)?;
                if new.is_empty() { Ok(()) } else { self.fetch_also(new) }
            }
            Err(error) if !error.retry() => Err(error),
            Err(error) => {
                let since = *self.away_since.get_or_insert(now);
                match now.saturating_sub(since) >= AWAY_MAX {
                    true => Err(error),
                    false => Ok(()),
                }
            }
        }
    }

    fn is_away(&self) -> bool {
        let down = self.fetcher.as_ref().is_some_and(|f| f.consumer.context().is_down());
        down || self.away_since.is_some()
    }

    /// A run that is to end waits until much is there, or all.
    async fn gather(&mut self, limit: Limit) -> Result<()> {
        let Some(fetcher) = self.fetcher.as_ref().filter(|_| self.bounded) else { return Ok(()) };
        let enough =
            usize::try_from(limit.bytes).unwrap_or(usize::MAX).min(self.room.bytes_max / 2);
        let (begun, mut heard, mut before) = (self.clock.monotonic(), self.clock.monotonic(), 0);
        loop {
            let ended = fetcher.shared.with_lanes(|lanes| lanes.values().all(|lane| lane.at_end));
            let (queued, now) = (self.room.queued(), self.clock.monotonic());
            if ended || queued >= enough || !self.room.has_some() {
                return Ok(());
            }
            if queued != before {
                (before, heard) = (queued, now);
            }
            if queued > 0 && now.saturating_sub(begun) >= GATHER {
                return Ok(());
            }
            if let Some(error) = fetcher.shared.trouble() {
                return Err(error);
            }
            if now.saturating_sub(heard) >= AWAY_MAX {
                let bootstrap = self.connection.bootstrap();
                let message = format!("the broker gives nothing more bootstrap={bootstrap}");
                return Err(Error::unavailable(message)
                    .hint("is it running, and can its advertised address be reached from here?"));
            }
            tokio::select! {
                () = fetcher.shared.news.notified() => {}
                () = self.clock.sleep(GATHER / 10) => {}
            }
        }
    }

    /// Takes messages out of the lanes, up to a limit.
    fn take(&mut self, limit: Limit) -> Taken {
        let mut taken = Taken::default();
        let Some(fetcher) = &self.fetcher else { return taken };
        let (room, now) = (&self.room, self.clock.monotonic());
        let rests = self.bounded || now.saturating_sub(self.took) >= MARKS_AFTER;
        fetcher.shared.with_lanes(|lanes| {
            for partition in self.partitions.all() {
                let Some(lane) = lanes.get_mut(&partition.key) else { continue };
                let mut to = partition.at;
                while taken.rows < limit.rows && taken.bytes < limit.bytes && !room.is_half_taken()
                {
                    let Some(chunk) = lane.ready.pop_front() else { break };
                    let chunk = chunk.take();
                    to = chunk.offsets.last().map_or(to, |o| u64::try_from(*o).unwrap_or(to) + 1);
                    taken.add(partition, chunk);
                }
                if lane.ready.is_empty() && (rests || to > partition.at) {
                    to = to.max(lane.next);
                }
                taken.more |= !lane.ready.is_empty() || (self.bounded && !lane.at_end);
                taken.ends.push((partition.key.clone(), to));
            }
        });
        taken.full = room.is_half_taken();
        if taken.rows > 0 {
            self.took = now;
        }
        taken
    }
}

/// What one poll takes.
#[derive(Default)]
struct Taken {
    splits: Vec<Split>,
    rows: u64,
    bytes: u64,
    /// Per partition, the position behind what was taken.
    ends: Vec<(Arc<str>, u64)>,
    more: bool,
    full: bool,
}

impl Taken {
    fn add(&mut self, partition: &Partition, chunk: Messages) {
        let (rows, bytes) = (chunk.len() as u64, chunk.bytes() as u64);
        let first = chunk.offsets.first().map_or(0, |o| u64::try_from(*o).unwrap_or(0));
        let last = chunk.offsets.last().map_or(0, |o| u64::try_from(*o).unwrap_or(0));
        self.splits.push(Split {
            ordinal: u32::try_from(self.splits.len()).unwrap_or(u32::MAX),
            object: partition.key.to_string(),
            range: (first, last + 1),
            rows,
            bytes,
            detail: serde_json::Value::Null,
            held: Held::new(Arc::new(chunk)),
        });
        self.rows += rows;
        self.bytes += bytes;
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn seek(&mut self, start: Start) -> Result<()> {
        self.bounded = start.bounded;
        let looked = self.look().await;
        let topics = looked.map_err(|e| Error::bug("a look at topics broke off").because(e))??;
        let known = Known::read(&start.offsets)?;
        let (broker, begin) = (self.broker.clone(), self.settings.begin.clone());
        let wanted = self.settings.topics.clone();
        let Start { bounded, accept_loss, shard, .. } = start;
        let how = How { bounded, accept_loss, shard };
        let placed = tokio::task::spawn_blocking(move || {
            Partitions::place(&broker, &wanted, topics, &known, &begin, how)
        });
        let placed = placed.await.map_err(|e| Error::bug("a look broke off").because(e))?;
        let (partitions, assigned) = placed?;
        self.partitions = partitions;
        self.looked = self.clock.monotonic();
        self.start_fetching(assigned)
    }

    async fn poll(&mut self, limit: Limit) -> Result<Intake> {
        if let Some(error) = self.fetcher.as_ref().and_then(|f| f.shared.trouble()) {
            return Err(error);
        }
        self.refresh().await?;
        self.gather(limit).await?;
        let taken = self.take(limit);
        let mut intake = Intake { more: taken.more, full: taken.full, ..Intake::default() };
        intake.advances = self.partitions.news();
        let mut gaps = 0;
        for (key, to) in taken.ends {
            let Some(partition) = self.partitions.get_mut(&key) else { continue };
            if to == partition.at && partition.pinned {
                continue;
            }
            let (from, lost) = (partition.from(), std::mem::take(&mut partition.lost));
            let of_it = taken.splits.iter().filter(|split| *split.object == *key);
            let rows: u64 = of_it.map(|split| split.rows).sum();
            gaps += to.saturating_sub(from).saturating_sub(lost).saturating_sub(rows);
            intake.lost += lost;
            (partition.at, partition.pinned) = (to, true);
            intake.advances.push(Advance {
                partition: key.to_string(),
                from: Offset::At(from),
                to: Offset::At(to),
            });
        }
        for split in &taken.splits {
            if let Some(chunk) = split.held.get::<Messages>() {
                self.partitions.took(&split.object, chunk.timestamps.last().copied().flatten());
                if let Some(ms) = chunk.timestamps.iter().copied().max().flatten() {
                    let newest = intake.newest_ms.entry(split.object.clone()).or_insert(ms);
                    *newest = ms.max(*newest);
                }
            }
        }
        intake.gaps = (!intake.advances.is_empty()).then_some(gaps);
        intake.splits = taken.splits;
        intake.notes = self.partitions.notes();
        Ok(intake)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.reader.clone()
    }

    async fn acknowledge(&mut self, offsets: &Offsets) -> Result<()> {
        let Some(fetcher) = self.fetcher.as_ref().filter(|_| self.settings.commits()) else {
            return Ok(());
        };
        let list = self.partitions.list(offsets);
        let committed = match list {
            Ok(list) if list.count() == 0 => return Ok(()),
            Ok(list) => fetcher.consumer.commit(&list, CommitMode::Async),
            Err(error) => Err(error),
        };
        if let Err(error) = committed {
            // Nothing rests on them.
            tracing::debug!(source = self.name, %error, "offsets were not given to the group");
        }
        Ok(())
    }

    fn lag(&self) -> Vec<Lag> {
        self.partitions.lag()
    }
}
