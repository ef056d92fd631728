//! Deliveries as a source: what waits in the logs becomes the intake of an epoch.
//!
//! In: where the last sealed epoch ended, per log. Out: splits that name pieces of logs, and which
//! deliveries in them came twice. The log of this process is read, and every other one whose
//! process has ended; those come up while it runs, unless the run is to end: then nothing is taken
//! that came after it began. Rows stay in their log until they are published.
//!
//! ```text
//! seek: listen, where no server does ─► logs of ours, and free slots ─► poll takes what waits
//!                                            │ rows are gone            └► ids first, then splits
//!                                            └► an error, or behind them with accept_loss
//! acknowledge: rows leave their log; one that is not ours and all published is let go
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice_core::metric::WEBHOOK_ROWS;
use sluice_core::{
    Advance, Config, Context, Error, Intake, Lag, Limit, Offset, Offsets, Reader, Result, Source,
    Start,
};

use super::channel::Channel;
use super::config::Settings;
use super::gather::{Gathered, Moved, Want, gather};
use super::hub::Hub;
use super::lane::{Found, Lane, Left, Terms, forget, is_own, left, take_up};
use super::log::Log;
use super::log::index::Index;
use super::rows::DeliveryReader;

/// How often slots of other processes are looked at: what they left is found that late.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After something was taken, the next is left to gather for this long: each taking syncs ids,
/// which senders would wait for.
const GATHER: Duration = Duration::from_millis(50);

/// How often ids are forgotten that are old.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// Pieces of ids that one poll forgets: a job of one poll per second keeps up with thousands of ids
/// that come in it. A run that is to end forgets all that are old.
const EXPIRE_PIECES: usize = 8;

/// A source over the logs of deliveries.
pub(super) struct WebhookSource {
    hub: Arc<Hub>,
    config: Config,
    context: Context,
    settings: Settings,
    channel: Arc<Channel>,
    reader: Arc<DeliveryReader>,
    index: Option<Arc<Index>>,
    lanes: Vec<Lane>,
    /// Where manifests say that partitions end.
    known: BTreeMap<String, u64>,
    terms: Terms,
    /// Slots that were empty, by how often somebody had taken them.
    empty: BTreeMap<u32, u64>,
    looked: Option<Duration>,
    /// The same by the wall clock: whatever is in no lane came later, or is `locked`.
    looked_ms: i64,
    /// Whether another process has a slot.
    locked: bool,
    took: Option<Duration>,
    expired: Option<Duration>,
    more: bool,
    notes: Vec<String>,
}

impl WebhookSource {
    /// A source that has opened nothing yet.
    pub(super) fn new(
        hub: Arc<Hub>,
        config: Config,
        context: Context,
        settings: Settings,
    ) -> Result<Self> {
        let channel = hub.channel(&context.job, &config.name);
        let format = settings.decoder(context.clock.clone())?;
        let metadata = settings.metadata.clone();
        Ok(Self {
            hub,
            config,
            context,
            settings,
            channel,
            reader: Arc::new(DeliveryReader { format, metadata }),
            index: None,
            lanes: Vec::new(),
            known: BTreeMap::new(),
            terms: Terms::default(),
            empty: BTreeMap::new(),
            looked: None,
            looked_ms: 0,
            locked: true,
            took: None,
            expired: None,
            more: false,
            notes: Vec::new(),
        })
    }

    fn now(&self) -> Duration {
        self.context.clock.monotonic()
    }

