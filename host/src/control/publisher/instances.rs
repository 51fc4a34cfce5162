//! Making plugin instances, away from the data path.

use std::sync::Arc;

use super::{
    blocking::Blocking,
    desired::Binding,
    plan::{Instances, Plan},
};
use crate::{
    control::change::ChangeProblem,
    gateway::ServiceSnapshot,
    model::{Clock, EndpointState, ServiceName, VersionId},
    plugin::{BalancerInstance, Fault, InstanceError, PolicyContext, Version},
};

/// New instances of one service on one worker.
pub struct Arms {
    /// None: its version faults, and the native fallback decides.
    pub incumbent: Option<BalancerInstance>,
    /// None where there is no canary, too.
    pub candidate: Option<BalancerInstance>,
}

/// A version that was in use already and faulted when new instances were made: no reason to refuse a change, but
/// something for the supervisor.
#[derive(Debug)]
pub struct FaultInMaking {
    pub worker: usize,
    pub service: ServiceName,
    pub version: VersionId,
    pub fault: Fault,
}

impl FaultInMaking {
    pub fn of(recipe: &Recipe, worker: usize, fault: Fault) -> Self {
        Self { worker, service: recipe.service.config.name.clone(), version: recipe.version.id(), fault }
    }
}

/// By service, in the plan's order, and by worker; none where the worker keeps what it has.
pub type ArmsByService = Vec<Vec<Option<Arms>>>;

/// What making an instance of one version for one service takes.
#[derive(Clone)]
pub struct Recipe {
    pub version: Arc<Version>,
    pub service: Arc<ServiceSnapshot>,
    pub settings: serde_json::Value,
    pub memory_bytes_max: usize,
    pub clock: Clock,
    /// Whether this version with these settings is in use already: it cannot stand against a change then.
    pub in_use: bool,
}

impl Recipe {
    /// Instantiates, configures and tells the membership. Milliseconds to seconds, of CPU: not for an async task.
    pub fn make(&self, seed: u64) -> Result<BalancerInstance, InstanceError> {
        let mut instance = self.version.balancer(&PolicyContext {
            name: self.service.config.name.to_string(),
            settings: self.settings.clone(),
            seed,
            memory_bytes_max: self.memory_bytes_max,
            clock: self.clock,
        })?;
        let members: Vec<EndpointState> = self.service.members().cloned().collect();
        instance.update(&members, self.clock.now_us())?;
        Ok(instance)
    }
}

/// The two recipes of a service.
#[derive(Clone)]
pub struct Recipes {
    pub incumbent: Recipe,
    pub candidate: Option<Recipe>,
}

/// Makes all instances that the plan asks for, several services at a time. Answers with every problem of every
/// service.
pub async fn make_all(
    plan: &Plan,
    recipes: &[Recipes],
    workers: usize,
    mut seed: impl FnMut() -> u64,
) -> Result<(ArmsByService, Vec<FaultInMaking>), Vec<ChangeProblem>> {
    let mut making = Blocking::new();
    for (index, (service, recipes)) in plan.services.iter().zip(recipes).enumerate() {
        if service.instances == Instances::Keep {
            continue;
        }
        let on: Vec<_> = (0..workers)
            .filter(|&worker| service.instances.replaced_on(worker))
            .map(|worker| (worker, seed(), seed()))
            .collect();
        let recipes = recipes.clone();
        making.spawn(move || (index, make_for_service(&recipes, workers, &on))).await;
    }
    let mut arms: ArmsByService = plan.services.iter().map(|_| (0..workers).map(|_| None).collect()).collect();
    let (mut faults, mut problems) = (Vec::new(), Vec::new());
    while let Some(made) = making.next().await {
        match made {
            Ok((index, Ok((made, faulted)))) => {
                arms[index] = made;
                faults.extend(faulted);
            }
            Ok((_, Err(found))) => problems.extend(found),
            Err(error) => problems.push(ChangeProblem::plain(format!("making a plugin instance failed: {error}"))),
        }
    }
    problems.sort_by(|one, other| one.service.cmp(&other.service));
    if problems.is_empty() { Ok((arms, faults)) } else { Err(problems) }
}

type Made = (Vec<Option<Arms>>, Vec<FaultInMaking>);

fn make_for_service(recipes: &Recipes, workers: usize, on: &[(usize, u64, u64)]) -> Result<Made, Vec<ChangeProblem>> {
    let mut arms: Vec<Option<Arms>> = (0..workers).map(|_| None).collect();
    let mut faults = Vec::new();
    for &(worker, incumbent_seed, candidate_seed) in on {
        let incumbent = make_one(&recipes.incumbent, worker, incumbent_seed, &mut faults)?;
        let candidate = match &recipes.candidate {
            Some(recipe) => make_one(recipe, worker, candidate_seed, &mut faults)?,
            None => None,
        };
        arms[worker] = Some(Arms { incumbent, candidate });
    }
    Ok((arms, faults))
}

/// None where a version that is in use faults.
fn make_one(
    recipe: &Recipe,
    worker: usize,
    seed: u64,
    faults: &mut Vec<FaultInMaking>,
) -> Result<Option<BalancerInstance>, Vec<ChangeProblem>> {
    match recipe.make(seed) {
        Ok(instance) => Ok(Some(instance)),
        Err(InstanceError::Fault(fault)) if recipe.in_use => {
            faults.push(FaultInMaking::of(recipe, worker, fault));
            Ok(None)
        }
        Err(error) => Err(problems_of(recipe, error)),
    }
}

fn problems_of(recipe: &Recipe, error: InstanceError) -> Vec<ChangeProblem> {
    let service = &recipe.service.config.name;
    let (plugin, version) = (recipe.version.plugin(), recipe.version.id());
    match error {
        InstanceError::Settings(problems) => problems
            .into_iter()
            .map(|problem| ChangeProblem {
                pointer: problem.path,
                message: problem.message,
                service: Some(service.clone()),
            })
            .collect(),
        InstanceError::WrongKind { found, wanted } => {
            vec![ChangeProblem::of(service, format!("plugin {plugin} {version} is a {found}, not a {wanted}"))]
        }
        InstanceError::Fault(fault) => {
            vec![ChangeProblem::of(service, format!("plugin {plugin} {version} failed in {fault}"))]
        }
    }
}

/// The recipes for a plan, from versions that have been loaded.
pub fn recipes(
    plan: &Plan,
    clock: Clock,
    version: impl Fn(&Binding, VersionId) -> Arc<Version>,
    in_use: impl Fn(&ServiceName, &Binding, VersionId) -> bool,
) -> Vec<Recipes> {
    let services = plan.snapshot.services.iter().zip(&plan.services);
    services
        .map(|(snapshot, service)| {
            let binding = &service.binding;
            let recipe = |id: VersionId| Recipe {
                version: version(binding, id),
                service: Arc::clone(snapshot),
                settings: binding.policy.settings.clone(),
                memory_bytes_max: binding.memory_bytes_max,
                clock,
                in_use: in_use(&snapshot.config.name, binding, id),
            };
            Recipes { incumbent: recipe(binding.version), candidate: binding.candidate.map(|(id, _)| recipe(id)) }
        })
        .collect()
}
