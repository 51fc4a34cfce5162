//! Calls that events have caused: each is made until it is answered well, or put aside.
//!
//! One is under way for each stream, so that the calls of a stream are made in the order of their causes; an hour of a
//! service's silence holds up the streams that call it and no others.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::sleep,
};

use super::{
    core::{Core, OutgoingCall, Told, stopped},
    effects::idempotency_key,
    journal::NotKept,
    keys::CallId,
    record::OutboxCall,
    shown::Cell,
    step::ATTEMPTS_MAX,
};
use crate::{
    model::{HandlerName, StreamName, backoff},
    storage::crash_point,
};

/// Calls of one handler at once.
const CALLS_MAX: usize = 32;

/// Of one call, to the last byte of the answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls whose ids are in memory; the others wait on the disk.
const SEEN_MAX: usize = 10_000;

/// By which a service knows a call that it has had before (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Makes the calls of one handler.
#[derive(Clone)]
pub(super) struct Sender {
    pub core: Arc<Core>,
    pub cell: Arc<Cell>,
    pub name: HandlerName,
    pub stop: watch::Receiver<bool>,
}

/// What is known to wait.
#[derive(Default)]
struct Waiting {
    /// By stream; the first of each is under way.
    streams: HashMap<StreamName, VecDeque<CallId>>,
    known: HashSet<CallId>,
    /// Looked for up to here.
    seen: Option<CallId>,
}

impl Sender {
    /// Until it is stopped.
    pub async fn run(mut self) {
        let permits = Arc::new(Semaphore::new(CALLS_MAX));
        let mut lanes = JoinSet::new();
        let (mut waiting, mut may_be_more, mut failed) = (Waiting::default(), true, 0);
        loop {
            while may_be_more && waiting.known.len() < SEEN_MAX && failed == 0 {
                let room = SEEN_MAX - waiting.known.len();
                match self.core.journal.calls_waiting(&self.name, waiting.seen.as_ref(), room).await {
                    Ok(found) => {
                        may_be_more = found.len() == room;
                        for first in waiting.take(found) {
                            lanes.spawn(self.clone().deliver(first, Arc::clone(&permits)));
                        }
                    }
                    Err(error) => {
                        self.cell.failed(self.core.wall.now_ms(), error.to_string());
                        failed += 1;
                    }
                }
            }
            let pause = self.core.pause(failed, backoff::BASE);
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => break,
                Some(ended) = lanes.join_next(), if !lanes.is_empty() => {
                    let next = ended.ok().and_then(|done| waiting.done(&done));
                    if let Some(next) = next {
                        lanes.spawn(self.clone().deliver(next, Arc::clone(&permits)));
                    }
                }
                () = self.cell.calls_added.notified() => {
                    // Those of events that were put aside stand before others that were seen.
                    waiting.seen = None;
                    may_be_more = true;
                }
                () = sleep(pause), if failed > 0 => failed = 0,
            }
        }
        // Each of them sees that it is to stop.
        while lanes.join_next().await.is_some() {}
    }

    /// Until it is answered well, put aside, or all stops.
    async fn deliver(mut self, id: CallId, permits: Arc<Semaphore>) -> CallId {
        let mut failed = 0;
        loop {
            let turn = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return id,
                turn = permits.acquire() => turn,
            };
            let attempted = self.attempt(&id).await;
            drop(turn);
            match attempted {
                Attempted::Done => return id,
                Attempted::Failed(attempts) => failed = attempts,
                Attempted::NotStored(reason) => {
                    failed += 1;
                    self.cell.failed(self.core.wall.now_ms(), reason);
                }
                Attempted::TakenOver => {
                    stopped(&mut self.stop).await;
                    return id;
                }
            }
            let pause = self.core.pause(failed, backoff::BASE);
            tokio::select! {
                () = stopped(&mut self.stop) => return id,
                () = sleep(pause) => {}
            }
        }
    }

    async fn attempt(&mut self, id: &CallId) -> Attempted {
        let mut call = match self.core.journal.call(&self.name, id).await {
            Ok(Some(call)) => call,
            Ok(None) => return Attempted::Done,
            Err(error) => return Attempted::NotStored(error.to_string()),
        };
        let (reason, may_later) = match self.core.caller.check(&call.target) {
            Err(reason) => (format!("{}: {reason}", call.target), false),
            Ok(()) => {
                let calling = self.core.caller.call(self.outgoing(id, &call));
                let made = tokio::select! {
                    biased;
                    () = stopped(&mut self.stop) => return Attempted::Failed(1),
                    made = calling => made,
                };
                crash_point::here("after-call");
                match made {
                    Ok(status) if status.is_success() => return self.done(id).await,
                    Ok(status) => (format!("{} answered {status}", call.target), true),
                    Err(reason) => (format!("{}: {reason}", call.target), true),
                }
            }
        };
        self.cell.failed(self.core.wall.now_ms(), reason.clone());
        call.attempts += 1;
        call.last_error = Some(reason.clone());
        if may_later && call.attempts < ATTEMPTS_MAX {
            return match self.core.journal.call_failed(&self.name, id, &call).await {
                Ok(()) => Attempted::Failed(call.attempts),
                Err(error) => not_stored(&error),
            };
        }
        match self.core.journal.park_call(&self.name, id, &call).await {
            Ok(()) => {
                self.cell.calls_parked.fetch_add(1, Ordering::Relaxed);
                self.gone();
                let pin = self.cell.lock().active.as_ref().map(|active| active.pin.clone());
                if let Some(pin) = pin {
                    let told = Told::CallParked { target: call.target, reason };
                    (self.core.tell)(&self.name, &pin, &told);
                }
                Attempted::Done
            }
            Err(error) => not_stored(&error),
        }
    }

    async fn done(&self, id: &CallId) -> Attempted {
        match self.core.journal.call_done(&self.name, id).await {
            Ok(()) => {
                self.cell.calls_made.fetch_add(1, Ordering::Relaxed);
                self.gone();
                Attempted::Done
            }
            Err(error) => not_stored(&error),
        }
    }

    fn gone(&self) {
        let one_less = |count: u64| Some(count.saturating_sub(1));
        let _ = self.cell.calls_waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        self.cell.call_gone.notify_one();
    }

    fn outgoing(&self, id: &CallId, call: &OutboxCall) -> OutgoingCall {
        let others = call.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(IDEMPOTENCY_KEY));
        let mut headers: Vec<_> = others.cloned().collect();
        headers.push((IDEMPOTENCY_KEY.to_owned(), idempotency_key(&self.name, id)));
        OutgoingCall {
            // It was one when the call was put here.
            method: call.method.parse().unwrap_or(http::Method::POST),
            url: call.target.clone(),
            headers,
            body: call.body.clone(),
            timeout: CALL_TIMEOUT,
        }
    }
}

