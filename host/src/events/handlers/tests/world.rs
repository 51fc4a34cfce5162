//! A gateway's event handlers over a simulated disk, with a native handler and a service that may refuse.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value};

use crate::{
    events::{
        Append, EventStore, Read,
        handlers::{
            EventHandlers, Handler, HandlerCaller, HandlerParts, HandlerShown, HandlerVersions, Making, OutboxBounds,
            OutgoingCall, Pin, Told, Wanted,
        },
    },
    model::{Draft, Event, Expected, Filter, HandlerName, HandlerStart, OnFailure, StreamName, VersionId, Wall},
    plugin::{
        BoxFuture, Caused, Effect, Fault, FaultKind, GuestDraft, HandleFailure, Handled, HandlerCall, HandlerState,
        ReadAnswer, ReadQuery, StateQuota,
    },
    storage::{Order, Storage, memory::MemoryStorage},
};

/// How long a test waits, in real time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts events by type, and does what the type says: `emit` and `call` cause one effect, `both` one of each, `poison` is
/// never taken, `trap` ends the instance, `later` fails at first, `circle` emits a `circle` and `flood` ten of its own type;
/// `stray` calls what is not granted, and `silent` what never answers.
pub struct Native {
    filter: Filter,
    /// What a version may do otherwise: `takes-poison`, `fails-on-NAME`,
    /// `stepwise`: one call for each permit of the gate; `slow-N`: more than N events at once take too long.
    words: Vec<String>,
    /// Attempts of events that fail at first.
    attempts: Mutex<BTreeMap<u64, u32>>,
    /// How many events each call has had.
    pub batches: Mutex<Vec<usize>>,
    /// Closed to hold `handle` up.
    pub gate: Arc<tokio::sync::Semaphore>,
}

impl Native {
    pub fn new(words: &[&str], types: &[&str]) -> Arc<Self> {
        let types = types.iter().map(|text| text.parse().expect("a pattern")).collect();
        Arc::new(Self {
            filter: Filter { types, streams: Vec::new() },
            words: words.iter().map(|&word| word.to_owned()).collect(),
            attempts: Mutex::default(),
            batches: Mutex::default(),
            gate: Arc::new(tokio::sync::Semaphore::new(1)),
        })
    }

    /// Which wants this stream and no other.
    pub fn of_stream(stream: &str) -> Arc<Self> {
        let mut native = Self::new(&[], &[]);
        let only = Arc::get_mut(&mut native).expect("nobody else has it yet");
        only.filter.streams.push(stream.parse().expect("a pattern"));
        native
    }

    fn fails_on(&self, event_type: &str) -> bool {
        self.words.iter().any(|word| word.strip_prefix("fails-on-") == Some(event_type))
    }

    fn most_at_once(&self) -> Option<usize> {
        self.words.iter().find_map(|word| word.strip_prefix("slow-")?.parse().ok())
    }

    fn take(&self, events: &[Arc<Event>], state: &dyn HandlerState) -> Result<Result<Handled, HandleFailure>, Fault> {
        let mut handled = Handled::default();
        self.batches.lock().expect("no test panics here").push(events.len());
        let fault = |kind| Fault { kind, call: "handle", message: "trapped: it panicked".to_owned() };
        if self.most_at_once().is_some_and(|most| events.len() > most) {
            return Err(fault(FaultKind::Deadline));
        }
        for (by, event) in events.iter().enumerate() {
            let event_type = event.draft.event_type.as_str();
            let failed = |transient| Ok(Err(HandleFailure { at: by, transient, message: format!("no {event_type}") }));
            let stream = event.stream.clone();
            match event_type {
                _ if self.fails_on(event_type) => return failed(false),
                "poison" if !self.words.iter().any(|word| word == "takes-poison") => return failed(false),
                "never" => return failed(true),
                "trap" => return Err(fault(FaultKind::Trap)),
                "later" => {
                    let mut attempts = self.attempts.lock().expect("no test panics here");
                    let attempts = attempts.entry(event.position.0).or_default();
                    *attempts += 1;
                    if *attempts < 4 {
                        return failed(true);
                    }
                }
                "emit" => handled.caused.push(Caused { by, effect: emits(stream, "emitted") }),
                "circle" => handled.caused.push(Caused { by, effect: emits(stream, "circle") }),
                "flood" => {
                    (0..10).for_each(|_| handled.caused.push(Caused { by, effect: emits(stream.clone(), "flood") }))
                }
                "stray" => handled.caused.push(Caused { by, effect: calls("service://others/", &event.draft.data) }),
                "silent" => handled.caused.push(Caused { by, effect: calls("service://silent/", &event.draft.data) }),
                "call" => handled.caused.push(Caused { by, effect: calls("service://orders/done", &event.draft.data) }),
                "both" => {
                    handled.caused.push(Caused { by, effect: calls("service://orders/done", &event.draft.data) });
                    handled.caused.push(Caused { by, effect: emits(stream, "emitted") });
                }
                _ => {}
            }
            let key = format!("count/{event_type}");
            let before = match handled.writes.get(&key) {
                Some(value) => value.clone(),
                None => state.get(&key).map_err(|message| Fault { message, ..fault(FaultKind::Storage) })?,
            };
            let count = before.map_or(0, |bytes| number(&bytes)) + 1;
            handled.writes.insert(key, Some(count.to_string().into()));
        }
        Ok(Ok(handled))
    }
}

