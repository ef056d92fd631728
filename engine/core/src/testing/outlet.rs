//! The promises of [`Delivery`], checked; and an outlet in memory that keeps them.
//!
//! A failed promise is an `Err` that says which; the test that calls the suite unwraps it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    Delivery, Error, Kind, OutboxPosition, OutboxRows, Outlet, OutletContext, Refused, Result,
};

/// Runs the suite on an exactly-once outlet. `open` makes a delivery of the same chain and sink
/// afresh, as another runner would; `rows` are taken by it, each of them; `received` counts the
/// rows that the outside shows, and nothing else may give it some meanwhile.
pub async fn outlet_conformance<O, R>(mut open: O, rows: RecordBatch, mut received: R) -> Result<()>
where
    O: FnMut() -> Result<Box<dyn Delivery>>,
    R: AsyncFnMut() -> Result<u64>,
{
    let each = rows.num_rows() as u64;
    let given = || -> OutboxRows { stream::iter([Ok(rows.clone()), Ok(rows.clone())]).boxed() };
    let at = |epoch, file| OutboxPosition { epoch, file };

    let mut first = open()?;
    ensure(first.attach().await?.is_none(), "who never delivered holds no position")?;
    let refused = first.deliver(at(3, 0), given()).await?;
    ensure(refused.is_empty(), "rows that fit are not refused")?;
    ensure(received().await? == 0, "rows that are not committed are not seen")?;
    first.commit().await?;
    ensure(received().await? == 2 * each, "rows that are committed are seen, once")?;
    first.deliver(at(3, 1), given()).await?;
    first.commit().await?;

    // Handed over and never committed, by a runner that is gone.
    first.deliver(at(7, 0), given()).await?;
    let mut second = open()?;
    let held = second.attach().await?;
    ensure(held == Some(at(3, 1)), "the last committed position is held, whoever committed it")?;
    let late = first.commit().await.err().map(|error| error.kind());
    ensure(late == Some(Kind::Fenced), "who attached before cannot commit any more")?;
    ensure(received().await? == 4 * each, "what was not committed is void")?;

    // A failure in the middle, and the same rows again.
    second.deliver(at(7, 0), given()).await?;
    ensure(second.attach().await? == Some(at(3, 1)), "attaching again makes void what was open")?;
    let broken = stream::iter([Ok(rows.clone()), Err(Error::unavailable("no more rows"))]).boxed();
    ensure(second.deliver(at(7, 0), broken).await.is_err(), "an error of the rows is told")?;
    ensure(second.attach().await? == Some(at(3, 1)), "and leaves nothing")?;
    second.deliver(at(7, 0), given()).await?;
    second.commit().await?;
    ensure(received().await? == 6 * each, "rows that were handed over again are seen once")?;
    drop(second);
    ensure(open()?.attach().await? == Some(at(7, 0)), "a position outlives who committed it")
}

/// Runs the suite on an outlet that is at least once. `open` makes a delivery of the same chain and
/// sink afresh, as another runner would; `rows` are taken by it, each of them; `received` counts the
/// rows that the outside got, those under one key once.
pub async fn at_least_once_conformance<O, R>(
    mut open: O,
    rows: RecordBatch,
    mut received: R,
) -> Result<()>
where
    O: FnMut() -> Result<Box<dyn Delivery>>,
    R: AsyncFnMut() -> Result<u64>,
{
    let each = rows.num_rows() as u64;
    let given = || -> OutboxRows { stream::iter([Ok(rows.clone()), Ok(rows.clone())]).boxed() };
    let at = |epoch, file| OutboxPosition { epoch, file };

    let mut first = open()?;
    ensure(first.attach().await?.is_none(), "who is at least once holds no position")?;
    let refused = first.deliver(at(3, 0), given()).await?;
    ensure(refused.is_empty(), "rows that fit are not refused")?;
    first.commit().await?;
    ensure(received().await? == 2 * each, "rows that are committed are with the outside")?;
    first.deliver(at(3, 1), given()).await?;
    first.commit().await?;
    ensure(received().await? == 4 * each, "rows of another file have keys of their own")?;

    // Handed over and never committed, by a runner that is gone.
    first.deliver(at(7, 0), given()).await?;
    let mut second = open()?;
    ensure(second.attach().await?.is_none(), "nor does who comes after it")?;
    second.deliver(at(7, 0), given()).await?;
    second.commit().await?;
    ensure(received().await? == 6 * each, "rows come again under the keys they had")?;

    // A failure in the middle, and the same rows again.
    let broken = stream::iter([Ok(rows.clone()), Err(Error::unavailable("no more rows"))]).boxed();
    ensure(second.deliver(at(8, 0), broken).await.is_err(), "an error of the rows is told")?;
    ensure(second.attach().await?.is_none(), "attaching again is no other than the first time")?;
    second.deliver(at(8, 0), given()).await?;
    second.commit().await?;
    ensure(received().await? == 8 * each, "and what follows is whole")?;
    ensure(second.commit().await.is_err(), "nothing is committed that was not handed over")
}