enum Attempted {
    /// It waits no more.
    Done,
    /// So often by now.
    Failed(u32),
    NotStored(String),
    /// It is another gateway's to make.
    TakenOver,
}

fn not_stored(error: &NotKept) -> Attempted {
    match error {
        NotKept::TakenOver => Attempted::TakenOver,
        NotKept::Refused(reason) => Attempted::NotStored(reason.clone()),
        NotKept::Storage(error) => Attempted::NotStored(error.to_string()),
    }
}

impl Waiting {
    /// What was found; answers those that may be made now.
    fn take(&mut self, found: Vec<CallId>) -> Vec<CallId> {
        let mut first = Vec::new();
        self.seen = found.last().cloned().or(self.seen.take());
        for id in found {
            if !self.known.insert(id.clone()) {
                continue;
            }
            let stream = self.streams.entry(id.stream.clone()).or_default();
            if stream.is_empty() {
                first.push(id.clone());
            }
            stream.push_back(id);
        }
        first
    }

    /// One is through; answers the one of its stream that may be made now.
    fn done(&mut self, id: &CallId) -> Option<CallId> {
        self.known.remove(id);
        let stream = self.streams.get_mut(&id.stream)?;
        stream.pop_front();
        let next = stream.front().cloned();
        if next.is_none() {
            self.streams.remove(&id.stream);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Position;

    fn id(cause: u64, stream: &str) -> CallId {
        CallId { cause: Position(cause), nth: 0, stream: stream.parse().expect("a stream") }
    }

    #[test]
    fn one_call_of_a_stream_is_under_way_and_the_next_follows_it() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.take(vec![id(1, "a"), id(2, "b"), id(3, "a")]), [id(1, "a"), id(2, "b")]);
        assert_eq!(waiting.take(vec![id(3, "a"), id(4, "a"), id(5, "c")]), [id(5, "c")]);
        assert_eq!(waiting.done(&id(1, "a")), Some(id(3, "a")));
        assert_eq!(waiting.done(&id(2, "b")), None);
        assert_eq!(waiting.done(&id(3, "a")), Some(id(4, "a")));
        assert_eq!(waiting.done(&id(4, "a")), None);
        assert_eq!(waiting.done(&id(5, "c")), None);
        assert!(waiting.streams.is_empty() && waiting.known.is_empty());
    }
}
