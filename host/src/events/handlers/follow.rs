//! The generation in use: follows the log from its checkpoint, for ever.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    aside::{Discarded, Replayed},
    core::{Told, stopped},
    error::HandlersError,
    record::Progress,
    shown::Doing,
    step::{BATCH_EVENTS_MAX, Ended, Stepper},
};
use crate::{
    events::{Followed, ReadError, Subscription},
    model::{Position, backoff},
    plugin::BoxFuture,
};

/// How often it is seen how far the log was looked at while nothing came that fits, and the checkpoint is moved there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is asked of it between two batches.
#[derive(Debug)]
pub(super) enum Ask {
    /// Handle once more what was put aside; `calls` are made again already.
    ReplayParked { calls: u64, reply: oneshot::Sender<Result<Replayed, HandlersError>> },
    /// Forget what was put aside; `calls` are forgotten already.
    DiscardParked { calls: u64, reply: oneshot::Sender<Result<Discarded, HandlersError>> },
    /// Go on, after a halt.
    Resume(oneshot::Sender<Result<(), HandlersError>>),
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
                let halted = Doing::Halted { position, reason };
                if !resumed(&mut stepper, &mut asks, &halted).await {
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

type Looked = (Subscription, Result<Followed, ReadError>);

/// What comes next, looked for until it is there: a look at a slow disk is not begun again for anything else that happens.
struct Looking {
    reached: Arc<AtomicU64>,
    next: BoxFuture<'static, Looked>,
}

impl Looking {
    fn on(mut subscription: Subscription) -> Self {
        let reached = subscription.reached();
        let next = async move {
            let followed = subscription.next(BATCH_EVENTS_MAX).await;
            (subscription, followed)
        };
        Self { reached, next: Box::pin(next) }
    }

    /// Behind the checkpoint.
    fn behind(stepper: &Stepper) -> Self {
        let filter = stepper.handler.filter().clone();
        Self::on(stepper.core.events.subscribe(stepper.progress.checkpoint, filter))
    }
}

async fn follow_on(stepper: &mut Stepper, asks: &mut mpsc::Receiver<Ask>) -> Ended {
    stepper.cell.doing(stepper.generation, Doing::Following);
    let mut looking = Looking::behind(stepper);
    loop {
        if let Err(ended) = wait_for_room(stepper, asks).await {
            return ended;
        }
        let (subscription, followed) = tokio::select! {
            biased;
            () = stopped(&mut stepper.stop) => return Ended::Stopped,
            Some(ask) = asks.recv() => {
                if let Err(ended) = answer(stepper, ask).await {
                    return ended;
                }
                continue;
            }
            looked = &mut looking.next => looked,
            () = sleep(LOOK_INTERVAL) => {
                // Nothing that fits.
                let reached = Position(looking.reached.load(Ordering::Relaxed));
                if let Err(ended) = stepper.pass(reached).await {
                    return ended;
                }
                continue;
            }
        };
        let taken = match followed {
            Ok(followed) => {
                looking = Looking::on(subscription);
                stepper.take(&followed.events, followed.position).await
            }
            Err(ReadError::Damaged { position, reason }) => {
                let passed = stepper.pass_damaged(Position(position), reason).await;
                looking = Looking::behind(stepper);
                passed
            }
            Err(ReadError::Storage(error)) => Err(Ended::Store(error.to_string())),
        };
        if let Err(ended) = taken {
            return ended;
        }
    }
}

async fn wait_for_room(stepper: &mut Stepper, asks: &mut mpsc::Receiver<Ask>) -> Result<(), Ended> {
    while !stepper.cell.outbox.has_room(stepper.core.outbox) {
        stepper.cell.doing(stepper.generation, Doing::OutboxFull);
        tokio::select! {
            () = stopped(&mut stepper.stop) => return Err(Ended::Stopped),
            Some(ask) = asks.recv() => answer(stepper, ask).await?,
            () = stepper.cell.call_gone.notified() => {}
        }
        stepper.cell.doing(stepper.generation, Doing::Following);
    }
    Ok(())
}

/// Whether it goes on: it is stopped otherwise.
async fn resumed(stepper: &mut Stepper, asks: &mut mpsc::Receiver<Ask>, halted: &Doing) -> bool {
    loop {
        // Whatever it was asked meanwhile.
        stepper.cell.doing(stepper.generation, halted.clone());
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
        Ask::ReplayParked { calls, reply } => {
            let replayed = stepper.replay_parked().await;
            let replayed = replayed.map(|replayed| Replayed { calls, ..replayed });
            answered(stepper, replayed, reply)
        }
        Ask::DiscardParked { calls, reply } => {
            let discarded = stepper.discard_parked().await;
            answered(stepper, discarded.map(|events| Discarded { events, calls }), reply)
        }
    }
}

fn answered<T>(
    stepper: &Stepper,
    done: Result<T, Ended>,
    reply: oneshot::Sender<Result<T, HandlersError>>,
) -> Result<(), Ended> {
    let (done, ended) = match done {
        Ok(done) => (Ok(done), Ok(())),
        Err(ended) => {
            let error = match &ended {
                Ended::TakenOver => HandlersError::TakenOver,
                Ended::Store(reason) => HandlersError::NotStored(reason.clone()),
                _ => HandlersError::Interrupted(stepper.name.clone()),
            };
            (Err(error), Err(ended))
        }
    };
    // Whoever asked may have gone.
    let _ = reply.send(done);
    ended
}

impl Ask {
    pub fn refuse(self, error: HandlersError) {
        match self {
            Self::ReplayParked { reply, .. } => drop(reply.send(Err(error))),
            Self::DiscardParked { reply, .. } => drop(reply.send(Err(error))),
            Self::Resume(reply) => drop(reply.send(Err(error))),
        }
    }
}
