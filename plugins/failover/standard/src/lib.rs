//! Envoy's outlier detection, and gRPC's rules for retries.
//!
//! Settings: those of [`Retries`] (`attempts`, `retry_on`, `backoff`, `backoff_max`, `fall_back`), and those of
//! [`OutlierRules`](sluice_sdk::failover::OutlierRules) (`consecutive`, `interval`, `base_ejection`, `max_ejection`,
//! `max_ejected`, `success_rate_stdevs`, `success_rate_hosts`, `success_rate_requests`, `failure_percentage`,
//! `failure_percentage_hosts`, `failure_percentage_requests`).

use sluice_sdk::{
    Context, Endpoint, InstantUs, Settings,
    failover::{Change, Failover, Failure, Observation, Outliers, Retries, Verdict},
};

struct Standard {
    retries: Retries,
    outliers: Outliers,
}

impl Failover for Standard {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        Self { retries: Retries::from_settings(settings), outliers: Outliers::from_settings(settings) }
    }

    fn decide(&mut self, failure: &Failure) -> Verdict {
        self.retries.decide(failure)
    }

    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.outliers.update(endpoints, now);
    }

    fn observe(&mut self, observations: &[Observation], now: InstantUs) -> Vec<Change> {
        self.outliers.observe(observations, now)
    }

    fn save(&self) -> Vec<u8> {
        self.outliers.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        self.outliers.restore(state)
    }
}

sluice_sdk::failover!(Standard);

#[cfg(test)]
mod tests;
