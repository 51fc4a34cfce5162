//! A new generation: builds its state from the log, up to where the one in use has come.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    keys::{self, SPACE},
    record::{ParkedEvent, Progress, compact},
    step::{BATCH_EVENTS_MAX, Ended, Stepper, not_kept},
};
use crate::{
    events::{Followed, ReadError},
    model::{Event, Position},
    storage::Batch,
};

/// So few events before the one in use, that one is stopped for the rest: it takes some milliseconds.
pub(super) const NEAR: u64 = 1_024;

/// Until it is at most `near` events behind `goal`, which may move meanwhile. Nothing above `goal` is handled. It looks at the
/// log as the one in use does, so that it meets with the same damage and no other.
pub(super) async fn replay(stepper: &mut Stepper, goal: impl Fn() -> Position, near: u64) -> Result<(), Ended> {
    let subscribe = |stepper: &Stepper| {
        let filter = stepper.handler.filter().clone();
        stepper.core.events.subscribe(stepper.progress.checkpoint, filter)
    };
    let mut following = subscribe(stepper);
    loop {
        let goal = goal();
        if goal.0.saturating_sub(stepper.progress.checkpoint.0) <= near {
            return Ok(());
        }
        if *stepper.stop.borrow() {
            return Err(Ended::Stopped);
        }
        match following.next_there(BATCH_EVENTS_MAX).await {
            Ok(Followed { mut events, position }) => {
                events.truncate(events.partition_point(|event| event.position <= goal));
                stepper.take_beside(&events, position.min(goal)).await?;
                if position > goal {
                    // What stands above it is found again once it has moved there.
                    following = subscribe(stepper);
                }
            }
            Err(ReadError::Damaged { position, .. }) if position > goal.0 => stepper.pass(goal).await?,
            Err(ReadError::Damaged { position, reason }) => {
                stepper.pass_damaged(Position(position), reason).await?;
                following.pass(Position(position));
            }
            Err(ReadError::Storage(error)) => return Err(Ended::Store(error.to_string())),
        }
    }
}

impl Stepper {
    /// Handles events in order, but those that stand aside of the one in use, which stand aside here too: what they cause has
    /// never gone out, and would never, were they handled while nothing does.
    async fn take_beside(&mut self, events: &[Arc<Event>], looked_at: Position) -> Result<(), Ended> {
        let aside = self.aside_beside(looked_at).await?;
        let mut rest = events;
        while let Some(first) = rest.first() {
            let stands_aside = aside.contains_key(&first.position);
            let alike = rest.iter().take_while(|event| aside.contains_key(&event.position) == stands_aside).count();
            let (run, behind) = rest.split_at(alike);
            if stands_aside {
                self.put_aside_again(run, &aside).await?;
            } else {
                self.take(run, if behind.is_empty() { looked_at } else { run[alike - 1].position }).await?;
            }
            rest = behind;
        }
        self.pass(looked_at).await
    }

    /// What stands aside of the one in use, behind the checkpoint and up to there.
    async fn aside_beside(&self, upto: Position) -> Result<BTreeMap<Position, ParkedEvent>, Ended> {
        let (mut aside, mut after) = (BTreeMap::new(), self.progress.checkpoint);
        let Some(beside) = self.replays else { return Ok(aside) };
        loop {
            let page = self.core.journal.parked_events(&self.name, beside, Some(after), BATCH_EVENTS_MAX).await?;
            let is_last = page.len() < BATCH_EVENTS_MAX || page.last().is_some_and(|(last, _)| *last >= upto);
            after = page.last().map_or(after, |(last, _)| *last);
            aside.extend(page.into_iter().filter(|(position, _)| *position <= upto));
            if is_last {
                return Ok(aside);
            }
        }
    }

    async fn put_aside_again(
        &mut self,
        events: &[Arc<Event>],
        aside: &BTreeMap<Position, ParkedEvent>,
    ) -> Result<(), Ended> {
        let (mut batch, mut progress) = (Batch::new(), self.progress);
        for position in events.iter().map(|event| event.position) {
            let key = keys::parked_event(&self.name, self.generation, position);
            batch = batch.put(SPACE, key, compact(&aside[&position]));
            progress = Progress { checkpoint: position, parked: progress.parked + 1, ..progress };
        }
        self.keep(Vec::new(), batch, progress).await.map_err(not_kept)
    }
}
