//! One service under watch: its policy's instances, what they have not seen yet, and what they have said.

use std::{collections::HashMap, sync::Arc};

use super::{
    Adaptive, Batch, HealthArm, HealthArms, Judge, SavedHealth, ServiceWatch, Shared, Standing,
    book::{Said, ServiceBook},
};
use crate::{
    model::{Completion, Endpoint, EndpointState, InstantUs, Slot, VersionId},
    plugin::{Fault, FaultKind, HealthChange, HealthInstance, Observation},
};

/// Observations handed to an instance at once; more are handed over in several calls.
const OBSERVATIONS_MAX: usize = 1024;
/// Changes that one answer may have: more than one an endpoint and verdict makes no sense. Beyond, they are ignored.
const CHANGES_MIN: usize = 16;
/// How long a candidate may disagree before that is noted: both decide at their own moment.
const DISAGREEMENT_US: u64 = 1_000_000;

pub struct Watched {
    shared: Arc<Shared>,
    judge: Judge,
    members: Vec<EndpointState>,
    /// Whether the instances have not been told of the members.
    untold: bool,
    incumbent: HealthArm,
    candidate: Option<Shadow>,
    observations: Vec<Observation>,
    /// What each endpoint can take at once; none where that is not measured.
    capacities: Option<HashMap<Slot, Adaptive>>,
    /// Keep the observations' slots.
    leases: Vec<Arc<Endpoint>>,
    book: Arc<ServiceBook>,
}

/// A candidate, and what would hold if it decided.
struct Shadow {
    arm: HealthArm,
    standings: HashMap<Slot, ShadowStanding>,
}

/// Of an endpoint that the candidate, or the incumbent alone, has taken out.
struct ShadowStanding {
    out_until_us: Option<InstantUs>,
    reason: String,
    /// Since when the incumbent is of another opinion, and whether that is noted.
    differs_since_us: Option<InstantUs>,
    noted: bool,
}

/// What came of handing over what was seen.
#[derive(Default)]
pub struct Observed {
    /// Whether a verdict came into force.
    pub changed: bool,
    pub faults: Vec<(VersionId, Fault)>,
}

