//! Of a few endpoints drawn at random, the one that is expected to answer first, by what it has taken lately.
//!
//! Settings: `choices` (2), how many are drawn; `decay` ("10 s"), how long a measurement counts; `initial`
//! ("30 ms"), what is expected of an endpoint that nothing is known of; `failure` ("1 s"), what an attempt without
//! an answer counts as at the least; those of [`Rules`].

mod estimates;

use estimates::{Estimate, Estimates, Sample};
use sluice_sdk::{
    Balancer, Completion, Context, Endpoint, InstantUs, Outcome, Request, Settings, Slot,
    choices::{CHOICES_MAX, Choices},
    incoming,
    load::in_flight,
    members::{Levels, Rules},
    state::{Reader, Writer},
};

/// Records of an endpoint's key, its estimate in microseconds, and when it was measured.
const FORMAT: &str = "peak-ewma/1";
const RECORD_LEN: usize = 24;

struct PeakEwma {
    levels: Levels<Choices>,
    estimates: Estimates,
    failure_us: f64,
}

impl Balancer for PeakEwma {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let choices = settings.integer("choices", 2, 1..=CHOICES_MAX);
        let decay_us = settings.duration_us("decay", 10_000_000, 1_000..=3_600_000_000);
        let initial_us = settings.duration_us("initial", 30_000, 0..=60_000_000);
        let failure_us = settings.duration_us("failure", 1_000_000, 0..=60_000_000);
        Self {
            levels: Levels::new(Rules::from_settings(settings), Choices::new(choices)),
            estimates: Estimates::new(decay_us as f64, initial_us as f64),
            failure_us: failure_us as f64,
        }
    }

    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.estimates.update(endpoints.iter().map(|endpoint| (endpoint.slot, endpoint.key)), now);
        self.levels.update(endpoints.iter().map(Into::into), now);
    }

    fn pick(&mut self, request: &Request) -> Option<Slot> {
        let estimates = &self.estimates;
        self.levels.pick(request.now, request.random, request.attempt, incoming::tried, |choices, members, turn| {
            choices.choose(members, request.random, turn, |member| {
                // An endpoint of twice the weight is as busy with twice the requests.
                let pending = f64::from(in_flight(member.slot)) / choices.relative_weight(member);
                estimates.cost(member.slot) * (pending + 1.0)
            })
        })
    }

    fn complete(&mut self, completions: &[Completion], _: InstantUs) {
        for completion in completions {
            if let Some(sample) = self.sample(completion) {
                self.estimates.observe(completion.slot, sample, completion.at);
            }
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut state = Writer::new(FORMAT);
        for Estimate { key, rtt_us, at } in self.estimates.iter() {
            state.u64(key);
            state.f64(rtt_us);
            state.u64(at);
        }
        state.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let mut state = Reader::new(FORMAT, RECORD_LEN, state)?;
        while !state.is_empty() {
            self.estimates.restore(Estimate { key: state.u64(), rtt_us: state.f64(), at: state.u64() });
        }
        Ok(())
    }
}

impl PeakEwma {
    /// What a completion says of the endpoint's time to answer.
    fn sample(&self, completion: &Completion) -> Option<Sample> {
        let (first_byte_us, total_us) = (f64::from(completion.first_byte_us), f64::from(completion.total_us));
        match completion.outcome {
            Outcome::Success | Outcome::ClientError => Some(Sample::Exactly(first_byte_us)),
            // Failing fast is not being fast: it must not attract more traffic.
            Outcome::ServerError | Outcome::GatewayError | Outcome::Overloaded => Some(Sample::AtLeast(first_byte_us)),
            Outcome::ConnectFailed | Outcome::Reset | Outcome::TimedOut => {
                Some(Sample::AtLeast(total_us.max(self.failure_us)))
            }
            // Without a head it would have taken longer than this; with one, it took that.
            Outcome::Cancelled => Some(Sample::AtLeast(if first_byte_us > 0.0 { first_byte_us } else { total_us })),
        }
    }
}

sluice_sdk::balancer!(PeakEwma);

#[cfg(test)]
mod tests;
