//! As `standard`; and a request that takes longer than nearly all others gets a second copy, whose answer is as good.
//!
//! A copy after the 95th percentile is what Dean and Barroso recommend ("The Tail at Scale", CACM 2013): about 5 % more
//! requests, for most of the tail.
//!
//! Settings: `quantile` (0.95) of the times to the first byte, 0.5 to 0.999, after which the copy is sent; `window`
//! ("10 s"), over which it is measured; `min_samples` (100), below which no copies are sent; `min_delay` ("1 ms") and
//! `max_delay` ("5 s"), its bounds; those of `standard`.

mod times;

use sluice_sdk::{
    Completion, Context, Endpoint, InstantUs, Outcome, Settings,
    failover::{Change, EJECTIONS_FORMAT, Failover, Failure, Observation, Outliers, Retries, Verdict},
    state::{Reader, Writer},
};
use times::Times;

/// Records of a time in microseconds, and how often it was measured.
const FORMAT: &str = "first-bytes/1";
const RECORD_LEN: usize = 16;

struct Hedge {
    retries: Retries,
    outliers: Outliers,
    rules: Rules,
    times: Times,
    /// What was answered last.
    delay_us: Option<u32>,
}

struct Rules {
    quantile: f64,
    min_samples: u32,
    min_delay_us: u32,
    max_delay_us: u32,
}

impl Rules {
    fn from_settings(settings: &mut Settings) -> Self {
        let mut delay_us = |key, default| settings.duration_us(key, default, 100..=60_000_000) as u32;
        let (min_delay_us, max_delay_us) = (delay_us("min_delay", 1_000), delay_us("max_delay", 5_000_000));
        if max_delay_us < min_delay_us {
            settings.problem("max_delay", "must not be less than min_delay");
        }
        Self {
            quantile: settings.number("quantile", 0.95, 0.5..=0.999),
            min_samples: settings.integer("min_samples", 100, 1..=1_000_000),
            min_delay_us,
            max_delay_us: max_delay_us.max(min_delay_us),
        }
    }
}

impl Failover for Hedge {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        Self {
            rules: Rules::from_settings(settings),
            times: Times::new(settings.duration_us("window", 10_000_000, 1_000_000..=600_000_000)),
            retries: Retries::from_settings(settings),
            outliers: Outliers::from_settings(settings),
            delay_us: None,
        }
    }

    fn decide(&mut self, failure: &Failure) -> Verdict {
        self.retries.decide(failure)
    }

    fn complete(&mut self, completions: &[Completion], now: InstantUs) -> Option<u32> {
        self.times.pass(now);
        for completion in completions {
            if let Some(time_us) = self.time_us(completion) {
                self.times.add(time_us);
            }
        }
        let Rules { quantile, min_samples, min_delay_us, max_delay_us } = self.rules;
        let enough = self.times.total() >= u64::from(min_samples);
        self.delay_us = enough.then(|| self.times.quantile_us(quantile).clamp(min_delay_us, max_delay_us));
        self.delay_us
    }

    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.outliers.update(endpoints, now);
    }

    fn observe(&mut self, observations: &[Observation], now: InstantUs) -> Vec<Change> {
        self.outliers.observe(observations, now)
    }

    /// An instance has either learned of endpoints or of times, never of both.
    fn save(&self) -> Vec<u8> {
        if self.times.total() == 0 {
            return self.outliers.save();
        }
        let mut state = Writer::new(FORMAT);
        for (time_us, count) in self.times.iter() {
            state.u64(u64::from(time_us));
            state.u64(count);
        }
        state.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        if state.starts_with(EJECTIONS_FORMAT.as_bytes()) {
            return self.outliers.restore(state);
        }
        let mut state = Reader::new(FORMAT, RECORD_LEN, state)?;
        while !state.is_empty() {
            let (time_us, count) = (state.u64(), state.u64());
            self.times.restore(u32::try_from(time_us).unwrap_or(u32::MAX), count);
        }
        Ok(())
    }
}

impl Hedge {
    /// What a completion says of the time to the first byte.
    fn time_us(&self, completion: &Completion) -> Option<u32> {
        match completion.outcome {
            Outcome::Success | Outcome::ClientError => Some(completion.first_byte_us),
            // It would have taken longer; which is enough to know, so long as it is beyond the quantile.
            Outcome::TimedOut => Some(completion.total_us),
            Outcome::Cancelled if completion.first_byte_us > 0 => Some(completion.first_byte_us),
            // Who lost against the copy belongs to the slow ones. Leaving it out would lower the quantile, and so send
            // more and more copies. Who was cancelled sooner, the copy itself mostly, says nothing.
            Outcome::Cancelled => {
                self.delay_us.filter(|delay| completion.total_us >= *delay).map(|_| completion.total_us)
            }
            // An error that comes quickly is no quick answer.
            Outcome::ServerError
            | Outcome::GatewayError
            | Outcome::Overloaded
            | Outcome::ConnectFailed
            | Outcome::Reset => None,
        }
    }
}

sluice_sdk::failover!(Hedge);

#[cfg(test)]
mod tests;
