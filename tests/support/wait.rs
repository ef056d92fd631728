//! Waiting for what another process does, with a limit.

use std::thread::sleep;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer; fails naming `what` after about `seconds` (of pauses: on a busy
/// machine it waits longer, never shorter).
pub fn until<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let pauses = Duration::from_secs(seconds).as_millis() / PAUSE.as_millis();
    for _ in 0..pauses {
        if let Some(answer) = ask() {
            return answer;
        }
        sleep(PAUSE);
    }
    panic!("waited {seconds} s in vain for {what}");
}

/// Lets another process work for a while.
pub fn pause(ms: u64) {
    sleep(Duration::from_millis(ms));
}
