//! What stands aside, of events and of calls: tried once more, or forgotten.

use std::sync::Arc;

use tokio::sync::{mpsc::error::TrySendError, oneshot};

use super::{
    core::stopped,
    error::HandlersError,
    follow::Ask,
    keeper::{Keeper, Tasks},
    keys::{self, CallId, SPACE},
    lanes::Following,
    record::{OutboxCall, ParkedEvent, Progress, compact},
    shown::Doing,
    step::{Ended, Stepper, Tried, not_kept},
};
use crate::{
    events::{Read, ReadError},
    model::{Event, Filter, HandlerName, Position},
    storage::{Batch, Order},
};

/// Events that are looked at at a time.
const EVENTS_PAGE: usize = 64;

/// Calls that are put back in one commit: each may have a body of a megabyte.
const CALLS_PAGE: usize = 8;

/// What became of the events that were put aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub events_handled: u64,
    /// That stay aside.
    pub events_failed: u64,
    /// Calls that are made again.
    pub calls: u64,
}

/// What was put aside and is no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    pub events: u64,
    pub calls: u64,
}

/// What becomes of calls that stand aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Again,
    Forgotten,
}

impl Keeper {
    pub(super) async fn replay_parked(
        &mut self,
        tasks: &Tasks,
        reply: oneshot::Sender<Result<Replayed, HandlersError>>,
    ) -> Result<(), HandlersError> {
        let (following, calls) = match self.parked_calls(tasks, Fate::Again).await {
            Ok(done) => done,
            Err(error) => return refused(reply, error),
        };
        pass_on(&self.name, following, Ask::ReplayParked { calls, reply });
        Ok(())
    }

    pub(super) async fn discard_parked(
        &mut self,
        tasks: &Tasks,
        reply: oneshot::Sender<Result<Discarded, HandlersError>>,
    ) -> Result<(), HandlersError> {
        let (following, calls) = match self.parked_calls(tasks, Fate::Forgotten).await {
            Ok(done) => done,
            Err(error) => return refused(reply, error),
        };
        pass_on(&self.name, following, Ask::DiscardParked { calls, reply });
        Ok(())
    }

    /// The calls that stand aside now, in the order of their causes; those that are put aside meanwhile stay there. Answers
    /// how many, and whom the events are.
    async fn parked_calls<'t>(&mut self, tasks: &'t Tasks, fate: Fate) -> Result<(&'t Following, u64), HandlersError> {
        if tasks.rebuild.is_some() {
            return Err(HandlersError::Rebuilding(self.name.clone()));
        }
        let following = tasks.following.as_ref().ok_or_else(|| self.not_running())?;
        let Some(last) = self.core.journal.last_parked_call(&self.name).await? else { return Ok((following, 0)) };
        let (mut count, mut after) = (0, None);
        loop {
            let page = tokio::select! {
                biased;
                () = stopped(&mut self.shutdown) => return Err(HandlersError::Closed),
                page = self.core.journal.parked_calls(&self.name, after.as_ref(), CALLS_PAGE) => page?,
            };
            let page: Vec<_> = page.into_iter().take_while(|(id, _)| *id <= last).collect();
            let Some((end, _)) = page.last() else { return Ok((following, count)) };
            after = Some(end.clone());
            count += page.len() as u64;
            match fate {
                Fate::Again => self.put_back(page).await?,
                Fate::Forgotten => self.forget(page).await?,
            }
        }
    }

    async fn put_back(&self, page: Vec<(CallId, OutboxCall)>) -> Result<(), HandlersError> {
        let (count, first) = (page.len() as u64, page.first().map(|(id, _)| id.cause));
        let batch = page.into_iter().fold(Batch::new(), |batch, (id, call)| {
            let call = OutboxCall { attempts: 0, ..call };
            batch.delete(SPACE, id.parked(&self.name)).put(SPACE, id.outbox(&self.name), compact(&call))
        });
        self.core.journal.write(batch).await?;
        self.cell.outbox.unpark(count);
        if let Some(first) = first {
            self.cell.added_from(first);
        }
        Ok(())
    }

    async fn forget(&self, page: Vec<(CallId, OutboxCall)>) -> Result<(), HandlersError> {
        let (count, bytes) = (page.len() as u64, page.iter().map(|(_, call)| call.weight_bytes()).sum());
        let batch = page.iter().fold(Batch::new(), |batch, (id, _)| batch.delete(SPACE, id.parked(&self.name)));
        self.core.journal.write(batch).await?;
        self.cell.outbox.discard(count, bytes);
        // There is room again.
        self.cell.call_gone.notify_one();
        Ok(())
    }

    fn not_running(&self) -> HandlersError {
        let reason = match self.cell.lock().active.as_ref().map(|active| active.doing.clone()) {
            Some(Doing::NotLoaded(reason)) => reason,
            _ => "it is just beginning".to_owned(),
        };
        HandlersError::NotRunning { name: self.name.clone(), reason }
    }
}

