//! Making plugin instances, away from the data path.

use std::sync::Arc;

use super::{
    blocking::Blocking,
    desired::Binding,
    places::Placed,
    plan::{Instances, Plan},
};
use crate::{
    control::change::ChangeProblem,
    gateway::ServiceSnapshot,
    model::{Clock, ServiceName, VersionId},
    plugin::{Fault, InstanceError, PolicyContext, Version},
};

/// New instances of one service at one place.
pub struct Arms<I> {
    /// None: its version faults, and the native fallback decides.
    pub incumbent: Option<I>,
    /// None where there is no canary, too.
    pub candidate: Option<I>,
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

/// By service, in the plan's order, and by place; none where what is there stays.
pub type ArmsByService<I> = Vec<Vec<Option<Arms<I>>>>;

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
    pub fn make<I: Placed>(&self, seed: u64) -> Result<I, InstanceError> {
        let context = PolicyContext {
            name: self.service.config.name.to_string(),
            settings: self.settings.clone(),
            seed,
            memory_bytes_max: self.memory_bytes_max,
            clock: self.clock,
        };
        let mut instance = I::make(&self.version, &context)?;
        instance.update(&I::members(&self.service), self.clock.now_us())?;
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
pub async fn make_all<I: Placed>(
    plan: &Plan,
    recipes: &[Recipes],
    workers: usize,
    mut seed: impl FnMut() -> u64,
) -> Result<(ArmsByService<I>, Vec<FaultInMaking>), Vec<ChangeProblem>> {
    let places = I::places(workers);
    let mut making = Blocking::new();
    for (index, (service, recipes)) in plan.services.iter().zip(recipes).enumerate() {
        let instances = I::instances(service);
        if *instances == Instances::Keep {
            continue;
        }
        let at: Vec<_> =
            places.iter().map(|&place| (place, instances.replaced_on(place).then(|| (seed(), seed())))).collect();
        let recipes = recipes.clone();
        making.spawn(move || (index, make_for_service::<I>(&recipes, &at))).await;
    }
    let mut arms: ArmsByService<I> = plan.services.iter().map(|_| places.iter().map(|_| None).collect()).collect();
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

type Made<I> = (Vec<Option<Arms<I>>>, Vec<FaultInMaking>);

/// The seeds are none where what is there stays.
fn make_for_service<I: Placed>(
    recipes: &Recipes,
    at: &[(usize, Option<(u64, u64)>)],
) -> Result<Made<I>, Vec<ChangeProblem>> {
    let mut arms = Vec::with_capacity(at.len());
    let mut faults = Vec::new();
    for &(place, seeds) in at {
        let Some((incumbent_seed, candidate_seed)) = seeds else {
            arms.push(None);
            continue;
        };
        let incumbent = make_one(&recipes.incumbent, place, incumbent_seed, &mut faults)?;
        let candidate = match &recipes.candidate {
            Some(recipe) => make_one(recipe, place, candidate_seed, &mut faults)?,
            None => None,
        };
        arms.push(Some(Arms { incumbent, candidate }));
    }
    Ok((arms, faults))
}

/// None where a version that is in use faults.
fn make_one<I: Placed>(
    recipe: &Recipe,
    place: usize,
    seed: u64,
    faults: &mut Vec<FaultInMaking>,
) -> Result<Option<I>, Vec<ChangeProblem>> {
    match recipe.make(seed) {
        Ok(instance) => Ok(Some(instance)),
        Err(InstanceError::Fault(fault)) if recipe.in_use => {
            faults.push(FaultInMaking::of(recipe, place, fault));
            Ok(None)
        }
        Err(error) => Err(problems_of::<I>(recipe, error)),
    }
}

fn problems_of<I: Placed>(recipe: &Recipe, error: InstanceError) -> Vec<ChangeProblem> {
    let service = &recipe.service.config.name;
    let (plugin, version) = (recipe.version.plugin(), recipe.version.id());
    match error {
        InstanceError::Settings(problems) => problems
            .into_iter()
            .map(|problem| ChangeProblem {
                pointer: format!("{}{}", I::SETTINGS, problem.path),
                message: problem.message,
                service: Some(service.clone()),
                ..Default::default()
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
pub fn recipes<I: Placed>(
    plan: &Plan,
    clock: Clock,
    version: impl Fn(&Binding, VersionId) -> Arc<Version>,
    in_use: impl Fn(&ServiceName, &Binding, VersionId) -> bool,
) -> Vec<Recipes> {
    let services = plan.snapshot.services.iter().zip(&plan.services);
    services
        .map(|(snapshot, service)| {
            let binding = I::binding(service);
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
