//! The `delta` source: versions of a table, one after another, cut where the limits say.
//!
//! In: the log. Out: intakes of files. What was read ahead is only kept for speed: a poll that fails
//! or is dropped changes nothing that is sealed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice_core::{
    Advance, Clock, Context, Error, Intake, Lag, Limit, Offset, Offsets, Reader, Result, Source,
    Start,
};
use sluice_lake::delta::feed::{Extent, Feed, Version};

use super::begin::{Begun, Opening, Tail};
use super::config::Settings;
use super::lost::Verdict;
use super::position::{PARTITION, Position, table_id};
use super::queue::Queue;
use super::reader::TableReader;
use super::versions::{Definition, Work, check_columns};

/// Versions read at once when more are there: enough to hide a store's latency.
const READ_AHEAD: usize = 16;

/// A table as a source.
#[derive(Debug)]
pub(super) struct Versions {
    pub(super) settings: Arc<Settings>,
    pub(super) feed: Feed,
    pub(super) reader: Arc<TableReader>,
    clock: Arc<dyn Clock>,
    pub(super) accept_loss: bool,
    /// Whether the next poll reads everything before it takes it.
    careful: bool,
    bounded: bool,
    /// The last version that a bounded run takes.
    until: Option<i64>,
    /// What was taken.
    at: Option<Position>,
    /// When the version was committed that was taken last, milliseconds since 1970.
    taken_ms: Option<i64>,
    /// The version that is read next follows this one; none before the table was opened.
    tail: Option<Tail>,
    /// Versions that were read and not taken.
    pub(super) queue: Queue,
    /// When the log last had nothing new, by the monotonic clock.
    asked: Option<Duration>,
    /// Whether more than one version may be there.
    behind: bool,
    /// Whether somebody was told that nothing is there yet.
    waiting: bool,
}

impl Versions {
    /// The source `name` of the table behind `feed`.
    pub(super) fn new(name: &str, settings: Settings, feed: Feed, context: &Context) -> Self {
        let settings = Arc::new(settings);
        let store = feed.location().store.clone();
        let reader = TableReader::new(name, store, settings.clone(), context.memory.as_ref());
        Self {
            settings,
            feed,
            reader: Arc::new(reader),
            clock: context.clock.clone(),
            accept_loss: false,
            careful: false,
            bounded: false,
            until: None,
            at: None,
            taken_ms: None,
            tail: None,
            queue: Queue::default(),
            asked: None,
            behind: true,
            waiting: false,
        }
    }

    /// Whether the log was asked a moment ago and had nothing new.
    fn rests(&self) -> bool {
        let now = self.clock.monotonic();
        self.asked.is_some_and(|asked| now.saturating_sub(asked) < self.settings.ask_every)
    }

