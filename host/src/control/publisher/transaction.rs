//! One change, whole or not at all: load → make → save and restore → adopt → keep.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use bytes::Bytes;

use super::{
    Published, PublishedService, Publisher,
    blocking::Blocking,
    desired::{Binding, Desired},
    durable::stored,
    handlers::PublishedHandlers,
    inherit::inherit,
    instances::{Arms, ArmsByService, FaultInMaking, Recipe, Recipes, make_all, recipes},
    places::{Keepers, Placed},
    plan::{Given, HEALTH_PLACE, Plan, Restarted, is_outdated, plan, route_label},
    protocols::PublishedProtocols,
    sources::Opened,
};
use crate::{
    control::change::{Applied, ChangeProblem, Refusal, Restore, WorkerAdoption},
    failover::{CheckedService, HealthArm, HealthArms, ServiceWatch},
    gateway::{
        Adoption, NextService, PreparedCandidate, PreparedInstance, PreparedPolicy, PreparedService, PreparedState,
        WorkerEvent,
    },
    model::{PluginName, ServiceName, VersionId},
    plugin::{BalancerInstance, FailoverInstance, HealthInstance, Version},
};

/// A change as far as it is known before anything is made.
pub struct Draft {
    pub desired: Desired,
    /// Instances to make anew though nothing else changed for them.
    pub restarts: Vec<Restarted>,
    /// Loaded already.
    pub loaded: Vec<Arc<Version>>,
    /// Components to keep on disk, if the change comes about.
    pub components: Vec<(PluginName, Bytes)>,
    /// The plugin whose uploaded versions go.
    pub forgotten: Option<PluginName>,
    /// Whether a source may take more than half of a service's endpoints away by coming into use.
    pub forced: bool,
    /// A service whose source is made anew though nothing else changed for it.
    pub reopened: Option<ServiceName>,
}

impl Draft {
    pub fn of(desired: Desired) -> Self {
        Self {
            desired,
            restarts: Vec::new(),
            loaded: Vec::new(),
            components: Vec::new(),
            forgotten: None,
            forced: false,
            reopened: None,
        }
    }
}

pub type Versions = HashMap<(PluginName, VersionId), Arc<Version>>;

/// What runs beside the data path; None: those in force stay.
struct Beside {
    protocols: Option<PublishedProtocols>,
    handlers: Option<PublishedHandlers>,
}

/// What was made before the plan was.
struct Made {
    opened: Vec<Opened>,
    beside: Beside,
    loaded: Vec<Arc<Version>>,
    components: Vec<(PluginName, Bytes)>,
}

/// Instances of one kind.
struct MadeOfKind<I> {
    recipes: Vec<Recipes>,
    arms: ArmsByService<I>,
    restores: Vec<Restore>,
    faults: Vec<FaultInMaking>,
}

/// Everything made, nothing changed yet.
struct Prepared {
    plan: Plan,
    versions: Versions,
    states: Vec<PreparedState>,
    watches: Vec<ServiceWatch>,
    restores: Vec<Restore>,
    faults: Vec<FaultInMaking>,
}

impl Publisher {
    /// Carries a change out. An error means that nothing has changed.
    pub(super) async fn transact(&mut self, mut draft: Draft) -> Result<Applied, Refusal> {
        let before = self.current.borrow().clone();
        let opened = self.open_sources(before.as_deref(), &mut draft).await?;
        let protocols = self.open_protocols(before.as_deref(), &mut draft).await?;
        let handlers = self.open_handlers(before.as_deref(), &mut draft).await?;
        let beside = Beside { protocols, handlers };
        self.names.learn(host_names(&draft.desired)).await;
        let (workers, now_us) = (self.gateway.worker_count(), self.clock.now_us());
        let given = Given { names: &self.names, restarts: &draft.restarts, workers, now_us };
        let plan = plan(before.as_deref(), draft.desired, &given)
            .map_err(|problems| Refusal::invalid("the change was refused", problems))?;
        let Some(before) = before else {
            let made = Made { opened, beside, loaded: draft.loaded, components: draft.components };
            return self.publish(None, plan, made).await;
        };
        let same_file = before.desired.file == plan.desired.file;
        let same_sources = opened.is_empty() && same_sources(&before, &plan);
        if !same_file || !same_sources || !plan.keeps_all_instances() || shows_change(&before, &plan) {
            let made = Made { opened, beside, loaded: draft.loaded, components: draft.components };
            return self.publish(Some(before), plan, made).await;
        }
        let kept = |(plugin, component): &(PluginName, Bytes)| self.store.contains(plugin, VersionId::of(component));
        let nothing = before.desired.overlay == plan.desired.overlay
            && draft.components.iter().all(kept)
            && draft.forgotten.is_none()
            && beside.protocols.is_none()
            && beside.handlers.is_none()
            && Arc::ptr_eq(&before.desired.discovered, &plan.desired.discovered)
            && bases_equal(&before.desired, &plan.desired);
        if nothing {
            return Ok(Applied { generation: before.snapshot.generation, ..Applied::default() });
        }
        self.keep_only(&before, plan, beside, &draft.components)
    }

