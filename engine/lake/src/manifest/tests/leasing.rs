//! Leases: refused while live, taken when dead, taken over on request, given back.

use super::*;

fn holder(run: &str) -> Holder {
    Holder { run: run.into(), host: format!("host-of-{run}"), pid: 7 }
}

async fn acquire(lake: &Location, run: &str, take_over: bool, now_ms: i64) -> Result<Lease> {
    let clock = Arc::new(ManualClock::at(now_ms));
    Lease::acquire(lake, "job", holder(run), take_over, clock).await
}

#[tokio::test]
async fn a_live_lease_is_refused_by_name() {
    let (_folder, lake) = local();
    for lake in [memory("lease"), lake] {
        let first = acquire(&lake, "a", false, 10_000).await.unwrap();
        let refused = acquire(&lake, "b", false, 15_000).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Fenced);
        let message = refused.message();
        assert!(message.contains("run=a host=host-of-a pid=7 age=5s"), "{message}");
        assert!(refused.hint_text().unwrap().contains("--take-over"));
        let early = acquire(&lake, "b", false, 0).await.unwrap_err();
        assert!(early.message().contains("age=0s"), "a clock that jumped back: {early}");
        first.release().await.unwrap();
        acquire(&lake, "b", false, 15_000).await.unwrap();
    }
}

#[tokio::test]
async fn taking_over_leaves_the_former_holder_without() {
    let (_folder, lake) = local();
    for lake in [memory("lease-over"), lake] {
        let mut first = acquire(&lake, "a", false, 0).await.unwrap();
        let mut second = acquire(&lake, "b", true, 0).await.unwrap();
        assert_eq!(second.renew().await.unwrap(), Renewed::Held);
        let third = acquire(&lake, "c", false, 0).await.unwrap_err();
        assert!(third.message().contains("run=b"), "{third}");
        if lake.store.scheme() == crate::store::Scheme::Memory {
            assert_eq!(first.renew().await.unwrap(), Renewed::Lost(holder("b")));
        }
        first.release().await.unwrap();
        let third = acquire(&lake, "c", false, 0).await.unwrap_err();
        assert!(third.message().contains("run=b"), "the former holder frees nothing: {third}");
    }
}

#[tokio::test]
async fn a_lease_that_was_taken_over_and_given_back_is_taken_again() {
    let lake = memory("lease-back");
    let mut first = acquire(&lake, "a", false, 0).await.unwrap();
    let second = acquire(&lake, "b", true, 0).await.unwrap();
    assert_eq!(first.renew().await.unwrap(), Renewed::Lost(holder("b")));
    second.release().await.unwrap();
    assert_eq!(Lease::holder(&lake, "job").await.unwrap(), None);
    assert_eq!(first.renew().await.unwrap(), Renewed::Held);
    assert_eq!(Lease::holder(&lake, "job").await.unwrap(), Some(holder("a")));
    assert!(acquire(&lake, "c", false, 0).await.is_err());
}

#[tokio::test]
async fn a_remote_lease_dies_of_age_unless_renewed() {
    let lake = memory("lease-age");
    let clock = Arc::new(ManualClock::at(0));
    let mut first = Lease::acquire(&lake, "job", holder("a"), false, clock.clone()).await.unwrap();
    clock.advance_ms(25_000);
    assert_eq!(first.renew().await.unwrap(), Renewed::Held);
    assert!(acquire(&lake, "b", false, 54_999).await.is_err());
    acquire(&lake, "b", false, 55_000).await.unwrap();
    assert_eq!(first.renew().await.unwrap(), Renewed::Lost(holder("b")));
}

#[tokio::test]
async fn a_local_lock_dies_with_its_holder() {
    let (_folder, lake) = local();
    let first = acquire(&lake, "a", false, 0).await.unwrap();
    assert!(acquire(&lake, "b", false, 0).await.is_err());
    drop(first);
    acquire(&lake, "b", false, 0).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_still_gives_the_lease() {
    let lake = memory("lease-answers");
    let echo = Faulty::wrap(&lake.store, |op, _| match op {
        Op::Create => Fault::Echo,
        _ => Fault::None,
    });
    let place = Location { store: echo, path: lake.path.clone() };
    let mut lease = acquire(&place, "a", false, 0).await.unwrap();
    assert_eq!(lease.renew().await.unwrap(), Renewed::Held);
}

#[test]
fn processes_of_this_machine_are_told_apart() {
    assert_eq!(super::super::lock::process_alive(std::process::id()), Some(true));
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    assert_eq!(super::super::lock::process_alive(pid), Some(false));
}
