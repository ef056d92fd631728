//! A store that is too busy for a while: it is asked again, less and less often, and nothing is lost.

use super::SLOW;
use crate::support::place::Place;
use crate::support::store::{Dialect, Faults, ObjectStore, Refused};

/// Requests before the outage, which then falls among the first epochs.
const BEFORE: u32 = 100;
/// How long it lasts: many first waits.
const OUTAGE_MS: u32 = 3_000;
/// A request that waits as long as the first time each time is refused no more often.
const TIMES_MAX: usize = OUTAGE_MS as usize / 100 + 1;

/// Waits are random, and one may be shorter than the one before; without growth none is much longer
/// than the first.
fn pauses_grow(request: &Refused) -> bool {
    let longest = request.pauses.iter().copied().fold(0.0, f64::max);
    request.pauses.first().is_some_and(|first| longest > 2.0 * first)
}

#[test]
fn a_busy_store_is_asked_less_and_less_often() {
    let mut store = ObjectStore::new(Dialect::S3, Faults::default());
    let place = Place::on(&store);
    place.write("slow.yaml", SLOW);
    store.outage(BEFORE, OUTAGE_MS);
    place.run("slow.yaml");
    let refused = store.refused();
    // Answers take turns: with two of them both were given.
    let faults: usize = refused.iter().map(|request| request.times).sum();
    assert!(faults >= 2, "no request met the outage: {refused:?}");
    for Refused { request, times, .. } in &refused {
        assert!(*times <= TIMES_MAX, "{request} was refused {times} times");
    }
    assert!(refused.iter().any(pauses_grow), "{refused:?}");
    assert_eq!(place.cell("slow.yaml", "SELECT n FROM total"), "50");
    place.holds("slow.yaml");
}
