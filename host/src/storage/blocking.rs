//! Threads of the runtime that just block, for as long as the disk takes.
//!
//! [`block_in_place`](tokio::task::block_in_place) wakes another thread to take over, which costs as much as a tenth of a sync
//! or more. Where a block is as short as one mostly is, the thread may as well wait: one of a process at a time, and the
//! runtime has others. Should the disk stand still, one of those is woken after [`TICK`] to see to the sockets.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::runtime::{Handle, RuntimeFlavor};

/// How long a thread blocks, and twice as long at most, before another one is woken for what it leaves undone. A sync takes
/// 0.2 ms; connections wait for longer than this elsewhere too.
const TICK: Duration = Duration::from_millis(5);

static STATE: Mutex<State> =
    Mutex::new(State { runtime: None, turn: 0, is_under_way: false, is_watched: false, watcher: Watcher::None });

/// Somebody has to watch.
static BEGUN: Condvar = Condvar::new();

struct State {
    /// Of the thread that blocks, or did last.
    runtime: Option<Handle>,
    /// Grows each time that a thread begins to block.
    turn: u64,
    is_under_way: bool,
    is_watched: bool,
    watcher: Watcher,
}

#[derive(PartialEq)]
enum Watcher {
    None,
    Runs,
    /// There is no thread for it.
    Failed,
}

/// While it is there, this thread may block.
pub struct Here(());

/// The runtime of this thread, if it can let one of its threads go.
pub fn runtime() -> Option<Handle> {
    Handle::try_current().ok().filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// None: it has to be done otherwise. Another thread blocks, or the runtime has no other.
pub fn here() -> Option<Here> {
    let runtime = runtime().filter(|runtime| runtime.metrics().num_workers() > 1)?;
    let mut state = lock();
    if state.is_under_way {
        return None;
    }
    if state.watcher == Watcher::None {
        let started = thread::Builder::new().name("block-watch".to_owned()).spawn(watch);
        state.watcher = if started.is_ok() { Watcher::Runs } else { Watcher::Failed };
    }
    if state.watcher == Watcher::Failed {
        return None;
    }
    state.runtime = Some(runtime);
    state.turn += 1;
    state.is_under_way = true;
    if !state.is_watched {
        state.is_watched = true;
        BEGUN.notify_one();
    }
    Some(Here(()))
}

impl Drop for Here {
    fn drop(&mut self) {
        lock().is_under_way = false;
    }
}

/// As long as threads begin to block, it looks each [`TICK`] whether one has not come back.
fn watch() {
    let mut state = lock();
    loop {
        while !state.is_watched {
            state = BEGUN.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let turn = state.turn;
        drop(state);
        thread::sleep(TICK);
        state = lock();
        if state.turn != turn {
            continue;
        }
        state.is_watched = false;
        if state.is_under_way
            && let Some(runtime) = &state.runtime
        {
            // Whichever thread runs it waits for the sockets next.
            runtime.spawn(async {});
        }
    }
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