fn ensure(holds: bool, promise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::bug(format!("broken promise: {promise}"))) }
}

/// An outlet in memory. Clones are one and the same.
#[derive(Debug, Clone, Default)]
pub struct MemoryOutlet {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    rows: Vec<RecordBatch>,
    /// Per chain and sink: the last position, and how often somebody attached.
    held: BTreeMap<String, (Option<OutboxPosition>, u64)>,
    failures: u32,
    refuses: Vec<u64>,
    forgetful: bool,
}

impl MemoryOutlet {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All rows that were committed, in order.
    pub fn rows(&self) -> Vec<RecordBatch> {
        self.state().rows.clone()
    }

    /// How many those are.
    pub fn count(&self) -> u64 {
        self.state().rows.iter().map(|rows| rows.num_rows() as u64).sum()
    }

    /// Makes the next so many calls fail with an error that may pass.
    pub fn fail(&self, times: u32) {
        self.state().failures = times;
    }

    /// Makes it refuse these rows of every file.
    pub fn refuse(&self, rows: &[u64]) {
        self.state().refuses = rows.to_vec();
    }

    /// Makes it tell no position, as an outlet does that is at least once.
    pub fn forget(&self) {
        self.state().forgetful = true;
    }

    fn answer(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        match state.failures.checked_sub(1) {
            None => Ok(state),
            Some(left) => {
                state.failures = left;
                Err(Error::unavailable("the outlet does not answer"))
            }
        }
    }
}

impl Outlet for MemoryOutlet {
    fn target(&self) -> String {
        "memory".to_string()
    }

    fn fits(&self, _schema: &Schema) -> Result<()> {
        Ok(())
    }

    fn open(&self, context: OutletContext) -> Result<Box<dyn Delivery>> {
        let name = format!("{}/{}", context.chain, context.sink);
        Ok(Box::new(MemoryDelivery { outlet: self.clone(), name, turn: 0, open: None }))
    }
}

struct MemoryDelivery {
    outlet: MemoryOutlet,
    name: String,
    turn: u64,
    open: Option<(OutboxPosition, Vec<RecordBatch>)>,
}

#[async_trait]
impl Delivery for MemoryDelivery {
    async fn attach(&mut self) -> Result<Option<OutboxPosition>> {
        self.open = None;
        let mut state = self.outlet.answer()?;
        let forgetful = state.forgetful;
        let held = state.held.entry(self.name.clone()).or_default();
        held.1 += 1;
        self.turn = held.1;
        Ok(held.0.filter(|_| !forgetful))
    }

    async fn deliver(&mut self, at: OutboxPosition, rows: OutboxRows) -> Result<Vec<Refused>> {
        let rows: Vec<RecordBatch> = rows.try_collect().await?;
        let refuses = self.outlet.answer()?.refuses.clone();
        let (mut kept, mut refused, mut next) = (Vec::new(), Vec::new(), 0);
        for batch in rows {
            for row in 0..batch.num_rows() {
                match refuses.contains(&next) {
                    true => refused.push(Refused { row: next, reason: "not wanted".to_string() }),
                    false => kept.push(batch.slice(row, 1)),
                }
                next += 1;
            }
        }
        self.open = Some((at, kept));
        Ok(refused)
    }

    async fn commit(&mut self) -> Result<()> {
        let open = self.open.take();
        let (at, rows) = open.ok_or_else(|| Error::bug("nothing was handed over"))?;
        let mut state = self.outlet.answer()?;
        let held = state.held.entry(self.name.clone()).or_default();
        if held.1 != self.turn {
            return Err(Error::fenced("another one attached"));
        }
        held.0 = Some(at);
        state.rows.extend(rows);
        Ok(())
    }
}
