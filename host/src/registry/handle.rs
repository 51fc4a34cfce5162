//! What everybody else has of the registry.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    checks::{Changed, First, OUTPUT_BYTES_MAX, Probes},
    error::RegistryError,
    instance::{CheckStatus, Listing, NodeListing, RegisteredInstance, ServicesListing},
    keeper::{CHANGES_MAX, Change, Keeper},
    options::RegistryOptions,
    registration::{CheckDefinition, Registration},
    rules::{self, FieldProblem},
    state::State,
    view::{Figures, Published},
};
use crate::{
    model::{Clock, InstantUs},
    storage::{KeyRange, Space, Storage},
};

/// Records read from the store at a time.
const PAGE: usize = 1024;

/// The registry. Cheap to clone. Reads never wait; writes return when they are durable.
#[derive(Clone)]
pub struct Registry {
    published: Arc<Published>,
    changes: mpsc::Sender<Change>,
    clock: Clock,
    options: Arc<RegistryOptions>,
    shutdown: Arc<watch::Sender<bool>>,
    keeper: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("index", &self.index()).finish_non_exhaustive()
    }
}

impl Registry {
    /// As it stands in the store, with every lease begun anew, and its checks at work.
    pub async fn open(
        storage: Arc<dyn Storage>,
        clock: Clock,
        options: RegistryOptions,
        seed: u64,
    ) -> Result<Self, RegistryError> {
        let mut entries = Vec::new();
        let mut range = KeyRange::all();
        loop {
            let page = storage.scan(Space::Registry, range.clone(), PAGE).await.map_err(RegistryError::Unreadable)?;
            let Some((last, _)) = page.last() else { break };
            range = range.after(last);
            entries.extend(page);
        }
        let state = State::restore(options.clone(), entries, clock.now_us(), seed)?;
        let published = Published::of(&state);
        let (changes, waiting) = mpsc::channel(CHANGES_MAX);
        let (shutdown, shutting_down) = watch::channel(false);
        let (mut probes, found) = Probes::new(seed);
        let of_instances = state.instances().flat_map(|instance| &instance.checks);
        let new = of_instances.chain(state.node_checks()).cloned().collect();
        probes.follow(&[Changed { new, ..Changed::default() }], First::Spread);
        let keeper = Keeper {
            state,
            storage,
            published: Arc::clone(&published),
            clock,
            probes,
            changes: waiting,
            found,
            shutdown: shutting_down,
        };
        Ok(Self {
            published,
            changes,
            clock,
            options: Arc::new(options),
            shutdown: Arc::new(shutdown),
            keeper: Arc::new(Mutex::new(Some(tokio::spawn(keeper.run())))),
        })
    }

