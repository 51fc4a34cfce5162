//! Calls that events have caused: each is made until it is answered well, or put aside.
//!
//! One is under way for each stream, so that the calls of a stream are made in the order of their causes. A service that is
//! silent has a share of the calls at once and no more: it holds up the streams that call it and no others.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::{self, JoinSet},
    time::sleep,
};

use super::{
    core::{Core, OutgoingCall, Told, is_told, stopped},
    effects::idempotency_key,
    error::HandlersError,
    journal::NotKept,
    keys::CallId,
    queue::{Ready, Waiting},
    record::OutboxCall,
    shown::Cell,
    step::ATTEMPTS_MAX,
};
use crate::{
    model::{HandlerName, backoff},
    storage::crash_point,
};

/// Calls of one handler at once.
const CALLS_MAX: usize = 32;

/// Of one call, to the last byte of the answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls looked for in the outbox at a time.
const LOOK_MAX: usize = 512;

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

/// The calls that are tried: each in a task, which may panic.
struct Lanes {
    tasks: JoinSet<CallId>,
    ids: HashMap<task::Id, Ready>,
    permits: Arc<Semaphore>,
}

impl Sender {
    /// Until it is stopped.
    pub async fn run(mut self) {
        let permits = Arc::new(Semaphore::new(CALLS_MAX));
        let mut lanes = Lanes { tasks: JoinSet::new(), ids: HashMap::new(), permits };
        let (mut waiting, mut may_be_more, mut failed) = (Waiting::default(), true, 0);
        loop {
            while may_be_more && waiting.has_room() && failed == 0 && !*self.stop.borrow() {
                match self.core.journal.calls_waiting(&self.name, waiting.seen(), LOOK_MAX).await {
                    Ok(found) => {
                        may_be_more = found.len() == LOOK_MAX;
                        for ready in waiting.take(&self.name, found) {
                            lanes.begin(&self, ready, 0);
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
                Some(ended) = lanes.tasks.join_next_with_id(), if !lanes.tasks.is_empty() => match ended {
                    Ok((task, id)) => {
                        lanes.ids.remove(&task);
                        for ready in waiting.done(&id) {
                            lanes.begin(&self, ready, 0);
                        }
                        if waiting.may_wait_again(&id) && self.waits(&id).await {
                            waiting.look_from(&self.name, id.cause);
                            may_be_more = true;
                        }
                    }
                    // The others of its stream wait for it, so that it is tried again.
                    Err(error) => if let Some(ready) = lanes.ids.remove(&error.id()) {
                        self.cell.failed(self.core.wall.now_ms(), format!("a call failed in the gateway: {error}"));
                        lanes.begin(&self, ready, 1);
                    },
                },
                () = self.cell.calls_added.notified() => {
                    // Those of events that were put aside stand before others that were seen.
                    if let Some(first) = self.cell.take_first_added() {
                        waiting.look_from(&self.name, first);
                    }
                    may_be_more = true;
                }
                () = sleep(pause), if failed > 0 => failed = 0,
            }
        }
        // Each of them sees that it is to stop.
        while lanes.tasks.join_next().await.is_some() {}
    }

    /// Where nobody can tell, it may.
    async fn waits(&self, id: &CallId) -> bool {
        !matches!(self.core.journal.call(&self.name, id).await, Ok(None))
    }

    /// Until it is answered well, put aside, or all stops. Has failed so often in a row already.
    async fn deliver(mut self, ready: Ready, permits: Arc<Semaphore>, mut failed: u32) -> CallId {
        let Ready { id, permits: of_target } = ready;
        loop {
            if failed > 0 {
                let pause = self.core.pause(failed, backoff::BASE);
                tokio::select! {
                    () = stopped(&mut self.stop) => return id,
                    () = sleep(pause) => {}
                }
            }
            // Its target's first: whoever waits for a silent one takes none of the others' turns.
            let turns = async { (of_target.acquire().await, permits.acquire().await) };
            let turns = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return id,
                turns = turns => turns,
            };
            let attempted = self.attempt(&id).await;
            drop(turns);
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
        }
    }

    async fn attempt(&mut self, id: &CallId) -> Attempted {
        let mut call = match self.core.journal.call(&self.name, id).await {
            Ok(Some(call)) => call,
            Ok(None) => return Attempted::Done,
            // Nobody can make it, and what is behind it of its stream waits for it.
            Err(error @ HandlersError::Damaged { .. }) => return self.drop_damaged(id, &error).await,
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
                    Ok(status) if status.is_success() => return self.done(id, &call).await,
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
                let parked = self.cell.outbox.park();
                if is_told(parked) {
                    self.tell(&Told::CallParked { target: call.target, reason });
                }
                Attempted::Done
            }
            Err(error) => not_stored(&error),
        }
    }

    async fn done(&self, id: &CallId, call: &OutboxCall) -> Attempted {
        match self.core.journal.call_done(&self.name, id).await {
            Ok(()) => {
                self.cell.calls_made.fetch_add(1, Ordering::Relaxed);
                self.cell.outbox.remove(1, call.weight_bytes());
                self.cell.call_gone.notify_one();
                Attempted::Done
            }
            Err(error) => not_stored(&error),
        }
    }

    async fn drop_damaged(&self, id: &CallId, error: &HandlersError) -> Attempted {
        let reason = format!("the call {} is lost: {error}", idempotency_key(&self.name, id));
        tracing::error!(handler = %self.name, %reason, "a call that cannot be read is not made");
        self.cell.failed(self.core.wall.now_ms(), reason.clone());
        let bytes = match self.core.journal.damaged_call_bytes(&self.name, id).await {
            Ok(bytes) => bytes,
            Err(error) => return Attempted::NotStored(error.to_string()),
        };
        match self.core.journal.call_done(&self.name, id).await {
            Ok(()) => {
                self.cell.outbox.remove(1, bytes);
                self.cell.call_gone.notify_one();
                self.tell(&Told::CallLost { reason });
                Attempted::Done
            }
            Err(error) => not_stored(&error),
        }
    }

    fn tell(&self, told: &Told) {
        let pin = self.cell.lock().active.as_ref().map(|active| active.pin.clone());
        if let Some(pin) = pin {
            (self.core.tell)(&self.name, &pin, told);
        }
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
        NotKept::Moved => Attempted::NotStored("what it is of has changed meanwhile".to_owned()),
        NotKept::Storage(error) => Attempted::NotStored(error.to_string()),
    }
}

impl Lanes {
    fn begin(&mut self, sender: &Sender, ready: Ready, failed: u32) {
        let lane = self.tasks.spawn(sender.clone().deliver(ready.clone(), Arc::clone(&self.permits), failed));
        self.ids.insert(lane.id(), ready);
    }
}
