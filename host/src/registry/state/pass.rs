//! What a pass has changed: the batch that makes it durable, and what was before, should the store not take it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{Marks, Node, State, record, us};
use crate::{
    model::InstantUs,
    registry::instance::{CheckStatus, RegisteredInstance},
    storage::Batch,
};

/// What stood there before the pass, of all that it touched.
#[derive(Default)]
pub(super) struct Pass {
    instances: HashMap<Arc<str>, Option<Arc<RegisteredInstance>>>,
    /// Indexes; None: the service was not there.
    services: HashMap<String, Option<u64>>,
    node: Option<Node>,
    marks: Option<Marks>,
    /// Of the records that were put, in bytes; one that was put twice counts twice.
    bytes: usize,
}

/// Records of one pass, in bytes: the change that goes beyond is its last. A record is at most some 2 MiB (16 checks
/// with all that the limits of [`rules`](crate::registry::rules) allow, escaped), so three more of them, one by each
/// of the ways in which a change comes, stay below `storage::BATCH_BYTES_MAX`.
pub const PASS_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Pass {
    pub fn weigh(&mut self, record: &Bytes) {
        self.bytes += record.len();
    }

    pub fn keep_instance(&mut self, id: &Arc<str>, before: Option<&Arc<RegisteredInstance>>) {
        self.instances.entry(Arc::clone(id)).or_insert_with(|| before.cloned());
    }

    pub fn keep_service(&mut self, name: &str, index: Option<u64>) {
        if !self.services.contains_key(name) {
            self.services.insert(name.to_owned(), index);
        }
    }

    pub fn keep_node(&mut self, before: &Node) {
        self.node.get_or_insert_with(|| before.clone());
    }

    pub fn keep_marks(&mut self, before: Marks) {
        self.marks.get_or_insert(before);
    }
}

/// What readers must see anew once a pass is durable.
pub struct Changes {
    pub batch: Batch,
    pub instances: Vec<Arc<str>>,
    pub services: BTreeSet<String>,
    pub node: bool,
    /// The node's status changed, and so that of every instance.
    pub everything: bool,
}

/// Before a lease is looked at again that ended while the store took nothing.
const AFTER_UNDO: Duration = Duration::from_secs(1);

impl State {
    /// None where the pass changed nothing.
    pub fn changes(&self) -> Option<Changes> {
        self.pass.marks?;
        let mut batch = Batch::new();
        for id in self.pass.instances.keys() {
            batch = match self.instances.get(id) {
                Some(instance) => batch.put(record::SPACE, record::instance_key(id), record::of_instance(instance)),
                None => batch.delete(record::SPACE, record::instance_key(id)),
            };
        }
        for name in self.pass.services.keys() {
            batch = match self.services.get(name) {
                Some(service) => batch.put(record::SPACE, record::service_key(name), record::of_index(service.index)),
                None => batch.delete(record::SPACE, record::service_key(name)),
            };
        }
        if self.pass.node.is_some() {
            batch = batch.put(record::SPACE, record::NODE_KEY, record::of_node(&self.node));
        }
        batch = batch.put(record::SPACE, record::MARKS_KEY, record::of_marks(&self.marks));
        Some(Changes {
            batch,
            instances: self.pass.instances.keys().cloned().collect(),
            services: self.pass.services.keys().cloned().collect(),
            node: self.pass.node.is_some(),
            everything: self.pass.node.as_ref().is_some_and(|node| node.status() != self.node.status()),
        })
    }

    /// Whether the pass shall become durable before it gets larger.
    pub fn is_full(&self) -> bool {
        self.pass.bytes >= PASS_BYTES_MAX
    }

    /// The pass is durable.
    pub fn settle(&mut self) {
        self.pass = Pass::default();
    }

    /// The store did not take the pass: everything is as before it.
    pub fn undo(&mut self, now_us: InstantUs) {
        self.now_us = now_us;
        let pass = std::mem::take(&mut self.pass);
        // All that is new goes first: a check may have moved, and what it moved to must not take it along.
        let after: Vec<_> = pass.instances.keys().filter_map(|id| self.instances.get(id).cloned()).collect();
        for after in after {
            self.remove(&after, 0);
        }
        let node_changed = pass.node.is_some();
        if let Some(node) = pass.node {
            self.put_node(node);
        }
        for before in pass.instances.into_values().flatten() {
            self.put(before, 0);
        }
        if node_changed {
            self.restate();
        }
        for (name, index) in pass.services {
            if let (Some(service), Some(index)) = (self.services.get_mut(&name), index) {
                service.index = index;
            }
        }
        if let Some(marks) = pass.marks {
            self.marks = marks;
        }
        self.revive_leases();
        // What undoing noted as changed is not: it stands in the store so.
        self.pass = Pass::default();
    }

    /// Leases that ended in what was undone run on, for they are not over for anybody who asks.
    fn revive_leases(&mut self) {
        let until_us = self.now_us + us(AFTER_UNDO);
        let instances = self.instances.values().flat_map(|instance| &instance.checks);
        let leased: Vec<_> = instances
            .chain(&self.node.checks)
            .filter(|check| check.status < CheckStatus::Critical && check.definition.kind.ttl().is_some())
            .cloned()
            .collect();
        for check in leased {
            let runs_until_us = check.live.deadline_us();
            if runs_until_us.is_none() {
                check.live.begin(until_us);
                self.lapses.remove(check.id());
            }
            // Also of those that run: what was undone may have had no use for the look.
            self.look_at_lease(check.id(), runs_until_us.unwrap_or(until_us));
        }
    }
}
