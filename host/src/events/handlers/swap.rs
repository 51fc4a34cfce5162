//! From one generation of a handler to the next: begun, gone on with after a restart, taken over from, or refused.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    core::Told,
    error::HandlersError,
    keeper::{Keeper, Tasks, shown},
    keys::{self, SPACE},
    lanes::{Following, rebuild},
    record::{Pin, Progress, Refused, Registration, compact},
    replay::NEAR,
    shown::Doing,
    step::{Ended, Stepper},
};
use crate::{
    model::Position,
    storage::{Batch, Condition, crash_point},
};

/// How long the one in use stands still for the last stretch: its events wait meanwhile, and a thousand take some
/// milliseconds mostly.
const LAST_STRETCH_MAX: Duration = Duration::from_secs(5);

impl Keeper {
    /// Goes on with the generation that is to take over, or begins one, or drops one that nobody wants any more.
    pub(super) async fn catch_up_with_wanted(&self, active: &Pin, tasks: &mut Tasks) -> Result<(), HandlersError> {
        let wanted = tasks.wanted.pin.clone();
        if let Some(generation) = tasks.registration.rebuilding {
            let goes_on = match self.resumable(generation, &wanted).await? {
                Some(progress) => return self.go_on(generation, progress, tasks).await,
                None => *active != wanted,
            };
            if !goes_on {
                return self.give_up_rebuild(generation, tasks).await;
            }
        }
        let has_failed = tasks.registration.refused.as_ref().is_some_and(|refused| refused.pin == wanted);
        if *active == wanted || has_failed {
            return Ok(());
        }
        self.begin_rebuild(tasks).await
    }

