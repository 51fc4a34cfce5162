//! A task that wakes itself is polled again at once, by the thread that it is on.
//!
//! hyper hands a request's body to its handler through a channel within one task, and each half wakes the task for the
//! other. The runtime takes that for work that another thread should have: it writes to an event descriptor to wake one,
//! which takes the task over, and takes the core from whoever waits for the answer. For a request that is answered in
//! 50 µs that is half of its time.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// How often in a row; then others have their turn.
const REPOLLS_MAX: usize = 16;

const IDLE: u8 = 0;
const POLLED: u8 = 1;
const WOKEN: u8 = 2;

/// The future, which [`Repolled`] wakes only if something happens while it is not polled.
pub(super) fn repolled<F: Future>(future: F) -> Repolled<F> {
    Repolled { future: Box::pin(future), state: Arc::default(), waker: None }
}

pub(super) struct Repolled<F> {
    future: Pin<Box<F>>,
    state: Arc<State>,
    /// Of `state`.
    waker: Option<Waker>,
}

#[derive(Default)]
struct State {
    phase: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Whoever polls sees that it is woken.
        let woken =
            self.phase.fetch_update(Ordering::AcqRel, Ordering::Acquire, |phase| (phase != IDLE).then_some(WOKEN));
        if woken.is_err()
            && let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner)
        {
            task.wake_by_ref();
        }
    }
}

impl State {
    /// Before it is not polled any more, so that no later wake-up is lost.
    fn remember(&self, task: &Waker) {
        let mut remembered = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *remembered {
            Some(known) => known.clone_from(task),
            None => *remembered = Some(task.clone()),
        }
    }
}

impl<F: Future> Future for Repolled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, state, waker } = &mut *self;
        state.remember(context.waker());
        let waker = waker.get_or_insert_with(|| Waker::from(Arc::clone(state)));
        for _ in 0..REPOLLS_MAX {
            // Reads what a wake-up before it has told, so that none is lost between this and the look of the future.
            state.phase.swap(POLLED, Ordering::AcqRel);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            let rests = state.phase.compare_exchange(POLLED, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if rests.is_ok() {
                return Poll::Pending;
            }
        }
        state.phase.store(IDLE, Ordering::Release);
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it was polled, and its task woken, until it rests.
    fn poll<F: Future<Output = ()>>(future: &mut Repolled<F>) -> (bool, usize) {
        let woken = Arc::<Woken>::default();
        let is_ready = Pin::new(future).poll(&mut Context::from_waker(&Arc::clone(&woken).into())).is_ready();
        (is_ready, woken.0.load(Ordering::Relaxed))
    }

    fn wakes_itself(times: usize) -> impl Future<Output = ()> {
        let mut left = times;
        poll_fn(move |context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn one_that_wakes_itself_goes_on_at_once() {
        assert_eq!(poll(&mut repolled(wakes_itself(REPOLLS_MAX - 1))), (true, 0));
    }

    #[test]
    fn one_that_never_rests_lets_others_have_their_turn() {
        let mut restless = repolled(wakes_itself(REPOLLS_MAX));
        assert_eq!(poll(&mut restless), (false, 1));
        assert_eq!(poll(&mut restless), (true, 0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_happens_elsewhere_wakes_it_whenever_that_is() {
        for round in 0..10_000 {
            let (tell, told) = tokio::sync::oneshot::channel();
            let waits = tokio::spawn(repolled(async move { told.await.expect("it is told") }));
            tokio::spawn(async move { tell.send(round) });
            assert_eq!(waits.await.expect("it does not panic"), round);
        }
    }
}
