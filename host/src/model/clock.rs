//! The gateway's one monotonic clock.

use std::time::{Duration, Instant};

use super::InstantUs;

/// Microseconds since the gateway started, plus one second so that 0 is never a real instant.
///
/// One clock is made at start and copied everywhere, so that instants of all workers, and those in a
/// saved plugin state, compare.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub fn now_us(&self) -> InstantUs {
        self.us_of(Instant::now())
    }

    pub fn us_of(&self, instant: Instant) -> InstantUs {
        let since = instant.saturating_duration_since(self.origin) + Duration::from_secs(1);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}
