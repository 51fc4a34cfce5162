//! The log itself: one writer, and readers by position.
//!
//! | file | what |
//! | --- | --- |
//! | `writer` | takes what waits, has it decided and committed, and moves the head |
//! | `round` | what one commit of it holds: revisions, ids and positions are given here |
//! | `heads` | where streams end, remembered |
//! | `tail` | the last events in memory, and the head |
//! | `read`, `subscription` | pages, and following the log |
//! | `streams` | what is set for streams; `sweep` removes what need not be kept |

mod ahead;
mod heads;
mod read;
mod round;
mod streams;
mod subscription;
mod sweep;
mod tail;
mod writer;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    thread::JoinHandle,
};

use tokio::{
    sync::{Semaphore, oneshot, watch},
    task::spawn_blocking,
};

pub use self::{
    read::{PAGE_BYTES_MAX, Page, Read},
    streams::StreamInfo,
    subscription::{Followed, Subscription},
};
use self::{
    tail::Tail,
    writer::{Asked, Command, Writer},
};
use super::{
    append::{APPEND_BYTES_MAX, Append, Appended, EVENTS_MAX},
    error::{AppendError, EventStoreError},
};
use crate::{
    model::{CAUSATION_DEPTH_MAX, Position, Retention, StreamName, Wall},
    storage::{Desk, Storage, StorageError, crash_point},
};

/// Events that wait to be written, together: an append beyond them waits for room.
const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Pages read from the disk at a time; more wait. Each holds a page in memory.
const DISK_READS_MAX: usize = 16;

/// The store of events. Clones are the same one.
#[derive(Clone)]
pub struct EventStore {
    shared: Arc<Shared>,
}

struct Shared {
    storage: Arc<dyn Storage>,
    wall: Wall,
    tail: Arc<Tail>,
    room: Arc<Semaphore>,
    disk_reads: Arc<Semaphore>,
    appended: Arc<AtomicU64>,
    /// None once closed.
    writer: Mutex<Option<Running>>,
}

struct Running {
    /// Unbounded in itself: `room` bounds what waits there.
    desk: Arc<Desk<Asked, Writer>>,
    thread: JoinHandle<()>,
    sweeper: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStore").field("head", &self.head()).finish_non_exhaustive()
    }
}

impl EventStore {
    /// Claims the events of this store: whoever had claimed them before can append nothing any more.
    pub async fn open(storage: Arc<dyn Storage>, wall: Wall, owner: String) -> Result<Self, EventStoreError> {
        let (claim, last) = writer::claim(&*storage, owner).await?;
        let tail = Arc::new(Tail::new(last));
        let appended = Arc::default();
        let writer = Writer::new(Arc::clone(&storage), claim, Arc::clone(&tail), wall, Arc::clone(&appended));
        let desk = Arc::new(Desk::new(writer, Writer::round));
        let serving = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("event-writer".to_owned()).spawn(move || serving.keep_serving());
        let thread = thread.map_err(|error| EventStoreError::Writer(error.to_string()))?;
        let shared = Arc::new(Shared {
            storage,
            wall,
            tail,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            disk_reads: Arc::new(Semaphore::new(DISK_READS_MAX)),
            appended,
            writer: Mutex::default(),
        });
        let sweeper = tokio::spawn(sweep::keep_sweeping(Arc::downgrade(&shared)));
        *shared.lock() = Some(Running { desk, thread, sweeper });
        Ok(Self { shared })
    }

    /// Durable and visible when it answers: all of it, or nothing.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        crash_point::here("before-append");
        check(&append)?;
        let (answer, answered) = oneshot::channel();
        let weight = append.weight_bytes();
        let absent = self.shared.look_ahead(&append);
        let appended = self.shared.ask(Command::Append { append, absent, answer }, weight, answered).await;
        crash_point::here("before-append-answer");
        appended
    }

    /// All events at or below are visible, and nothing will ever appear there that is not there now.
    pub fn head(&self) -> Position {
        self.shared.tail.head()
    }

    /// The head, as it moves.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.shared.tail.watch()
    }

    /// What of a stream is kept from here on. What need not be kept is not shown any more in reads of the stream at once,
    /// and in reads of everything once it is removed: that begins within some seconds, and goes on until nothing is left.
    pub async fn set_retention(&self, stream: StreamName, retention: Retention) -> Result<(), AppendError> {
        let (answer, answered) = oneshot::channel();
        let weight = stream.as_str().len();
        self.shared.ask(Command::Retain { stream, retention, answer }, weight, answered).await
    }

    /// Events appended since this gateway started.
    pub fn appended(&self) -> u64 {
        self.shared.appended.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Commits what waits; everything asked later is refused.
    pub async fn close(&self) {
        self.shared.room.close();
        let running = self.shared.lock().take();
        if let Some(Running { desk, thread, sweeper }) = running {
            desk.close();
            sweeper.abort();
            // One that panicked has nothing left to write.
            let _ = spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask<T>(
        &self,
        command: Command,
        weight_bytes: usize,
        answered: oneshot::Receiver<Result<T, AppendError>>,
    ) -> Result<T, AppendError> {
        let closed = || AppendError::NotDurable(StorageError::Closed);
        let weight = u32::try_from(weight_bytes).expect("an append is at most APPEND_BYTES_MAX");
        let room = Arc::clone(&self.room).acquire_many_owned(weight).await.map_err(|_| closed())?;
        let desk = self.lock().as_ref().map(|running| Arc::clone(&running.desk)).ok_or_else(closed)?;
        desk.ask(Asked { command, room });
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn check(append: &Append) -> Result<(), AppendError> {
    let given = append.drafts().count();
    if given == 0 || given > EVENTS_MAX {
        return Err(AppendError::Count { given, max: EVENTS_MAX });
    }
    for of in &append.streams {
        for (index, draft) in of.drafts.iter().enumerate() {
            draft.check().map_err(|problem| AppendError::Invalid { stream: of.stream.clone(), index, problem })?;
        }
    }
    let bytes = append.weight_bytes();
    if bytes > APPEND_BYTES_MAX {
        return Err(AppendError::TooLarge { given: bytes, max: APPEND_BYTES_MAX });
    }
    if let Some(depth) = append.drafts().map(|draft| draft.causation.depth).find(|depth| *depth > CAUSATION_DEPTH_MAX) {
        return Err(AppendError::TooDeep { depth, max: CAUSATION_DEPTH_MAX });
    }
    if append.streams.len() > 1 {
        let mut seen = HashSet::with_capacity(append.streams.len());
        if let Some(twice) = append.streams.iter().find(|of| !seen.insert(&of.stream)) {
            return Err(AppendError::StreamTwice(twice.stream.clone()));
        }
    }
    Ok(())
}
