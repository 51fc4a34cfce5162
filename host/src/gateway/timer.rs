//! A time limit on each request that costs next to nothing when it is kept.
//!
//! Setting a timer for each request, and taking it back, touches the runtime's timer wheel twice a request
//! (1.2 % of the CPU in a profile). So a connection keeps one timer: it is left to run on from request to
//! request and only looked at again when it fires, or when a request has less time than it has left.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// One connection's timer. Of requests at once (HTTP/2) one has it, the others make their own.
#[derive(Debug, Default)]
pub struct KeptTimer(RefCell<Option<Pin<Box<Sleep>>>>);

impl KeptTimer {
    /// None: `deadline` passed first.
    pub async fn before<T>(&self, deadline: Instant, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut timer = None;
        let result = poll_fn(|cx| {
            if let Poll::Ready(result) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(result));
            }
            let timer = timer.get_or_insert_with(|| self.take(deadline));
            if timer.deadline() > deadline {
                timer.as_mut().reset(deadline);
            }
            while timer.as_mut().poll(cx).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                // It was set for an earlier request.
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await;
        if timer.is_some() {
            self.0.replace(timer);
        }
        result
    }

    fn take(&self, deadline: Instant) -> Pin<Box<Sleep>> {
        self.0.take().unwrap_or_else(|| Box::pin(sleep_until(deadline)))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        pin::pin,
        time::Duration,
    };

    use tokio::task::yield_now;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(test);
    }

    #[test]
    fn each_request_has_its_own_deadline_though_the_timer_is_kept() {
        run(async {
            let timer = KeptTimer::default();
            // Waits once, so that the timer is made and kept, set for a long time.
            assert_eq!(timer.before(Instant::now() + LONG, pin!(yield_now())).await, Some(()));
            let deadline = Instant::now() + Duration::from_millis(5);
            assert_eq!(timer.before(deadline, pin!(pending::<()>())).await, None);
            assert!(Instant::now() >= deadline);
            // Now it is set for a time that has passed: which must not end the next one.
            assert_eq!(timer.before(Instant::now() + LONG, pin!(yield_now())).await, Some(()));
        });
    }

    #[test]
    fn requests_at_once_do_not_share_it() {
        run(async {
            let timer = KeptTimer::default();
            let deadline = Instant::now() + Duration::from_millis(5);
            let (first, second) = (pin!(pending::<()>()), pin!(pending::<()>()));
            let within = pin!(timer.before(deadline, first));
            let (one, other) =
                tokio::join!(timer.before(Instant::now() + LONG, within), timer.before(deadline, second));
            assert_eq!((one, other), (Some(None), None));
        });
    }

    #[test]
    fn what_is_ready_needs_no_timer() {
        run(async {
            let timer = KeptTimer::default();
            assert_eq!(timer.before(Instant::now(), pin!(ready(7))).await, Some(7));
            assert!(timer.0.borrow().is_none());
        });
    }
}
