//! Time that goes on over restarts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since 1970: the machine's time when the gateway started, and from there on the monotonic clock, so that a
/// clock that is set does not end every timeout at once.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    base_ms: u64,
    origin: Instant,
}

impl Wall {
    pub fn start() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn at(base_ms: u64) -> Self {
        Self { base_ms, origin: Instant::now() }
    }

    pub fn now_ms(&self) -> u64 {
        self.base_ms.saturating_add(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// At once where that is over.
    pub fn instant(&self, at_ms: u64) -> Instant {
        self.origin + Duration::from_millis(at_ms.saturating_sub(self.base_ms))
    }
}