    /// Takes up logs that are new: ours, and those that other processes left.
    async fn look(&mut self) -> Result<()> {
        let is_new = |log: &Arc<Log>| !self.lanes.iter().any(|lane| Arc::ptr_eq(&lane.log, log));
        let mut found: Vec<_> = self.channel.log().into_iter().filter(is_new).collect();
        let (now, now_ms) = (self.now(), self.context.clock.wall_ms());
        let mut looked = None;
        if self.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK_EVERY) {
            let held = self.lanes.iter().map(|lane| &lane.log).chain(&found);
            let held: Vec<u32> = held.map(|log| log.slot()).collect();
            let (channel, ids) = (self.channel.clone(), self.hub.means.ids.clone());
            let empty = std::mem::take(&mut self.empty);
            let look = tokio::task::spawn_blocking(move || {
                let mut empty = empty;
                let left = left(&channel, &*ids, &held, &mut empty);
                (left, empty)
            });
            let (left, empty) =
                look.await.map_err(|e| Error::bug("a look at logs broke off").because(e))?;
            self.empty = empty;
            let Left { logs, locked } = left?;
            found.extend(logs);
            looked = Some((now, now_ms, locked));
        }
        for log in found {
            self.attach(log).await?;
        }
        if let Some((now, now_ms, locked)) = looked {
            (self.looked, self.looked_ms, self.locked) = (Some(now), now_ms, locked);
        }
        Ok(())
    }

    async fn attach(&mut self, log: Arc<Log>) -> Result<()> {
        let known = self.known.get(&log.partition()).copied();
        let (channel, ids, terms) = (self.channel.clone(), self.hub.means.ids.clone(), self.terms);
        let found = move || take_up(&channel, &*ids, log, known, terms);
        let found = tokio::task::spawn_blocking(found).await;
        let (found, note) =
            found.map_err(|e| Error::bug("a look at a log broke off").because(e))??;
        self.notes.extend(note);
        match found {
            Found::Empty(slot, taken) => self.empty.extend(taken.map(|taken| (slot, taken))),
            Found::Lane(lane) => {
                self.lanes.push(lane);
                // Ours never ends: what others left would wait behind it for ever.
                let channel = &self.channel;
                self.lanes.sort_by_key(|lane| (is_own(channel, &lane.log), lane.log.slot()));
            }
        }
        Ok(())
    }

    /// Forgets some ids that are old.
    async fn expire(&mut self) -> Result<()> {
        let (Some(index), Some(rule)) = (&self.index, &self.settings.idempotency) else {
            return Ok(());
        };
        let now = self.now();
        let recent = |at: Duration| now.saturating_sub(at) < EXPIRE_EVERY;
        // What another process took in, and nobody has read, may have waited for long.
        if self.locked || self.expired.is_some_and(recent) {
            return Ok(());
        }
        let (now_ms, window_ms) = (self.looked_ms, rule.window_ms);
        let logs: Vec<_> = self.lanes.iter().map(|lane| lane.log.clone()).collect();
        let index = index.clone();
        let pieces = if self.terms.bounded { usize::MAX } else { EXPIRE_PIECES };
        let expire = move || expire(&index, &logs, now_ms, window_ms, pieces);
        let expired = tokio::task::spawn_blocking(expire).await;
        if !expired.map_err(|e| Error::bug("forgetting ids broke off").because(e))?? {
            self.expired = Some(now);
        }
        Ok(())
    }

    /// Whether something waits that is to be taken now.
    fn is_due(&self) -> bool {
        let waits = self.lanes.iter().any(|lane| lane.lost > 0 || lane.at < lane.end());
        let recent = |took: Duration| self.now().saturating_sub(took) < GATHER;
        let gathers = !self.terms.bounded && !self.more && self.took.is_some_and(recent);
        waits && !gathers
    }

    /// Puts down what was taken.
    fn taken(&mut self, gathered: Gathered) -> Intake {
        let Gathered { splits, moved, more } = gathered;
        let mut intake = Intake { splits, more, ..Intake::default() };
        let mut doubles = 0;
        for (lane, moved) in self.lanes.iter_mut().zip(moved) {
            let Moved { to, passed_over, last_ms } = moved;
            if to == lane.at && lane.lost == 0 {
                continue;
            }
            let lost = std::mem::take(&mut lane.lost);
            lane.log.hand_out(to);
            intake.advances.push(Advance {
                partition: lane.log.partition(),
                from: Offset::At(lane.at - lost),
                to: Offset::At(to),
            });
            intake.lost += lost;
            doubles += passed_over;
            lane.at = to;
            lane.taken_ms = last_ms.or(lane.taken_ms);
        }
        intake.gaps = (!intake.advances.is_empty()).then_some(doubles);
        if doubles > 0 {
            let labels = [self.context.job.as_str(), self.config.name.as_str(), "duplicate"];
            self.hub.means.metrics.count(&WEBHOOK_ROWS, &labels, doubles);
        }
        intake
    }
}

