//! The partitions a source reads, and how their names and positions stand in manifests.
//!
//! In: what the broker has and what was sealed. Out: where each partition goes on, and what is news for
//! the next manifest. In offsets a partition is `topic/number`; a topic of which a loss was accepted,
//! because it was created again or cut off, goes on as `topic~1/number`, so that positions of its old
//! life are never joined with those of the new one. `topic` alone keeps the topic's id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rdkafka::TopicPartitionList;
use rdkafka::error::KafkaResult;
use sluice_core::{Advance, Error, Kind, Lag, Offset, Offsets, Result, Shard};

use super::broker::{Bounds, Broker, Topic, Topics};
use super::config::Begin;
use super::fetch::Assigned;
use super::place::{Facts, Place, place};

/// One partition at work.
#[derive(Debug, Clone)]
pub(super) struct Partition {
    pub key: Arc<str>,
    topic: Arc<str>,
    number: i32,
    /// The next position to take.
    pub at: u64,
    /// Positions before it that are lost and were not sealed as such yet.
    pub lost: u64,
    /// Whether some epoch says where it began.
    pub pinned: bool,
    /// Its end when it was last looked at.
    high: u64,
    /// The next position when that look began: what is taken meanwhile may be behind its answer.
    looked: u64,
    taken_ms: Option<i64>,
}

impl Partition {
    /// Where the next advance begins.
    pub(super) fn from(&self) -> u64 {
        self.at - self.lost
    }

    /// What is to be fetched of it, behind what was taken.
    fn assigned(&self, bounded: bool) -> Assigned {
        let (key, topic) = (self.key.clone(), self.topic.clone());
        let end = bounded.then_some(self.high);
        Assigned { key, topic, number: self.number, from: self.at, end }
    }
}

/// A topic's life: which of several of one name it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Life {
    id: Option<String>,
    generation: u32,
}

impl Life {
    fn text(&self) -> String {
        format!("{}#{}", self.id.as_deref().unwrap_or_default(), self.generation)
    }

    fn read(text: &str) -> Option<Self> {
        let (id, generation) = text.rsplit_once('#')?;
        let id = (!id.is_empty()).then(|| id.to_string());
        Some(Self { id, generation: generation.parse().ok()? })
    }

    fn key(&self, topic: &str, number: i32) -> Arc<str> {
        match self.generation {
            0 => format!("{topic}/{number}").into(),
            n => format!("{topic}~{n}/{number}").into(),
        }
    }
}

/// The topic and the number that a partition's name in offsets stands for.
pub(super) fn parse_key(key: &str) -> Option<(&str, i32)> {
    let (topic, number) = key.rsplit_once('/')?;
    let topic = topic.split_once('~').map_or(topic, |(topic, _)| topic);
    Some((topic, number.parse().ok()?))
}

/// Which life of its topic a partition's name in offsets is of: 0 for the first.
pub(super) fn generation(key: &str) -> u32 {
    let life = key.rsplit_once('/').and_then(|(topic, _)| topic.split_once('~'));
    life.and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
}

/// What was sealed.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    topics: BTreeMap<String, Life>,
    offsets: BTreeMap<String, u64>,
}

impl Known {
    /// Reads the offsets of a manifest. Errors: `Bug` when they are not this source's.
    pub(super) fn read(offsets: &Offsets) -> Result<Self> {
        let mut known = Self::default();
        for (key, offset) in offsets {
            let strange = || Error::bug(format!("not an offset of this source partition={key}"));
            match offset {
                Offset::At(at) => {
                    let (topic, _) = parse_key(key).ok_or_else(strange)?;
                    known.topics.entry(topic.to_string()).or_default();
                    known.offsets.insert(key.clone(), *at);
                }
                Offset::Cursor(text) => {
                    let life = Life::read(text).ok_or_else(strange)?;
                    known.topics.insert(key.clone(), life);
                }
            }
        }
        Ok(known)
    }
}

/// How partitions are placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct How {
    /// Whether the run takes only what is there.
    pub bounded: bool,
    /// Whether it goes on behind a loss.
    pub accept_loss: bool,
    /// Which slice of each topic's partitions is ours; none: all of them.
    pub shard: Option<Shard>,
}

impl How {
    fn takes(&self, bounds: &Bounds) -> bool {
        let number = u64::try_from(bounds.number).unwrap_or(0);
        self.shard.is_none_or(|shard| shard.takes(number))
    }
}

/// All partitions of a source.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    by_key: BTreeMap<Arc<str>, Partition>,
    lives: BTreeMap<String, Life>,
    news: Vec<Advance>,
    notes: Vec<String>,
    how: How,
}