fn number(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).expect("text").parse().expect("a number")
}

fn emits(stream: StreamName, event_type: &str) -> Effect {
    Effect::Emit(GuestDraft {
        stream,
        event_type: event_type.parse().expect("a type"),
        subject: None,
        content_type: None,
        schema: None,
        extensions: Vec::new(),
        data: Bytes::new(),
    })
}

fn calls(target: &str, body: &Bytes) -> Effect {
    Effect::Call(HandlerCall {
        target: target.to_owned(),
        method: http::Method::POST,
        headers: http::HeaderMap::new(),
        body: body.clone(),
    })
}

impl Handler for Native {
    fn filter(&self) -> &Filter {
        &self.filter
    }

    fn handle(
        &self,
        events: Vec<Arc<Event>>,
        state: Arc<dyn HandlerState>,
        _: StateQuota,
    ) -> BoxFuture<'_, Result<Result<Handled, HandleFailure>, Fault>> {
        Box::pin(async move {
            let open = self.gate.acquire().await.expect("never closed");
            if self.words.iter().any(|word| word == "stepwise") {
                open.forget();
            }
            self.take(&events, &*state)
        })
    }

    fn read(&self, query: ReadQuery, state: Arc<dyn HandlerState>) -> BoxFuture<'_, Option<Result<ReadAnswer, Fault>>> {
        Box::pin(async move {
            if query.path == "trap" {
                return Some(Err(Fault { kind: FaultKind::Trap, call: "read", message: "trapped".to_owned() }));
            }
            let counts = state.scan("count/", None, 1_000).expect("it can be read");
            let counts: Map<String, Value> = counts
                .into_iter()
                .map(|(key, value)| (key["count/".len()..].to_owned(), number(&value).into()))
                .collect();
            let content_type = http::HeaderValue::from_static("application/json");
            Some(Ok(ReadAnswer {
                status: StatusCode::OK,
                content_type,
                body: Value::Object(counts).to_string().into(),
            }))
        })
    }
}

/// What the service has been called with, and what it answers.
#[derive(Default)]
pub struct Service {
    /// Idempotency keys and bodies.
    pub called: Mutex<Vec<(String, Bytes)>>,
    /// So many calls with this body are refused.
    pub refuses: Mutex<BTreeMap<Bytes, u32>>,
    /// Nobody may be called any more.
    pub is_barred: AtomicBool,
}

impl HandlerCaller for Service {
    fn call(&self, call: OutgoingCall) -> BoxFuture<'static, Result<StatusCode, String>> {
        let key =
            call.headers.iter().find(|(name, _)| name == "idempotency-key").expect("every call has one").1.clone();
        self.called.lock().expect("unpoisoned").push((key, call.body.clone()));
        if call.url.starts_with("service://silent/") {
            return Box::pin(std::future::pending());
        }
        let mut refuses = self.refuses.lock().expect("unpoisoned");
        let status = match refuses.get_mut(&call.body) {
            Some(left) if *left > 0 => {
                *left -= 1;
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::OK,
        };
        Box::pin(async move { Ok(status) })
    }

    fn check(&self, target: &str) -> Result<(), String> {
        let is_known = ["service://orders/", "service://silent/"].iter().any(|known| target.starts_with(known));
        let is_barred = self.is_barred.load(Ordering::Relaxed);
        if is_known && !is_barred { Ok(()) } else { Err("is not granted".to_owned()) }
    }
}

/// Every version that a test has made.
#[derive(Default)]
pub struct Versions(Mutex<Vec<(Pin, Arc<Native>)>>);

impl HandlerVersions for Versions {
    fn load(&self, _: &HandlerName, pin: &Pin, _: &Making) -> BoxFuture<'_, Result<Arc<dyn Handler>, String>> {
        let found = self.0.lock().expect("unpoisoned").iter().find(|(of, _)| of == pin).map(|(_, made)| made.clone());
        Box::pin(async move { found.map(|found| found as Arc<dyn Handler>).ok_or_else(|| "it is gone".to_owned()) })
    }
}

pub struct World {
    pub storage: MemoryStorage,
    pub events: EventStore,
    pub handlers: EventHandlers,
    pub service: Arc<Service>,
    pub versions: Arc<Versions>,
    pub told: Arc<Mutex<Vec<String>>>,
}

pub fn name() -> HandlerName {
    "h".parse().expect("a name")
}

pub fn pin(version: &str) -> Pin {
    Pin { plugin: "native".parse().expect("a name"), version: VersionId::of(version.as_bytes()), settings: Map::new() }
}

impl World {
    pub async fn new() -> Self {
        Self::over(MemoryStorage::new(), Arc::default(), Arc::default()).await
    }

    /// Whose handlers have so little room for calls.
    pub async fn within(outbox: OutboxBounds) -> Self {
        let storage = MemoryStorage::new();
        let disk = Arc::new(storage.clone());
        Self::with(storage, disk, Arc::default(), Arc::default(), outbox).await
    }

