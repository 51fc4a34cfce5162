//! What the predecessors have learned, given to their successors.

use tokio::task::JoinSet;

use super::{
    Published,
    blocking::Blocking,
    desired::Binding,
    instances::{Arms, ArmsByService, FaultInMaking, Recipe, Recipes},
    places::{Keepers, Placed},
    plan::{HEALTH_PLACE, Plan},
};
use crate::{
    control::change::{Refusal, Restore},
    gateway::SavedStates,
    model::{ServiceName, VersionId},
    plugin::InstanceError,
};

/// One pair of instances with what their predecessors saved.
struct Heir<I> {
    /// Of the service, in the plan.
    index: usize,
    /// Among the places of its kind.
    nth: usize,
    place: usize,
    arms: Arms<I>,
    incumbent_state: Option<Vec<u8>>,
    candidate_state: Option<Vec<u8>>,
}

/// Asks every place for what its instances have learned and restores it into those that replace them. A state that is
/// not taken over fails nothing; it is reported. An instance that faults on it is made once more, without it.
pub async fn inherit<I: Placed>(
    keepers: &Keepers,
    before: &Published,
    plan: &Plan,
    recipes: &[Recipes],
    arms: ArmsByService<I>,
    mut seed: impl FnMut() -> u64,
) -> Result<(ArmsByService<I>, Vec<Restore>, Vec<FaultInMaking>), Refusal> {
    let places = I::places(keepers.gateway.worker_count());
    let (mut done, by_place) = sort_by_place(before, plan, arms);
    let mut saving = JoinSet::new();
    for (nth, (heirs, place)) in by_place.into_iter().zip(places).enumerate() {
        let keepers = keepers.clone();
        saving.spawn(async move {
            let mut saved = Vec::with_capacity(heirs.len());
            for (index, service, arms) in heirs {
                let states = I::saved(&keepers, place, &service).await?;
                saved.push((index, (nth, place), arms, states));
            }
            Ok::<_, Refusal>(saved)
        });
    }
    let mut restoring = Blocking::new();
    while let Some(saved) = saving.join_next().await {
        for (index, (nth, place), arms, states) in saved.map_err(|error| Refusal::Failed(error.to_string()))?? {
            let binding = I::binding(&plan.services[index]);
            let name = &plan.snapshot.services[index].config.name;
            let old = before.snapshot.by_name.get(name).and_then(|&old| before.services.get(old));
            let old = I::published(old.expect("only services that were there have heirs"));
            let (incumbent_state, candidate_state) = share_out(states, old, binding);
            let heir = Heir { index, nth, place, arms, incumbent_state, candidate_state };
            let (recipes, seeds) = (recipes[index].clone(), (seed(), seed()));
            restoring.spawn(move || restore(heir, &recipes, seeds)).await;
        }
    }
    let (mut restores, mut faults) = (Vec::new(), Vec::new());
    while let Some(restored) = restoring.next().await {
        let Restored { index, nth, arms, reports, faulted, .. } =
            restored.map_err(|error| Refusal::Failed(error.to_string()))?;
        done[index][nth] = Some(arms);
        restores.extend(reports);
        faults.extend(faulted);
    }
    restores.sort_by(|one, other| (&one.service, one.worker).cmp(&(&other.service, other.worker)));
    Ok((done, restores, faults))
}

type ByPlace<I> = Vec<Vec<(usize, ServiceName, Arms<I>)>>;

/// Takes out the instances that have predecessors, by place.
fn sort_by_place<I>(before: &Published, plan: &Plan, arms: ArmsByService<I>) -> (ArmsByService<I>, ByPlace<I>) {
    let places = arms.first().map_or(0, Vec::len);
    let mut by_place: ByPlace<I> = (0..places).map(|_| Vec::new()).collect();
    let mut rest = Vec::with_capacity(arms.len());
    for (index, of_service) in arms.into_iter().enumerate() {
        let name = &plan.snapshot.services[index].config.name;
        let has_predecessors = before.service(name).is_some();
        let mut left = Vec::with_capacity(places);
        for (nth, arms) in of_service.into_iter().enumerate() {
            match arms {
                Some(arms) if has_predecessors => {
                    by_place[nth].push((index, name.clone(), arms));
                    left.push(None);
                }
                arms => left.push(arms),
            }
        }
        rest.push(left);
    }
    (rest, by_place)
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
struct Restored<I> {
    index: usize,
    nth: usize,
    place: usize,
    arms: Arms<I>,
    reports: Vec<Restore>,
    /// Of instances that had to be made once more and could not.
    faulted: Vec<FaultInMaking>,
}

fn restore<I: Placed>(heir: Heir<I>, recipes: &Recipes, seeds: (u64, u64)) -> Restored<I> {
    let Heir { index, nth, place, arms, incumbent_state, candidate_state } = heir;
    let mut restored = Restored { index, nth, place, arms, reports: Vec::new(), faulted: Vec::new() };
    let incumbent = restored.arms.incumbent.take();
    restored.arms.incumbent = restored.restore_one(&recipes.incumbent, incumbent, incumbent_state, seeds.0);
    if let Some(recipe) = &recipes.candidate {
        let candidate = restored.arms.candidate.take();
        restored.arms.candidate = restored.restore_one(recipe, candidate, candidate_state, seeds.1);
    }
    restored
}

impl<I: Placed> Restored<I> {
    fn restore_one(&mut self, recipe: &Recipe, instance: Option<I>, state: Option<Vec<u8>>, seed: u64) -> Option<I> {
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
        self.reports.push(Restore {
            service,
            worker: Some(self.place).filter(|&place| place != HEALTH_PLACE),
            version,
            bytes: state.len(),
            problem,
        });
        instance
    }

    /// It was made a moment ago; should it fail now, the fallback decides and the supervisor tries again.
    fn make_again(&mut self, recipe: &Recipe, seed: u64) -> Option<I> {
        match recipe.make(seed) {
            Ok(instance) => Some(instance),
            Err(InstanceError::Fault(fault)) => {
                self.faulted.push(FaultInMaking::of(recipe, self.place, fault));
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a plugin takes its settings only sometimes");
                None
            }
        }
    }
}
