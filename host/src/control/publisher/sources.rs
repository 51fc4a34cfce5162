//! Sources of endpoints that a change brings into use: made, and where they take another's place, asked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::task::{JoinSet, block_in_place};

use super::{
    Published, Publisher,
    desired::{Desired, SourceBinding},
    transaction::Draft,
};
use crate::{
    control::{
        change::{ChangeProblem, Refusal},
        discovery::{Accepted, First, Recipe, accept, loses_most, lost},
        history::HistoryKind,
    },
    model::{EndpointSpec, ServiceName},
    plugin::{DiscoveryInstance, InstanceError},
};

/// How long a source that takes another's place has for its first answer. Other changes wait meanwhile.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(5);

/// Where the settings of a source stand in what a client sends.
pub const DISCOVERY_SETTINGS: &str = "/discovery/settings";

/// A source that is ready to be asked for changes.
pub struct Opened {
    pub service: ServiceName,
    pub recipe: Recipe,
    pub instance: DiscoveryInstance,
    pub first: First,
}

/// One source to be made.
struct Opening {
    recipe: Recipe,
    /// The endpoints whose place its own take; none where the service is new.
    instead_of: Option<Arc<[EndpointSpec]>>,
}

impl Publisher {
    /// Makes the sources that `draft` needs and that are not in use, and puts what they say among what it wants. A
    /// source in another's place must answer, and may take more than half of the endpoints away only if forced. One of
    /// a new service is asked later: until then it has what it had in the last run.
    pub(super) async fn open_sources(
        &self,
        before: Option<&Published>,
        draft: &mut Draft,
    ) -> Result<Vec<Opened>, Refusal> {
        let refused = |problems| Refusal::invalid("the change was refused", problems);
        let wanted = wanted(&draft.desired).map_err(refused)?;
        if draft.desired.discovered.keys().any(|name| !wanted.contains_key(name)) {
            let mut discovered = (*draft.desired.discovered).clone();
            discovered.retain(|name, _| wanted.contains_key(name));
            draft.desired.discovered = Arc::new(discovered);
        }
        let in_use = |name: &ServiceName, source: &SourceBinding| {
            let old = before.and_then(|before| before.service(name)).and_then(|service| service.source);
            old == Some(source) && draft.reopened.as_ref() != Some(name)
        };
        let new: Vec<_> = wanted.into_iter().filter(|(name, source)| !in_use(name, source)).collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let mut needed: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, source) in &new {
            needed.entry((source.policy.plugin.clone(), source.version)).or_default().push(name.clone());
        }
        let loaded = std::mem::take(&mut draft.loaded);
        let known: Vec<_> = loaded.clone();
        let versions = self.load(before, &draft.desired, needed, loaded).await.map_err(refused)?;
        draft.loaded = versions.values().cloned().chain(known).collect();
        let openings = new.into_iter().map(|(name, source)| {
            let SourceBinding { policy, version, memory_bytes_max, grants } = source;
            let version = Arc::clone(&versions[&(policy.plugin.clone(), version)]);
            let (outside, clock) = (Arc::clone(&self.sources.parts.outside), self.clock);
            let instead_of = before
                .filter(|before| before.service(&name).is_some())
                .and_then(|before| Some((before, before.desired.file.services.get(&name)?)))
                .map(|(before, config)| before.desired.endpoints(config).into());
            let recipe = Recipe { version, service: name, policy, memory_bytes_max, grants, outside, clock };
            Opening { recipe, instead_of }
        });
        let openings: Vec<_> = openings.collect();
        self.open(openings, draft).await
    }

    /// What the candidates beside sources are made of.
    pub(super) fn shadows(&self, now: &Published) -> Vec<Recipe> {
        let services = now.snapshot.services.iter().zip(&now.services);
        let recipes = services.filter_map(|(snapshot, service)| {
            let SourceBinding { policy, memory_bytes_max, grants, .. } = service.source.clone()?;
            let version = Arc::clone(now.versions.get(&(policy.plugin.clone(), service.shadow?))?);
            let (outside, clock) = (Arc::clone(&self.sources.parts.outside), self.clock);
            let service = snapshot.config.name.clone();
            Some(Recipe { version, service, policy, memory_bytes_max, grants, outside, clock })
        });
        recipes.collect()
    }

    async fn open(&self, openings: Vec<Opening>, draft: &mut Draft) -> Result<Vec<Opened>, Refusal> {
        let mut discovered = (*draft.desired.discovered).clone();
        let (mut opened, mut problems, mut too_many_lost) = (Vec::new(), Vec::new(), Vec::new());
        let mut opening = JoinSet::new();
        for Opening { recipe, instead_of } in openings {
            opening.spawn(async move { (open(&recipe, instead_of.is_some()).await, recipe, instead_of) });
        }
        while let Some(done) = opening.join_next().await {
            let (made, recipe, instead_of) = done.map_err(|error| Refusal::Failed(error.to_string()))?;
            let service = recipe.service.clone();
            let Made { instance, answer, refusals, sentences } = match made {
                Ok(made) => made,
                Err(found) => {
                    problems.extend(found);
                    continue;
                }
            };
            for sentence in sentences {
                let message = format!("plugin {} is not granted: {sentence}", recipe.policy.plugin);
                self.history.note(HistoryKind::NotGranted, recipe.about(), message);
            }
            let first = match (answer, instead_of) {
                (Some(Err(problem)), _) => {
                    let plugin = &recipe.policy.plugin;
                    problems
                        .push(ChangeProblem::of(&service, format!("the source {plugin} does not answer: {problem}")));
                    continue;
                }
                (Some(Ok(Accepted { endpoints, cursor })), before) => {
                    let before = before.unwrap_or_else(|| Arc::from([]));
                    if loses_most(&before, &endpoints) && !draft.forced {
                        too_many_lost.push(format!(
                            "service {service} would lose {} of its {} endpoints; \"force\": true does it all the same",
                            lost(&before, &endpoints),
                            before.len()
                        ));
                        continue;
                    }
                    discovered.insert(service.clone(), endpoints);
                    First { cursor: Some(cursor), answered: true, refusals }
                }
                (None, _) => {
                    let kept = block_in_place(|| self.sources.parts.cache.load(&service, &recipe.policy));
                    let cursor = kept.as_ref().and_then(|kept| kept.cursor.clone());
                    discovered.insert(service.clone(), kept.map_or_else(|| Arc::from([]), |kept| kept.endpoints));
                    First { cursor, answered: false, refusals }
                }
            };
            opened.push(Opened { service, recipe, instance, first });
        }
        problems.sort_by(|one, other| one.service.cmp(&other.service));
        if !problems.is_empty() {
            return Err(Refusal::invalid("the change was refused", problems));
        }
        if !too_many_lost.is_empty() {
            return Err(Refusal::Conflict(too_many_lost.join("; ")));
        }
        draft.desired.discovered = Arc::new(discovered);
        Ok(opened)
    }
}

