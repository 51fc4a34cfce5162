//! Registering, deregistering, maintenance.

use std::sync::Arc;

use super::{INSTANCES_MAX, Node, Owner, State, record, us};
use crate::{
    model::InstantUs,
    registry::{
        error::RegistryError,
        instance::{CheckStatus, RegisteredCheck, RegisteredInstance},
        lease::CheckLive,
        registration::{CheckDefinition, Registration},
        rules::{CHECKS_MAX, FieldProblem},
    },
};

impl State {
    /// Adds the instance or replaces the one of that id. A check that was there before, by its id, keeps its status and
    /// begins a new lease; others that the instance had stay too, unless `replace_checks`.
    ///
    /// The same registration again is no change.
    pub fn register(
        &mut self,
        registration: Registration,
        replace_checks: bool,
        now_us: InstantUs,
    ) -> Result<(), RegistryError> {
        self.now_us = now_us;
        let old = self.instances.get(registration.id.as_str()).cloned();
        let mut problems = registration.problems();
        let owner =
            Owner::Instance(old.as_ref().map_or_else(|| registration.id.as_str().into(), |old| Arc::clone(&old.id)));
        for (at, check) in registration.checks.iter().enumerate() {
            if self.checks.get(&check.id).is_some_and(|tracked| tracked.owner != owner) {
                problems.push(taken(format!("Checks[{at}].CheckID"), &check.id));
            }
        }
        let old_checks = match &old {
            Some(old) if old.service == registration.service => old.checks.as_slice(),
            _ => &[],
        };
        let kept = old_checks.iter().filter(|check| {
            !replace_checks && !registration.checks.iter().any(|definition| definition.id == check.id())
        });
        let checks: Vec<_> = kept.cloned().map(|check| (check.definition.as_ref().clone(), Some(check))).collect();
        if checks.len() + registration.checks.len() > CHECKS_MAX {
            problems.push(FieldProblem::new(
                "Checks",
                format!("an instance has at most {CHECKS_MAX}, with those that it had before"),
            ));
        }
        if !problems.is_empty() {
            return Err(RegistryError::Invalid(problems));
        }
        if old.is_none() && self.instances.len() >= INSTANCES_MAX {
            return Err(RegistryError::Full { max: INSTANCES_MAX });
        }
        let given = registration.checks.iter().map(|definition| {
            (definition.clone(), old_checks.iter().find(|check| check.id() == definition.id).cloned())
        });
        let checks: Vec<_> = checks.into_iter().chain(given).collect();
        self.put_registration(registration, checks, old.as_deref());
        Ok(())
    }

    fn put_registration(
        &mut self,
        registration: Registration,
        checks: Vec<(CheckDefinition, Option<RegisteredCheck>)>,
        old: Option<&RegisteredInstance>,
    ) {
        let index = self.marks.index + 1;
        let checks = checks.into_iter().map(|(definition, old)| self.check_of(definition, old, index)).collect();
        let create_index = old.map_or(index, |old| old.create_index);
        let maintenance = old.and_then(|old| old.maintenance.clone());
        let instance = self.instance_of(registration, maintenance, checks, (create_index, index));
        if old.is_some_and(|old| is_same(old, &instance)) {
            return;
        }
        let index = self.next_index();
        self.marks.catalog = index;
        self.put(Arc::new(instance), index);
    }

    /// Whether there was such an instance.
    pub fn deregister(&mut self, id: &str, now_us: InstantUs) -> bool {
        self.now_us = now_us;
        let Some(instance) = self.instances.get(id).cloned() else { return false };
        let index = self.next_index();
        self.marks.catalog = index;
        self.remove(&instance, index);
        true
    }

    /// `reason`: None ends it.
    pub fn set_maintenance(
        &mut self,
        id: &str,
        reason: Option<String>,
        now_us: InstantUs,
    ) -> Result<(), RegistryError> {
        self.now_us = now_us;
        let Some(instance) = self.instances.get(id).cloned() else {
            return Err(RegistryError::UnknownService { id: id.to_owned() });
        };
        if instance.maintenance != reason {
            let index = self.next_index();
            let mut changed = RegisteredInstance { maintenance: reason, modify_index: index, ..(*instance).clone() };
            changed.status = changed.own_status().max(self.node.status());
            self.put(Arc::new(changed), index);
        }
        Ok(())
    }

    /// Of all instances at once.
    pub fn set_node_maintenance(&mut self, reason: Option<String>, now_us: InstantUs) {
        self.now_us = now_us;
        if self.node.maintenance != reason {
            let node = Node { maintenance: reason, checks: self.node.checks.clone() };
            self.put_node(node);
        }
    }

    /// In place of the instance of the same id, if there is one.
    pub(super) fn put(&mut self, instance: Arc<RegisteredInstance>, index: u64) {
        let old = self.instances.get(&instance.id).cloned();
        self.pass.keep_instance(&instance.id, old.as_ref());
        self.pass.weigh(&record::of_instance(&instance));
        if let Some(old) = &old {
            self.untrack_missing(&old.checks, &instance.checks);
            if old.service != instance.service {
                self.leave_service(old, index);
            }
        }
        let owner = Owner::Instance(Arc::clone(&instance.id));
        self.track_new(&owner, old.as_ref().map_or(&[], |old| old.checks.as_slice()), &instance.checks);
        let before = self.services.get(&instance.service).map(|service| service.index);
        self.pass.keep_service(&instance.service, before);
        let service = self.services.entry(instance.service.clone()).or_default();
        service.index = index;
        service.ids.insert(Arc::clone(&instance.id));
        self.instances.insert(Arc::clone(&instance.id), instance);
    }