    /// The data path does not see the change: only what is remembered differs.
    fn keep_only(
        &mut self,
        before: &Arc<Published>,
        plan: Plan,
        beside: Beside,
        components: &[(PluginName, Bytes)],
    ) -> Result<Applied, Refusal> {
        if before.desired.overlay != plan.desired.overlay || !components.is_empty() {
            let staged = self.stage(&plan.desired, components)?;
            self.commit(staged)?;
        }
        let generation = before.snapshot.generation;
        self.install_beside(&plan.desired, &beside);
        self.current.send_replace(Some(Arc::new(Published {
            desired: plan.desired,
            snapshot: Arc::clone(&before.snapshot),
            services: before.services.clone(),
            protocols: beside.protocols.unwrap_or_else(|| before.protocols.clone()),
            handlers: beside.handlers.unwrap_or_else(|| before.handlers.clone()),
            versions: before.versions.clone(),
            retired: before.retired.clone(),
        })));
        Ok(Applied { changed: true, generation, ..Applied::default() })
    }

    async fn publish(
        &mut self,
        before: Option<Arc<Published>>,
        plan: Plan,
        Made { opened, beside, loaded, components }: Made,
    ) -> Result<Applied, Refusal> {
        let prepared = self.prepare(before.as_deref(), plan, loaded).await?;
        let same_overlay =
            before.as_ref().is_some_and(|before| before.desired.overlay == prepared.plan.desired.overlay);
        let staged = match same_overlay && components.is_empty() {
            true => None,
            false => Some(self.stage(&prepared.plan.desired, &components)?),
        };
        self.book_canaries(&prepared.plan.desired);
        let Prepared { plan, versions, states, watches, restores, faults } = prepared;
        let adoptions = match self.gateway.adopt(states).await {
            Ok(adoptions) => adoptions,
            Err(_) => {
                staged.into_iter().for_each(|staged| self.unstage(staged));
                return Err(Refusal::ShuttingDown);
            }
        };
        self.monitor.watch(watches, gone_services(before.as_deref(), &plan)).await;
        self.checks.set(checked_services(&plan));
        if is_outdated(&plan.snapshot) {
            // Who is not checked any more has become fit by that.
            self.monitor.look_again();
        }
        let mut warnings: Vec<_> = plan.unresolved.iter().map(|(service, host)| unresolved(service, host)).collect();
        let generation = plan.snapshot.generation;
        self.note_replacements(&plan);
        self.install_beside(&plan.desired, &beside);
        self.install(before.as_deref(), plan, versions, beside);
        let now = self.current.borrow().clone().expect("just installed");
        self.sources.replace(opened, &now);
        self.sources.set_shadows(self.shadows(&now));
        // The change is in force. That it would be lost by a restart is something to say, not a reason to take it back.
        if let Some(Err(refusal)) = staged.map(|staged| self.commit(staged)) {
            warnings.push(format!("the change is in force, but would be lost by a restart: {refusal}"));
        }
        self.report(faults);
        // Clients' requests do not wait for the inner worker.
        let listening = adoptions.iter().take(self.gateway.listening_count());
        let workers = listening.enumerate().map(|(worker, adoption)| self.adopted(worker, adoption)).collect();
        Ok(Applied { changed: true, generation, workers, restores, warnings, ..Applied::default() })
    }

    async fn prepare(
        &mut self,
        before: Option<&Published>,
        plan: Plan,
        loaded: Vec<Arc<Version>>,
    ) -> Result<Prepared, Refusal> {
        let refused = |problems| Refusal::invalid("the change was refused", problems);
        let versions = self.load(before, &plan.desired, plan.needed_versions(), loaded).await.map_err(refused)?;
        let balancers = self.make::<BalancerInstance>(before, &plan, &versions).await?;
        let failovers = self.make::<FailoverInstance>(before, &plan, &versions).await?;
        let health = self.make::<HealthInstance>(before, &plan, &versions).await?;
        let mut restores = balancers.restores;
        restores.extend(failovers.restores.into_iter().chain(health.restores));
        let mut faults = balancers.faults;
        faults.extend(failovers.faults.into_iter().chain(health.faults));
        let watches = self.watches(before, &plan, &health.recipes, health.arms);
        let states =
            self.states(before, &plan, (&balancers.recipes, balancers.arms), (&failovers.recipes, failovers.arms));
        Ok(Prepared { plan, versions, states, watches, restores, faults })
    }

