//! The one task that changes the registry: it gathers what is asked for, makes it durable together, and publishes it.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    checks::{Changed, First, Found, Probes},
    error::RegistryError,
    state::{Changes, HeldLeases, State},
    view::Published,
};
use crate::{
    model::{Clock, InstantUs},
    storage::Storage,
};

/// Changes that wait for the keeper; further callers wait for room.
pub const CHANGES_MAX: usize = 1024;
/// Changes in one commit, and as many again that checks and time alone bring about; fewer where their records are large
/// ([`State::is_full`]).
const PASS_CHANGES_MAX: usize = 48;
/// Before the store is asked again that has not taken what time brought about.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Makes a change of the state; true where there was something to change.
pub type Make = dyn FnOnce(&mut State, InstantUs) -> Result<bool, RegistryError> + Send;

/// One change of the state, answered once it is durable.
pub struct Change {
    pub make: Box<Make>,
    pub done: oneshot::Sender<Result<bool, RegistryError>>,
}

pub struct Keeper {
    pub state: State,
    pub storage: Arc<dyn Storage>,
    pub published: Arc<Published>,
    pub clock: Clock,
    pub probes: Probes,
    pub changes: mpsc::Receiver<Change>,
    pub found: mpsc::Receiver<Found>,
    pub shutdown: watch::Receiver<bool>,
}

type Answer = (oneshot::Sender<Result<bool, RegistryError>>, Result<bool, RegistryError>);

impl Keeper {
    /// Until told to shut down, or no handle is left. What was asked for and not begun is refused then.
    pub async fn run(mut self) {
        let mut sweep_at = Instant::now();
        loop {
            let mut answers = Vec::new();
            tokio::select! {
                biased;
                () = until_true(&mut self.shutdown) => break,
                change = self.changes.recv() => match change {
                    Some(change) => answers.push(self.make(change)),
                    None => break,
                },
                Some(found) = self.found.recv() => self.note(found),
                () = sleep_until(sweep_at) => {}
            }
            while answers.len() < PASS_CHANGES_MAX
                && !self.state.is_full()
                && let Ok(change) = self.changes.try_recv()
            {
                answers.push(self.make(change));
            }
            for _ in 0..PASS_CHANGES_MAX / 2 {
                let Ok(found) = self.found.try_recv() else { break };
                self.note(found);
                if self.state.is_full() {
                    break;
                }
            }
            let more = Instant::now() >= sweep_at && self.state.sweep(PASS_CHANGES_MAX / 2, self.clock.now_us());
            let committed = self.commit().await;
            for (done, answer) in answers {
                // One that no longer waits has gone away.
                let _ = done.send(answer.and_then(|changed| committed.clone().map(|()| changed)));
            }
            self.tell_held();
            sweep_at = match committed {
                Err(_) => Instant::now() + RETRY_AFTER,
                Ok(()) if more => Instant::now(),
                Ok(()) => self.next_sweep(),
            };
        }
        self.probes.end().await;
    }

    fn make(&mut self, change: Change) -> Answer {
        (change.done, (change.make)(&mut self.state, self.clock.now_us()))
    }

    fn note(&mut self, found: Found) {
        self.state.found(&found.definition, found.status, &found.output, self.clock.now_us());
    }

    /// Everything that the pass changed, or none of it.
    async fn commit(&mut self) -> Result<(), RegistryError> {
        let Some(mut changes) = self.state.changes() else { return Ok(()) };
        match self.storage.commit(std::mem::take(&mut changes.batch)).await {
            Ok(()) => {
                self.published.counts.commits.fetch_add(1, Ordering::Relaxed);
                self.follow(&changes);
                self.published.publish(&self.state, &changes);
                self.state.settle();
                Ok(())
            }
            Err(error) => {
                self.published.counts.commits_failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "the registry's changes are not durable and were not made");
                self.state.undo(self.clock.now_us());
                Err(RegistryError::NotDurable(error))
            }
        }
    }

    /// Starts and stops active checks as the changes say. Called before they are published.
    fn follow(&mut self, changes: &Changes) {
        let of_instances = changes.instances.iter().map(|id| Changed {
            old: self.published.instance(id).map(|old| old.checks.clone()).unwrap_or_default(),
            new: self.state.instance(id).map(|new| new.checks.clone()).unwrap_or_default(),
        });
        let of_node =
            changes.node.then(|| Changed { old: self.published.node().checks, new: self.state.node_checks().to_vec() });
        let changed: Vec<_> = of_instances.chain(of_node).collect();
        self.probes.follow(&changed, First::Soon);
    }

    fn tell_held(&mut self) {
        let held: BTreeMap<String, HeldLeases> = self.state.held().into_iter().collect();
        let before = self.published.held();
        if held == before {
            return;
        }
        for (service, leases) in held.iter().filter(|(service, _)| !before.contains_key(*service)) {
            tracing::warn!(
                service,
                silent = leases.held,
                of = leases.of,
                "many leases ran out at once: the last membership is kept"
            );
        }
        for service in before.keys().filter(|service| !held.contains_key(*service)) {
            tracing::info!(service, "the membership is no longer kept in spite of leases that ran out");
        }
        self.published.set_held(held);
    }

    fn next_sweep(&self) -> Instant {
        let now_us = self.clock.now_us();
        let in_us =
            self.state.due_us().map_or(LONGEST_SLEEP, |due_us| Duration::from_micros(due_us.saturating_sub(now_us)));
        Instant::now() + in_us.min(LONGEST_SLEEP)
    }
}

/// Where nothing is due; whatever changes that wakes the keeper anyway.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

async fn until_true(shutdown: &mut watch::Receiver<bool>) {
    // An error means that all handles are gone, which is a shutdown too.
    drop(shutdown.wait_for(|&shutdown| shutdown).await);
}
