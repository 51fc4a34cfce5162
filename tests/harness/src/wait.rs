//! Waiting for a condition, never for a while.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Long enough for a debug build on a busy two-core machine; a test that gets there has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition is looked at: short beside what is waited for, long beside one look.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Returns when the condition holds, panics with `what` where it does not within [`DEADLINE`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, DEADLINE, || condition().then_some(()));
}

/// Returns the first value that `probe` gives, panics with `what` where it gives none within `deadline`.
pub fn wait_for<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(begun.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(POLL_INTERVAL);
    }
}
