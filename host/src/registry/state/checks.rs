//! Checks: adding, removing, and what they report.

use std::sync::Arc;

use super::{Node, Owner, State, instances::taken, us};
use crate::{
    model::InstantUs,
    registry::{
        error::RegistryError,
        instance::{CheckStatus, RegisteredCheck, RegisteredInstance},
        registration::CheckDefinition,
        rules::{CHECKS_MAX, FieldProblem},
    },
};

impl State {
    /// Adds a check to an instance, or to the node where none is named, or replaces the one of that id.
    pub fn register_check(
        &mut self,
        instance: Option<&str>,
        definition: CheckDefinition,
        now_us: InstantUs,
    ) -> Result<(), RegistryError> {
        self.now_us = now_us;
        let mut problems = definition.problems();
        let owner = match instance {
            None => Owner::Node,
            Some(id) => match self.instances.get(id) {
                Some(instance) => Owner::Instance(Arc::clone(&instance.id)),
                None => {
                    problems
                        .push(FieldProblem::new("ServiceID", format!("no service is registered with the id {id:?}")));
                    return Err(RegistryError::Invalid(problems));
                }
            },
        };
        if self.checks.get(&definition.id).is_some_and(|tracked| tracked.owner != owner) {
            problems.push(taken("CheckID", &definition.id));
        }
        let mut checks = self.checks_of(&owner);
        let old = checks.iter().position(|check| check.id() == definition.id);
        if old.is_none() && checks.len() >= CHECKS_MAX {
            problems
                .push(FieldProblem::new("Check", format!("there are {CHECKS_MAX} already, the most that are taken")));
        }
        if !problems.is_empty() {
            return Err(RegistryError::Invalid(problems));
        }
        let index = self.marks.index + 1;
        match old {
            Some(at) => {
                let old = checks[at].clone();
                checks[at] = self.check_of(definition, Some(old.clone()), index);
                if Arc::ptr_eq(&checks[at].definition, &old.definition) {
                    return Ok(());
                }
            }
            None => {
                let check = self.check_of(definition, None, index);
                checks.push(check);
            }
        }
        self.put_checks(&owner, checks);
        Ok(())
    }

    pub fn deregister_check(&mut self, id: &str, now_us: InstantUs) -> Result<(), RegistryError> {
        self.now_us = now_us;
        let tracked = self.checks.get(id).ok_or_else(|| RegistryError::UnknownCheck { id: id.to_owned() })?;
        let owner = tracked.owner.clone();
        let mut checks = self.checks_of(&owner);
        checks.retain(|check| check.id() != id);
        self.put_checks(&owner, checks);
        Ok(())
    }

    /// What an instance says of itself: the status of a TTL check, whose lease begins anew.
    pub fn report(
        &mut self,
        id: &str,
        status: CheckStatus,
        output: &str,
        now_us: InstantUs,
    ) -> Result<(), RegistryError> {
        self.now_us = now_us;
        let check = self.check(id)?;
        if check.definition.kind.ttl().is_none() {
            return Err(RegistryError::NoTtl { id: id.to_owned() });
        }
        self.set_status(id, status, output);
        let check = self.check(id)?.clone();
        self.begin_lease(&check);
        Ok(())
    }

    /// What an active check found. Nothing where the check has been replaced or removed meanwhile.
    pub fn found(&mut self, definition: &Arc<CheckDefinition>, status: CheckStatus, output: &str, now_us: InstantUs) {
        self.now_us = now_us;
        let Ok(check) = self.check(&definition.id) else { return };
        if !Arc::ptr_eq(&check.definition, definition) {
            return;
        }
        let current = check.status;
        let Some(tracked) = self.checks.get_mut(&definition.id) else { return };
        let thresholds = definition.thresholds;
        let next = if status == CheckStatus::Critical {
            (tracked.successes, tracked.failures) = (0, tracked.failures.saturating_add(1));
            if tracked.failures >= thresholds.failures_before_critical {
                CheckStatus::Critical
            } else if tracked.failures >= thresholds.failures_before_warning {
                current.max(CheckStatus::Warning)
            } else {
                current
            }
        } else {
            (tracked.successes, tracked.failures) = (tracked.successes.saturating_add(1), 0);
            if tracked.successes >= thresholds.success_before_passing { status } else { current }
        };
        self.set_status(&definition.id, next, output);
    }

    /// The output alone is no change of the registry.
    pub(super) fn set_status(&mut self, id: &str, status: CheckStatus, output: &str) {
        let Ok(check) = self.check(id) else { return };
        check.live.set_output(output);
        if check.status == status {
            return;
        }
        let Some(tracked) = self.checks.get_mut(id) else { return };
        tracked.critical_since_us = (status == CheckStatus::Critical).then_some(self.now_us);
        let owner = tracked.owner.clone();
        let index = self.marks.index + 1;
        let mut checks = self.checks_of(&owner);
        for check in checks.iter_mut().filter(|check| check.id() == id) {
            (check.status, check.modify_index) = (status, index);
            self.await_departure(check);
        }
        self.put_checks(&owner, checks);
    }

    fn checks_of(&self, owner: &Owner) -> Vec<RegisteredCheck> {
        match owner {
            Owner::Node => self.node.checks.clone(),
            Owner::Instance(id) => self.instances.get(id).map(|instance| instance.checks.clone()).unwrap_or_default(),
        }
    }

    fn put_checks(&mut self, owner: &Owner, checks: Vec<RegisteredCheck>) {
        match owner {
            Owner::Node => self.put_node(Node { maintenance: self.node.maintenance.clone(), checks }),
            Owner::Instance(id) => {
                let Some(old) = self.instances.get(id).cloned() else { return };
                let index = self.next_index();
                let mut changed = RegisteredInstance { checks, modify_index: index, ..(*old).clone() };
                changed.status = changed.own_status().max(self.node.status());
                self.put(Arc::new(changed), index);
            }
        }
    }

    /// The instance that must go, and when, should the check stay critical until then.
    pub(super) fn departure(&self, id: &str) -> Option<(Arc<str>, InstantUs)> {
        let tracked = self.checks.get(id)?;
        let Owner::Instance(instance) = &tracked.owner else { return None };
        let after = self.check(id).ok()?.definition.deregister_after?;
        Some((Arc::clone(instance), tracked.critical_since_us? + us(after)))
    }
}