impl Watched {
    /// What goes on: verdicts, what was not looked at yet, and the instances where no others are brought.
    pub fn next(before: Option<Self>, watch: ServiceWatch, book: Arc<ServiceBook>) -> Self {
        let ServiceWatch { limits, adaptive, shared, members, health, .. } = watch;
        let (mut judge, old_members, old_arms, observations, leases, capacities) = match before {
            Some(Self { judge, members, incumbent, candidate, observations, leases, capacities, .. }) => {
                (judge, members, Some((incumbent, candidate)), observations, leases, capacities)
            }
            None => (Judge::new(limits.clone(), Arc::clone(&shared)), Vec::new(), None, Vec::new(), Vec::new(), None),
        };
        judge.set_limits(limits);
        let untold = members.is_some();
        let members = members.unwrap_or(old_members);
        judge.set_members(&members);
        let (incumbent, candidate) = match (health, old_arms) {
            (Some(HealthArms { incumbent, candidate }), _) => {
                book.forget_differences();
                (incumbent, candidate.map(|arm| Shadow { arm, standings: HashMap::new() }))
            }
            (None, Some(arms)) => arms,
            (None, None) => unreachable!("the control plane keeps only what it handed over before"),
        };
        let mut capacities = adaptive.then(|| capacities.unwrap_or_default());
        match &mut capacities {
            Some(capacities) => {
                capacities.retain(|slot, _| judge.standing(*slot).is_some());
            }
            None => members.iter().for_each(|member| member.endpoint.set_adaptive_max(None)),
        }
        Self { shared, judge, members, untold, incumbent, candidate, observations, capacities, leases, book }
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    pub fn entry(&self) -> &ServiceBook {
        &self.book
    }

    pub fn take(&mut self, batch: Batch, now_us: InstantUs) {
        if let Some(capacities) = &mut self.capacities {
            let of_members = batch.completions.iter().zip(&batch.leases);
            for (completion, endpoint) in of_members.filter(|(_, endpoint)| self.judge.is_member(endpoint)) {
                let capacity = capacities.entry(endpoint.slot).or_insert_with(|| Adaptive::new(now_us));
                capacity.observe(completion, endpoint.in_flight());
            }
        }
        let seen = batch.completions.into_iter().map(|completion| Observation { by_check: false, completion });
        self.observations.extend(seen);
        self.leases.extend(batch.leases);
    }

    pub fn take_check(&mut self, completion: Completion, lease: Arc<Endpoint>) {
        self.observations.push(Observation { by_check: true, completion });
        self.leases.push(lease);
    }

    /// Sets each endpoint's limit to what it was measured to take.
    pub fn measure(&mut self, now_us: InstantUs) {
        let Some(capacities) = &mut self.capacities else { return };
        for member in &self.members {
            if let Some(capacity) = capacities.get_mut(&member.endpoint.slot) {
                member.endpoint.set_adaptive_max(Some(capacity.limit(now_us)));
            }
        }
    }

    pub fn has_news(&self) -> bool {
        !self.observations.is_empty()
    }

    /// WIT `health.update`, if there is something to tell.
    pub fn tell_members(&mut self, now_us: InstantUs) -> Vec<(VersionId, Fault)> {
        if !std::mem::take(&mut self.untold) {
            return Vec::new();
        }
        let members = &self.members;
        let tell = |arm: &mut HealthArm| call(arm, |instance| instance.update(members, now_us)).err().flatten();
        let candidate = self.candidate.as_mut().and_then(|shadow| tell(&mut shadow.arm));
        [tell(&mut self.incumbent), candidate].into_iter().flatten().collect()
    }

    /// Hands over what was seen since the last time, brings the verdicts into force, and readmits whose time is over.
    pub fn observe(&mut self, now_us: InstantUs) -> Observed {
        let mut observed = Observed::default();
        let observations = std::mem::take(&mut self.observations);
        for Observation { completion, .. } in observations.iter().filter(|observation| !observation.by_check) {
            let begun_us = completion.at_us.saturating_sub(u64::from(completion.total_us));
            self.judge.see(completion.slot, begun_us);
        }
        let mut rest = &observations[..];
        loop {
            let (now, later) = rest.split_at(rest.len().min(OBSERVATIONS_MAX));
            self.ask(now, now_us, &mut observed);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        for observation in observations.iter().filter(|observation| !observation.by_check) {
            self.judge.observed(observation.completion.slot);
        }
        for ruling in self.judge.expire(now_us) {
            self.book.rule(&ruling);
            observed.changed = true;
        }
        if let Some(shadow) = &mut self.candidate {
            shadow.compare(&self.judge, &self.members, &self.book, now_us);
        }
        self.observations = observations;
        self.observations.clear();
        self.leases.clear();
        observed
    }

    fn ask(&mut self, observations: &[Observation], now_us: InstantUs, observed: &mut Observed) {
        let changes_max = CHANGES_MIN.max(2 * self.members.len());
        match call(&mut self.incumbent, |instance| instance.observe(observations, now_us)) {
            Ok(changes) => {
                let ignored = changes.len().saturating_sub(changes_max);
                self.book.overruled.add(ignored as u64);
                self.judge.begin();
                for change in changes.into_iter().take(changes_max) {
                    match self.judge.apply(change, now_us) {
                        Ok(None) => {}
                        Ok(Some(ruling)) => {
                            self.book.rule(&ruling);
                            observed.changed = true;
                        }
                        Err(overruled) => {
                            self.book.overruled.add(1);
                            tracing::debug!(%overruled, "a verdict of a health policy does not come into force");
                        }
                    }
                }
            }
            Err(fault) => observed.faults.extend(fault),
        }
        if let Some(shadow) = &mut self.candidate {
            match call(&mut shadow.arm, |instance| instance.observe(observations, now_us)) {
                Ok(changes) => {
                    changes.into_iter().take(changes_max).for_each(|change| shadow.apply(change, now_us));
                }
                Err(fault) => observed.faults.extend(fault),
            }
        }
    }

    pub fn save(&mut self) -> (SavedHealth, Vec<(VersionId, Fault)>) {
        let mut faults = Vec::new();
        let mut save = |arm: &mut HealthArm| match call(arm, HealthInstance::save) {
            Ok(state) => Some(state),
            Err(fault) => {
                faults.extend(fault);
                None
            }
        };
        let incumbent = save(&mut self.incumbent);
        let candidate = self.candidate.as_mut().and_then(|shadow| save(&mut shadow.arm));
        (SavedHealth { incumbent, candidate }, faults)
    }
}

/// Calls an instance; a fault discards it and is counted. The inner none: there is no instance.
fn call<T>(
    arm: &mut HealthArm,
    call: impl FnOnce(&mut HealthInstance) -> Result<T, Fault>,
) -> Result<T, Option<(VersionId, Fault)>> {
    let Some(instance) = &mut arm.instance else { return Err(None) };
    call(instance).map_err(|fault| {
        match fault.kind {
            FaultKind::Trap | FaultKind::Answer | FaultKind::Storage => arm.cells.traps.add(1),
            FaultKind::Deadline => arm.cells.deadline_overruns.add(1),
            FaultKind::Memory => arm.cells.memory_overruns.add(1),
        }
        arm.instance = None;
        Some((arm.version.id(), fault))
    })
}

impl Shadow {
    fn apply(&mut self, change: HealthChange, now_us: InstantUs) {
        let (slot, out_until_us, reason) = match change {
            HealthChange::Eject { slot, duration_ms, reason } => {
                (slot, Some(now_us + u64::from(duration_ms) * 1_000), reason)
            }
            HealthChange::Probe(slot) => (slot, Some(InstantUs::MAX), "it would be probed".to_owned()),
            HealthChange::Admit(slot) => (slot, None, "it would be fit".to_owned()),
        };
        let standing = self.standing(slot);
        standing.out_until_us = out_until_us;
        standing.reason = reason;
    }

    fn standing(&mut self, slot: Slot) -> &mut ShadowStanding {
        self.standings.entry(slot).or_insert_with(|| ShadowStanding {
            out_until_us: None,
            reason: "it would not be out of traffic".to_owned(),
            differs_since_us: None,
            noted: false,
        })
    }

    /// Notes, once for each disagreement, where what holds is not what would hold.
    fn compare(&mut self, judge: &Judge, members: &[EndpointState], book: &ServiceBook, now_us: InstantUs) {
        self.standings.retain(|slot, _| judge.standing(*slot).is_some());
        for member in members {
            let slot = member.endpoint.slot;
            let out = judge.standing(slot).is_some_and(|standing| standing != Standing::Admitted);
            if !out && !self.standings.contains_key(&slot) {
                continue;
            }
            let shadow = self.standing(slot);
            let would_be_out = shadow.out_until_us.is_some_and(|until_us| until_us > now_us);
            if out == would_be_out {
                (shadow.differs_since_us, shadow.noted) = (None, false);
                continue;
            }
            let since_us = *shadow.differs_since_us.get_or_insert(now_us);
            if !shadow.noted && now_us.saturating_sub(since_us) >= DISAGREEMENT_US {
                shadow.noted = true;
                let said = if would_be_out { Said::WouldEject } else { Said::WouldAdmit };
                book.differ(&member.endpoint, said, &shadow.reason);
            }
        }
    }
}
