//! Calls that wait: the lane of kinds whose imports block the guest and not the gateway.
//!
//! A call is a future that runs on the control runtime's threads. What counts is CPU time: each poll is measured by
//! the thread that it runs on, a guest that goes on computing gives its thread up at every look of the ticker, and is
//! ended once the call has had its budget. Waiting costs nothing but wall time, for which the caller gives a limit.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use wasmtime::{Engine, Store, UpdateDeadline};

use super::{
    Fault, FaultKind, PolicyContext, fault,
    instance::{State, bare_store},
    limits,
    version::Identity,
};

/// Bytes that a waiting guest may hand over at once: a membership of 10,000 instances with metadata.
const WAITING_GUEST_BYTES_MAX: usize = 16 << 20;

/// A store whose guest yields its thread at each look of the ticker.
pub(super) fn waiting_store<I: Send + 'static>(
    engine: &Engine,
    identity: &Arc<Identity>,
    context: &PolicyContext,
    imports: I,
    spent: &Arc<Spent>,
) -> Store<State<I>> {
    let mut store = bare_store(engine, identity, context, imports);
    store.set_hostcall_fuel(WAITING_GUEST_BYTES_MAX);
    let spent = Arc::clone(spent);
    store.epoch_deadline_callback(move |mut store| {
        if store.data_mut().deadline.charge(spent.with_this_poll()) {
            return Ok(UpdateDeadline::Interrupt);
        }
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// Before a call into a guest that may wait: `cpu` is for all that it computes.
pub(super) fn begin<I: 'static>(store: &mut Store<State<I>>, spent: &Spent, cpu: Duration) {
    store.set_epoch_deadline(1);
    spent.forget();
    let state = store.data_mut();
    state.deadline.begin(cpu);
    state.memory.forget_refusal();
}

/// The call itself, measured; it is given up after `wall`. Then, and after an error, the instance is of no more use.
/// Without `wall` there need be no runtime.
pub(super) async fn within<R>(
    spent: &Spent,
    wall: Option<Duration>,
    call: impl Future<Output = wasmtime::Result<R>> + Send,
) -> Result<R, Ended> {
    let call = Metered { call: Box::pin(call), spent };
    let Some(wall) = wall else { return call.await.map_err(Ended::Error) };
    match tokio::time::timeout(wall, call).await {
        Ok(answer) => answer.map_err(Ended::Error),
        Err(_) => Err(Ended::GivenUp(wall)),
    }
}

/// How a call ended that gave no answer.
pub(super) enum Ended {
    Error(wasmtime::Error),
    GivenUp(Duration),
}

impl Ended {
    /// The fault that it is.
    pub fn classify<I>(self, name: &'static str, state: &State<I>) -> Fault {
        match self {
            Self::Error(error) => fault::classify(name, &error, state),
            Self::GivenUp(wall) => Fault {
                kind: FaultKind::Deadline,
                call: name,
                message: format!("gave no answer within {}", humantime::format_duration(wall)),
            },
        }
    }
}

/// CPU time that a call has had, over all threads that it ran on.
#[derive(Debug, Default)]
pub(super) struct Spent {
    earlier_polls_ns: AtomicU64,
    /// The thread's CPU clock when the poll began that is going on.
    poll_began_ns: AtomicU64,
}

impl Spent {
    fn forget(&self) {
        self.earlier_polls_ns.store(0, Ordering::Relaxed);
    }

    /// Only within a poll, on its thread.
    fn with_this_poll(&self) -> Duration {
        let this = now_ns().saturating_sub(self.poll_began_ns.load(Ordering::Relaxed));
        Duration::from_nanos(self.earlier_polls_ns.load(Ordering::Relaxed).saturating_add(this))
    }
}

fn now_ns() -> u64 {
    u64::try_from(limits::thread_cpu().as_nanos()).unwrap_or(u64::MAX)
}

/// Measures each poll of a call.
struct Metered<'s, F> {
    call: Pin<Box<F>>,
    spent: &'s Spent,
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let began = now_ns();
        self.spent.poll_began_ns.store(began, Ordering::Relaxed);
        let polled = self.call.as_mut().poll(cx);
        self.spent.earlier_polls_ns.fetch_add(now_ns().saturating_sub(began), Ordering::Relaxed);
        polled
    }
}

/// Drives a call that has nothing to wait for, because its imports answer at once: for trials, which happen on
/// threads without a runtime too.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
