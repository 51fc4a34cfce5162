//! What the predecessors have learned, given to their successors.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{
    Published,
    blocking::Blocking,
    desired::Binding,
    instances::{Arms, ArmsByService, FaultInMaking, Recipe, Recipes},
    plan::Plan,
};
use crate::{
    control::change::{Refusal, Restore},
    gateway::{Gateway, SavedStates},
    model::{ServiceName, VersionId},
    plugin::{BalancerInstance, InstanceError},
};

/// One pair of instances with what their predecessors saved.
struct Heir {
    /// Of the service, in the plan.
    index: usize,
    worker: usize,
    arms: Arms,
    incumbent_state: Option<Vec<u8>>,
    candidate_state: Option<Vec<u8>>,
}

/// Asks every worker for what its instances have learned and restores it into those that replace them. A state that is
/// not taken over fails nothing; it is reported. An instance that faults on it is made once more, without it.
pub async fn inherit(
    gateway: &Arc<Gateway>,
    before: &Published,
    plan: &Plan,
    recipes: &[Recipes],
    arms: ArmsByService,
    mut seed: impl FnMut() -> u64,
) -> Result<(ArmsByService, Vec<Restore>, Vec<FaultInMaking>), Refusal> {
    let (mut done, by_worker) = sort_by_worker(before, plan, arms);
    let mut saving = JoinSet::new();
    for (worker, heirs) in by_worker.into_iter().enumerate() {
        let gateway = Arc::clone(gateway);
        saving.spawn(async move {
            let mut saved = Vec::with_capacity(heirs.len());
            for (index, service, arms) in heirs {
                let states = gateway.save(worker, &service).await.map_err(|_| Refusal::ShuttingDown)?;
                saved.push((index, worker, arms, states));
            }
            Ok::<_, Refusal>(saved)
        });
    }
    let mut restoring = Blocking::new();
    while let Some(saved) = saving.join_next().await {
        for (index, worker, arms, states) in saved.map_err(|error| Refusal::Failed(error.to_string()))?? {
            let binding = &plan.services[index].binding;
            let name = &plan.snapshot.services[index].config.name;
            let old = before.service(name).expect("only services that were there have heirs").binding;
            let (incumbent_state, candidate_state) = share_out(states, old, binding);
            let heir = Heir { index, worker, arms, incumbent_state, candidate_state };
            let (recipes, seeds) = (recipes[index].clone(), (seed(), seed()));
            restoring.spawn(move || restore(heir, &recipes, seeds)).await;
        }
    }
    let (mut restores, mut faults) = (Vec::new(), Vec::new());
    while let Some(restored) = restoring.next().await {
        let Restored { index, worker, arms, reports, faulted } =
            restored.map_err(|error| Refusal::Failed(error.to_string()))?;
        done[index][worker] = Some(arms);
        restores.extend(reports);
        faults.extend(faulted);
    }
    restores.sort_by(|one, other| (&one.service, one.worker).cmp(&(&other.service, other.worker)));
    Ok((done, restores, faults))
}

type ByWorker = Vec<Vec<(usize, ServiceName, Arms)>>;

/// Takes out the instances that have predecessors, by worker.
fn sort_by_worker(before: &Published, plan: &Plan, arms: ArmsByService) -> (ArmsByService, ByWorker) {
    let workers = arms.first().map_or(0, Vec::len);
    let mut by_worker: ByWorker = (0..workers).map(|_| Vec::new()).collect();
    let mut rest = Vec::with_capacity(arms.len());
    for (index, of_service) in arms.into_iter().enumerate() {
        let name = &plan.snapshot.services[index].config.name;
        let has_predecessors = before.service(name).is_some();
        let mut left = Vec::with_capacity(workers);
        for (worker, arms) in of_service.into_iter().enumerate() {
            match arms {
                Some(arms) if has_predecessors => {
                    by_worker[worker].push((index, name.clone(), arms));
                    left.push(None);
                }
                arms => left.push(arms),
            }
        }
        rest.push(left);
    }
    (rest, by_worker)
}

/// Who gets which state: its own version's where that was there, else the incumbent's, so that a candidate begins with
/// what the incumbent knows.
fn share_out(states: SavedStates, old: &Binding, new: &Binding) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let old_candidate = old.candidate.map(|(version, _)| version);
    let pick = |version: VersionId| {
        if version != old.version && old_candidate == Some(version) && old.policy.plugin == new.policy.plugin {
            states.candidate.clone().or_else(|| states.incumbent.clone())
        } else {
            states.incumbent.clone()
        }
    };
    (pick(new.version), new.candidate.and_then(|(version, _)| pick(version)))
}

/// A pair of instances that has what it takes over.
struct Restored {
    index: usize,
    worker: usize,
    arms: Arms,
    reports: Vec<Restore>,
    /// Of instances that had to be made once more and could not.
    faulted: Vec<FaultInMaking>,
}

fn restore(heir: Heir, recipes: &Recipes, seeds: (u64, u64)) -> Restored {
    let Heir { index, worker, arms, incumbent_state, candidate_state } = heir;
    let mut restored = Restored { index, worker, arms, reports: Vec::new(), faulted: Vec::new() };
    let incumbent = restored.arms.incumbent.take();
    restored.arms.incumbent = restored.restore_one(&recipes.incumbent, incumbent, incumbent_state, seeds.0);
    if let Some(recipe) = &recipes.candidate {
        let candidate = restored.arms.candidate.take();
        restored.arms.candidate = restored.restore_one(recipe, candidate, candidate_state, seeds.1);
    }
    restored
}

impl Restored {
    fn restore_one(
        &mut self,
        recipe: &Recipe,
        instance: Option<BalancerInstance>,
        state: Option<Vec<u8>>,
        seed: u64,
    ) -> Option<BalancerInstance> {
        let (mut instance, state) = match (instance, state.filter(|state| !state.is_empty())) {
            (Some(instance), Some(state)) => (instance, state),
            (instance, _) => return instance,
        };
        let (problem, instance) = match instance.restore(&state) {
            Ok(Ok(())) => (None, Some(instance)),
            Ok(Err(problem)) => (Some(problem), Some(instance)),
            Err(fault) => (Some(format!("it failed in {fault}")), self.make_again(recipe, seed)),
        };
        let (service, version) = (recipe.service.config.name.clone(), recipe.version.id());
        self.reports.push(Restore { service, worker: self.worker, version, bytes: state.len(), problem });
        instance
    }

    /// It was made a moment ago; should it fail now, the fallback decides and the supervisor tries again.
    fn make_again(&mut self, recipe: &Recipe, seed: u64) -> Option<BalancerInstance> {
        match recipe.make(seed) {
            Ok(instance) => Some(instance),
            Err(InstanceError::Fault(fault)) => {
                self.faulted.push(FaultInMaking::of(recipe, self.worker, fault));
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a plugin takes its settings only sometimes");
                None
            }
        }
    }
}