    fn opening(&self, extent: Extent) -> Opening<'_> {
        let (feed, settings, accept_loss) = (&self.feed, &*self.settings, self.accept_loss);
        Opening { feed, settings, extent, accept_loss }
    }

    /// Finds the table and where to begin in it. Gives whether that is there, and what to say if not.
    async fn open(&mut self) -> Result<(bool, Vec<String>)> {
        let path = self.settings.path.clone();
        let extent = self.feed.extent().await?;
        let begun = match (extent, &self.at) {
            (None, None) => None,
            (None, Some(_)) => return Err(self.gone()),
            (Some(extent), at) => {
                let newest = self.until.map_or(extent.newest, |until| extent.newest.min(until));
                match at {
                    None if newest < 0 => None,
                    None => self.opening(Extent { newest, ..extent }).begin(self.waiting).await?,
                    Some(at) => Some(self.opening(extent).resume(at).await?),
                }
            }
        };
        match begun {
            Some(Begun { works, taken, tail }) => {
                self.queue = Queue::new(works, taken);
                (self.tail, self.asked) = (Some(tail), None);
                Ok((true, Vec::new()))
            }
            None => {
                self.asked = Some(self.clock.monotonic());
                let told = std::mem::replace(&mut self.waiting, extent.is_none());
                let what = if extent.is_none() { "no table" } else { "not that much of the table" };
                let note =
                    (!told && !self.bounded).then(|| format!("{what} is there yet path={path}"));
                Ok((false, note.into_iter().collect()))
            }
        }
    }

    /// Reads versions that are new; whether there are any.
    async fn follow(&mut self) -> Result<bool> {
        let Some(tail) = self.tail.clone() else { return Ok(false) };
        let next = tail.version + 1;
        let wanted = if self.behind { READ_AHEAD } else { 1 };
        let left = self.until.map_or(i64::MAX, |until| until.saturating_sub(tail.version));
        let count = wanted.min(usize::try_from(left).unwrap_or(0));
        if count == 0 || (self.rests() && !self.behind) {
            return Ok(false);
        }
        let versions = self.feed.read(next, count).await?;
        if let Some(verdict) = self.judge(&tail, versions.is_empty()).await? {
            return self.go_on(verdict, &tail).await;
        }
        self.behind = versions.len() == count;
        if versions.is_empty() {
            self.asked = Some(self.clock.monotonic());
            return Ok(false);
        }
        let mut any = false;
        for version in versions {
            if self.tail.as_ref().is_some_and(|tail| tail.version + 1 != version.version) {
                // All of it is in what was gone on with.
                break;
            }
            match self.admit(version).await {
                Ok(()) => any = true,
                // What comes before it is taken first; then it is met again.
                Err(_) if any => {
                    self.behind = true;
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    /// Whether the log still is the one that was read; what became of it if it is not.
    async fn judge(&mut self, tail: &Tail, silent: bool) -> Result<Option<Verdict>> {
        let same_entry = match &tail.mark {
            Some(mark) => self.feed.is_still(tail.version, mark).await?,
            None if silent => None,
            None => return Ok(None),
        };
        if same_entry == Some(true) {
            return Ok(None);
        }
        let extent = self.feed.extent().await?;
        let extent = match extent {
            Some(extent) => extent,
            // It may have been none from the beginning.
            None if tail.version < 0 => return Ok(None),
            None => return Err(self.gone()),
        };
        let position = position_of(tail);
        let verdict = match tail.mark {
            Some(_) => self.opening(extent).judge(&position, same_entry).await?,
            None => {
                self.opening(extent)
                    .judge(&Position { table: String::new(), ..position }, None)
                    .await?
            }
        };
        if let (Verdict::GoesOn, Some(tail)) = (verdict, &mut self.tail) {
            // It was cleaned up: it is not asked for again.
            tail.mark = None;
        }
        Ok((verdict != Verdict::GoesOn).then_some(verdict))
    }

    /// Goes on behind what is lost, if that is accepted.
    async fn go_on(&mut self, verdict: Verdict, tail: &Tail) -> Result<bool> {
        let extent = self.feed.extent().await?.ok_or_else(|| self.gone())?;
        let begun = self.opening(extent).go_on(verdict, &position_of(tail)).await?;
        self.queue.extend(begun.works);
        self.tail = Some(begun.tail);
        Ok(true)
    }

    /// Puts the version behind the tail into the queue.
    async fn admit(&mut self, version: Version) -> Result<()> {
        let Some(tail) = self.tail.clone() else { return Ok(()) };
        let number = version.version;
        let mut definition = tail.definition.clone();
        let asks =
            version.definition.is_some() || (self.settings.feed && version.lacks_partitions());
        if asks && definition.is_none() {
            // One that cannot be put together any more is not known; then nothing is held against it.
            let before = self.feed.snapshot(tail.version).await.ok().flatten();
            definition = before.as_ref().map(Definition::of);
        }
        let mut table = tail.table.clone();
        if let Some((metadata, schema)) = &version.definition {
            let id = table_id(&metadata.id);
            if !table.is_empty() && id != table {
                return self.go_on(Verdict::Recreated, &tail).await.map(|_| ());
            }
            let before = definition.as_ref().map(|before| &*before.schema);
            check_columns(&self.settings, schema, before, number)?;
            let partitioned = !metadata.partition_columns.is_empty();
            definition = Some(Definition { schema: schema.clone(), partitioned });
            table = id;
        }
        let partitioned = definition.as_ref().is_some_and(|known| known.partitioned);
        let mark = Some(version.entry.clone());
        let work = Work::of(version, &table, partitioned, &self.settings)?;
        self.queue.extend([work]);
        self.tail = Some(Tail { version: number, mark, table, definition });
        Ok(())
    }

    fn gone(&self) -> Error {
        Error::conflict(format!("the table is gone table={}", self.settings.path))
            .hint("put it back, or take the source out of the job")
    }
}

/// The place that a tail stands for.
fn position_of(tail: &Tail) -> Position {
    let entry = tail.mark.as_ref().map(|mark| mark.hash.clone()).unwrap_or_default();
    let (version, table) = (tail.version, tail.table.clone());
    Position { version, files: None, snapshot: false, table, entry }
}

#[async_trait]
impl Source for Versions {
    async fn seek(&mut self, start: Start) -> Result<()> {
        self.at = match start.offsets.get(PARTITION) {
            Some(offset) => Position::read(offset)?,
            None => None,
        };
        (self.accept_loss, self.careful) = (start.accept_loss, start.careful);
        (self.bounded, self.until) = (start.bounded, None);
        if start.bounded {
            let extent = self.feed.extent().await?;
            self.until = Some(extent.map_or(-1, |extent| extent.newest));
        }
        self.queue = Queue::default();
        (self.tail, self.asked, self.behind) = (None, None, true);
        Ok(())
    }

    async fn poll(&mut self, limit: Limit) -> Result<Intake> {
        if self.tail.is_none() {
            if self.rests() {
                return Ok(Intake::default());
            }
            let (opened, notes) = self.open().await?;
            if !opened {
                return Ok(Intake { notes, ..Intake::default() });
            }
        }
        let mut more = false;
        let count = loop {
            let (count, full) = self.queue.pick(limit);
            if full {
                more = true;
                break count;
            }
            match self.follow().await {
                Ok(true) => {}
                Ok(false) => break count,
                // What came before it is taken first; then it is met again.
                Err(_) if !self.queue.is_empty() => {
                    more = true;
                    break count;
                }
                Err(error) => return Err(error),
            }
        };
        if self.queue.is_empty() {
            return Ok(Intake::default());
        }
        let looked = self.take(count, self.careful).await?;

        // From here on nothing can fail and nothing waits.
        self.careful = false;
        let from = self.at.as_ref().map_or(Offset::ZERO, Position::offset);
        let (whole, at) = self.queue.move_on(looked.parts);
        self.at = at.or(self.at.take());
        let mut times = whole.iter().map(|work| work.committed_ms).filter(|ms| *ms > 0);
        self.taken_ms = times.next_back().or(self.taken_ms);
        let to = self.at.as_ref().map_or(Offset::ZERO, Position::offset);
        let mut notes = looked.notes;
        notes.extend(whole.iter().flat_map(|work| work.notes.iter().cloned()));
        Ok(Intake {
            advances: vec![Advance { partition: PARTITION.to_string(), from, to }],
            splits: looked.splits,
            lost: looked.lost + whole.iter().map(|work| work.lost).sum::<u64>(),
            more: more || !self.queue.is_empty(),
            notes,
            unreadable: looked.unreadable,
            ..Intake::default()
        })
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.reader.clone()
    }

    async fn acknowledge(&mut self, _offsets: &Offsets) -> Result<()> {
        Ok(())
    }

    fn lag(&self) -> Vec<Lag> {
        if self.tail.is_none() {
            return Vec::new();
        }
        let rows = self.queue.parts().map(|(_, part)| part.estimate()).sum();
        vec![Lag { partition: PARTITION.to_string(), rows, taken_ms: self.taken_ms }]
    }
}
