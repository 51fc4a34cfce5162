//! The settings that all balancers have in common.

use crate::{InstantUs, Settings, power::power};

/// Below this share of available endpoints a service panics (Envoy's `healthy_panic_threshold`). Also the most
/// that may be set: the gateway takes a pick of an unavailable endpoint only while fewer than half are available.
const PANIC_THRESHOLD_PERCENT: u32 = 50;

/// A new endpoint's share of its weight at the least, in thousandths (Envoy's `min_weight_percent`, 10 %): so
/// none is starved, however long the slow start.
const RAMP_FLOOR: f64 = 0.1;

/// How often shares are computed anew while a slow start lasts: a hundredth of the window at a time.
const RAMP_STEPS: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPanic {
    UseAll,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// 0 never panics.
    pub panic_threshold_percent: u32,
    pub on_panic: OnPanic,
    pub slow_start: SlowStart,
}

/// How a new endpoint grows into its weight: by `max(10 %, t^(1/aggression))` of it, where `t` is the elapsed part
/// of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// 0: at once.
    pub window_us: u64,
    pub aggression: f64,
}

/// Where one endpoint is on that way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// Above 0, at most 1.
    pub factor: f64,
    /// When it will have changed; none: it is at 1 for good.
    pub changes_at: Option<InstantUs>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            panic_threshold_percent: PANIC_THRESHOLD_PERCENT,
            on_panic: OnPanic::UseAll,
            slow_start: SlowStart { window_us: 0, aggression: 1.0 },
        }
    }
}

impl Rules {
    /// `panic_threshold`, `panic`, `slow_start` and `slow_start_aggression`.
    pub fn from_settings(settings: &mut Settings) -> Self {
        let defaults = Self::default();
        Self {
            panic_threshold_percent: settings.integer(
                "panic_threshold",
                PANIC_THRESHOLD_PERCENT,
                0..=PANIC_THRESHOLD_PERCENT,
            ),
            on_panic: settings.one_of("panic", &[("use-all", OnPanic::UseAll), ("fail", OnPanic::Fail)]),
            slow_start: SlowStart {
                window_us: settings.duration_us("slow_start", 0, 0..=3_600_000_000),
                aggression: settings.number("slow_start_aggression", defaults.slow_start.aggression, 0.1..=10.0),
            },
        }
    }
}

impl SlowStart {
    pub fn ramp(&self, since: InstantUs, now: InstantUs) -> Ramp {
        let elapsed = now.saturating_sub(since);
        if elapsed >= self.window_us {
            return Ramp { factor: 1.0, changes_at: None };
        }
        let part = elapsed as f64 / self.window_us as f64;
        let factor = if self.aggression == 1.0 { part } else { power(part, 1.0 / self.aggression) };
        let step = (self.window_us / RAMP_STEPS).max(1);
        Ramp { factor: factor.max(RAMP_FLOOR), changes_at: Some(now + step.min(self.window_us - elapsed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_start_never_starves_and_ends_at_the_whole_weight() {
        let slow = SlowStart { window_us: 10_000_000, aggression: 1.0 };
        assert_eq!(slow.ramp(1_000, 1_000).factor, 0.1);
        assert_eq!(slow.ramp(1_000, 500).factor, 0.1, "an endpoint of the future is a new one");
        assert_eq!(slow.ramp(0, 5_000_000).factor, 0.5);
        assert_eq!(slow.ramp(0, 10_000_000), Ramp { factor: 1.0, changes_at: None });
        let late = slow.ramp(0, 9_999_990);
        assert_eq!(late.changes_at, Some(10_000_000));
    }

    #[test]
    fn aggression_bends_the_ramp() {
        let eager = SlowStart { window_us: 1_000, aggression: 2.0 };
        assert!((eager.ramp(0, 250).factor - 0.5).abs() < 1e-9);
    }

    #[test]
    fn no_window_is_no_ramp() {
        let none = SlowStart { window_us: 0, aggression: 1.0 };
        assert_eq!(none.ramp(5, 5), Ramp { factor: 1.0, changes_at: None });
    }
}