    pub async fn over(storage: MemoryStorage, service: Arc<Service>, versions: Arc<Versions>) -> Self {
        let disk = Arc::new(storage.clone());
        Self::with(storage, disk, service, versions, OutboxBounds::default()).await
    }

    /// The events are read from `disk`, which holds what `storage` does.
    pub async fn with(
        storage: MemoryStorage,
        disk: Arc<dyn Storage>,
        service: Arc<Service>,
        versions: Arc<Versions>,
        outbox: OutboxBounds,
    ) -> Self {
        let wall = Wall::at(1_800_000_000_000);
        let shared: Arc<dyn Storage> = Arc::new(storage.clone());
        let events = EventStore::open(disk, wall, "a test".to_owned()).await.expect("it opens");
        let told = Arc::<Mutex<Vec<String>>>::default();
        let telling = Arc::clone(&told);
        let handlers = EventHandlers::open(HandlerParts {
            storage: shared,
            events: events.clone(),
            caller: Arc::clone(&service) as _,
            versions: Arc::clone(&versions) as _,
            tell: Arc::new(move |_, _, told: &Told| telling.lock().expect("unpoisoned").push(told.to_string())),
            wall,
            owner: "a test".to_owned(),
            outbox,
            seed: 7,
        });
        let handlers = handlers.await.expect("they are claimed");
        Self { storage, events, handlers, service, versions, told }
    }

    /// After a crash of the machine: what was synced is there, the rest may be in part.
    pub async fn crashed(self, seed: u64) -> Self {
        let Self { storage, events, handlers, service, versions, .. } = self;
        let after = storage.crash(seed);
        // They die with the machine: nothing that they do any more is seen by what comes after.
        handlers.close().await;
        events.close().await;
        Self::over(after, service, versions).await
    }

    pub fn want(&self, version: &str, native: &Arc<Native>) {
        self.want_so(version, native, OnFailure::Park, HandlerStart::Start);
    }

    pub fn want_so(&self, version: &str, native: &Arc<Native>, on_failure: OnFailure, from: HandlerStart) {
        let pin = pin(version);
        self.versions.0.lock().expect("unpoisoned").push((pin.clone(), Arc::clone(native)));
        let making = Making { memory_bytes_max: 0, grants: Arc::default() };
        let wanted = Wanted { pin, handler: Arc::clone(native) as _, making, on_failure, from };
        self.handlers.set([(name(), wanted)].into());
    }

    /// One event of each type, whose data is a number that grows.
    pub async fn append(&self, stream: &str, types: &[&str]) {
        for event_type in types {
            let nth = self.events.head().0;
            let mut draft = Draft::new(
                format!("{stream}-{nth}").parse().expect("an id"),
                "/tests".parse().expect("a source"),
                event_type.parse().expect("a type"),
            );
            draft.data = nth.to_string().into();
            let append = Append::to(stream.parse().expect("a stream"), Expected::Any, vec![draft]);
            self.events.append(append).await.expect("it is appended");
        }
    }

    pub fn shown(&self) -> HandlerShown {
        self.handlers.show(&name()).expect("it is there")
    }

    /// Waits until it stands so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&HandlerShown) -> bool) -> HandlerShown {
        let began = std::time::Instant::now();
        loop {
            let shown = self.shown();
            if is_so(&shown) {
                return shown;
            }
            assert!(began.elapsed() < PATIENCE, "never {what}: {shown:#?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Everything that is there was looked at, and nothing waits.
    pub async fn at_rest(&self) -> HandlerShown {
        self.until("at rest", |shown| {
            let followed = shown.active.as_ref().is_some_and(|active| active.progress.checkpoint == self.events.head());
            followed && shown.rebuilding.is_none() && shown.calls_waiting == 0
        })
        .await
    }

    pub async fn log(&self) -> Vec<Arc<Event>> {
        let (mut events, mut from) = (Vec::new(), Some(0));
        while from.is_some() {
            let read = Read { stream: None, order: Order::Forward, from, filter: Filter::default(), limit: 100_000 };
            let page = self.events.read(read).await.expect("it can be read");
            events.extend(page.events);
            from = page.next;
        }
        events
    }

    pub async fn counts(&self) -> BTreeMap<String, u64> {
        let answer = self.handlers.read(&name(), ReadQuery::default()).await.expect("it can be read");
        serde_json::from_slice(&answer.body).expect("counts")
    }

    /// What a handler that takes these types must have counted.
    pub async fn recomputed(&self, takes: impl Fn(&str) -> bool) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for event in self.log().await {
            let event_type = event.draft.event_type.as_str();
            if takes(event_type) {
                *counts.entry(event_type.to_owned()).or_default() += 1;
            }
        }
        counts
    }

    pub fn keys(&self) -> Vec<String> {
        self.service.called.lock().expect("unpoisoned").iter().map(|(key, _)| key.clone()).collect()
    }

    pub fn parked(&self) -> u64 {
        self.shown().active.map_or(0, |active| active.progress.parked)
    }
}
