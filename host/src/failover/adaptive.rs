//! How many requests at once an endpoint can take, found out by its latency.
//!
//! More requests than an endpoint has room for wait within it, and its latency grows with their number; so what its
//! latency is beyond that of an endpoint which has room says how far the limit is above what it can take. This is the
//! gradient of Netflix' concurrency-limits (`Gradient2Limit`) and of Envoy's adaptive concurrency filter
//! (`gradient_controller.cc`):
//!
//! ```text
//! gradient = TOLERANCE × latency with room ÷ latency now      within GRADIENT_MIN to 1
//! limit    = gradient × limit + √limit                        the root is room to try more
//! ```
//!
//! Both latencies are medians, as in Envoy's default. The one with room is measured when nothing else is known, and
//! again from time to time, while for a few round trips only a part of the limit is let through: an endpoint that has
//! become slower by itself would otherwise be given less and less. So BBR looks for a path's shortest round trip
//! (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5), 2016, "PROBE_RTT").

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::model::{Completion, InstantUs, Outcome};

/// An endpoint that can take nothing at all is ejected by its failures, not by its limit.
pub const LIMIT_MIN: f64 = 1.0;
/// As Envoy's `max_concurrency_limit`.
pub const LIMIT_MAX: f64 = 1000.0;
/// At first: about Envoy's `min_concurrency` of 3. It doubles within half a second, and is 100 after 4 s.
const LIMIT_INITIAL: f64 = 4.0;

/// As Envoy's `concurrency_update_interval`.
const WINDOW_US: u64 = 100_000;
/// Latencies kept of one window; of more, the last ones.
const SAMPLES_MAX: usize = 256;
/// So many tell a window's median; an endpoint with few places has fewer in any time.
const SAMPLES_MIN: (f64, f64) = (2.0, 10.0);

/// As Gradient2's `rttTolerance`: medians of a few exponential service times lie as far apart by chance.
const TOLERANCE: f64 = 1.5;
/// As Gradient2's: one bad window halves the limit at most.
const GRADIENT_MIN: f64 = 0.5;
/// Of the way to what a window says.
const SMOOTHING: f64 = 0.5;
/// Of the completions of a window that timed out or were refused for overload: with more, the limit is lowered by the
/// same share whatever the latency (Netflix' `AIMDLimit` has this backoff ratio).
const DROPPED_SHARE: f64 = 0.1;

/// Of the limit, while the latency with room is measured. In balance the limit is 1.5 × what the endpoint can take and
/// its root, so a quarter is below that even where the endpoint can take one; half of it would not be.
const PROBE_SHARE: f64 = 0.25;
/// Round trips until only those are left that the smaller limit let through, and these are spread in time again.
const PROBE_SETTLING_ROUNDS: u64 = 3;
/// Round trips measured, and how many latencies they may be: the median of 250 exponential ones is off by 9 %, of 100
/// by 14 %, and one that is too low by a third costs an endpoint whose latency varies half of its limit.
const PROBE_ROUNDS: f64 = 4.0;
const PROBE_SAMPLES: (f64, f64) = (40.0, 250.0);
/// Of the first one, which is soon repeated: until it is over, an endpoint is given next to nothing.
const PROBE_FIRST_SAMPLES: usize = 16;
/// Fewer say nothing: what was known before holds on.
const PROBE_SAMPLES_MIN: usize = 3;
/// A measurement that lasts longer than so many round trips has too little traffic, and this on top where those are
/// short.
const PROBE_ROUNDS_MAX: u64 = 15;
const PROBE_LEAST_US: u64 = 200_000;
/// Between BBR's 10 s and Envoy's 60 s: at ten milliseconds a round trip the measurement takes some 150 ms of this.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// But not more often than after so many round trips, of which a measurement takes seven to fifteen.
const PROBE_EVERY_ROUNDS: f64 = 100.0;
/// After the first one, at which nothing was known: an endpoint with less room than the first limit had no room then.
const PROBE_SECOND: Duration = Duration::from_secs(3);
const PROBE_SECOND_ROUNDS: f64 = 50.0;
/// Where so many windows in a row have had the least gradient, it may be that the endpoint is simply slower now; but
/// not before so much time has passed.
const PROBE_EARLY_WINDOWS: u32 = 5;
const PROBE_EARLY: Duration = Duration::from_secs(5);

