//! How many queries work at once, and how many wait for their turn.
//!
//! In: whoever wants to come in, and whoever leaves. Out: a [`Permit`], first come first served; or
//! how long to stay away. A permit that is dropped makes room; a wait that is dropped leaves the
//! queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// The least that somebody is sent away for: what HTTP can say.
const STAY_AWAY_MIN: Duration = Duration::from_secs(1);

/// The most: an overload that lasts longer is looked at again.
const STAY_AWAY_MAX: Duration = Duration::from_secs(60);

/// How much one query changes what is known of how long they take: about the last ten count.
const WEIGHT: f64 = 0.1;

/// Lets so many in at once.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// At work at most.
    room: usize,
    /// Waiting at most.
    queue: usize,
    inside: usize,
    waiting: VecDeque<oneshot::Sender<Permit>>,
    /// Seconds that a query takes.
    seconds: f64,
}

/// A place at work; dropping it gives it to the next.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Option<Arc<Gate>>,
}

/// What became of somebody at the gate.
pub(super) enum Entry {
    /// In at once.
    In(Permit),
    /// In when the receiver has something.
    Waits(oneshot::Receiver<Permit>),
    /// To come again later.
    Away(Duration),
}

impl Gate {
    /// A gate with room for `room`, and for `queue` before it.
    pub fn new(room: usize, queue: usize) -> Arc<Self> {
        let (room, waiting) = (room.max(1), VecDeque::new());
        let state = State { room, queue, inside: 0, waiting, seconds: 0.0 };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Has room for others from now on. Those inside stay, those who wait too.
    pub fn resize(self: &Arc<Self>, room: usize, queue: usize) {
        let mut state = self.state.lock();
        (state.room, state.queue) = (room.max(1), queue);
        self.let_in(&mut state);
    }

    /// Comes in, queues, or is sent away.
    pub fn enter(self: &Arc<Self>) -> Entry {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| !waiting.is_closed());
        if state.inside < state.room && state.waiting.is_empty() {
            state.inside += 1;
            return Entry::In(Permit { gate: Some(self.clone()) });
        }
        if state.waiting.len() >= state.queue {
            return Entry::Away(state.stay_away());
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.push_back(sender);
        Entry::Waits(receiver)
    }

    /// How long somebody should stay away who comes now.
    pub fn stay_away(&self) -> Duration {
        self.state.lock().stay_away()
    }

    /// A query took so long.
    pub fn took(&self, seconds: f64) {
        let mut state = self.state.lock();
        state.seconds += WEIGHT * (seconds - state.seconds);
    }

    /// How many are at work and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        let waiting = state.waiting.iter().filter(|waiting| !waiting.is_closed()).count();
        (state.inside, waiting)
    }

    fn left(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.inside = state.inside.saturating_sub(1);
        self.let_in(&mut state);
    }

    /// Gives free places to those who wait longest. Who is gone is skipped: the permit comes back.
    fn let_in(self: &Arc<Self>, state: &mut State) {
        while state.inside < state.room {
            let Some(next) = state.waiting.pop_front() else { return };
            match next.send(Permit { gate: Some(self.clone()) }) {
                Ok(()) => state.inside += 1,
                // It was never counted, and must not come back here, where the state is locked.
                Err(mut permit) => permit.gate = None,
            }
        }
    }
}

impl State {
    fn stay_away(&self) -> Duration {
        let before = self.waiting.len() as f64 + 1.0;
        let seconds = self.seconds * before / self.room as f64;
        let longest = STAY_AWAY_MAX.as_secs_f64();
        Duration::from_secs_f64(seconds.clamp(0.0, longest)).max(STAY_AWAY_MIN)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.left();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(gate: &Arc<Gate>) -> Permit {
        match gate.enter() {
            Entry::In(permit) => permit,
            _ => panic!("there is room"),
        }
    }

    fn waiting(gate: &Arc<Gate>) -> oneshot::Receiver<Permit> {
        match gate.enter() {
            Entry::Waits(receiver) => receiver,
            _ => panic!("there is room in the queue"),
        }
    }

    #[test]
    fn places_go_to_those_who_wait_longest_and_are_still_there() {
        let gate = Gate::new(2, 2);
        let (first, second) = (inside(&gate), inside(&gate));
        let (mut third, gone) = (waiting(&gate), waiting(&gate));
        assert!(matches!(gate.enter(), Entry::Away(_)));
        assert_eq!(gate.counts(), (2, 2));
        drop(gone);
        let mut fourth = waiting(&gate);
        assert_eq!(gate.counts(), (2, 2));
        assert!(third.try_recv().is_err());
        drop(first);
        let third = third.try_recv().unwrap();
        assert!(fourth.try_recv().is_err());
        drop(second);
        let fourth = fourth.try_recv().unwrap();
        assert_eq!(gate.counts(), (2, 0));
        drop((third, fourth));
        assert_eq!(gate.counts(), (0, 0));
    }

    #[test]
    fn a_place_that_was_given_to_somebody_who_left_is_free_again() {
        let gate = Gate::new(1, 2);
        let first = inside(&gate);
        let second = waiting(&gate);
        let mut third = waiting(&gate);
        drop(first);
        // The second has its permit in the channel, and never looks.
        drop(second);
        let third = third.try_recv().unwrap();
        assert_eq!(gate.counts(), (1, 0));
        drop(third);
        assert_eq!(gate.counts(), (0, 0));
    }

    #[test]
    fn room_can_grow_and_shrink() {
        let gate = Gate::new(1, 1);
        let first = inside(&gate);
        let mut second = waiting(&gate);
        gate.resize(2, 0);
        let second = second.try_recv().unwrap();
        assert!(matches!(gate.enter(), Entry::Away(_)));
        gate.resize(1, 1);
        let mut third = waiting(&gate);
        drop(first);
        assert!(third.try_recv().is_err(), "one is inside already");
        drop(second);
        assert!(third.try_recv().is_ok());
    }

    #[test]
    fn who_is_sent_away_comes_when_a_place_may_be_free() {
        let gate = Gate::new(2, 0);
        assert_eq!(gate.stay_away(), STAY_AWAY_MIN);
        for _ in 0..200 {
            gate.took(10.0);
        }
        let wait = gate.stay_away().as_secs_f64();
        assert!((4.9..=5.0).contains(&wait), "{wait}");
        for _ in 0..200 {
            gate.took(1e9);
        }
        assert_eq!(gate.stay_away(), STAY_AWAY_MAX);
    }
}