    /// Ends checks, changes and waits for them; reads go on. The store may be closed afterwards.
    pub async fn close(&self) {
        self.shutdown.send_replace(true);
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            // One that panicked has ended too.
            let _ = keeper.await;
        }
    }

    pub fn options(&self) -> &RegistryOptions {
        &self.options
    }

    /// Grows with every change, also over restarts; never 0.
    pub fn index(&self) -> u64 {
        self.published.index()
    }

    /// Grows with every registration and deregistration.
    pub fn catalog_index(&self) -> u64 {
        self.published.catalog_index()
    }

    /// All instances of a service, whatever their status; None where there is none.
    pub fn service(&self, name: &str) -> Option<Listing> {
        self.published.listing(name)
    }

    /// The same, also where the name is written in another case.
    pub fn service_in_any_case(&self, name: &str) -> Option<Listing> {
        self.published.listing_in_any_case(name)
    }

    /// The same, without instances where there is none: its index grows too.
    pub fn service_or_absent(&self, name: &str) -> Listing {
        self.published.listing_or_absent(name)
    }

    /// All names, with the tags of their instances.
    pub fn services(&self) -> ServicesListing {
        self.published.services()
    }

    pub fn instance(&self, id: &str) -> Option<Arc<RegisteredInstance>> {
        self.published.instance(id)
    }

    /// All of them, in the order of their ids.
    pub fn instances(&self) -> Vec<Arc<RegisteredInstance>> {
        self.published.instances()
    }

    pub fn node(&self) -> NodeListing {
        self.published.node()
    }

    pub fn figures(&self) -> Figures {
        self.published.figures()
    }

    /// The service as soon as its index is not `known`, which may be at once; None where it still is after `wait`. A
    /// service that is not registered has no instances and an index too, so that its first registration is a change.
    pub async fn service_changed(&self, name: &str, known: u64, wait: Duration) -> Option<Listing> {
        let until = Instant::now() + wait;
        let bell = self.published.wakers.bell(name);
        loop {
            let mut ring = std::pin::pin!(bell.rings.notified());
            // From here on no change is missed.
            ring.as_mut().enable();
            let listing = self.service_or_absent(name);
            if listing.index != known {
                return Some(listing);
            }
            tokio::select! {
                rung = timeout_at(until, ring) => rung.ok()?,
                () = self.closed() => return None,
            }
        }
    }

    /// Until [`Self::index`] is not `known`, or `wait` is over.
    pub async fn changed(&self, known: u64, wait: Duration) {
        self.until(wait, || self.index() != known).await;
    }

    /// Until [`Self::catalog_index`] is not `known`, or `wait` is over.
    pub async fn catalog_changed(&self, known: u64, wait: Duration) {
        self.until(wait, || self.catalog_index() != known).await;
    }

    async fn until(&self, wait: Duration, holds: impl Fn() -> bool) {
        let until = Instant::now() + wait;
        let mut index = self.published.subscribe();
        while !holds() {
            tokio::select! {
                changed = timeout_at(until, index.changed()) => match changed {
                    Ok(Ok(())) => {}
                    _ => return,
                },
                () = self.closed() => return,
            }
        }
    }

    async fn closed(&self) {
        // The sender is this handle's own.
        drop(self.shutdown.subscribe().wait_for(|&closed| closed).await);
    }

    /// Adds an instance, or replaces that of its id; checks that it has besides the given ones stay.
    pub async fn register(&self, registration: Registration) -> Result<(), RegistryError> {
        self.register_with(registration, false).await
    }

    /// `replace_checks`: other checks of the instance go.
    pub async fn register_with(&self, registration: Registration, replace_checks: bool) -> Result<(), RegistryError> {
        self.change(move |state, now_us| state.register(registration, replace_checks, now_us).map(|()| true)).await?;
        Ok(())
    }

    /// False where there was no such instance.
    pub async fn deregister(&self, id: &str) -> Result<bool, RegistryError> {
        let id = id.to_owned();
        self.change(move |state, now_us| Ok(state.deregister(&id, now_us))).await
    }

    /// Instance `id`, or the node where None, gets no traffic as long as there is a reason; None ends it.
    pub async fn set_maintenance(&self, id: Option<&str>, reason: Option<String>) -> Result<(), RegistryError> {
        if let Some(reason) = &reason {
            check_reason(reason)?;
        }
        let id = id.map(str::to_owned);
        let make = move |state: &mut State, now_us| match id {
            Some(id) => state.set_maintenance(&id, reason, now_us).map(|()| true),
            None => {
                state.set_node_maintenance(reason, now_us);
                Ok(true)
            }
        };
        self.change(make).await?;
        Ok(())
    }

    /// Of instance `instance`, or of the node.
    pub async fn register_check(
        &self,
        instance: Option<&str>,
        definition: CheckDefinition,
    ) -> Result<(), RegistryError> {
        let instance = instance.map(str::to_owned);
        let make = move |state: &mut State, now_us| {
            state.register_check(instance.as_deref(), definition, now_us).map(|()| true)
        };
        self.change(make).await?;
        Ok(())
    }

    pub async fn deregister_check(&self, id: &str) -> Result<(), RegistryError> {
        let id = id.to_owned();
        self.change(move |state, now_us| state.deregister_check(&id, now_us).map(|()| true)).await?;
        Ok(())
    }

    /// A heartbeat, or a change that an instance tells of itself: the status of a TTL check, whose lease begins anew.
    /// Without a change of status it costs no commit and waits for nothing.
    pub async fn report(&self, check: &str, status: CheckStatus, output: &str) -> Result<(), RegistryError> {
        let output = cut(output);
        self.published.counts.heartbeats.fetch_add(1, Ordering::Relaxed);
        if let Some(seen) = self.published.check(check)
            && let Some(ttl_us) = seen.ttl_us
            && seen.status == status
            && seen.live.renew(self.clock.now_us() + ttl_us)
        {
            seen.live.set_output(output);
            return Ok(());
        }
        let (check, output) = (check.to_owned(), output.to_owned());
        self.change(move |state, now_us| state.report(&check, status, &output, now_us).map(|()| true)).await?;
        Ok(())
    }

    async fn change(
        &self,
        make: impl FnOnce(&mut State, InstantUs) -> Result<bool, RegistryError> + Send + 'static,
    ) -> Result<bool, RegistryError> {
        let (done, answered) = oneshot::channel();
        let change = Change { make: Box::new(make), done };
        self.changes.send(change).await.map_err(|_| RegistryError::Closed)?;
        answered.await.unwrap_or(Err(RegistryError::Closed))
    }
}

fn check_reason(reason: &str) -> Result<(), RegistryError> {
    if reason.len() <= rules::NOTES_LEN_MAX {
        return Ok(());
    }
    let message = format!("must have at most {} characters", rules::NOTES_LEN_MAX);
    Err(RegistryError::Invalid(vec![FieldProblem::new("reason", message)]))
}

/// As much as is kept of a check's output.
fn cut(output: &str) -> &str {
    &output[..output.floor_char_boundary(OUTPUT_BYTES_MAX)]
}