/// Forgets some of the ids that no delivery can be a double of: it came a window before all that
/// are still to come, and before all that wait. Says whether there may be more. Blocks.
fn expire(
    index: &Index,
    logs: &[Arc<Log>],
    now_ms: i64,
    window_ms: i64,
    pieces: usize,
) -> Result<bool> {
    let mut oldest_ms = now_ms;
    for log in logs {
        oldest_ms = oldest_ms.min(log.waits_since_ms()?.unwrap_or(now_ms));
    }
    for _ in 0..pieces {
        if !index.expire(oldest_ms.saturating_sub(window_ms))? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[async_trait]
impl Source for WebhookSource {
    async fn seek(&mut self, start: Start) -> Result<()> {
        self.terms = Terms { bounded: start.bounded, accept_loss: start.accept_loss };
        self.lanes.clear();
        self.known.clear();
        for (partition, offset) in &start.offsets {
            let at = offset.at().ok_or_else(|| {
                Error::config(format!("not a number of a row partition={partition}"))
                    .hint("the source was of another kind; rename it or rebuild the job")
            })?;
            self.known.insert(partition.clone(), at);
        }
        if !self.terms.bounded {
            let Self { hub, config, context, settings, .. } = &*self;
            hub.listen_alone(config, context, &settings.listen).await?;
        }
        if self.settings.idempotency.is_some() {
            let channel = self.channel.clone();
            let index = tokio::task::spawn_blocking(move || channel.index()).await;
            self.index = Some(index.map_err(|e| Error::bug("opening ids broke off").because(e))??);
        }
        if self.channel.log().is_some_and(|log| log.is_broken()) {
            // It takes no word that it is read from now on: it is opened again, if it can be.
            let _ = self.channel.open().await;
        }
        self.looked = None;
        self.look().await
    }

    async fn poll(&mut self, limit: Limit) -> Result<Intake> {
        // What comes up later is not for a run that is to end.
        if !self.terms.bounded {
            self.look().await?;
        }
        self.expire().await?;
        if !self.is_due() {
            let notes = std::mem::take(&mut self.notes);
            return Ok(Intake { notes, ..Intake::default() });
        }
        let want = |lane: &Lane| Want { log: lane.log.clone(), at: lane.at, to: lane.end() };
        let wants: Vec<Want> = self.lanes.iter().map(want).collect();
        let index = self.index.clone();
        let window_ms = self.settings.idempotency.as_ref().map_or(0, |rule| rule.window_ms);
        let work = move || gather(&wants, index.as_deref(), window_ms, limit);
        let gathered = tokio::task::spawn_blocking(work).await;
        let gathered = gathered.map_err(|e| Error::bug("taking rows broke off").because(e))??;
        let mut intake = self.taken(gathered);
        intake.notes = std::mem::take(&mut self.notes);
        self.more = intake.more;
        self.took = Some(self.now());
        Ok(intake)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.reader.clone()
    }

    async fn acknowledge(&mut self, offsets: &Offsets) -> Result<()> {
        let at = |lane: &Lane| offsets.get(&lane.log.partition()).and_then(Offset::at);
        let done: Vec<_> =
            self.lanes.iter().filter_map(|lane| Some((lane.log.clone(), at(lane)?))).collect();
        let channel = self.channel.clone();
        let forget = tokio::task::spawn_blocking(move || {
            let mut gone = BTreeMap::new();
            for (log, row) in &done {
                forget(&channel, log, *row);
                if log.is_done() && !is_own(&channel, log) {
                    // One that broke may hold rows that nobody was told of: it is looked at again.
                    let empty = log.first() == log.next();
                    let taken = channel.place.times_taken(log.slot()).filter(|_| empty);
                    gone.insert(log.slot(), taken);
                }
            }
            gone
        });
        let gone = forget.await.map_err(|e| Error::bug("removing rows broke off").because(e))?;
        if gone.is_empty() {
            return Ok(());
        }
        let is_gone = |lane: &mut Lane| gone.contains_key(&lane.log.slot());
        let left: Vec<Lane> = self.lanes.extract_if(.., is_gone).collect();
        for lane in &left {
            // Somebody may fill it and leave it again.
            self.known.insert(lane.log.partition(), lane.at);
        }
        // Closing a log waits for its threads.
        let closed = tokio::task::spawn_blocking(move || drop(left)).await;
        closed.map_err(|e| Error::bug("closing a log broke off").because(e))?;
        self.empty.extend(gone.into_iter().filter_map(|(slot, taken)| Some((slot, taken?))));
        Ok(())
    }

    fn lag(&self) -> Vec<Lag> {
        let lag = |lane: &Lane| Lag {
            partition: lane.log.partition(),
            rows: lane.log.next().saturating_sub(lane.at),
            taken_ms: lane.taken_ms,
        };
        self.lanes.iter().map(lag).collect()
    }
}
