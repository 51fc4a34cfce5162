//! Outlier detection as Envoy has it, with gRPC's forgiving (proposal A50): endpoints that fail, or fail more than the
//! others, get no traffic for a while, and a longer while each time.

use super::{
    Change, Ejection, Endpoints, Evidence, Known, Observation, OutlierRules, Saved, Source, ejection_ms,
    outcome_in_words, restored, saved,
};
use crate::{Completion, Endpoint, InstantUs, Settings, Slot, settings::decimal, sort::sort_by};

/// Which endpoints of a service are outliers, by how their traffic ended.
///
/// Active checks are not counted: who fails them is unavailable already, and who passes them while real requests fail
/// is no better for it.
#[derive(Debug)]
pub struct Outliers {
    rules: OutlierRules,
    endpoints: Endpoints<Record>,
    /// None before the first observation.
    interval_ends: Option<InstantUs>,
    now: InstantUs,
}

/// What is counted of one endpoint.
#[derive(Debug, Default)]
struct Record {
    consecutive: u32,
    /// Within this interval.
    worked: u32,
    failed: u32,
    was_ejected: bool,
    /// The multiplier: how often it was ejected, less the intervals that it was not.
    times: u32,
    ejected: Option<Ejected>,
}

#[derive(Clone, Copy, Debug)]
struct Ejected {
    since: InstantUs,
    until: InstantUs,
}

impl Outliers {
    /// The settings are those of [`OutlierRules`].
    pub fn from_settings(settings: &mut Settings) -> Self {
        Self::new(OutlierRules::from_settings(settings))
    }

    pub fn new(rules: OutlierRules) -> Self {
        Self { rules, endpoints: Endpoints::default(), interval_ends: None, now: 0 }
    }

