//! The generation in use: follows the log from its checkpoint, for ever.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{
    core::{Told, stopped},
    error::HandlersError,
    record::Progress,
    shown::Doing,
    step::{BATCH_EVENTS_MAX, Ended, Stepper},
};
use crate::{
    events::{Read, ReadError},
    model::{Filter, Position, backoff},
    storage,
};

/// How often it is seen how far the log was looked at while nothing came that fits, and the checkpoint is moved there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Calls that wait in a handler's outbox; beyond them it handles nothing more until some are made.
const CALLS_WAITING_MAX: u64 = 100_000;

/// Events put aside that are read at a time.
const PARKED_PAGE: usize = 64;

/// What is asked of it between two batches.
#[derive(Debug)]
pub(super) enum Ask {
    /// Handle once more what was put aside; `calls` are made again already.
    ReplayParked { calls: u64, reply: oneshot::Sender<Result<Replayed, HandlersError>> },
    /// Go on, after a halt.
    Resume(oneshot::Sender<Result<(), HandlersError>>),
}

/// What became of the events that were put aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub events_handled: u64,
    /// That stay aside.
    pub events_failed: u64,
    /// Calls that are made again.
    pub calls: u64,
}

/// Until it is stopped or another gateway has taken over. Answers how far it has come.
pub(super) async fn follow(mut stepper: Stepper, mut asks: mpsc::Receiver<Ask>) -> Progress {
    let mut failed = 0;
    loop {
        let before = stepper.progress.checkpoint;
        match follow_on(&mut stepper, &mut asks).await {
            Ended::Stopped => return stepper.progress,
            Ended::TakenOver => {
                stepper.cell.doing(stepper.generation, Doing::TakenOver);
                return stepper.progress;
            }
            Ended::Halted { position, reason } | Ended::Refused { position, reason } => {
                (stepper.core.tell)(&stepper.name, &stepper.pin, &Told::Halted { position, reason: reason.clone() });
                stepper.cell.doing(stepper.generation, Doing::Halted { position, reason });
                if !resumed(&mut stepper, &mut asks).await {
                    return stepper.progress;
                }
            }
            Ended::Store(reason) => {
                failed = if stepper.progress.checkpoint > before { 1 } else { failed + 1 };
                stepper.cell.failed(stepper.core.wall.now_ms(), reason.clone());
                stepper.cell.doing(stepper.generation, Doing::NotStored(reason));
                let pause = stepper.core.pause(failed, backoff::BASE);
                tokio::select! {
                    () = stopped(&mut stepper.stop) => return stepper.progress,
                    () = sleep(pause) => {}
                }
                // What was in doubt may be there.
                if let Ok(progress) = stepper.core.journal.progress(&stepper.name, stepper.generation).await {
                    stepper.progress = progress;
                }
            }
        }
    }
}

async fn follow_on(stepper: &mut Stepper, asks: &mut mpsc::Receiver<Ask>) -> Ended {
    stepper.cell.doing(stepper.generation, Doing::Following);
    let filter = stepper.handler.filter().clone();
    let mut subscription = stepper.core.events.subscribe(stepper.progress.checkpoint, filter.clone());
    let mut limit = BATCH_EVENTS_MAX;
    loop {
        if let Err(ended) = wait_for_room(stepper).await {
            return ended;
        }
        let followed = tokio::select! {
            biased;
            () = stopped(&mut stepper.stop) => return Ended::Stopped,
            Some(ask) = asks.recv() => {
                if let Err(ended) = answer(stepper, ask).await {
                    return ended;
                }
                continue;
            }
            followed = timeout(LOOK_INTERVAL, subscription.next(limit)) => followed,
        };
        let taken = match followed {
            Ok(Ok(followed)) => {
                limit = BATCH_EVENTS_MAX;
                stepper.take(&followed.events, followed.position).await
            }
            Ok(Err(ReadError::Damaged { .. })) if limit > 1 => {
                // What stands before it can be read, one by one.
                limit = 1;
                subscription = stepper.core.events.subscribe(stepper.progress.checkpoint, filter.clone());
                Ok(())
            }
            Ok(Err(ReadError::Damaged { position, reason })) => {
                let passed = stepper.pass_damaged(Position(position), reason).await;
                subscription = stepper.core.events.subscribe(stepper.progress.checkpoint, filter.clone());
                passed
            }
            Ok(Err(ReadError::Storage(error))) => Err(Ended::Store(error.to_string())),
            // Nothing that fits.
            Err(_) => stepper.pass(subscription.position()).await,
        };
        if let Err(ended) = taken {
            return ended;
        }
    }
}

async fn wait_for_room(stepper: &mut Stepper) -> Result<(), Ended> {
    while stepper.cell.calls_waiting.load(Ordering::Relaxed) >= CALLS_WAITING_MAX {
        stepper.cell.doing(stepper.generation, Doing::OutboxFull);
        tokio::select! {
            () = stopped(&mut stepper.stop) => return Err(Ended::Stopped),
            () = stepper.cell.call_gone.notified() => {}
        }
        stepper.cell.doing(stepper.generation, Doing::Following);
    }
    Ok(())
}

/// Whether it goes on: it is stopped otherwise.
async fn resumed(stepper: &mut Stepper, asks: &mut mpsc::Receiver<Ask>) -> bool {
    loop {
        tokio::select! {
            () = stopped(&mut stepper.stop) => return false,
            ask = asks.recv() => match ask {
                Some(Ask::Resume(answer)) => {
                    // Whoever asked may have gone.
                    let _ = answer.send(Ok(()));
                    return true;
                }
                Some(ask) => drop(answer(stepper, ask).await),
                None => return false,
            },
        }
    }
}

async fn answer(stepper: &mut Stepper, ask: Ask) -> Result<(), Ended> {
    match ask {
        Ask::Resume(answer) => {
            let _ = answer.send(Err(HandlersError::NotHalted(stepper.name.clone())));
            Ok(())
        }
        Ask::ReplayParked { calls, reply } => match replay_parked(stepper).await {
            Ok(replayed) => {
                let _ = reply.send(Ok(Replayed { calls, ..replayed }));
                Ok(())
            }
            Err(ended) => {
                let _ = reply.send(Err(HandlersError::Closed));
                Err(ended)
            }
        },
    }
}

/// Each alone, in the order of the log, with all that it causes.
async fn replay_parked(stepper: &mut Stepper) -> Result<Replayed, Ended> {
    let mut replayed = Replayed::default();
    let mut after = None;
    loop {
        let journal = &stepper.core.journal;
        let page = journal.parked_events(&stepper.name, stepper.generation, after, PARKED_PAGE).await?;
        let Some((last, _)) = page.last() else { return Ok(replayed) };
        after = Some(*last);
        for (position, _) in page {
            let read = Read {
                stream: None,
                order: storage::Order::Forward,
                from: Some(position.0),
                filter: Filter::default(),
                limit: 1,
            };
            let event = match stepper.core.events.read(read).await {
                Ok(found) => found.events.into_iter().find(|event| event.position == position),
                Err(ReadError::Damaged { .. }) => {
                    replayed.events_failed += 1;
                    continue;
                }
                Err(error) => return Err(HandlersError::from(error).into()),
            };
            match event {
                None => stepper.forget_parked(position).await?,
                Some(event) => match stepper.unpark(&event).await? {
                    None => replayed.events_handled += 1,
                    Some(_) => replayed.events_failed += 1,
                },
            }
        }
    }
}
