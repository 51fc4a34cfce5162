//! What was published last: what every reader sees.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::{
    instance::{CheckStatus, Listing, NodeListing, RegisteredCheck, RegisteredInstance, ServicesListing},
    lease::CheckLive,
    state::{Changes, HeldLeases, State},
    wake::Wakers,
};

/// Shared by the keeper, which writes it, and all handles. Its lock is held for a look-up or to exchange what a pass
/// changed, never across anything that waits.
pub struct Published {
    view: RwLock<View>,
    /// Of the last change, for those who wait for any.
    index: watch::Sender<u64>,
    pub wakers: Wakers,
    pub counts: Counts,
}

/// Since the start.
#[derive(Debug, Default)]
pub struct Counts {
    pub heartbeats: AtomicU64,
    pub commits: AtomicU64,
    pub commits_failed: AtomicU64,
}

/// How the registry is, for metrics and for people.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub services: usize,
    pub passing: usize,
    pub warning: usize,
    pub critical: usize,
    /// Services whose last membership is kept although leases ran out; the empty name: checks of the node.
    pub held: BTreeMap<String, HeldLeases>,
    /// Since the start.
    pub heartbeats: u64,
    /// Since the start; each makes all changes durable that came together.
    pub commits: u64,
    /// Since the start: the store did not take them, and nothing changed.
    pub commits_failed: u64,
}

#[derive(Default)]
pub struct View {
    index: u64,
    catalog: u64,
    absent: u64,
    services: HashMap<String, Listing>,
    instances: HashMap<Arc<str>, Arc<RegisteredInstance>>,
    checks: HashMap<String, SeenCheck>,
    node: Option<NodeListing>,
    held: BTreeMap<String, HeldLeases>,
}

/// What a heartbeat needs to know.
#[derive(Clone)]
pub struct SeenCheck {
    pub status: CheckStatus,
    pub ttl_us: Option<u64>,
    pub live: Arc<CheckLive>,
}

impl Published {
    pub fn of(state: &State) -> Arc<Self> {
        let mut view = View::default();
        for instance in state.instances() {
            view.see_checks(&instance.checks);
            view.instances.insert(Arc::clone(&instance.id), Arc::clone(instance));
        }
        view.see_checks(state.node_checks());
        view.services = state.service_names().filter_map(|name| Some((name.clone(), state.listing(name)?))).collect();
        view.see_marks(state);
        Arc::new(Self {
            index: watch::Sender::new(view.index),
            view: RwLock::new(view),
            wakers: Wakers::default(),
            counts: Counts::default(),
        })
    }

    /// After the changes have become durable.
    pub fn publish(&self, state: &State, changes: &Changes) {
        let services: BTreeSet<String> =
            if changes.everything { state.service_names().cloned().collect() } else { changes.services.clone() };
        let listings: Vec<_> = services.iter().map(|name| (name, state.listing(name))).collect();
        {
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            view.see_instances(state, changes);
            for (name, listing) in listings {
                match listing {
                    Some(listing) => view.services.insert(name.clone(), listing),
                    None => view.services.remove(name),
                };
            }
            // Also those that went in the pass in which everything changed.
            for gone in &changes.services {
                if !services.contains(gone) {
                    view.services.remove(gone);
                }
            }
            view.see_marks(state);
        }
        self.index.send_replace(state.index());
        if changes.everything {
            self.wakers.wake_all();
        } else {
            self.wakers.wake(&services);
        }
    }

    pub fn set_held(&self, held: BTreeMap<String, HeldLeases>) {
        self.view.write().unwrap_or_else(PoisonError::into_inner).held = held;
    }

    pub fn held(&self) -> BTreeMap<String, HeldLeases> {
        self.view().held.clone()
    }

