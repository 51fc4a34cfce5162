//! From one generation of a handler to the next: begun, gone on with after a restart, taken over from, or refused.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    core::Told,
    error::HandlersError,
    keeper::{Keeper, Tasks, shown},
    keys::{self, SPACE},
    lanes::{Following, rebuild},
    record::{Pin, Refused, Registration},
    replay::NEAR,
    shown::Doing,
    step::{Ended, Stepper},
};
use crate::{
    model::Position,
    storage::{Batch, crash_point},
};

impl Keeper {
    /// Goes on with the generation that is to take over, or begins one, or drops one that nobody wants any more.
    pub(super) async fn catch_up_with_wanted(&self, active: &Pin, tasks: &mut Tasks) -> Result<(), HandlersError> {
        let wanted = tasks.wanted.pin.clone();
        if let Some(generation) = tasks.registration.rebuilding {
            let pin = self.core.journal.generation(&self.name, generation).await?.pin;
            if pin == wanted {
                return self.go_on(generation, tasks).await;
            }
            if *active == wanted {
                return self.give_up_rebuild(generation, tasks).await;
            }
        }
        let has_failed = tasks.registration.refused.as_ref().is_some_and(|refused| refused.pin == wanted);
        if *active == wanted || has_failed {
            return Ok(());
        }
        self.begin_rebuild(tasks).await
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
        self.go_on(generation, tasks).await
    }

    async fn go_on(&self, generation: u64, tasks: &mut Tasks) -> Result<(), HandlersError> {
        let progress = self.core.journal.progress(&self.name, generation).await?;
        let wanted = &tasks.wanted;
        let mut shown = shown(generation, wanted.pin.clone(), progress);
        shown.doing = Doing::Replaying;
        shown.filter = Some(wanted.handler.filter().clone());
        self.cell.lock().rebuilding = Some(shown);
        self.readers.put(generation, Arc::clone(&wanted.handler));
        let beside = Some(tasks.registration.active);
        let stepper = self.stepper(generation, &wanted.pin, Arc::clone(&wanted.handler), progress, beside, wanted);
        tasks.is_last_stretch = false;
        tasks.rebuild = Some(rebuild(stepper, self.goal(), NEAR));
        Ok(())
    }

    pub(super) async fn rebuilt(
        &self,
        rebuilt: Option<(Stepper, Result<(), Ended>)>,
        tasks: &mut Tasks,
    ) -> Result<(), HandlersError> {
        tasks.rebuild = None;
        // One that panicked is begun again with everything else.
        let (stepper, ended) = rebuilt.ok_or(HandlersError::Closed)?;
        match ended {
            Ok(()) if tasks.is_last_stretch => self.take_over(stepper, tasks).await,
            Ok(()) => {
                // Nobody else moves its checkpoint from here on.
                if let Some(mut following) = tasks.following.take() {
                    following.lane.stop().await;
                }
                tasks.is_last_stretch = true;
                tasks.rebuild = Some(rebuild(stepper, self.goal(), 0));
                Ok(())
            }
            Err(Ended::Refused { position, reason } | Ended::Halted { position, reason }) => {
                self.refuse(stepper, position, reason, tasks).await
            }
            Err(Ended::Stopped) => Ok(()),
            Err(Ended::TakenOver) => Err(HandlersError::TakenOver),
            Err(Ended::Store(reason)) => Err(HandlersError::damaged(b"", &reason)),
        }
    }

    /// One commit: from here on its state is read, and its effects go out.
    async fn take_over(&self, stepper: Stepper, tasks: &mut Tasks) -> Result<(), HandlersError> {
        let old = tasks.registration.active;
        let Stepper { generation, pin, handler, progress, .. } = stepper;
        let registration =
            Registration { active: generation, rebuilding: None, refused: None, ..tasks.registration.clone() };
        let batch = Batch::new().put(SPACE, keys::dropped(&self.name, old), Bytes::new());
        crash_point::here("before-takeover");
        self.put_registration(tasks, registration, batch).await?;
        crash_point::here("after-takeover");
        {
            let mut standing = self.cell.lock();
            standing.active = standing.rebuilding.take();
            standing.refused = None;
        }
        (self.core.tell)(&self.name, &pin, &Told::TookOver { checkpoint: progress.checkpoint });
        tasks.is_last_stretch = false;
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
        if tasks.is_last_stretch {
            // It was stopped to be taken over from.
            let (wanted, registration) = (Arc::clone(&tasks.wanted), tasks.registration.clone());
            *tasks = self.begin(wanted, registration).await?;
        }
        Ok(())
    }
}