    /// How far a generation that is to take over has come. None: it is of something else than is wanted, or what is stored of
    /// it is damaged, which is no harm to the one in use.
    async fn resumable(&self, generation: u64, wanted: &Pin) -> Result<Option<Progress>, HandlersError> {
        let journal = &self.core.journal;
        let found = match journal.generation(&self.name, generation).await {
            Ok(record) if record.pin != *wanted => return Ok(None),
            Ok(_) => journal.progress(&self.name, generation).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(progress) => Ok(Some(progress)),
            Err(error @ HandlersError::Damaged { .. }) => {
                tracing::warn!(handler = %self.name, generation, %error, "a state that was being built is built anew");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn give_up_rebuild(&self, generation: u64, tasks: &mut Tasks) -> Result<(), HandlersError> {
        let registration = Registration { rebuilding: None, ..tasks.registration.clone() };
        let batch = Batch::new().put(SPACE, keys::dropped(&self.name, generation), Bytes::new());
        self.put_registration(tasks, registration, batch).await?;
        self.remove(generation);
        Ok(())
    }

    /// A new generation of what is wanted, in place of another one that was to take over.
    pub(super) async fn begin_rebuild(&self, tasks: &mut Tasks) -> Result<(), HandlersError> {
        let generation = tasks.registration.next;
        let before = tasks.registration.rebuilding;
        let registration = Registration {
            rebuilding: Some(generation),
            next: generation + 1,
            refused: None,
            ..tasks.registration.clone()
        };
        let mut batch = self.new_generation(generation, &tasks.wanted.pin, registration.begins);
        if let Some(before) = before {
            batch = batch.put(SPACE, keys::dropped(&self.name, before), Bytes::new());
        }
        self.put_registration(tasks, registration, batch).await?;
        if let Some(before) = before {
            self.remove(before);
        }
        (self.core.tell)(&self.name, &tasks.wanted.pin, &Told::Rebuilding);
        let progress = self.core.journal.progress(&self.name, generation).await?;
        self.go_on(generation, progress, tasks).await
    }

    async fn go_on(&self, generation: u64, progress: Progress, tasks: &mut Tasks) -> Result<(), HandlersError> {
        let wanted = &tasks.wanted;
        let mut shown = shown(generation, wanted.pin.clone(), progress);
        shown.doing = Doing::Replaying;
        shown.filter = Some(wanted.handler.filter().clone());
        {
            let mut standing = self.cell.lock();
            standing.rebuilding = Some(shown);
            standing.refused = tasks.registration.refused.clone();
        }
        self.readers.put(generation, Arc::clone(&wanted.handler));
        let beside = Some(tasks.registration.active);
        let stepper = self.stepper(generation, &wanted.pin, Arc::clone(&wanted.handler), progress, beside, wanted);
        tasks.last_stretch = None;
        tasks.rebuild = Some(rebuild(stepper, self.goal(), tasks.near));
        Ok(())
    }

    pub(super) async fn rebuilt(
        &self,
        rebuilt: Option<(Stepper, Result<(), Ended>)>,
        tasks: &mut Tasks,
    ) -> Result<(), HandlersError> {
        tasks.rebuild = None;
        // One that panicked is begun again with everything else.
        let (stepper, ended) = rebuilt.ok_or_else(|| HandlersError::Interrupted(self.name.clone()))?;
        match ended {
            Ok(()) if tasks.last_stretch.is_some() => self.take_over(stepper, tasks).await,
            Ok(()) => {
                // Nobody else moves its checkpoint from here on.
                if let Some(mut following) = tasks.following.take() {
                    following.lane.stop().await;
                }
                tasks.last_stretch = Some(Instant::now() + LAST_STRETCH_MAX);
                tasks.rebuild = Some(rebuild(stepper, self.goal(), 0));
                Ok(())
            }
            Err(Ended::Refused { position, reason } | Ended::Halted { position, reason }) => {
                self.refuse(stepper, position, reason, tasks).await
            }
            Err(Ended::Stopped) => Ok(()),
            Err(Ended::TakenOver) => Err(HandlersError::TakenOver),
            Err(Ended::Store(reason)) => Err(HandlersError::NotStored(reason)),
        }
    }

    /// The last stretch takes longer than the one in use may stand still: that goes on, and the new one comes nearer beside it.
    pub(super) async fn break_off(&self, tasks: &mut Tasks) -> Result<(), HandlersError> {
        tasks.last_stretch = None;
        let Some(mut rebuilding) = tasks.rebuild.take() else { return Ok(()) };
        let Some((stepper, ended)) = rebuilding.stop().await else {
            return Err(HandlersError::Interrupted(self.name.clone()));
        };
        let active = tasks.registration.active;
        let in_use = self.cell.lock().active.as_ref().map(|shown| shown.pin.clone());
        if let Some((pin, handler)) = in_use.zip(self.readers.get(active)) {
            let progress = self.core.journal.progress(&self.name, active).await?;
            tasks.following =
                Some(Following::spawn(self.stepper(active, &pin, handler, progress, None, &tasks.wanted)));
        }
        if !matches!(ended, Ok(()) | Err(Ended::Stopped)) {
            return self.rebuilt(Some((stepper, ended)), tasks).await;
        }
        // Nearer by an eighth each time, so that what is left takes less than the limit, however slow it is.
        let behind = self.goal()().0.saturating_sub(stepper.progress.checkpoint.0);
        tasks.near = tasks.near.min(behind) / 8;
        tracing::info!(handler = %self.name, near = tasks.near, "the new state comes nearer before it takes over");
        tasks.rebuild = Some(rebuild(stepper, self.goal(), tasks.near));
        Ok(())
    }

    /// One commit: from here on its state is read, and its effects go out.
    async fn take_over(&self, stepper: Stepper, tasks: &mut Tasks) -> Result<(), HandlersError> {
        let old = tasks.registration.active;
        let Stepper { generation, pin, handler, progress, .. } = stepper;
        let before = self.core.journal.progress(&self.name, old).await?;
        if before.checkpoint > progress.checkpoint {
            // It has not stood still: nobody knows how, so that everything is begun again.
            return Err(HandlersError::Interrupted(self.name.clone()));
        }
        let registration =
            Registration { active: generation, rebuilding: None, refused: None, ..tasks.registration.clone() };
        let stands_still =
            Condition::Equals { space: SPACE, key: keys::progress(&self.name, old), value: compact(&before) };
        let batch = Batch::new().require(stands_still).put(SPACE, keys::dropped(&self.name, old), Bytes::new());
        crash_point::here("before-takeover");
        self.put_registration(tasks, registration, batch).await?;
        crash_point::here("after-takeover");
        {
            let mut standing = self.cell.lock();
            standing.active = standing.rebuilding.take();
            standing.refused = None;
        }
        (self.core.tell)(&self.name, &pin, &Told::TookOver { checkpoint: progress.checkpoint });
        (tasks.last_stretch, tasks.near) = (None, NEAR);
        tasks.following =
            Some(Following::spawn(self.stepper(generation, &pin, handler, progress, None, &tasks.wanted)));
        self.remove(old);
        Ok(())
    }

    /// It never takes over; the one in use goes on.
    async fn refuse(
        &self,
        stepper: Stepper,
        position: Position,
        reason: String,
        tasks: &mut Tasks,
    ) -> Result<(), HandlersError> {
        let Stepper { generation, pin, .. } = stepper;
        let at_ms = self.core.wall.now_ms();
        let refused = Refused { pin: pin.clone(), position, reason: reason.clone(), at_ms };
        let registration = Registration { rebuilding: None, refused: Some(refused), ..tasks.registration.clone() };
        let batch = Batch::new().put(SPACE, keys::dropped(&self.name, generation), Bytes::new());
        self.put_registration(tasks, registration, batch).await?;
        {
            let mut standing = self.cell.lock();
            standing.rebuilding = None;
            standing.refused = tasks.registration.refused.clone();
        }
        (self.core.tell)(&self.name, &pin, &Told::Refused { position, reason });
        self.remove(generation);
        if tasks.following.is_none() {
            // It was stopped to be taken over from.
            let (wanted, registration) = (Arc::clone(&tasks.wanted), tasks.registration.clone());
            *tasks = self.begin(wanted, registration).await?;
        }
        Ok(())
    }
}
