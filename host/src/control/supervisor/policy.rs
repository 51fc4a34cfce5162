//! When a failed instance comes back, and when its version is given up. No clock and no tasks: both are handed in.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::model::{ServiceName, VersionId};

/// Until the first restart. An instance is made in milliseconds, so a single trap costs a tenth of a second of
/// fallback.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Between restarts of an instance that always fails: two makings a minute cost nothing.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// An instance without a fault for so long begins anew with [`BACKOFF_MIN`].
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// So much is taken off at random, so that instances that failed together do not come back together.
const JITTER: f64 = 0.5;
/// A version that fails so often...
const FAULTS_MAX: usize = 5;
/// ...within this time, on any worker and for any service, is given up.
const FAULTS_WITHIN: Duration = Duration::from_secs(60);

/// One instance's place: what stands there changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    pub service: ServiceName,
    pub worker: usize,
    pub version: VersionId,
}

/// What a fault calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    RestartAt {
        at: Instant,
        /// In a row, this one included.
        faults: u32,
    },
    /// The version before should take its place; where there is none, restart as well.
    GiveUp {
        at: Instant,
        /// In a row, this one included.
        faults: u32,
        /// Of the version, on any worker.
        of_version: usize,
        within: Duration,
    },
}

/// Remembers faults, and the restarts that follow from them.
pub struct Restarts {
    instances: HashMap<InstanceId, Instance>,
    versions: HashMap<VersionId, VecDeque<Instant>>,
    due: BTreeMap<(Instant, InstanceId), ()>,
    random: fastrand::Rng,
}

struct Instance {
    faults: u32,
    last: Instant,
    /// Of its waiting restart.
    due: Option<Instant>,
}

impl Restarts {
    pub fn new(random: fastrand::Rng) -> Self {
        Self { instances: HashMap::new(), versions: HashMap::new(), due: BTreeMap::new(), random }
    }

    pub fn fault(&mut self, id: InstanceId, now: Instant) -> Step {
        self.forget_healthy(now);
        let instance = self.instances.entry(id.clone()).or_insert(Instance { faults: 0, last: now, due: None });
        instance.faults = instance.faults.saturating_add(1);
        instance.last = now;
        let faults = instance.faults;
        let backoff = BACKOFF_MIN.saturating_mul(1 << (faults - 1).min(16)).min(BACKOFF_MAX);
        let at = now + backoff.mul_f64(1.0 - JITTER * self.random.f64());
        if let Some(due) = instance.due.replace(at) {
            self.due.remove(&(due, id.clone()));
        }
        let version = id.version;
        self.due.insert((at, id), ());
        let recent = self.versions.entry(version).or_default();
        recent.push_back(now);
        while recent.front().is_some_and(|&first| now.saturating_duration_since(first) > FAULTS_WITHIN) {
            recent.pop_front();
        }
        if recent.len() < FAULTS_MAX {
            return Step::RestartAt { at, faults };
        }
        let of_version = recent.len();
        recent.clear();
        Step::GiveUp { at, faults, of_version, within: FAULTS_WITHIN }
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Those whose time has come. They count as running again.
    pub fn take_due(&mut self, now: Instant) -> Vec<InstanceId> {
        let mut taken = Vec::new();
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((_, id), ()) = entry.remove_entry();
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.due = None;
            }
            taken.push(id);
        }
        taken
    }

    /// Bounds what is remembered: by the faults of the last minute.
    fn forget_healthy(&mut self, now: Instant) {
        let recent = |last: Instant| now.saturating_duration_since(last) <= HEALTHY_AFTER + BACKOFF_MAX;
        self.instances
            .retain(|_, instance| instance.due.is_some() || (recent(instance.last) && !healthy(instance, now)));
        self.versions.retain(|_, faults| faults.back().is_some_and(|&last| recent(last)));
    }
}

fn healthy(instance: &Instance, now: Instant) -> bool {
    now.saturating_duration_since(instance.last) > HEALTHY_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(worker: usize) -> InstanceId {
        InstanceId { service: "orders".parse().expect("a name"), worker, version: VersionId::of(b"one") }
    }

    fn restarts() -> Restarts {
        Restarts::new(fastrand::Rng::with_seed(1))
    }

    fn at(step: Step) -> Instant {
        match step {
            Step::RestartAt { at, .. } | Step::GiveUp { at, .. } => at,
        }
    }

    #[test]
    fn backoff_doubles_from_100_ms_to_30_s_with_jitter() {
        let mut restarts = restarts();
        let mut now = Instant::now();
        for n in 0..20 {
            let longest = Duration::from_millis(100 << n.min(9)).min(Duration::from_secs(30));
            let wait = at(restarts.fault(instance(0), now)) - now;
            assert!(wait <= longest && wait >= longest / 2, "restart {n} after {wait:?}");
            now += wait;
            assert_eq!(restarts.take_due(now), [instance(0)]);
        }
    }

    #[test]
    fn an_instance_that_was_healthy_for_a_minute_begins_anew() {
        let mut restarts = restarts();
        let mut now = Instant::now();
        for _ in 0..4 {
            now = at(restarts.fault(instance(0), now));
            restarts.take_due(now);
        }
        now += Duration::from_secs(100);
        assert!(at(restarts.fault(instance(0), now)) - now <= Duration::from_millis(100));
    }

    #[test]
    fn a_version_is_given_up_at_the_fifth_fault_within_a_minute_on_any_workers() {
        let mut restarts = restarts();
        let now = Instant::now();
        for worker in 0..4 {
            assert!(matches!(restarts.fault(instance(worker), now), Step::RestartAt { .. }));
        }
        assert!(matches!(restarts.fault(instance(4), now), Step::GiveUp { of_version: 5, .. }));
    }

    #[test]
    fn faults_that_are_far_apart_give_up_nothing() {
        let mut restarts = restarts();
        let mut now = Instant::now();
        for _ in 0..50 {
            assert!(matches!(restarts.fault(instance(0), now), Step::RestartAt { .. }));
            now += Duration::from_secs(16);
            restarts.take_due(now);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut restarts = restarts();
        let mut now = Instant::now();
        for worker in 0..1_000 {
            restarts.fault(instance(worker), now);
            now += Duration::from_secs(1);
            restarts.take_due(now);
        }
        assert!(restarts.instances.len() < 200 && restarts.due.len() < 200, "{}", restarts.instances.len());
    }
}
