//! Linkerd's circuit breaker: an endpoint that fails several times in a row gets no traffic for a penalty; then one
//! request at a time probes it. Retries are as in `standard`.
//!
//! Settings: `consecutive` (7), the failures in a row; `min_penalty` ("1 s") and `max_penalty` ("1 min"), the first and the
//! longest; `jitter` (0.5), up to what share of itself is added to a penalty; those of [`Retries`] (`attempts`,
//! `retry_on`, `backoff`, `backoff_max`, `fall_back`).

mod circuit;

use circuit::{Circuit, Rules, Step};
use sluice_sdk::{
    Completion, Context, Endpoint, InstantUs, Settings, Slot,
    failover::{
        Change, EJECTION_MS_MAX, Ejection, Endpoints, Evidence, Failover, Failure, Known, Observation, Retries, Saved,
        Source, Verdict, began, ejection_ms, outcome_in_words, restored, saved,
    },
    random::mix,
};

/// An ejection that the gateway ends by itself would bring full traffic back, without a probe. So it lasts this much
/// longer than the penalty: ten times the 100 ms after which `observe` is called at the latest.
const PROBE_MARGIN_US: u64 = 1_000_000;

/// With the margin, the longest ejection that the gateway accepts.
const PENALTY_US_MAX: u64 = EJECTION_MS_MAX as u64 * 1_000 - PROBE_MARGIN_US;

struct Breaker {
    retries: Retries,
    rules: Rules,
    circuits: Endpoints<Circuit>,
    now: InstantUs,
    seed: u64,
    drawn: u64,
}

impl Failover for Breaker {
    fn configure(context: &Context, settings: &mut Settings) -> Self {
        let rules = Rules {
            consecutive: settings.integer("consecutive", 7, 1..=1_000_000),
            min_penalty_us: settings.duration_us("min_penalty", 1_000_000, 1_000..=PENALTY_US_MAX),
            max_penalty_us: settings.duration_us("max_penalty", 60_000_000, 1_000..=PENALTY_US_MAX),
            jitter: settings.number("jitter", 0.5, 0.0..=1.0),
        };
        if rules.max_penalty_us < rules.min_penalty_us {
            settings.problem("max_penalty", "must not be less than min_penalty");
        }
        let retries = Retries::from_settings(settings);
        Self { retries, rules, circuits: Endpoints::default(), now: 0, seed: context.seed, drawn: 0 }
    }

    fn decide(&mut self, failure: &Failure) -> Verdict {
        self.retries.decide(failure)
    }

    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.now = now;
        self.circuits.update(endpoints.iter().map(Into::into));
    }

    fn observe(&mut self, observations: &[Observation], now: InstantUs) -> Vec<Change> {
        self.now = now;
        for known in self.circuits.iter_mut() {
            if known.state.out_since().is_some_and(|since| known.overrules(since, now)) {
                known.state.give_in();
            }
        }
        // Active checks are not asked: who passes them while real requests fail is no better for it.
        let traffic = observations.iter().filter(|observation| observation.source == Source::Traffic);
        let mut changes: Vec<Change> = traffic.filter_map(|observation| self.learn(&observation.completion)).collect();
        let probes = self.circuits.iter_mut().filter_map(|Known { slot, state, .. }| {
            let step = state.pass(now)?;
            Some(change(*slot, step, String::new()))
        });
        changes.extend(probes);
        changes
    }

    fn save(&self) -> Vec<u8> {
        saved(self.circuits.iter().map(|Known { key, state, .. }| {
            let (until, times) = state.saved();
            Saved { key: *key, until, times }
        }))
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        for Saved { key, until, times } in restored(state, self.now)? {
            if let Some(Known { available, state, .. }) = self.circuits.with_key(key) {
                *state = Circuit::restored(until.filter(|_| !*available), times, self.now);
            }
        }
        Ok(())
    }
}

impl Breaker {
    fn learn(&mut self, completion: &Completion) -> Option<Change> {
        let known = self.circuits.get(completion.slot)?;
        let told = match known.state.on_probation_since() {
            Some(since) => began(completion) >= since,
            None => known.is_told_by(completion),
        };
        if !told {
            return None;
        }
        let step = match Evidence::from(completion.outcome) {
            Evidence::Works => known.state.works(),
            Evidence::Fails => {
                self.drawn += 1;
                known.state.fails(&self.rules, self.now, mix(self.seed, self.drawn))
            }
            Evidence::Nothing => None,
        }?;
        let last = outcome_in_words(completion.outcome);
        let reason = match step {
            Step::Eject { after_probe: true, .. } => format!("the probe failed: {last}"),
            Step::Eject { .. } => format!("{} consecutive failures, the last {last}", self.rules.consecutive),
            Step::Probe | Step::Admit => String::new(),
        };
        Some(change(completion.slot, step, reason))
    }
}

fn change(slot: Slot, step: Step, reason: String) -> Change {
    match step {
        Step::Eject { penalty_us, .. } => {
            Change::Eject(Ejection { slot, duration_ms: ejection_ms(penalty_us + PROBE_MARGIN_US), reason })
        }
        Step::Probe => Change::Probe(slot),
        Step::Admit => Change::Admit(slot),
    }
}

sluice_sdk::failover!(Breaker);

#[cfg(test)]
mod tests;
