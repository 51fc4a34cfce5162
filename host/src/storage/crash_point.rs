//! Moments at which a test ends the process as `kill -9` would: before and after all that must be done in order.

/// Ends the process if `SLUICE_CRASH_AT` names this point, at the time that it counts (`decided:2` is the second time
/// that a process comes by). Counted from the first submission or append on, so that what is recovered at the start does
/// not end a gateway before it serves. Only in debug builds: a release build has none of this.
pub fn here(point: &'static str) {
    #[cfg(debug_assertions)]
    armed::come_by(point);
    let _ = point;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    };

    /// Where every submission and every append comes by first.
    const FIRST: [&str; 2] = ["before-begin", "before-append"];

    struct Armed {
        point: String,
        passes_left: AtomicU32,
    }

    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub fn come_by(point: &str) {
        let armed = ARMED.get_or_init(|| {
            let given = std::env::var("SLUICE_CRASH_AT").ok()?;
            let (point, times) = given.split_once(':').unwrap_or((&given, "1"));
            Some(Armed { point: point.to_owned(), passes_left: AtomicU32::new(times.parse().unwrap_or(1)) })
        });
        let Some(armed) = armed else { return };
        let is_first = FIRST.contains(&point);
        if !HAS_BEGUN.fetch_or(is_first, Ordering::SeqCst) && !is_first {
            return;
        }
        if armed.point == point && armed.passes_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let own = rustix::process::getpid();
            // Nothing is flushed, nobody is told.
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}
