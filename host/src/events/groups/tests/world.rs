//! A gateway's groups over a simulated disk, and a receiver of webhooks that does what it is told.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::{
    events::{
        Append, EventStore,
        groups::{Delivery, EventGroups, GroupParts, GroupShown, How, Settings, Token, WebhookCaller},
        handlers::OutgoingCall,
    },
    model::{Draft, Expected, GroupName, OwnAnswer, Wall},
    plugin::BoxFuture,
    storage::{Storage, memory::MemoryStorage},
};

/// How long a test waits, in real time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an answer is: status, and headers.
pub type Answer = (u16, Vec<(&'static str, String)>);

/// Has been called with method, `ce-id` and `ce-stream`, and answers as it is told.
#[derive(Default)]
pub struct Receiver {
    pub called: Mutex<Vec<(Method, String, String)>>,
    /// To `OPTIONS`; the last one for ever.
    pub greets: Mutex<VecDeque<Answer>>,
    /// To deliveries of an event, by its id, before it is taken.
    pub answers: Mutex<BTreeMap<String, VecDeque<Answer>>>,
    /// How long a call takes.
    pub takes: Mutex<Duration>,
}

impl Receiver {
    pub fn allowing() -> Arc<Self> {
        let receiver = Self::default();
        receiver.greet(&[(200, vec![("webhook-allowed-origin", "*".to_owned())])]);
        Arc::new(receiver)
    }

    pub fn greet(&self, answers: &[Answer]) {
        *self.greets.lock().expect("unpoisoned") = answers.iter().cloned().collect();
    }

    pub fn answer(&self, id: &str, answers: &[Answer]) {
        self.answers.lock().expect("unpoisoned").insert(id.to_owned(), answers.iter().cloned().collect());
    }

    /// Ids of the events that it was sent, in order.
    pub fn sent(&self) -> Vec<String> {
        let called = self.called.lock().expect("unpoisoned");
        called.iter().filter(|(method, ..)| *method == Method::POST).map(|(_, id, _)| id.clone()).collect()
    }

    fn next(&self, method: &Method, id: &str) -> Answer {
        if *method == Method::OPTIONS {
            let mut greets = self.greets.lock().expect("unpoisoned");
            let next = if greets.len() > 1 { greets.pop_front() } else { greets.front().cloned() };
            return next.unwrap_or((405, Vec::new()));
        }
        let next = self.answers.lock().expect("unpoisoned").get_mut(id).and_then(VecDeque::pop_front);
        next.unwrap_or((204, Vec::new()))
    }
}

impl WebhookCaller for Receiver {
    fn call(&self, call: OutgoingCall) -> BoxFuture<'static, Result<OwnAnswer, String>> {
        let header = |name: &str| {
            let found = call.headers.iter().find(|(of, _)| of == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        assert_eq!(header("webhook-request-origin"), "sluice");
        let (id, stream) = (header("ce-id"), header("ce-stream"));
        let (status, headers) = self.next(&call.method, &id);
        self.called.lock().expect("unpoisoned").push((call.method, id, stream));
        let headers: HeaderMap = headers
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::try_from(value).expect("a value")))
            .collect();
        let takes = *self.takes.lock().expect("unpoisoned");
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            let status = StatusCode::from_u16(status).expect("a status");
            Ok(OwnAnswer { status, headers, body: Bytes::new() })
        })
    }

    fn check(&self, target: &str) -> Result<(), String> {
        if target.starts_with("service://billing/") { Ok(()) } else { Err("is not granted".to_owned()) }
    }
}

pub struct World {
    pub storage: MemoryStorage,
    pub events: EventStore,
    pub groups: EventGroups,
    pub receiver: Arc<Receiver>,
}

pub fn name() -> GroupName {
    "g".parse().expect("a name")
}

impl World {
    pub async fn new() -> Self {
        Self::over(MemoryStorage::new(), Receiver::allowing()).await
    }