    /// All instances of one kind that the plan asks for, with what their predecessors have learned.
    async fn make<I: Placed>(
        &mut self,
        before: Option<&Published>,
        plan: &Plan,
        versions: &Versions,
    ) -> Result<MadeOfKind<I>, Refusal> {
        let version = |binding: &Binding, id| Arc::clone(&versions[&(binding.policy.plugin.clone(), id)]);
        let in_use = |service: &ServiceName, new: &Binding, id| {
            let old = before.and_then(|before| Some(I::published(before.published(service)?)));
            old.is_some_and(|old| {
                old.has(id) && old.policy == new.policy && old.memory_bytes_max == new.memory_bytes_max
            })
        };
        let recipes = recipes::<I>(plan, self.clock, version, in_use);
        let workers = self.gateway.worker_count();
        let refused = |problems| Refusal::invalid("the change was refused", problems);
        let made = make_all(plan, &recipes, workers, || self.random.u64(..)).await;
        let (arms, mut faults) = made.map_err(refused)?;
        let keepers = Keepers { gateway: Arc::clone(&self.gateway), monitor: Arc::clone(&self.monitor) };
        let (arms, restores, faulted) = match before {
            Some(before) => inherit(&keepers, before, plan, &recipes, arms, || self.random.u64(..)).await?,
            None => (arms, Vec::new(), Vec::new()),
        };
        faults.extend(faulted);
        Ok(MadeOfKind { recipes, arms, restores, faults })
    }

    /// Every version that the plan needs: those loaded before, and the rest in parallel.
    pub(super) async fn load(
        &self,
        before: Option<&Published>,
        desired: &Desired,
        needed: BTreeMap<(PluginName, VersionId), Vec<ServiceName>>,
        loaded: Vec<Arc<Version>>,
    ) -> Result<Versions, Vec<ChangeProblem>> {
        let loaded: HashMap<_, _> =
            loaded.into_iter().map(|version| ((version.plugin().clone(), version.id()), version)).collect();
        let mut versions = Versions::new();
        let mut loading = Blocking::new();
        for (key, services) in needed {
            let known = loaded.get(&key).or_else(|| before.and_then(|before| before.versions.get(&key)));
            if let Some(version) = known {
                versions.insert(key, Arc::clone(version));
                continue;
            }
            let base = desired.bases.get(&key.0).filter(|base| base.version == key.1);
            let (component, runtime, store) =
                (base.map(|base| base.component.clone()), Arc::clone(&self.runtime), Arc::clone(&self.store));
            let load = move || {
                let (plugin, id) = &key;
                let bytes = component.map_or_else(|| stored(&store, plugin, *id), Ok);
                let version = bytes.and_then(|bytes| {
                    runtime.load(plugin, &bytes).map_err(|error| format!("plugin {plugin} {id}: {error}"))
                });
                (key, services, version)
            };
            loading.spawn(load).await;
        }
        let mut problems = Vec::new();
        while let Some(loaded) = loading.next().await {
            match loaded {
                Ok((key, _, Ok(version))) => drop(versions.insert(key, version)),
                Ok(((plugin, _), services, Err(message))) if services.is_empty() => {
                    problems.push(ChangeProblem::of_plugin(&plugin, message));
                }
                Ok((_, services, Err(message))) => {
                    problems.extend(services.iter().map(|service| ChangeProblem::of(service, message.clone())));
                }
                Err(error) => problems.push(ChangeProblem::plain(format!("loading a plugin failed: {error}"))),
            }
        }
        if problems.is_empty() { Ok(versions) } else { Err(problems) }
    }