    pub(super) fn remove(&mut self, instance: &Arc<RegisteredInstance>, index: u64) {
        self.pass.keep_instance(&instance.id, Some(instance));
        self.untrack_missing(&instance.checks, &[]);
        self.leave_service(instance, index);
        self.instances.remove(&instance.id);
    }

    fn leave_service(&mut self, instance: &RegisteredInstance, index: u64) {
        let Some(service) = self.services.get_mut(&instance.service) else { return };
        self.pass.keep_service(&instance.service, Some(service.index));
        service.index = index;
        service.ids.remove(&instance.id);
        if service.ids.is_empty() {
            self.services.remove(&instance.service);
            self.marks.extinction = index;
        }
    }

    pub(super) fn put_node(&mut self, node: Node) {
        let index = self.next_index();
        self.marks.node = index;
        self.pass.keep_node(&self.node);
        self.pass.weigh(&record::of_node(&node));
        let old = std::mem::replace(&mut self.node, node);
        let new = self.node.checks.clone();
        self.untrack_missing(&old.checks, &new);
        self.track_new(&Owner::Node, &old.checks, &new);
        if old.status() != self.node.status() {
            self.restate();
        }
    }

    /// After the node's status changed.
    pub(super) fn restate(&mut self) {
        let node = self.node.status();
        for instance in self.instances.values_mut() {
            let status = instance.own_status().max(node);
            if instance.status != status {
                *instance = Arc::new(RegisteredInstance { status, ..(**instance).clone() });
            }
        }
    }

    fn untrack_missing(&mut self, old: &[RegisteredCheck], new: &[RegisteredCheck]) {
        for check in old.iter().filter(|old| !new.iter().any(|new| new.id() == old.id())) {
            self.untrack(check);
        }
    }

    fn track_new(&mut self, owner: &Owner, old: &[RegisteredCheck], new: &[RegisteredCheck]) {
        for check in new {
            match old.iter().find(|old| old.id() == check.id()) {
                None => self.track(owner, check),
                Some(old) if !Arc::ptr_eq(&old.definition, &check.definition) => self.await_departure(check),
                Some(_) => {}
            }
        }
    }

    /// A check as it begins, or goes on where it was there before.
    pub(super) fn check_of(
        &mut self,
        definition: CheckDefinition,
        old: Option<RegisteredCheck>,
        index: u64,
    ) -> RegisteredCheck {
        let check = match old {
            Some(old) if *old.definition == definition => old,
            Some(old) => {
                let live = self.live_on(&definition, &old);
                RegisteredCheck { definition: Arc::new(definition), live, ..old }
            }
            None => RegisteredCheck {
                status: definition.initial,
                definition: Arc::new(definition),
                create_index: index,
                modify_index: index,
                live: CheckLive::new(""),
            },
        };
        self.begin_lease(&check);
        check
    }

    /// A lease does not outlive the kind of check that it belongs to.
    fn live_on(&mut self, definition: &CheckDefinition, old: &RegisteredCheck) -> Arc<CheckLive> {
        if definition.kind.ttl().is_some() || old.definition.kind.ttl().is_none() {
            return Arc::clone(&old.live);
        }
        self.lapses.remove(old.id());
        CheckLive::new(&old.output())
    }

    /// Of a TTL check that is not critical.
    pub(super) fn begin_lease(&mut self, check: &RegisteredCheck) {
        if let Some(ttl) = check.definition.kind.ttl()
            && check.status < CheckStatus::Critical
        {
            let until_us = self.now_us + us(ttl);
            check.live.begin(until_us);
            self.lapses.remove(check.id());
            self.look_at_lease(check.id(), until_us);
        }
    }

    pub(super) fn instance_of(
        &self,
        registration: Registration,
        maintenance: Option<String>,
        checks: Vec<RegisteredCheck>,
        (create_index, modify_index): (u64, u64),
    ) -> RegisteredInstance {
        let Registration { id, service, address, port, tags, meta, weights, zone, enable_tag_override, .. } =
            registration;
        let mut instance = RegisteredInstance {
            id: id.into(),
            service,
            address: if address.is_empty() { self.options.node_address.clone() } else { address.clone() },
            given_address: address,
            port,
            tags,
            meta,
            weights,
            zone,
            enable_tag_override,
            tagged_addresses: registration.tagged_addresses,
            status: CheckStatus::Passing,
            maintenance,
            checks,
            create_index,
            modify_index,
        };
        instance.status = instance.own_status().max(self.node.status());
        instance
    }
}

pub(super) fn taken(field: impl Into<String>, id: &str) -> FieldProblem {
    FieldProblem::new(field, format!("{id:?} is another instance's check; ids of checks are unique in the registry"))
}

/// Whether a registration changed nothing.
fn is_same(old: &RegisteredInstance, new: &RegisteredInstance) -> bool {
    let same_checks = old.checks.len() == new.checks.len()
        && old.checks.iter().all(|old| new.checks.iter().any(|new| Arc::ptr_eq(&old.definition, &new.definition)));
    same_checks
        && old.service == new.service
        && old.given_address == new.given_address
        && old.address == new.address
        && old.port == new.port
        && old.tags == new.tags
        && old.meta == new.meta
        && old.weights == new.weights
        && old.zone == new.zone
        && old.enable_tag_override == new.enable_tag_override
        && old.tagged_addresses == new.tagged_addresses
}
