//! The tasks of one handler, each with a way to end it.

use std::future::pending;

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    follow::{Ask, follow},
    outbox::Sender,
    record::Progress,
    replay::replay,
    step::{Ended, Stepper},
};
use crate::model::Position;

/// What may wait for the generation in use to answer it.
const ASKS_MAX: usize = 8;

/// A task, and how to end it.
pub(super) struct Lane<T> {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Lane<T> {
    fn spawn<F: Future<Output = T> + Send + 'static>(run: impl FnOnce(watch::Receiver<bool>) -> F) -> Self {
        let (stop, stopping) = watch::channel(false);
        Self { stop, task: Some(tokio::spawn(run(stopping))) }
    }

    /// What it ends with; never, once it has. None: it panicked.
    pub async fn ended(&mut self) -> Option<T> {
        match &mut self.task {
            Some(task) => {
                let ended = task.await;
                self.task = None;
                ended.ok()
            }
            None => pending().await,
        }
    }

    /// Ends it. None where it has ended before, or panicked.
    pub async fn stop(&mut self) -> Option<T> {
        self.stop.send_replace(true);
        self.task.take()?.await.ok()
    }
}

/// The generation in use.
pub(super) struct Following {
    pub lane: Lane<Progress>,
    pub asks: mpsc::Sender<Ask>,
}

impl Following {
    pub fn spawn(mut stepper: Stepper) -> Self {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let lane = Lane::spawn(|stop| {
            stepper.stop = stop;
            follow(stepper, asked)
        });
        Self { lane, asks }
    }
}

/// One that builds its state, and what came of it.
pub(super) type Rebuild = Lane<(Stepper, Result<(), Ended>)>;

/// Until it is at most `near` events behind a goal that may move.
pub(super) fn rebuild(mut stepper: Stepper, goal: impl Fn() -> Position + Send + Sync + 'static, near: u64) -> Rebuild {
    Lane::spawn(move |stop| async move {
        stepper.stop = stop;
        let ended = replay(&mut stepper, goal, near).await;
        (stepper, ended)
    })
}

pub(super) fn send(mut sender: Sender) -> Lane<()> {
    Lane::spawn(|stop| {
        sender.stop = stop;
        sender.run()
    })
}