    pub fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.now = now;
        self.endpoints.update(endpoints.iter().map(Into::into));
    }

    pub fn observe(&mut self, observations: &[Observation], now: InstantUs) -> Vec<Change> {
        self.now = now;
        let mut changes = self.admit();
        self.give_in();
        for observation in observations.iter().filter(|observation| observation.source == Source::Traffic) {
            changes.extend(self.learn(&observation.completion));
        }
        let ends = *self.interval_ends.get_or_insert(now + self.rules.interval_us);
        if now >= ends {
            self.interval_ends = Some(now + self.rules.interval_us);
            self.judge_rates(&mut changes);
            self.judge_failures(&mut changes);
            self.begin_interval();
        }
        changes
    }

    /// Ejections and multipliers, as [`saved`] writes them.
    pub fn save(&self) -> Vec<u8> {
        saved(self.endpoints.iter().map(|Known { key, state, .. }| Saved {
            key: *key,
            until: state.ejected.map(|ejected| ejected.until),
            times: state.times,
        }))
    }

    /// Takes over what a policy with ejections saved, this one or another.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let since = self.now;
        for Saved { key, until, times } in restored(state, since)? {
            let times_max = self.rules.times_max();
            let Some(Known { available, state, .. }) = self.endpoints.with_key(key) else { continue };
            state.times = times.min(times_max);
            // Who is available was readmitted meanwhile.
            state.ejected = until.filter(|_| !*available).map(|until| Ejected { since, until });
        }
        Ok(())
    }

    /// Those whose time is over. The gateway does so by itself; but not for an endpoint whose probation has been taken over
    /// from another policy.
    fn admit(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for Known { slot, state, .. } in self.endpoints.iter_mut() {
            if state.ejected.take_if(|ejected| ejected.until <= self.now).is_some() {
                changes.push(Change::Admit(*slot));
            }
        }
        changes
    }

    /// An ejection that is not in force does not count, and what is seen of the endpoint does again.
    fn give_in(&mut self) {
        for known in self.endpoints.iter_mut() {
            if known.state.ejected.is_some_and(|ejected| known.overrules(ejected.since, self.now)) {
                known.state.ejected = None;
                known.state.times = known.state.times.saturating_sub(1);
            }
        }
    }

    fn learn(&mut self, completion: &Completion) -> Option<Change> {
        let known = self.endpoints.get(completion.slot).filter(|known| known.is_told_by(completion))?;
        let state = &mut known.state;
        if state.ejected.is_some() {
            return None;
        }
        match Evidence::from(completion.outcome) {
            Evidence::Works => {
                state.worked += 1;
                state.consecutive = 0;
            }
            Evidence::Fails => {
                state.failed += 1;
                state.consecutive += 1;
            }
            Evidence::Nothing => {}
        }
        if self.rules.consecutive == 0 || state.consecutive < self.rules.consecutive {
            return None;
        }
        state.consecutive = 0;
        let (count, last) = (self.rules.consecutive, outcome_in_words(completion.outcome));
        self.eject(completion.slot, &|| format!("{count} consecutive failures, the last {last}"))
    }

    fn judge_rates(&mut self, changes: &mut Vec<Change>) {
        let rule = self.rules.success_rate;
        let measured = self.measured(rule.requests);
        if rule.stdevs == 0.0 || measured.len() < rule.hosts as usize {
            return;
        }
        let count = measured.len() as f64;
        let mean = measured.iter().map(|(_, rate)| rate).sum::<f64>() / count;
        let variance = measured.iter().map(|(_, rate)| (rate - mean) * (rate - mean)).sum::<f64>() / count;
        let least = mean - rule.stdevs * variance.sqrt();
        let reason = |rate| {
            let (rate, least, stdevs) = (percent(rate), percent(least), decimal(rule.stdevs));
            format!("success rate {rate} %, below {least} %: the mean less {stdevs} standard deviations")
        };
        for (slot, rate) in measured.into_iter().filter(|(_, rate)| *rate < least) {
            changes.extend(self.eject(slot, &|| reason(rate)));
        }
    }

    fn judge_failures(&mut self, changes: &mut Vec<Change>) {
        let rule = self.rules.failures;
        let Some(threshold) = rule.threshold else { return };
        let measured = self.measured(rule.requests);
        if measured.len() < rule.hosts as usize {
            return;
        }
        for (slot, rate) in measured {
            let failed = 1.0 - rate;
            if failed * 100.0 >= threshold {
                let reason = || format!("{} % of its requests failed", percent(failed));
                changes.extend(self.eject(slot, &reason));
            }
        }
    }

    /// Who is in service and had so many requests within this interval, with the share that succeeded; the worst
    /// first, who are ejected while there is room.
    fn measured(&self, requests: u32) -> Vec<(Slot, f64)> {
        let in_service = self.endpoints.iter().filter(|known| known.available && known.state.ejected.is_none());
        let mut measured: Vec<(Slot, f64)> = in_service
            .filter(|known| known.state.worked.saturating_add(known.state.failed) >= requests)
            .map(|known| {
                let (worked, failed) = (f64::from(known.state.worked), f64::from(known.state.failed));
                (known.slot, worked / (worked + failed))
            })
            .collect();
        sort_by(&mut measured, |a, b| (a.1, a.0) < (b.1, b.0));
        measured
    }

    fn begin_interval(&mut self) {
        for Known { state, .. } in self.endpoints.iter_mut() {
            let is_ejected = state.ejected.is_some();
            if !is_ejected && !state.was_ejected {
                state.times = state.times.saturating_sub(1);
            }
            state.was_ejected = is_ejected;
            state.worked = 0;
            state.failed = 0;
        }
    }

    /// None where it would be one too many.
    fn eject(&mut self, slot: Slot, reason: &dyn Fn() -> String) -> Option<Change> {
        if !self.has_room(slot) {
            return None;
        }
        let reason = reason();
        let rules = self.rules;
        let now = self.now;
        let state = &mut self.endpoints.get(slot)?.state;
        state.times = (state.times + 1).min(rules.times_max());
        state.was_ejected = true;
        let duration_ms = ejection_ms(rules.ejection_us(state.times));
        state.ejected = Some(Ejected { since: now, until: now + u64::from(duration_ms) * 1_000 });
        Some(Change::Eject(Ejection { slot, duration_ms, reason }))
    }

    /// Whether this one, too, may be ejected: one at least, then as many as the share allows, but never the last that
    /// gets traffic.
    fn has_room(&self, slot: Slot) -> bool {
        let (mut all, mut ejected, mut others) = (0_u64, 0_u64, 0_u64);
        for known in self.endpoints.iter() {
            all += 1;
            if known.state.ejected.is_some() {
                ejected += 1;
            } else if known.available && known.slot != slot {
                others += 1;
            }
        }
        let share = u64::from(self.rules.max_ejected_percent);
        share > 0 && others > 0 && (ejected == 0 || (ejected + 1) * 100 <= share * all)
    }
}

/// To a tenth.
fn percent(share: f64) -> String {
    decimal((share * 1_000.0).round() / 10.0)
}

#[cfg(test)]
mod tests;
