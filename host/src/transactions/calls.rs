//! The calls of one transaction that are under way or wait for their next attempt.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    call::{BranchCall, CallAnswer},
    core::Core,
};
use crate::{model::transaction::Reference, storage::crash_point};

/// One attempt that has ended.
#[derive(Debug)]
pub struct Ended {
    pub at: Reference,
    pub answer: CallAnswer,
}

/// Few at a time, so each is looked at whenever one is woken.
pub struct Calls {
    running: Vec<Running>,
    hurry: Arc<Notify>,
    random: fastrand::Rng,
}

struct Running {
    at: Reference,
    attempt: Pin<Box<dyn Future<Output = CallAnswer> + Send>>,
}

impl Calls {
    pub fn new(random: fastrand::Rng) -> Self {
        Self { running: Vec::new(), hurry: Arc::default(), random }
    }

    pub fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    pub fn has(&self, at: Reference) -> bool {
        self.running.iter().any(|running| running.at == at)
    }

    /// After a pause that [`Self::hurry`] ends.
    pub fn start(&mut self, core: &Arc<Core>, at: Reference, call: BranchCall, pause: Duration) {
        let (core, hurry) = (Arc::clone(core), Arc::clone(&self.hurry));
        let attempt = Box::pin(async move {
            if !pause.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = hurry.notified() => {}
                }
            }
            let _place = core.calls.acquire().await;
            crash_point::here("before-call");
            let answer = core.caller.call(call).await;
            crash_point::here("after-call");
            answer
        });
        self.running.push(Running { at, attempt });
    }

    /// Whatever waits for its next attempt makes it now.
    pub fn hurry(&self) {
        self.hurry.notify_waiters();
    }

    /// Nobody wants their answers any more; they may have arrived.
    pub fn give_up_all(&mut self) {
        self.running.clear();
    }

    /// The next that ends; None where nothing is under way, so that whoever selects looks elsewhere.
    pub async fn next(&mut self) -> Option<Ended> {
        if self.running.is_empty() {
            return None;
        }
        poll_fn(|cx| {
            for index in 0..self.running.len() {
                let running = &mut self.running[index];
                if let Poll::Ready(answer) = running.attempt.as_mut().poll(cx) {
                    let at = self.running.swap_remove(index).at;
                    return Poll::Ready(Some(Ended { at, answer }));
                }
            }
            Poll::Pending
        })
        .await
    }
}
