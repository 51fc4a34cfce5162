//! The thread that gives the engine its sense of time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use wasmtime::Engine;

/// One step of the engine's epoch.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// How often the ticker looks around while no call is known to be long. A wake-up costs some microseconds of CPU time:
/// at every tick that would be about 1 % of a core, which is what a request's balancing costs.
pub(super) const ROUND: Duration = Duration::from_millis(5);

/// Ticks made up for at once: more than the longest budget has.
const TICKS_AT_ONCE_MAX: u128 = 10_000;

/// Moves the engine's epoch on, one step for each [`TICK`], until it is dropped.
///
/// It wakes once a [`ROUND`], and then makes all the ticks since. A call that is still going on then is looked at, and
/// asks for closer attention by [`Ticker::watch`]: so single ticks are there for those who need them.
///
/// Whatever can run guest code holds it: without ticks a guest that spins would spin for ever.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    origin: Instant,
    stop: AtomicBool,
    /// Nanoseconds from `origin`: until then it wakes at each tick.
    watch_until_ns: AtomicU64,
}

impl Ticker {
    pub fn start(engine: Engine) -> std::io::Result<Self> {
        let origin = Instant::now();
        let shared = Arc::new(Shared { origin, stop: AtomicBool::new(false), watch_until_ns: AtomicU64::new(0) });
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("plugin-ticker".to_owned()).spawn(move || theirs.run(&engine))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Wakes at each tick for so many ticks: somebody waits for the last of them.
    pub fn watch(&self, ticks: u64) {
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX).saturating_add(1);
        let until = self.shared.origin.elapsed() + TICK.saturating_mul(ticks);
        let until_ns = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.shared.watch_until_ns.fetch_max(until_ns, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Shared {
    fn run(&self, engine: &Engine) {
        let mut ticked = Duration::ZERO;
        while !self.stop.load(Ordering::Relaxed) {
            let watched = self.origin.elapsed() < Duration::from_nanos(self.watch_until_ns.load(Ordering::Relaxed));
            thread::park_timeout(if watched { TICK } else { ROUND });
            let ticks = (self.origin.elapsed() - ticked).as_nanos() / TICK.as_nanos();
            for _ in 0..ticks.min(TICKS_AT_ONCE_MAX) {
                engine.increment_epoch();
            }
            ticked += TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("the ticker does not panic");
        }
    }
}