impl Partitions {
    /// Places everything that is there, asking the broker for offsets by time. Errors: what is lost,
    /// unless that is accepted; `Config` for a topic that is not there.
    pub(super) fn place(
        broker: &Broker,
        wanted: &[Topics],
        topics: Vec<Topic>,
        known: &Known,
        begin: &Begin,
        how: How,
    ) -> Result<(Self, Vec<Assigned>)> {
        let mut all = Self { how, ..Self::default() };
        let mut assigned = Vec::new();
        all.miss(wanted, &topics, known, how, broker.bootstrap())?;
        for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
            let starts = match begin {
                Begin::Time(ms) if known.topics.is_empty() => broker.at_time(topic, *ms)?,
                begin => starts(topic, known, begin),
            };
            assigned.extend(all.place_topic(topic, known, &starts, how)?);
        }
        Ok((all, assigned))
    }

    /// Tells which topics are not there.
    fn miss(
        &mut self,
        wanted: &[Topics],
        topics: &[Topic],
        known: &Known,
        how: How,
        bootstrap: &str,
    ) -> Result<()> {
        let there = topics.iter().filter(|t| !t.partitions.is_empty()).map(|t| t.name.as_str());
        let there: BTreeSet<&str> = there.collect();
        let names = |topic: &Topics, name: &str| match topic {
            Topics::Named(named) => named == name,
            Topics::Pattern(pattern) => pattern.is_match(name),
        };
        for topic in known.topics.keys().filter(|topic| !there.contains(topic.as_str())) {
            if !wanted.iter().any(|wanted| names(wanted, topic)) {
                continue;
            }
            if !how.accept_loss {
                let message = format!("a topic that was read is gone topic={topic}");
                return Err(Error::new(Kind::Data, message).hint(
                    "what it held and was not read cannot be had any more; `sluice run \
                     --accept-loss` goes on without it",
                ));
            }
            self.notes.push(format!("a topic that was read is gone, as accepted topic={topic}"));
        }
        for topic in wanted {
            let Topics::Named(name) = topic else { continue };
            if !there.contains(name.as_str()) && !known.topics.contains_key(name) {
                let message = format!("no such topic topic={name} bootstrap={bootstrap}");
                return Err(Error::config(message).hint("create it, or mend its name"));
            }
        }
        Ok(())
    }

    fn place_topic(
        &mut self,
        topic: &Topic,
        known: &Known,
        starts: &[u64],
        how: How,
    ) -> Result<Vec<Assigned>> {
        let before = known.topics.get(&topic.name);
        let was = before.cloned().unwrap_or_default();
        let recreated = matches!((&was.id, &topic.id), (Some(was), Some(is)) if was != is);
        let ours = topic.partitions.iter().zip(starts).filter(|(bounds, _)| how.takes(bounds));
        let placed = ours.map(|(bounds, start)| {
            let recorded = known.offsets.get(&*was.key(&topic.name, bounds.number)).copied();
            let (low, high, start) = (bounds.low, bounds.high, *start);
            (*bounds, recorded, place(Facts { recorded, recreated, low, high, start }))
        });
        let placed: Vec<(Bounds, Option<u64>, Place)> = placed.collect();
        let mut anew = recreated;
        for (bounds, _, place) in &placed {
            let key = was.key(&topic.name, bounds.number);
            let Some(loss) = place.loss(&key) else { continue };
            if !how.accept_loss {
                return Err(loss);
            }
            self.notes.push(format!("accepted: {}", loss.chain()));
            anew |= !matches!(place, Place::Gone { .. });
        }
        let id = topic.id.clone().or_else(|| was.id.clone());
        let life = Life { id, generation: was.generation + u32::from(anew && before.is_some()) };
        self.begin_life(&topic.name, before, &life);
        let mut assigned = Vec::new();
        for (bounds, recorded, place) in placed {
            let (at, lost) = match place {
                Place::At(at) => (at, 0),
                Place::Gone { from, to } if !anew => (to, to - from),
                Place::Gone { to, .. } => (to, 0),
                Place::Backwards { high, .. } => (high, 0),
                Place::Recreated { low, .. } => (low, 0),
            };
            let pinned = recorded.is_some() && !anew && lost == 0;
            assigned.push(self.add(&topic.name, &life, bounds, (at, lost, pinned), how.bounded));
        }
        Ok(assigned)
    }

    /// Takes note of which topic it is, for the next manifest.
    fn begin_life(&mut self, topic: &str, before: Option<&Life>, life: &Life) {
        if before != Some(life) {
            let to = Offset::Cursor(life.text());
            let from = before.map_or_else(|| to.clone(), |was| Offset::Cursor(was.text()));
            self.news.push(Advance { partition: topic.to_string(), from, to });
        }
        self.lives.insert(topic.to_string(), life.clone());
    }

    fn add(
        &mut self,
        topic: &str,
        life: &Life,
        bounds: Bounds,
        (at, lost, pinned): (u64, u64, bool),
        bounded: bool,
    ) -> Assigned {
        let (Bounds { number, high, .. }, looked, taken_ms) = (bounds, 0, None);
        let (key, topic) = (life.key(topic, number), topic.into());
        let partition = Partition { key, topic, number, at, lost, pinned, high, looked, taken_ms };
        let assigned = partition.assigned(bounded);
        self.by_key.insert(partition.key.clone(), partition);
        assigned
    }

    /// Another look at the topics begins.
    pub(super) fn look(&mut self) {
        self.by_key.values_mut().for_each(|partition| partition.looked = partition.at);
    }

    /// Takes what another look at the topics found: gives the partitions that are new, which are read from their
    /// beginning. Errors: `Unavailable`, to be placed again, when a topic is not the one it was.
    pub(super) fn found(&mut self, topics: &[Topic]) -> Result<Vec<Assigned>> {
        let mut new = Vec::new();
        for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
            let life = self.lives.get(&topic.name).cloned();
            if let Some(Life { id: Some(id), .. }) = &life
                && topic.id.as_ref().is_some_and(|now| now != id)
            {
                return Err(not_the_same(&topic.name));
            }
            let life = life.unwrap_or_else(|| {
                let life = Life { id: topic.id.clone(), generation: 0 };
                self.begin_life(&topic.name, None, &life);
                life
            });
            let how = self.how;
            for bounds in topic.partitions.iter().filter(|bounds| how.takes(bounds)) {
                match self.by_key.get_mut(&life.key(&topic.name, bounds.number)) {
                    Some(partition) if bounds.high < partition.looked => {
                        return Err(not_the_same(&topic.name));
                    }
                    Some(partition) => partition.high = bounds.high.max(partition.at),
                    None => {
                        let place = (bounds.low, 0, false);
                        new.push(self.add(&topic.name, &life, *bounds, place, false));
                    }
                }
            }
        }
        Ok(new)
    }

    /// All, in the order of their names.
    pub(super) fn all(&self) -> impl Iterator<Item = &Partition> {
        self.by_key.values()
    }

    /// What is to be fetched of all, by a run that goes on.
    pub(super) fn assigned(&self) -> Vec<Assigned> {
        self.by_key.values().map(|partition| partition.assigned(false)).collect()
    }

    /// One, by its name in offsets.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Partition> {
        self.by_key.get_mut(key)
    }

    /// Takes note of when the last message taken of a partition came into being.
    pub(super) fn took(&mut self, key: &str, timestamp_ms: Option<i64>) {
        if let Some(partition) = self.by_key.get_mut(key) {
            partition.taken_ms = timestamp_ms.or(partition.taken_ms);
        }
    }

    /// What the next manifest has to say of topics; once.
    pub(super) fn news(&mut self) -> Vec<Advance> {
        std::mem::take(&mut self.news)
    }

    /// What a person should know; once.
    pub(super) fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// How far each is behind.
    pub(super) fn lag(&self) -> Vec<Lag> {
        let lag = |p: &Partition| Lag {
            partition: p.key.to_string(),
            rows: p.high.saturating_sub(p.at),
            taken_ms: p.taken_ms,
        };
        self.by_key.values().map(lag).collect()
    }

    /// Offsets of a manifest as the client commits them.
    pub(super) fn list(&self, offsets: &Offsets) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (key, partition) in &self.by_key {
            let Some(at) = offsets.get(&**key).and_then(Offset::at) else { continue };
            let at = rdkafka::Offset::Offset(i64::try_from(at).unwrap_or(i64::MAX));
            list.add_partition_offset(&partition.topic, partition.number, at)?;
        }
        Ok(list)
    }
}

