//! One service's source, asked for ever.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use super::{
    Sources, Status,
    accept::{Accepted, accept},
    hold::{HELD_BACK_FOR, holds_back, lost},
    lock,
    status::{HeldBack, SourceState},
};
use crate::{
    control::history::{About, HistoryKind},
    model::{Clock, EndpointSpec, Grants, PolicyConfig, ServiceName},
    plugin::{DiscoveryInstance, InstanceError, Outside, PolicyContext, Version, WatchError},
};

/// How long one `watch` waits for a change.
const WAIT: Duration = Duration::from_secs(60);
/// Between an answer and the next question: what changes in that time is one change.
const PAUSE: Duration = Duration::from_millis(10);
/// After an answer that nothing changed though the guest did not wait.
const IMPATIENCE_PAUSE: Duration = Duration::from_secs(1);
/// After a first failure; doubled by each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Sentences about things not granted that are told of one source.
const REFUSALS_TOLD_MAX: usize = 32;

/// What making an instance of a source takes.
#[derive(Clone)]
pub struct Recipe {
    pub version: Arc<Version>,
    pub service: ServiceName,
    pub policy: PolicyConfig,
    pub memory_bytes_max: usize,
    pub grants: Arc<Grants>,
    pub outside: Arc<Outside>,
    pub clock: Clock,
}

impl Recipe {
    pub async fn make(&self) -> Result<DiscoveryInstance, InstanceError> {
        let context = PolicyContext {
            name: self.service.to_string(),
            settings: self.policy.settings.clone(),
            seed: fastrand::u64(..),
            memory_bytes_max: self.memory_bytes_max,
            clock: self.clock,
        };
        self.version.discovery(&context, &self.outside, &self.grants).await
    }

    pub fn about(&self) -> About {
        About {
            plugin: Some(self.version.plugin().clone()),
            version: Some(self.version.id()),
            service: Some(self.service.clone()),
        }
    }
}

/// How a source begins.
#[derive(Clone, Debug, Default)]
pub struct First {
    /// Of the first answer, or kept from the last run.
    pub cursor: Option<String>,
    /// Whether it has answered in this run.
    pub answered: bool,
    /// Things asked for so far that are not granted.
    pub refusals: u64,
}

pub(super) struct Driver {
    pub sources: Arc<Sources>,
    pub number: u64,
    pub service: ServiceName,
    pub recipe: Recipe,
    pub status: Arc<Mutex<Status>>,
    /// What was said last and believed.
    pub endpoints: Arc<[EndpointSpec]>,
    pub cursor: Option<String>,
}

/// What comes after one question.
enum Next {
    /// The next question, after a while.
    After(Duration),
    /// As after a failure; another instance if this one is of no more use.
    BackOff { instance_gone: bool },
    /// Nothing, until somebody changes something and this task is replaced.
    Stop,
}

impl Driver {
    pub async fn run(mut self, instance: DiscoveryInstance) {
        let mut instance = Some(instance);
        let mut failures = 0_u32;
        let mut told = BTreeSet::new();
        loop {
            let next = match &mut instance {
                Some(asked) => {
                    let next = self.ask(asked).await;
                    self.tell_refusals(asked, &mut told);
                    next
                }
                None => match self.recipe.make().await {
                    Ok(made) => {
                        instance = Some(made);
                        continue;
                    }
                    Err(error) => self.failed(SourceState::BackingOff, HistoryKind::Fault, error.to_string()),
                },
            };
            match next {
                Next::After(pause) => {
                    failures = 0;
                    tokio::time::sleep(pause).await;
                }
                Next::BackOff { instance_gone } => {
                    if instance_gone {
                        instance = None;
                    }
                    tokio::time::sleep(backoff(failures)).await;
                    failures = failures.saturating_add(1);
                }
                Next::Stop => return std::future::pending().await,
            }
        }
    }

    async fn ask(&mut self, instance: &mut DiscoveryInstance) -> Next {
        let held_for = lock(&self.status).held_back.as_ref().map(HeldBack::age);
        let confirming = held_for.is_some_and(|age| age >= HELD_BACK_FOR);
        let wait = held_for.map_or(WAIT, |age| HELD_BACK_FOR.saturating_sub(age).max(Duration::from_millis(1)));
        let cursor = self.cursor.as_deref().filter(|_| !confirming);
        let asked = Instant::now();
        match instance.watch(cursor, wait).await {
            Ok(Ok(Some(answer))) => match accept(answer) {
                Ok(accepted) => {
                    self.take(accepted, confirming).await;
                    Next::After(PAUSE)
                }
                Err(problem) => {
                    let sentence = format!("its answer is refused, and the last one stands: {problem}");
                    self.failed(SourceState::BackingOff, HistoryKind::Warning, sentence)
                }
            },
            Ok(Ok(None)) if cursor.is_none() => {
                let sentence = "it gave no membership though it was told of none".to_owned();
                self.failed(SourceState::BackingOff, HistoryKind::Warning, sentence)
            }
            Ok(Ok(None)) => {
                lock(&self.status).answered(None);
                let patient = asked.elapsed() >= IMPATIENCE_PAUSE.min(wait);
                Next::After(if patient { Duration::ZERO } else { IMPATIENCE_PAUSE })
            }
            Ok(Err(WatchError::Unavailable(why))) => self.failed(SourceState::BackingOff, HistoryKind::Warning, why),
            Ok(Err(WatchError::Lost(why))) => {
                let without = cursor.is_none();
                self.cursor = None;
                tracing::info!(service = %self.service, why, "the source's cursor is lost; it is asked anew");
                if without {
                    self.failed(SourceState::BackingOff, HistoryKind::Warning, why)
                } else {
                    Next::After(PAUSE)
                }
            }
            Ok(Err(WatchError::Refused(why))) => {
                let sentence = format!("{why}; it is not asked again until its settings or grants change");
                self.failed(SourceState::Refused, HistoryKind::Warning, sentence);
                Next::Stop
            }
            Err(fault) => {
                lock(&self.status).faults += 1;
                self.failed(SourceState::BackingOff, HistoryKind::Fault, format!("failed in {fault}"));
                Next::BackOff { instance_gone: true }
            }
        }
    }

