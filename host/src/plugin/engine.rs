//! The one engine of the process.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use wasmtime::{Config, Engine, component::Component};

use super::{
    RuntimeError,
    cache::{CodeCache, Sha256},
    limits,
    ticker::Ticker,
};

/// Address space that is set aside for an instance's memory, so that it grows without moving: the default limit of
/// a plugin's memory. Wasmtime's own default of 4 GiB would let only some thousand instances live.
const MEMORY_RESERVATION_BYTES: u64 = 16 << 20;

/// Unmapped bytes behind a memory. Larger than any field offset that compilers emit, so that one bounds check
/// covers an access.
const MEMORY_GUARD_BYTES: u64 = 64 << 10;

/// The engine, its ticker and the cache of compiled code. One a process.
pub struct Runtime {
    pub(super) engine: Engine,
    pub(super) ticker: Arc<Ticker>,
    cache: OnceLock<CodeCache>,
    /// Compiled while there was no cache, for the next who asks.
    unkept: Mutex<HashMap<Sha256, Component>>,
    /// By how many times calls may take longer than their budgets say.
    pub(super) patience: u32,
}

/// See [`Runtime::patient`]: a pick may take 200 ms of CPU time, which no stall of a machine makes of a microsecond, and
/// a component that spins is found out all the same.
const PATIENCE: u32 = 200;

impl Runtime {
    /// `cache_dir` is made private (0700) and holds compiled code; none: nothing is cached.
    pub fn new(cache_dir: Option<&Path>) -> Result<Arc<Self>, RuntimeError> {
        let runtime = Self::start(1)?;
        if let Some(dir) = cache_dir {
            runtime.keep_code_in(dir)?;
        }
        Ok(runtime)
    }

    /// One whose calls may take 200 times their CPU time, for runs that must not depend on how busy the machine is.
    pub fn patient() -> Result<Arc<Self>, RuntimeError> {
        Self::start(PATIENCE)
    }

    fn start(patience: u32) -> Result<Arc<Self>, RuntimeError> {
        let refused = |error: wasmtime::Error| RuntimeError::Engine(format!("{error:#}"));
        let engine = Engine::new(&config()).map_err(refused)?;
        let ticker = Ticker::start(engine.clone()).map_err(|error| RuntimeError::Engine(error.to_string()))?;
        let (cache, unkept) = (OnceLock::new(), Mutex::default());
        Ok(Arc::new(Self { engine, ticker: Arc::new(ticker), cache, unkept, patience }))
    }

    /// From now on compiled code is kept in this folder, which is made private (0700), unless a folder is in use already.
    pub fn keep_code_in(&self, dir: &Path) -> Result<(), RuntimeError> {
        if self.cache.get().is_none() {
            let failed = |source| RuntimeError::Cache { path: dir.to_owned(), source };
            let cache = CodeCache::open(dir, &self.engine).map_err(failed)?;
            self.cache.get_or_init(|| cache);
        }
        Ok(())
    }

    /// The compiled component of this hash: from the cache, or made.
    pub(super) fn compiled<E>(
        &self,
        component: Sha256,
        make: impl FnOnce() -> Result<Component, E>,
    ) -> Result<Component, E> {
        let make = || self.unkept().remove(&component).map_or_else(make, Ok);
        let Some(cache) = self.cache.get() else {
            let made = make()?;
            self.unkept().insert(component, made.clone());
            return Ok(made);
        };
        cache.get_or_make(&self.engine, &component, make)
    }

    fn unkept(&self) -> MutexGuard<'_, HashMap<Sha256, Component>> {
        self.unkept.lock().expect("no holder of the lock panics")
    }

    /// How often compiled code came from the cache, and how often it had to be made.
    pub fn cache_counts(&self) -> CacheCounts {
        self.cache.get().map(CodeCache::counts).unwrap_or_default()
    }
}

/// What the cache of compiled code has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    pub hits: u64,
    pub misses: u64,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("cache", &self.cache).finish_non_exhaustive()
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        // Sync calls are 50 to 100 times slower with it (wasmtime#12836), and no plugin here awaits.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(limits::GUEST_STACK_BYTES_MAX)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_reservation_for_growth(MEMORY_RESERVATION_BYTES)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        // Traps name functions, which the name section is enough for.
        .debug_info(false)
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable)
        .generate_address_map(false)
        // Nothing unwinds through guests, and registering tables with the system's unwinder is quadratic.
        .native_unwind_info(false);
    config
}