fn not_the_same(topic: &str) -> Error {
    Error::unavailable(format!("a topic is not the one it was topic={topic}"))
}

/// Where partitions begin that were never read: by `start:` the first time, later from their
/// beginning, since all they hold came since.
fn starts(topic: &Topic, known: &Known, begin: &Begin) -> Vec<u64> {
    let first = known.topics.is_empty();
    let start = |bounds: &Bounds| match begin {
        Begin::Latest if first => bounds.high,
        Begin::Offsets(offsets) if first => {
            let at = offsets.get(&format!("{}/{}", topic.name, bounds.number));
            at.copied().unwrap_or(bounds.low)
        }
        _ => bounds.low,
    };
    topic.partitions.iter().map(start).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(id: &str, bounds: &[(u64, u64)]) -> Topic {
        let bounds = bounds.iter().zip(0..);
        let partitions =
            bounds.map(|((low, high), number)| Bounds { number, low: *low, high: *high });
        Topic { name: "t".into(), id: Some(id.into()), partitions: partitions.collect() }
    }

    /// Partitions, where each begins, and how much of it is lost.
    type Shown = Vec<(String, u64, u64)>;

    fn placed(
        topic: &Topic,
        known: &[(&str, Offset)],
        begin: &Begin,
        accept_loss: bool,
    ) -> Result<(Partitions, Shown)> {
        let offsets = known.iter().map(|(key, at)| (key.to_string(), at.clone())).collect();
        let known = Known::read(&offsets).unwrap();
        let mut all = Partitions::default();
        let how = How { accept_loss, ..How::default() };
        let assigned = all.place_topic(topic, &known, &starts(topic, &known, begin), how)?;
        let shown = assigned.iter().map(|a| {
            let lost = all.by_key[&a.key].lost;
            (a.key.to_string(), a.from, lost)
        });
        let shown = shown.collect();
        Ok((all, shown))
    }

    #[test]
    fn partitions_go_on_where_manifests_end() {
        let now = topic("a", &[(0, 10), (5, 20)]);
        let at = |key: &str, from, lost| (key.to_string(), from, lost);
        let cursor = ("t", Offset::Cursor("a#0".into()));
        let (mut first, shown) = placed(&now, &[], &Begin::Latest, false).unwrap();
        assert_eq!(shown, [at("t/0", 10, 0), at("t/1", 20, 0)]);
        assert_eq!(first.news().len(), 1, "which topic it is stands in the manifest");
        // A partition that came later is read from its beginning, whatever `start` says.
        let known = [cursor.clone(), ("t/0", Offset::At(3))];
        let (mut again, shown) = placed(&now, &known, &Begin::Latest, false).unwrap();
        assert_eq!(shown, [at("t/0", 3, 0), at("t/1", 5, 0)]);
        assert!(again.news().is_empty());
    }

    #[test]
    fn a_loss_is_refused_and_accepted_only_if_somebody_says_so() {
        let now = topic("b", &[(4, 10)]);
        let at = |key: &str, from, lost| vec![(key.to_string(), from, lost)];
        let cases = [
            // Deleted before it was read.
            ("b#0", 1, at("t/0", 4, 3)),
            // Cut off behind what was read: positions of the old life are never joined.
            ("b#0", 99, at("t~1/0", 10, 0)),
            // Another topic of the same name.
            ("a#0", 7, at("t~1/0", 4, 0)),
        ];
        for (life, recorded, expected) in cases {
            let known = [("t", Offset::Cursor(life.into())), ("t/0", Offset::At(recorded))];
            let refused = placed(&now, &known, &Begin::Earliest, false).unwrap_err();
            assert_eq!(refused.kind(), Kind::Data);
            assert!(refused.hint_text().unwrap().contains("--accept-loss"));
            let (mut all, shown) = placed(&now, &known, &Begin::Earliest, true).unwrap();
            assert_eq!(shown, expected);
            assert_eq!(all.notes().len(), 1);
        }
    }

    #[test]
    fn what_is_taken_during_a_look_is_no_reason_to_begin_anew() {
        let (mut all, _) = placed(&topic("a", &[(0, 10)]), &[], &Begin::Earliest, false).unwrap();
        all.get_mut("t/0").unwrap().at = 10;
        all.look();
        all.get_mut("t/0").unwrap().at = 15;
        assert!(all.found(&[topic("a", &[(0, 12)])]).unwrap().is_empty());
        assert_eq!(all.lag()[0].rows, 0);
        assert!(all.found(&[topic("a", &[(0, 9)])]).is_err(), "cut off");
        assert!(all.found(&[topic("b", &[(0, 20)])]).is_err(), "another topic");
        assert_eq!(all.found(&[topic("a", &[(0, 15), (2, 4)])]).unwrap().len(), 1);
        // Should all be fetched anew: the one goes on behind what was taken, the other begins.
        let from: Vec<_> = all.assigned().iter().map(|a| (a.from, a.end)).collect();
        assert_eq!(from, [(15, None), (2, None)]);
    }

    #[test]
    fn names_in_offsets_are_read_back() {
        assert_eq!(parse_key("orders/3"), Some(("orders", 3)));
        assert_eq!(parse_key("orders~2/3"), Some(("orders", 3)));
        assert_eq!(parse_key("orders"), None);
        assert_eq!((generation("orders/3"), generation("orders~2/3")), (0, 2));
        let life = Life { id: Some("x#y".into()), generation: 4 };
        assert_eq!(Life::read(&life.text()), Some(life));
    }
}