/// Whoever asked is told, and the handler begins again where the store was the reason.
fn refused<T>(reply: oneshot::Sender<Result<T, HandlersError>>, error: HandlersError) -> Result<(), HandlersError> {
    let is_an_answer = matches!(error, HandlersError::Rebuilding(_) | HandlersError::NotRunning { .. });
    let _ = reply.send(Err(error.clone()));
    if is_an_answer { Ok(()) } else { Err(error) }
}

/// Where so much waits already, whoever asked is told so.
pub(super) fn pass_on(name: &HandlerName, following: &Following, ask: Ask) {
    match following.asks.try_send(ask) {
        Ok(()) => {}
        Err(TrySendError::Full(ask)) => ask.refuse(HandlersError::AskedTooMuch(name.clone())),
        Err(TrySendError::Closed(ask)) => ask.refuse(HandlersError::Interrupted(name.clone())),
    }
}

impl Stepper {
    /// Each alone, in the order of the log, with all that it causes.
    pub(super) async fn replay_parked(&mut self) -> Result<Replayed, Ended> {
        let mut replayed = Replayed::default();
        let mut after = None;
        loop {
            let page = self.core.journal.parked_events(&self.name, self.generation, after, EVENTS_PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(replayed) };
            after = Some(*last);
            for (position, _) in page {
                let read = Read {
                    stream: None,
                    order: Order::Forward,
                    from: Some(position.0),
                    filter: Filter::default(),
                    limit: 1,
                };
                let event = match self.core.events.read(read).await {
                    Ok(found) => found.events.into_iter().find(|event| event.position == position),
                    Err(ReadError::Damaged { position: damaged, .. }) if damaged == position.0 => {
                        replayed.events_failed += 1;
                        continue;
                    }
                    // Retention has taken it, and the next one is damaged.
                    Err(ReadError::Damaged { .. }) => None,
                    Err(error) => return Err(HandlersError::from(error).into()),
                };
                match event {
                    None => self.forget_parked(&[position]).await?,
                    Some(event) => match self.unpark(&event).await? {
                        None => replayed.events_handled += 1,
                        Some(_) => replayed.events_failed += 1,
                    },
                }
            }
        }
    }

    /// Forgets the events that stand aside; answers how many.
    pub(super) async fn discard_parked(&mut self) -> Result<u64, Ended> {
        let mut count = 0;
        loop {
            let page = self.core.journal.parked_events(&self.name, self.generation, None, EVENTS_PAGE).await?;
            if page.is_empty() {
                return Ok(count);
            }
            count += page.len() as u64;
            let positions: Vec<_> = page.into_iter().map(|(position, _)| position).collect();
            self.forget_parked(&positions).await?;
        }
    }

    /// Handles an event that was put aside. Answers why it stays there.
    async fn unpark(&mut self, event: &Arc<Event>) -> Result<Option<String>, Ended> {
        let batch = std::slice::from_ref(event);
        let reason = match self.ask(batch).await? {
            Ok(handled) => match self.commit(batch, self.progress.checkpoint, handled, true).await? {
                Tried::Done => return Ok(None),
                Tried::Failed { reason, .. } => reason,
                Tried::TooMuch => "it causes too much for one commit".to_owned(),
                Tried::Fault(fault) => fault.to_string(),
            },
            Err(Tried::Failed { reason, .. }) => reason,
            Err(Tried::Fault(fault)) => fault.to_string(),
            Err(Tried::Done | Tried::TooMuch) => return Ok(None),
        };
        let at_ms = self.core.wall.now_ms();
        self.cell.failed(at_ms, format!("the event at {} stays aside: {reason}", event.position));
        let parked = ParkedEvent { reason: reason.clone(), attempts: 1, at_ms };
        let key = keys::parked_event(&self.name, self.generation, event.position);
        let batch = Batch::new().put(SPACE, key, compact(&parked));
        self.core.journal.write(batch).await.map_err(not_kept)?;
        Ok(Some(reason))
    }

    /// Retention has taken them, or nobody wants them any more.
    async fn forget_parked(&mut self, positions: &[Position]) -> Result<(), Ended> {
        let batch = positions.iter().fold(Batch::new(), |batch, position| {
            batch.delete(SPACE, keys::parked_event(&self.name, self.generation, *position))
        });
        let parked = self.progress.parked.saturating_sub(positions.len() as u64);
        self.keep(Vec::new(), batch, Progress { parked, ..self.progress }).await.map_err(not_kept)
    }
}
