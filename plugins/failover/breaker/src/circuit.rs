//! One endpoint's circuit, as Linkerd's "consecutive failures" policy has it (`linkerd/app/outbound/src/http/breaker`):
//! so many failures in a row take it out of traffic; after a penalty, which doubles each time, one request at a time
//! probes it, and what becomes of that readmits it or takes it out again.

/// A saved state may say anything; beyond this many doublings every penalty is the longest.
const DOUBLINGS_MAX: u32 = 40;

#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Failures in a row, at least 1.
    pub consecutive: u32,
    pub min_penalty_us: u64,
    pub max_penalty_us: u64,
    /// Up to this share of a penalty is added to it, 0 to 1: so endpoints that failed together are not probed together.
    pub jitter: f64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Circuit {
    state: State,
    /// Penalties since it last worked.
    times: u32,
}

/// Times are microseconds on one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InService { failures: u32 },
    Ejected { since: u64, until: u64 },
    Probation { since: u64 },
}

impl Default for State {
    fn default() -> Self {
        Self::InService { failures: 0 }
    }
}

/// What becomes of the endpoint now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Eject { penalty_us: u64, after_probe: bool },
    Probe,
    Admit,
}

impl Circuit {
    /// The end of a penalty.
    pub fn pass(&mut self, now: u64) -> Option<Step> {
        match self.state {
            State::Ejected { until, .. } if until <= now => {
                self.state = State::Probation { since: now };
                Some(Step::Probe)
            }
            _ => None,
        }
    }

    /// Since when it is on probation, if it is: only what began then is a probe.
    pub fn on_probation_since(&self) -> Option<u64> {
        if let State::Probation { since } = self.state { Some(since) } else { None }
    }

    pub fn works(&mut self) -> Option<Step> {
        match self.state {
            State::InService { .. } => {
                self.state = State::default();
                None
            }
            State::Ejected { .. } => None,
            State::Probation { .. } => {
                *self = Self::default();
                Some(Step::Admit)
            }
        }
    }

    /// `random` is uniform.
    pub fn fails(&mut self, rules: &Rules, now: u64, random: u64) -> Option<Step> {
        let after_probe = match &mut self.state {
            State::InService { failures } => {
                *failures += 1;
                if *failures < rules.consecutive {
                    return None;
                }
                false
            }
            State::Ejected { .. } => return None,
            State::Probation { .. } => true,
        };
        let penalty_us = rules.penalty_us(self.times, random);
        self.state = State::Ejected { since: now, until: now + penalty_us };
        self.times += 1;
        Some(Step::Eject { penalty_us, after_probe })
    }

    /// Since when it should get no traffic, or one request at a time.
    pub fn out_since(&self) -> Option<u64> {
        match self.state {
            State::InService { .. } => None,
            State::Ejected { since, .. } | State::Probation { since } => Some(since),
        }
    }

    /// The gateway gives it traffic all the same: a bound stood against the ejection, which then does not count, or
    /// somebody has readmitted it.
    pub fn give_in(&mut self) {
        if matches!(self.state, State::Ejected { .. }) {
            self.times = self.times.saturating_sub(1);
        }
        self.state = State::default();
    }

    /// Until when it is ejected (in the past: since when it is on probation), and how often it was.
    pub fn saved(&self) -> (Option<u64>, u32) {
        let until = match self.state {
            State::InService { .. } => None,
            State::Ejected { until, .. } => Some(until),
            State::Probation { since } => Some(since),
        };
        (until, self.times)
    }

    /// Takes over `now` what another has saved, of an endpoint that gets no traffic.
    pub fn restored(until: Option<u64>, times: u32, now: u64) -> Self {
        let state = until.map_or_else(State::default, |until| State::Ejected { since: now, until });
        Self { state, times }
    }
}

impl Rules {
    /// After `times` others.
    fn penalty_us(&self, times: u32, random: u64) -> u64 {
        let doubled = u128::from(self.min_penalty_us) << times.min(DOUBLINGS_MAX);
        let base_us = doubled.min(u128::from(self.max_penalty_us)) as u64;
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let jitter_us = (base_us as f64 * self.jitter * share) as u64;
        (base_us + jitter_us).min(self.max_penalty_us)
    }
}

#[cfg(test)]
mod tests;
