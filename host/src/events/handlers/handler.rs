//! What handles events: a component, or in tests something native.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use super::{keys::SPACE, record::Pin};
use crate::{
    model::{Clock, Event, Filter, Grants, HandlerName},
    plugin::{
        BoxFuture, EventHandlerInstance, Fault, FaultKind, HandleFailure, Handled, HandlerState, InstanceError,
        Outside, PolicyContext, ReadAnswer, ReadQuery, StateQuota, Version,
    },
    storage::{KeyRange, Order, Snapshot},
};

/// Instances of one handler that read at once: the control plane has few threads.
const READERS_MAX: usize = 4;

/// How long a read waits for one of them.
const READ_WAIT: Duration = Duration::from_secs(5);

/// One generation's code with its settings.
pub trait Handler: Send + Sync + 'static {
    /// Which events it wants.
    fn filter(&self) -> &Filter;

    /// WIT `event-handler.handle`. One call at a time. After a fault the next call is of a fresh instance.
    fn handle(
        &self,
        events: Vec<Arc<Event>>,
        state: Arc<dyn HandlerState>,
        quota: StateQuota,
    ) -> BoxFuture<'_, Result<Result<Handled, HandleFailure>, Fault>>;

    /// WIT `read-model.read`, in instances of its own. None: all of them are in use.
    fn read(&self, query: ReadQuery, state: Arc<dyn HandlerState>) -> BoxFuture<'_, Option<Result<ReadAnswer, Fault>>>;

    /// How often it asked for what it is not granted since the last time, and what the first was. None: never.
    fn take_refusals(&self) -> Option<(u64, String)> {
        None
    }
}

/// What a handler's instances are made with, and what does not change what they compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Making {
    pub memory_bytes_max: usize,
    pub grants: Arc<Grants>,
}

/// Brings back what a generation keeps to, after a restart.
pub trait HandlerVersions: Send + Sync + 'static {
    /// Takes milliseconds to seconds.
    fn load(&self, name: &HandlerName, pin: &Pin, making: &Making) -> BoxFuture<'_, Result<Arc<dyn Handler>, String>>;
}

/// A component's instances.
pub struct ComponentHandler {
    recipe: Recipe,
    filter: Filter,
    /// The one that handles, between two calls.
    handling: Mutex<Option<EventHandlerInstance>>,
    reading: Mutex<Vec<EventHandlerInstance>>,
    refusals: Arc<Mutex<Option<(u64, String)>>>,
    readers: Arc<Semaphore>,
}

#[derive(Clone)]
struct Recipe {
    version: Arc<Version>,
    context: PolicyContext,
    outside: Arc<Outside>,
    grants: Arc<Grants>,
}

impl Recipe {
    async fn make(&self) -> Result<EventHandlerInstance, Fault> {
        let made = self.version.event_handler(&self.context, &self.outside, &self.grants).await;
        // One could be made before, so this is the machine's fault: memory, say.
        made.map_err(|error| match error {
            InstanceError::Fault(fault) => fault,
            other => Fault { kind: FaultKind::Trap, call: "configure", message: other.to_string() },
        })
    }
}

impl ComponentHandler {
    /// Makes an instance and asks it which events it wants, so that settings that it does not take are found out here.
    pub async fn new(
        version: Arc<Version>,
        name: &HandlerName,
        pin: &Pin,
        making: &Making,
        outside: Arc<Outside>,
        clock: Clock,
        seed: u64,
    ) -> Result<Self, InstanceError> {
        let context = PolicyContext {
            name: name.to_string(),
            settings: Value::Object(pin.settings.clone()),
            seed,
            memory_bytes_max: making.memory_bytes_max,
            clock,
        };
        let grants = Arc::clone(&making.grants);
        let mut first = version.event_handler(&context, &outside, &grants).await?;
        let filter = first.subscribe().await?;
        Ok(Self {
            recipe: Recipe { version, context, outside, grants },
            filter,
            handling: Mutex::new(Some(first)),
            reading: Mutex::default(),
            refusals: Arc::default(),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
        })
    }
}

impl Handler for ComponentHandler {
    fn filter(&self) -> &Filter {
        &self.filter
    }