    /// An answer that is possible: believed, or held back.
    async fn take(&mut self, accepted: Accepted, confirmed: bool) {
        let Accepted { endpoints, cursor } = accepted;
        self.cursor = Some(cursor);
        if !confirmed && holds_back(&self.endpoints, &endpoints) {
            self.hold_back(&endpoints);
            return;
        }
        let released = {
            let mut status = lock(&self.status);
            status.answered(Some(endpoints.len()));
            status.held_back.take().is_some()
        };
        if released {
            let message = format!("service {}: the membership is in force again as its source says", self.service);
            self.sources.parts.history.note(HistoryKind::MembershipChanged, self.recipe.about(), message);
        }
        if self.endpoints != endpoints {
            let names = endpoints.iter().filter(|endpoint| endpoint.address.socket_addr().is_none());
            let names: BTreeSet<_> = names.map(|endpoint| endpoint.address.host().to_owned()).collect();
            if !names.is_empty() {
                self.sources.parts.names.learn(names).await;
            }
            self.endpoints = Arc::clone(&endpoints);
            self.sources.offer(&self.service, self.number, Arc::clone(&endpoints));
        }
        let (cache, service, policy) =
            (self.sources.parts.cache.clone(), self.service.clone(), self.recipe.policy.clone());
        let cursor = self.cursor.clone();
        // Joined, so that an older membership never overwrites a newer one.
        let keeping = move || cache.keep(&service, &policy, cursor.as_deref(), &endpoints);
        let _ = tokio::task::spawn_blocking(keeping).await;
    }

    fn hold_back(&self, endpoints: &[EndpointSpec]) {
        let (instances, lost) = (endpoints.len(), lost(&self.endpoints, endpoints));
        let mut status = lock(&self.status);
        status.answered(Some(instances));
        match &mut status.held_back {
            Some(held) => (held.instances, held.lost) = (instances, lost),
            None => {
                let (since, began) = (SystemTime::now(), Instant::now());
                status.held_back = Some(HeldBack { instances, lost, since, began });
                let message = format!(
                    "service {}: a membership that loses {lost} of {} endpoints at once is held back for {}; PATCH \
                     /services/{} with the same discovery and \"force\": true brings it into force now",
                    self.service,
                    self.endpoints.len(),
                    humantime::format_duration(HELD_BACK_FOR),
                    self.service
                );
                self.sources.parts.history.note(HistoryKind::Warning, self.recipe.about(), message);
            }
        }
    }

    /// The same error again is no news.
    fn failed(&self, state: SourceState, kind: HistoryKind, error: String) -> Next {
        let mut status = lock(&self.status);
        let known = status.state == state && status.last_error.as_ref().is_some_and(|(_, last)| *last == error);
        if !known {
            let message = format!("service {}: its source {}: {error}", self.service, self.recipe.policy.plugin);
            self.sources.parts.history.note(kind, self.recipe.about(), message);
        }
        status.failed(state, error);
        Next::BackOff { instance_gone: false }
    }

    fn tell_refusals(&self, instance: &mut DiscoveryInstance, told: &mut BTreeSet<String>) {
        let (refused, sentences) = instance.take_refusals();
        lock(&self.status).refusals += refused;
        for sentence in sentences {
            if told.len() < REFUSALS_TOLD_MAX && told.insert(sentence.clone()) {
                let message = format!("plugin {} is not granted: {sentence}", self.recipe.policy.plugin);
                self.sources.parts.history.note(HistoryKind::NotGranted, self.recipe.about(), message);
            }
        }
    }
}

/// Exponential, of which between a half and all: sources that failed together do not ask together again.
pub(super) fn backoff(failures: u32) -> Duration {
    let full = BACKOFF_MIN.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backing_off_grows_to_its_bound_and_never_vanishes() {
        for failures in [0, 1, 5, 10, u32::MAX] {
            let pause = backoff(failures);
            assert!(pause >= BACKOFF_MIN / 2 && pause <= BACKOFF_MAX, "{failures}: {pause:?}");
        }
        assert!(backoff(0) <= BACKOFF_MIN && backoff(10) >= BACKOFF_MAX / 2);
    }
}
