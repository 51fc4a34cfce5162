//! Work that takes the CPU or the disk for long, on threads made for it, a few at a time.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::JoinSet};

/// Threads at once, so that a change of a thousand services leaves the workers their cores.
const THREADS_MAX: usize = 4;

/// Pieces of one change.
pub struct Blocking<T> {
    running: JoinSet<T>,
    permits: Arc<Semaphore>,
}

impl<T: Send + 'static> Blocking<T> {
    pub fn new() -> Self {
        Self { running: JoinSet::new(), permits: Arc::new(Semaphore::new(THREADS_MAX)) }
    }

    /// Waits for a thread, and hands it the work.
    pub async fn spawn(&mut self, work: impl FnOnce() -> T + Send + 'static) {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        self.running.spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
    }

    /// None when all is done. An error means that the work panicked.
    pub async fn next(&mut self) -> Option<Result<T, tokio::task::JoinError>> {
        self.running.join_next().await
    }
}