    fn handle(
        &self,
        events: Vec<Arc<Event>>,
        state: Arc<dyn HandlerState>,
        quota: StateQuota,
    ) -> BoxFuture<'_, Result<Result<Handled, HandleFailure>, Fault>> {
        let ready = self.handling.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            let (recipe, refusals) = (self.recipe.clone(), Arc::clone(&self.refusals));
            let (instance, answer) = on_own_thread("handle", async move {
                let mut instance = match ready {
                    Some(instance) => instance,
                    None => recipe.make().await?,
                };
                // One that failed is of no more use, and goes.
                let answer = instance.handle(&events, state, quota).await;
                note(&refusals, &mut instance);
                Ok((instance, answer?))
            })
            .await?;
            *self.handling.lock().unwrap_or_else(PoisonError::into_inner) = Some(instance);
            Ok(answer)
        })
    }

    fn read(&self, query: ReadQuery, state: Arc<dyn HandlerState>) -> BoxFuture<'_, Option<Result<ReadAnswer, Fault>>> {
        Box::pin(async move {
            let turn = timeout(READ_WAIT, Arc::clone(&self.readers).acquire_owned()).await.ok()?.ok()?;
            let ready = self.reading.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let (recipe, refusals) = (self.recipe.clone(), Arc::clone(&self.refusals));
            let read = on_own_thread("read", async move {
                // Given back when the instance is at rest, whatever the client does meanwhile.
                let _turn = turn;
                let mut instance = match ready {
                    Some(instance) => instance,
                    None => recipe.make().await?,
                };
                let answer = instance.read(query, state).await;
                note(&refusals, &mut instance);
                Ok((instance, answer?))
            });
            let answer = read.await.map(|(instance, answer)| {
                self.reading.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
                answer
            });
            Some(answer)
        })
    }

    fn take_refusals(&self) -> Option<(u64, String)> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn note(refusals: &Mutex<Option<(u64, String)>>, instance: &mut EventHandlerInstance) {
    let (times, sentences) = instance.take_refusals();
    let Some(first) = sentences.into_iter().next() else { return };
    let mut noted = refusals.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *noted {
        Some((sum, _)) => *sum += times,
        None => *noted = Some((times, first)),
    }
}

/// On a thread that may wait for the disk, as the reads of a handler's state do. Given up when the caller is.
async fn on_own_thread<T: Send + 'static>(
    call: &'static str,
    work: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> Result<T, Fault> {
    let (asks, asked) = oneshot::channel::<()>();
    let runtime = Handle::current();
    let working = spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                done = work => done,
                _ = asked => Err(Fault { kind: FaultKind::Trap, call, message: "is not waited for any more".to_owned() }),
            }
        })
    });
    let done = working.await;
    drop(asks);
    done.unwrap_or_else(|error| {
        Err(Fault { kind: FaultKind::Trap, call, message: format!("the host failed: {error}") })
    })
}

/// What a generation has stored, as it stood at one moment.
pub struct StoredState {
    pub snapshot: Arc<dyn Snapshot>,
    /// In front of each of its keys.
    pub prefix: Bytes,
}

impl HandlerState for StoredState {
    fn get(&self, key: &str) -> Result<Option<Bytes>, String> {
        let key = [&self.prefix[..], key.as_bytes()].concat();
        self.snapshot.get(SPACE, &key).map_err(|error| error.to_string())
    }

    fn scan(&self, prefix: &str, start: Option<&str>, limit: usize) -> Result<Vec<(String, Bytes)>, String> {
        let mut found = Vec::new();
        let mut range = KeyRange::prefix([&self.prefix[..], prefix.as_bytes()].concat());
        if let Some(start) = start {
            range = range.from([&self.prefix[..], start.as_bytes()].concat());
        }
        let walked = self.snapshot.walk(SPACE, range, Order::Forward, &mut |key, value| {
            if found.len() == limit {
                return std::ops::ControlFlow::Break(());
            }
            // Keys were text when they were put.
            if let Ok(key) = std::str::from_utf8(&key[self.prefix.len()..]) {
                found.push((key.to_owned(), Bytes::copy_from_slice(value)));
            }
            std::ops::ControlFlow::Continue(())
        });
        walked.map(|()| found).map_err(|error| error.to_string())
    }
}