    /// Of the last change; changes with each.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    pub fn index(&self) -> u64 {
        self.view().index
    }

    pub fn catalog_index(&self) -> u64 {
        self.view().catalog
    }

    pub fn listing(&self, service: &str) -> Option<Listing> {
        self.view().services.get(service).cloned()
    }

    /// Of the name as it is, or else of one that differs from it in case only.
    pub fn listing_in_any_case(&self, service: &str) -> Option<Listing> {
        let view = self.view();
        let same = || view.services.iter().find(|(name, _)| name.eq_ignore_ascii_case(service)).map(|(_, found)| found);
        view.services.get(service).or_else(same).cloned()
    }

    /// With no instances where the service is not registered.
    pub fn listing_or_absent(&self, service: &str) -> Listing {
        let view = self.view();
        let absent = || Listing { index: view.absent, instances: Arc::new([]) };
        view.services.get(service).cloned().unwrap_or_else(absent)
    }

    pub fn services(&self) -> ServicesListing {
        let (index, listings) = {
            let view = self.view();
            (
                view.catalog,
                view.services.iter().map(|(name, it)| (name.clone(), Arc::clone(&it.instances))).collect::<Vec<_>>(),
            )
        };
        let tags = |instances: &[Arc<RegisteredInstance>]| {
            let tags: BTreeSet<_> = instances.iter().flat_map(|instance| &instance.tags).cloned().collect();
            tags.into_iter().collect()
        };
        ServicesListing { index, services: listings.into_iter().map(|(name, it)| (name, tags(&it))).collect() }
    }

    pub fn instance(&self, id: &str) -> Option<Arc<RegisteredInstance>> {
        self.view().instances.get(id).cloned()
    }

    /// In the order of their ids.
    pub fn instances(&self) -> Vec<Arc<RegisteredInstance>> {
        let mut instances: Vec<_> = self.view().instances.values().cloned().collect();
        instances.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        instances
    }

    pub fn check(&self, id: &str) -> Option<SeenCheck> {
        self.view().checks.get(id).cloned()
    }

    pub fn node(&self) -> NodeListing {
        self.view().node.clone().expect("it is published with the first state")
    }

    pub fn figures(&self) -> Figures {
        let view = self.view();
        let with = |status| view.instances.values().filter(|instance| instance.status == status).count();
        Figures {
            services: view.services.len(),
            passing: with(CheckStatus::Passing),
            warning: with(CheckStatus::Warning),
            critical: with(CheckStatus::Critical),
            held: view.held.clone(),
            heartbeats: self.counts.heartbeats.load(Ordering::Relaxed),
            commits: self.counts.commits.load(Ordering::Relaxed),
            commits_failed: self.counts.commits_failed.load(Ordering::Relaxed),
        }
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn see_instances(&mut self, state: &State, changes: &Changes) {
        for id in &changes.instances {
            if let Some(old) = self.instances.remove(id) {
                for check in &old.checks {
                    self.checks.remove(check.id());
                }
            }
        }
        for instance in changes.instances.iter().filter_map(|id| state.instance(id)) {
            self.see_checks(&instance.checks);
            self.instances.insert(Arc::clone(&instance.id), Arc::clone(instance));
        }
        if changes.node {
            let old = self.node.take();
            for check in old.iter().flat_map(|node| &node.checks) {
                self.checks.remove(check.id());
            }
            self.see_checks(state.node_checks());
        }
        if changes.everything {
            self.instances = state.instances().map(|it| (Arc::clone(&it.id), Arc::clone(it))).collect();
        }
    }

    fn see_checks(&mut self, checks: &[RegisteredCheck]) {
        for check in checks {
            let ttl_us = check.definition.kind.ttl().map(super::state::us);
            let seen = SeenCheck { status: check.status, ttl_us, live: Arc::clone(&check.live) };
            self.checks.insert(check.id().to_owned(), seen);
        }
    }

    fn see_marks(&mut self, state: &State) {
        self.index = state.index();
        self.absent = state.absent_index();
        self.catalog = state.catalog_index();
        self.node = Some(state.node_listing());
    }
}