    pub async fn over(storage: MemoryStorage, receiver: Arc<Receiver>) -> Self {
        let wall = Wall::at(1_800_000_000_000);
        let shared: Arc<dyn Storage> = Arc::new(storage.clone());
        let events = EventStore::open(Arc::clone(&shared), wall, "a test".to_owned()).await.expect("it opens");
        let groups = EventGroups::open(GroupParts {
            storage: shared,
            events: events.clone(),
            caller: Arc::clone(&receiver) as _,
            wall,
            owner: "a test".to_owned(),
            seed: 7,
        });
        let groups = groups.await.expect("they are claimed");
        groups.begin();
        Self { storage, events, groups, receiver }
    }

    /// After a crash of the machine: what was synced is there, the rest may be in part.
    pub async fn crashed(self, seed: u64) -> Self {
        let Self { storage, events, groups, receiver } = self;
        let after = storage.crash(seed);
        // They die with the machine: nothing that they do any more is seen by what comes after.
        groups.close().await;
        events.close().await;
        Self::over(after, receiver).await
    }

    pub async fn define(&self, settings: Settings) {
        self.groups.define(&name(), |_| settings).await.expect("it is set");
    }

    /// One event; its id is the stream and the position before it.
    pub async fn append(&self, stream: &str, event_type: &str) {
        self.append_sized(stream, event_type, 0).await;
    }

    /// As [`Self::append`], with so much data.
    pub async fn append_sized(&self, stream: &str, event_type: &str, bytes: usize) {
        let id = format!("{stream}-{}", self.events.head().0);
        let mut draft = Draft::new(
            id.parse().expect("an id"),
            "/tests".parse().expect("a source"),
            event_type.parse().expect("a type"),
        );
        draft.data = vec![b'x'; bytes].into();
        let append = Append::to(stream.parse().expect("a stream"), Expected::Any, vec![draft]);
        standing_still(self.events.append(append)).await.expect("it is appended");
    }

    /// What is there for the consumer.
    pub async fn take(&self, consumer: &str, limit: usize) -> Vec<Delivery> {
        self.groups.take(&name(), consumer, Some(limit), Duration::ZERO).await.expect("it can be taken")
    }

    /// Everything given is settled so.
    pub async fn settle(&self, deliveries: &[Delivery], how: &How) {
        let given: Vec<_> = deliveries.iter().map(|delivery| (delivery.token, how.clone())).collect();
        let settled = self.groups.settle(&name(), &given).await.expect("it is settled");
        assert_eq!(settled.refused, []);
    }

    pub async fn settle_one(&self, token: Token, how: How) -> Result<(), &'static str> {
        let settled = self.groups.settle(&name(), &[(token, how)]).await.expect("the store works");
        settled.refused.first().map_or(Ok(()), |(_, why)| Err(why.as_str()))
    }

    pub fn shown(&self) -> GroupShown {
        self.groups.show(&name()).expect("it is there")
    }

    /// Waits until it stands so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&GroupShown) -> bool) -> GroupShown {
        let began = std::time::Instant::now();
        loop {
            let shown = self.shown();
            if is_so(&shown) {
                return shown;
            }
            assert!(began.elapsed() < PATIENCE, "never {what}: {shown:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Virtual time stands still until it is done. It is the writer's, which is a thread of its own: while nothing else happens
/// that time would run from one timer to the next, past every wait and lease, for as long as the thread gets no CPU.
async fn standing_still<T>(work: impl Future<Output = T>) -> T {
    let (done, ends) = std::sync::mpsc::channel::<()>();
    // No clock runs ahead of what blocks.
    let holds = tokio::task::spawn_blocking(move || {
        // An error is that it is done.
        let _ = ends.recv();
    });
    let worked = work.await;
    drop(done);
    holds.await.expect("it does not panic");
    worked
}

/// Streams and revisions, as they were delivered.
pub fn places(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|of| format!("{}@{}", of.event.stream, of.event.revision)).collect()
}