    /// The workers' next states.
    fn states(
        &self,
        before: Option<&Published>,
        plan: &Plan,
        (balancer_recipes, balancers): (&[Recipes], ArmsByService<BalancerInstance>),
        (failover_recipes, failovers): (&[Recipes], ArmsByService<FailoverInstance>),
    ) -> Vec<PreparedState> {
        let workers = self.gateway.worker_count();
        let mut states: Vec<_> = (0..workers)
            .map(|worker| PreparedState {
                snapshot: Arc::clone(&plan.snapshot),
                services: Vec::with_capacity(balancers.len()),
                routes: plan
                    .snapshot
                    .router
                    .routes()
                    .iter()
                    .map(|route| self.metrics.route(worker, &route_label(route)))
                    .collect(),
            })
            .collect();
        for (index, of_service) in balancers.into_iter().zip(failovers).enumerate() {
            let service = &plan.snapshot.services[index];
            let name = &service.config.name;
            let old = before.and_then(|before| before.service(name));
            let same_snapshot = old.is_some_and(|old| Arc::ptr_eq(old.snapshot, service));
            for (worker, (balancer, failover)) in of_service.0.into_iter().zip(of_service.1).enumerate() {
                if balancer.is_none() && failover.is_none() && same_snapshot {
                    states[worker].services.push(PreparedService::Same);
                    continue;
                }
                let service_plan = &plan.services[index];
                let (balancer_recipes, failover_recipes) = (&balancer_recipes[index], &failover_recipes[index]);
                let balancer =
                    self.replacement(worker, name, balancer_recipes, &service_plan.balancer.binding, balancer);
                let failover =
                    self.replacement(worker, name, failover_recipes, &service_plan.failover.binding, failover);
                let cells = |address| self.metrics.endpoint(worker, name, &format!("{address}"));
                let endpoints = service
                    .endpoints
                    .iter()
                    .map(|member| member.as_ref().map(|member| cells(member.endpoint.address)))
                    .collect();
                let next = NextService { balancer, failover, endpoints };
                states[worker].services.push(PreparedService::Next(Box::new(next)));
            }
        }
        states
    }

    fn replacement<I>(
        &self,
        worker: usize,
        service: &ServiceName,
        recipes: &Recipes,
        binding: &Binding,
        arms: Option<Arms<I>>,
    ) -> PreparedPolicy<I> {
        let Some(arms) = arms else { return PreparedPolicy::Keep };
        let arm = |version: &Arc<Version>, instance| PreparedInstance {
            cells: self.metrics.plugin(worker, service, version.plugin(), version.id()),
            version: Arc::clone(version),
            instance,
        };
        let candidate = recipes.candidate.as_ref().zip(binding.candidate);
        PreparedPolicy::Replace {
            incumbent: arm(&recipes.incumbent.version, arms.incumbent),
            candidate: candidate
                .map(|(recipe, (_, percent))| PreparedCandidate { arm: arm(&recipe.version, arms.candidate), percent }),
        }
    }

    /// What the watch over health has to be told.
    fn watches(
        &self,
        before: Option<&Published>,
        plan: &Plan,
        recipes: &[Recipes],
        arms: ArmsByService<HealthInstance>,
    ) -> Vec<ServiceWatch> {
        let workers = self.gateway.worker_count();
        let mut watches = Vec::new();
        for (index, of_service) in arms.into_iter().enumerate() {
            let snapshot = &plan.snapshot.services[index];
            let name = &snapshot.config.name;
            let arm = |recipe: &Recipe, instance| HealthArm {
                // Beside the workers' own, which only they write to.
                cells: self.metrics.plugin(workers, name, recipe.version.plugin(), recipe.version.id()),
                version: Arc::clone(&recipe.version),
                instance,
            };
            let health = of_service.into_iter().flatten().next().map(|arms| HealthArms {
                incumbent: arm(&recipes[index].incumbent, arms.incumbent),
                candidate: recipes[index].candidate.as_ref().map(|recipe| arm(recipe, arms.candidate)),
            });
            let old = before.and_then(|before| before.service(name));
            let changed = old.is_none_or(|old| !Arc::ptr_eq(old.snapshot, snapshot));
            if health.is_some() || changed {
                watches.push(ServiceWatch {
                    service: name.clone(),
                    limits: snapshot.config.ejection.clone(),
                    adaptive: snapshot.config.circuit.adaptive,
                    shared: Arc::clone(&snapshot.shared),
                    members: changed.then(|| snapshot.members().cloned().collect()),
                    health,
                });
            }
        }
        watches
    }

    /// Instances that were gone are so no more where new ones were adopted.
    fn note_replacements(&self, plan: &Plan) {
        self.gone.retain_services(|service| plan.snapshot.by_name.contains_key(service));
        for (snapshot, service) in plan.snapshot.services.iter().zip(&plan.services) {
            let name = &snapshot.config.name;
            for (plan, binding) in [
                (&service.balancer.instances, &service.balancer.binding),
                (&service.failover.instances, &service.failover.binding),
                (&service.health, &service.failover.binding),
            ] {
                let workers = 0..self.gateway.worker_count();
                let places = workers.chain(std::iter::once(HEALTH_PLACE));
                for place in places.filter(|&place| plan.replaced_on(place)) {
                    self.gone.replaced(name, place, |version| binding.has(version));
                }
            }
        }
    }