/// The limit of one endpoint, over all workers.
#[derive(Debug)]
pub struct Adaptive {
    limit: f64,
    /// Median latency of the endpoint with room. None: never measured.
    room_us: Option<f64>,
    window: Window,
    window_ends_us: InstantUs,
    /// Windows in a row with the least gradient.
    steep_windows: u32,
    probe: Option<Probe>,
    probed_us: InstantUs,
    next_probe_us: InstantUs,
}

/// What ended since the limit was last set.
#[derive(Debug, Default)]
struct Window {
    latencies_us: Vec<u32>,
    completions: usize,
    dropped: usize,
    in_flight_max: u32,
}

/// Measures the latency with room.
#[derive(Debug)]
struct Probe {
    limit: f64,
    /// What ends earlier may have met those of before. 0: from the first on.
    from_us: InstantUs,
    until_us: InstantUs,
    needed: usize,
    latencies_us: Vec<u32>,
}

impl Adaptive {
    pub fn new(now_us: InstantUs) -> Self {
        Self {
            limit: LIMIT_INITIAL,
            room_us: None,
            window: Window::default(),
            window_ends_us: now_us + WINDOW_US,
            steep_windows: 0,
            probe: Some(Probe::first()),
            probed_us: now_us,
            next_probe_us: InstantUs::MAX,
        }
    }

    /// One attempt at this endpoint ended; `in_flight` were there then, this one included.
    pub fn observe(&mut self, completion: &Completion, in_flight: u32) {
        let latency_us = if completion.first_byte_us > 0 { completion.first_byte_us } else { completion.total_us };
        match completion.outcome {
            Outcome::Success | Outcome::ClientError => {
                self.window.count(latency_us, in_flight);
                if let Some(probe) = &mut self.probe {
                    probe.count(completion.at_us, latency_us);
                }
            }
            Outcome::TimedOut | Outcome::Overloaded | Outcome::GatewayError => self.window.drop_one(in_flight),
            // Broken off, nobody knows how far from the end.
            Outcome::ServerError | Outcome::ConnectFailed | Outcome::Reset | Outcome::Cancelled => {}
        }
    }

    /// How many requests may be in flight to it now; from [`LIMIT_MIN`] to [`LIMIT_MAX`]. To be asked about every
    /// 100 ms, or more often.
    pub fn limit(&mut self, now_us: InstantUs) -> u32 {
        if self.probe.as_ref().is_some_and(|probe| probe.is_over(now_us)) {
            self.end_probe(now_us);
        }
        if self.probe.is_none() && now_us >= self.window_ends_us && self.window.is_enough(self.limit) {
            self.adjust(now_us);
        }
        let limit = self.probe.as_ref().map_or(self.limit, |probe| probe.limit);
        // Bounded, so that the conversion is exact.
        limit.clamp(LIMIT_MIN, LIMIT_MAX).round() as u32
    }

    /// Sets the limit by what ended in the window, and begins the next one.
    fn adjust(&mut self, now_us: InstantUs) {
        let window = std::mem::take(&mut self.window);
        self.window_ends_us = now_us + WINDOW_US;
        let Some(room_us) = self.room_us else { return };
        let latency_us = median(window.latencies_us);
        let by_latency = latency_us.map_or(1.0, |latency_us| TOLERANCE * room_us / latency_us.max(1.0));
        let mut gradient = by_latency.clamp(GRADIENT_MIN, 1.0);
        self.steep_windows = if by_latency < GRADIENT_MIN { self.steep_windows + 1 } else { 0 };
        let is_dropping = window.dropped as f64 > DROPPED_SHARE * window.completions as f64;
        let headroom = if is_dropping { 0.0 } else { self.limit.sqrt() };
        if is_dropping {
            gradient = gradient.min(1.0 - DROPPED_SHARE);
        }
        let target = gradient * self.limit + headroom;
        // A limit that nobody comes near to has not been tried.
        if target < self.limit || f64::from(window.in_flight_max) >= self.limit / 2.0 {
            self.limit = (self.limit + SMOOTHING * (target - self.limit)).clamp(LIMIT_MIN, LIMIT_MAX);
        }
        let is_early = self.steep_windows >= PROBE_EARLY_WINDOWS && now_us >= self.probed_us + micros(PROBE_EARLY);
        if is_early || now_us >= self.next_probe_us {
            // What is there now has to end first, with the requests that it keeps waiting.
            self.probe = Some(Probe::begin(self.limit, now_us, latency_us.unwrap_or(room_us) as u64));
        }
    }

