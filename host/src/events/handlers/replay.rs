//! A new generation: builds its state from the log, up to where the one in use has come.

use super::step::{BATCH_EVENTS_MAX, Ended, Stepper};
use crate::{
    events::{Read, ReadError},
    model::Position,
    storage::Order,
};

/// So few events before the one in use, that one is stopped for the rest: it takes some milliseconds.
pub(super) const NEAR: u64 = 1_024;

/// Until it is at most `near` events behind `goal`, which may move meanwhile. Nothing above `goal` is handled.
pub(super) async fn replay(stepper: &mut Stepper, goal: impl Fn() -> Position, near: u64) -> Result<(), Ended> {
    let mut limit = BATCH_EVENTS_MAX;
    loop {
        let (goal, checkpoint) = (goal(), stepper.progress.checkpoint);
        if goal.0.saturating_sub(checkpoint.0) <= near {
            return Ok(());
        }
        if *stepper.stop.borrow() {
            return Err(Ended::Stopped);
        }
        let filter = stepper.handler.filter().clone();
        let read = Read { stream: None, order: Order::Forward, from: Some(checkpoint.next().0), filter, limit };
        let page = match stepper.core.events.read(read).await {
            Ok(page) => page,
            Err(ReadError::Damaged { .. }) if limit > 1 => {
                // What stands before it can be read, one by one.
                limit = 1;
                continue;
            }
            Err(ReadError::Damaged { position, reason }) => {
                stepper.pass_damaged(Position(position), reason).await?;
                continue;
            }
            Err(ReadError::Storage(error)) => return Err(Ended::Store(error.to_string())),
        };
        limit = BATCH_EVENTS_MAX;
        let mut events = page.events;
        let looked_at = page.next.map_or(page.head, |next| Position(next.saturating_sub(1))).min(goal);
        events.truncate(events.partition_point(|event| event.position <= goal));
        stepper.take(&events, looked_at).await?;
    }
}
