//! The store in process: as many tasks as there are writers, each waiting for its append.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use sluice::{
    events::{Append, EventStore},
    model::{Draft, Expected, Filter, Position, Wall},
    storage::{Batch, Embedded, Space, Storage},
};
use tokio::{runtime::Runtime, task::JoinSet};

use super::{
    disk::{self, Asked},
    figures::{Latencies, STREAMS, kibibyte},
};

const WRITERS: [usize; 3] = [1, 16, 256];

/// Of a projection, in the commit of each event.
const STATE_BYTES: usize = 128;

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts")
}

pub async fn open(folder: &Path) -> (Arc<dyn Storage>, EventStore) {
    let storage: Arc<dyn Storage> = Arc::new(Embedded::open(folder).expect("it opens"));
    let store = EventStore::open(Arc::clone(&storage), Wall::start(), "a benchmark".to_owned()).await;
    (storage, store.expect("it opens"))
}

pub fn append(random: &mut fastrand::Rng) -> Append {
    let id = format!("{:032x}", random.u128(..));
    let mut draft = Draft::new(id.parse().expect("an id"), "/bench".parse().expect("a source"), kind());
    draft.data = kibibyte(random).into();
    let stream = format!("stream-{}", random.u64(..STREAMS)).parse().expect("a stream");
    Append::to(stream, Expected::Any, vec![draft])
}

fn kind() -> sluice::model::EventType {
    "bench.measured".parse().expect("a type")
}

/// All of them in turns, so that what the machine does meanwhile falls on each.
pub fn compare(folder: &Path, lasting: Duration) -> Value {
    let mut figures = Map::new();
    figures.insert("fdatasync".to_owned(), disk::bare_syncs(folder, lasting));
    for writers in WRITERS {
        let of = |name: &str| (format!("{name} {writers}"), folder.join(format!("{name}-{writers}")));
        let (name, path) = of("fjall");
        figures.insert(name, fjall(&path, writers, lasting));
        let (name, path) = of("store");
        figures.insert(name, store(&path, writers, lasting, 0));
        let (name, path) = of("projection");
        figures.insert(name, store(&path, writers, lasting, STATE_BYTES));
    }
    figures.insert("read".to_owned(), read(&folder.join("store-256")));
    Value::Object(figures)
}

fn fjall(folder: &Path, writers: usize, lasting: Duration) -> Value {
    std::fs::create_dir_all(folder).expect("a folder");
    let writer = disk::bare_fjall(folder);
    runtime().block_on(load(writers, lasting, move |mut random| {
        let writer = writer.clone();
        async move {
            let (done, is_done) = tokio::sync::oneshot::channel();
            let stream = format!("stream-{}", random.u64(..STREAMS));
            let (id, data) = (format!("{:032x}", random.u128(..)), kibibyte(&mut random));
            writer.send(Asked { stream, id, data, done }).expect("the writer is there");
            is_done.await.expect("it is done");
        }
    }))
}

fn store(folder: &Path, writers: usize, lasting: Duration, state_bytes: usize) -> Value {
    runtime().block_on(async {
        let (storage, store) = open(folder).await;
        let appending = store.clone();
        let figures = load(writers, lasting, move |mut random| {
            let store = appending.clone();
            async move {
                let mut append = append(&mut random);
                if state_bytes > 0 {
                    let key = format!("key-{}", random.u64(..STREAMS));
                    append.with = Batch::new().put(Space::Handlers, key, vec![random.u8(..); state_bytes]);
                }
                store.append(append).await.expect("it is appended");
            }
        })
        .await;
        store.close().await;
        storage.close().await;
        figures
    })
}

/// Each writer asks again as soon as it has its answer.
async fn load<F: Future<Output = ()> + Send>(
    writers: usize,
    lasting: Duration,
    one: impl Fn(fastrand::Rng) -> F + Clone + Send + 'static,
) -> Value {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for _ in 0..writers {
        let (one, is_over) = (one.clone(), Arc::clone(&is_over));
        tasks.spawn(async move {
            let mut random = fastrand::Rng::new();
            let mut latencies = Latencies::default();
            while !is_over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                one(random.fork()).await;
                latencies.add(asked.elapsed());
            }
            latencies
        });
    }
    tokio::time::sleep(lasting).await;
    is_over.store(true, Ordering::Relaxed);
    let mut all = Latencies::default();
    for latencies in tasks.join_all().await {
        all.append(latencies);
    }
    all.figures(began.elapsed(), 1)
}

/// Everything, in order, after it was opened again.
fn read(folder: &Path) -> Value {
    runtime().block_on(async {
        let (storage, store) = open(folder).await;
        let mut rates = Vec::new();
        for _ in 0..2 {
            let began = Instant::now();
            let mut count = 0;
            let mut following = store.subscribe(Position::START, Filter::default());
            while following.position() < store.head() {
                count += following.next(1_000).await.expect("it is read").events.len();
            }
            rates.push(count as f64 / began.elapsed().as_secs_f64());
        }
        store.close().await;
        storage.close().await;
        json!({ "cold": rates[0], "warm": rates[1] })
    })
}

/// With 256 writers; the rate of each tenth.
pub fn grow(folder: &Path, events: u64) -> Value {
    runtime().block_on(async {
        let (storage, store) = open(folder).await;
        let asked = Arc::new(AtomicU64::new(0));
        let mut tenths = Vec::new();
        let mut tasks = JoinSet::new();
        for _ in 0..WRITERS[2] {
            let (store, asked) = (store.clone(), Arc::clone(&asked));
            tasks.spawn(async move {
                let mut random = fastrand::Rng::new();
                while asked.fetch_add(1, Ordering::Relaxed) < events {
                    store.append(append(&mut random)).await.expect("it is appended");
                }
            });
        }
        let mut began = Instant::now();
        for tenth in 1..=10 {
            while store.appended() < events * tenth / 10 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tenths.push((events as f64 / 10.0 / began.elapsed().as_secs_f64()).round());
            began = Instant::now();
        }
        tasks.join_all().await;
        store.close().await;
        storage.close().await;
        json!({ "events": events, "rates": tenths })
    })
}
