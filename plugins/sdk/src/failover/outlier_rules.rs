//! What makes an endpoint an outlier, and for how long: Envoy's settings and defaults (`outlier_detection.proto`).

use crate::Settings;

/// The longest that the gateway accepts, too.
const HOUR_US: u64 = 3_600_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierRules {
    /// Failures in a row that eject at once; 0: never.
    pub consecutive: u32,
    /// How often success rates and failure percentages are looked at, and multipliers lowered.
    pub interval_us: u64,
    /// Times how often the endpoint was ejected is how long it is.
    pub base_ejection_us: u64,
    pub max_ejection_us: u64,
    /// Of the endpoints, in percent; one may be ejected all the same, unless this is 0.
    pub max_ejected_percent: u32,
    pub success_rate: SuccessRate,
    pub failures: FailurePercentage,
}

/// Ejects who succeeds less often than the mean over the endpoints less so many standard deviations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    /// 0: off.
    pub stdevs: f64,
    /// How many endpoints must have had `requests` within the interval.
    pub hosts: u32,
    pub requests: u32,
}

/// Ejects who fails this often, whatever the others do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailurePercentage {
    /// None: off, as in Envoy, whose figure is 85 where it is switched on.
    pub threshold: Option<f64>,
    pub hosts: u32,
    pub requests: u32,
}

impl OutlierRules {
    /// `consecutive` (5), `interval` ("10 s"), `base_ejection` ("30 s"), `max_ejection` ("5 min"), `max_ejected` (10);
    /// `success_rate_stdevs` (1.9), `success_rate_hosts` (5), `success_rate_requests` (100); `failure_percentage` (off),
    /// `failure_percentage_hosts` (5), `failure_percentage_requests` (50).
    pub fn from_settings(settings: &mut Settings) -> Self {
        let rules = Self {
            consecutive: settings.integer("consecutive", 5, 0..=1_000_000),
            interval_us: settings.duration_us("interval", 10_000_000, 100_000..=HOUR_US),
            base_ejection_us: settings.duration_us("base_ejection", 30_000_000, 1_000..=HOUR_US),
            max_ejection_us: settings.duration_us("max_ejection", 300_000_000, 1_000..=HOUR_US),
            max_ejected_percent: settings.integer("max_ejected", 10, 0..=100),
            success_rate: SuccessRate {
                stdevs: settings.number("success_rate_stdevs", 1.9, 0.0..=100.0),
                hosts: settings.integer("success_rate_hosts", 5, 1..=1_000_000),
                requests: settings.integer("success_rate_requests", 100, 1..=1_000_000),
            },
            failures: FailurePercentage {
                threshold: settings.optional_number("failure_percentage", 1.0..=100.0),
                hosts: settings.integer("failure_percentage_hosts", 5, 1..=1_000_000),
                requests: settings.integer("failure_percentage_requests", 50, 1..=1_000_000),
            },
        };
        if rules.max_ejection_us < rules.base_ejection_us {
            settings.problem("max_ejection", "must not be less than base_ejection");
        }
        rules
    }

    /// Of somebody who is ejected for the `times`-th time.
    pub fn ejection_us(&self, times: u32) -> u64 {
        (self.base_ejection_us * u64::from(times)).min(self.max_ejection_us)
    }

    /// From how many on an ejection grows no more. What is counted beyond would only be forgiven later.
    pub fn times_max(&self) -> u32 {
        self.max_ejection_us.div_ceil(self.base_ejection_us) as u32
    }
}