    fn install(&mut self, before: Option<&Published>, plan: Plan, versions: Versions, beside: Beside) {
        let mut retired: Vec<Weak<Version>> = before.map_or_else(Vec::new, |before| before.retired.clone());
        let old = before.into_iter().flat_map(|before| &before.versions);
        retired.extend(old.filter(|(key, _)| !versions.contains_key(*key)).map(|(_, version)| Arc::downgrade(version)));
        retired.retain(|version| version.strong_count() > 0);
        let Plan { desired, snapshot, services, .. } = plan;
        self.names.retain(&host_names(&desired));
        let services = services
            .into_iter()
            .map(|service| PublishedService {
                balancer: service.balancer.binding,
                failover: service.failover.binding,
                source: service.source,
                shadow: service.shadow,
                slots: service.slots,
                waiting: service.waiting,
            })
            .collect();
        let Beside { protocols, handlers } = beside;
        let protocols = protocols.or_else(|| before.map(|before| before.protocols.clone())).unwrap_or_default();
        let handlers = handlers.or_else(|| before.map(|before| before.handlers.clone())).unwrap_or_default();
        let published = Published { desired, snapshot, services, protocols, handlers, versions, retired };
        self.current.send_replace(Some(Arc::new(published)));
    }

    fn install_beside(&self, desired: &Desired, beside: &Beside) {
        self.install_protocols(desired, beside.protocols.as_ref());
        self.install_handlers(desired, beside.handlers.as_ref());
    }

    fn report(&self, faults: Vec<FaultInMaking>) {
        for FaultInMaking { worker, service, version, fault } in faults {
            // Where the supervisor is gone, the gateway is ending.
            let _ = self.events.send(WorkerEvent::Fault { worker, service, version, fault });
        }
    }

    fn adopted(&self, worker: usize, adoption: &Adoption) -> WorkerAdoption {
        self.metrics.adopted(adoption.gap);
        WorkerAdoption { worker, gap_us: u64::try_from(adoption.gap.as_micros()).unwrap_or(u64::MAX) }
    }
}

fn checked_services(plan: &Plan) -> Vec<CheckedService> {
    let checked = plan.snapshot.services.iter().filter_map(|service| {
        Some(CheckedService {
            service: service.config.name.clone(),
            check: service.config.health_check.clone()?,
            protocol: service.config.protocol,
            endpoints: service.members().map(|member| Arc::clone(&member.endpoint)).collect(),
        })
    });
    checked.collect()
}

fn gone_services(before: Option<&Published>, plan: &Plan) -> Vec<ServiceName> {
    let old = before.into_iter().flat_map(|before| before.snapshot.by_name.keys());
    old.filter(|name| !plan.snapshot.by_name.contains_key(*name)).cloned().collect()
}

/// Whether a service differs though its instances stay.
fn shows_change(before: &Published, plan: &Plan) -> bool {
    let old = &before.snapshot.services;
    old.len() != plan.snapshot.services.len()
        || old.iter().zip(&plan.snapshot.services).any(|(old, new)| !Arc::ptr_eq(old, new))
}

fn same_sources(before: &Published, plan: &Plan) -> bool {
    before.services.len() == plan.services.len()
        && before
            .services
            .iter()
            .zip(&plan.services)
            .all(|(old, new)| old.source == new.source && old.shadow == new.shadow)
}

fn bases_equal(one: &Desired, other: &Desired) -> bool {
    let versions = |desired: &Desired| {
        desired.bases.iter().map(|(plugin, base)| (plugin.clone(), base.version, base.source)).collect::<Vec<_>>()
    };
    versions(one) == versions(other)
}

/// All host names among the endpoints.
fn host_names(desired: &Desired) -> std::collections::BTreeSet<String> {
    let endpoints = desired.file.services.values().flat_map(|service| desired.endpoints(service));
    let names = endpoints.filter(|endpoint| endpoint.address.socket_addr().is_none());
    names.map(|endpoint| endpoint.address.host().to_owned()).collect()
}

fn unresolved(service: &ServiceName, host: &str) -> String {
    format!("service {service}: {host} has no address yet; it is asked for again until it has")
}