    fn end_probe(&mut self, now_us: InstantUs) {
        let Some(probe) = self.probe.take() else { return };
        let is_first = self.room_us.is_none();
        if probe.latencies_us.len() >= PROBE_SAMPLES_MIN {
            self.room_us = median(probe.latencies_us);
        }
        (self.probed_us, self.steep_windows) = (now_us, 0);
        let (least, rounds) =
            if is_first { (PROBE_SECOND, PROBE_SECOND_ROUNDS) } else { (PROBE_EVERY, PROBE_EVERY_ROUNDS) };
        self.next_probe_us = now_us + micros(least).max((rounds * self.room_us.unwrap_or_default()) as u64);
        self.window = Window::default();
        self.window_ends_us = now_us + WINDOW_US;
    }
}

impl Window {
    fn count(&mut self, latency_us: u32, in_flight: u32) {
        match self.latencies_us.get_mut(self.completions % SAMPLES_MAX) {
            Some(place) if self.completions >= SAMPLES_MAX => *place = latency_us,
            _ => self.latencies_us.push(latency_us),
        }
        self.completions += 1;
        self.in_flight_max = self.in_flight_max.max(in_flight);
    }

    fn drop_one(&mut self, in_flight: u32) {
        self.completions += 1;
        self.dropped += 1;
        self.in_flight_max = self.in_flight_max.max(in_flight);
    }

    fn is_enough(&self, limit: f64) -> bool {
        self.completions as f64 >= (limit / 2.0).clamp(SAMPLES_MIN.0, SAMPLES_MIN.1)
    }
}

impl Probe {
    /// Until something is known, however long that takes.
    fn first() -> Self {
        Self {
            limit: LIMIT_INITIAL,
            from_us: 0,
            until_us: InstantUs::MAX,
            needed: PROBE_FIRST_SAMPLES,
            latencies_us: Vec::new(),
        }
    }

    fn begin(limit: f64, now_us: InstantUs, latency_us: u64) -> Self {
        let limit = (limit * PROBE_SHARE).max(LIMIT_MIN);
        Self {
            limit,
            from_us: now_us + PROBE_SETTLING_ROUNDS * latency_us,
            until_us: now_us + PROBE_LEAST_US + PROBE_ROUNDS_MAX * latency_us,
            needed: (PROBE_ROUNDS * limit).clamp(PROBE_SAMPLES.0, PROBE_SAMPLES.1) as usize,
            latencies_us: Vec::new(),
        }
    }

    /// All that ends counts, not only what began within the measurement: of those the quick ones end first.
    fn count(&mut self, at_us: InstantUs, latency_us: u32) {
        if at_us >= self.from_us && !self.has_enough() {
            self.latencies_us.push(latency_us);
        }
    }

    fn has_enough(&self) -> bool {
        self.latencies_us.len() >= self.needed
    }

    fn is_over(&self, now_us: InstantUs) -> bool {
        self.has_enough() || now_us >= self.until_us
    }
}

fn median(mut latencies_us: Vec<u32>) -> Option<f64> {
    let middle = latencies_us.len() / 2;
    if latencies_us.is_empty() {
        return None;
    }
    Some(f64::from(*latencies_us.select_nth_unstable(middle).1))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