/// Every service that has a source, with that; or a problem for each whose source is not there.
type Wanted = BTreeMap<ServiceName, SourceBinding>;

fn wanted(desired: &Desired) -> Result<Wanted, Vec<ChangeProblem>> {
    let (mut wanted, mut problems) = (BTreeMap::new(), Vec::new());
    for config in desired.file.services.values() {
        match desired.source(config) {
            Ok(Some(source)) => drop(wanted.insert(config.name.clone(), source)),
            Ok(None) => {}
            Err(message) => problems.push(ChangeProblem::of(&config.name, message)),
        }
    }
    if problems.is_empty() { Ok(wanted) } else { Err(problems) }
}

/// A source that was made, and what it said where it was asked.
struct Made {
    instance: DiscoveryInstance,
    answer: Option<Result<Accepted, String>>,
    /// How often it asked for what is not granted, and for what.
    refusals: u64,
    sentences: Vec<String>,
}

async fn open(recipe: &Recipe, ask: bool) -> Result<Made, Vec<ChangeProblem>> {
    let mut instance = recipe.make().await.map_err(|error| problems_of(recipe, error))?;
    let mut made = None;
    if ask {
        let asked = tokio::time::timeout(FIRST_ANSWER_MAX, instance.watch(None, FIRST_ANSWER_MAX)).await;
        made = Some(match asked {
            Err(_) => Err(format!("nothing within {}", humantime::format_duration(FIRST_ANSWER_MAX))),
            Ok(Err(fault)) => Err(format!("it failed in {fault}")),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Ok(Ok(None))) => Err("it gave no membership".to_owned()),
            Ok(Ok(Ok(Some(answer)))) => accept(answer),
        });
    }
    let (refusals, sentences) = instance.take_refusals();
    Ok(Made { instance, answer: made, refusals, sentences })
}

fn problems_of(recipe: &Recipe, error: InstanceError) -> Vec<ChangeProblem> {
    let service = &recipe.service;
    let (plugin, version) = (recipe.version.plugin(), recipe.version.id());
    match error {
        InstanceError::Settings(problems) => problems
            .into_iter()
            .map(|problem| ChangeProblem {
                pointer: format!("{DISCOVERY_SETTINGS}{}", problem.path),
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
