//! The one engine of the process.

use std::{fmt, path::Path, sync::Arc};

use wasmtime::{Config, Engine};

use super::{RuntimeError, cache::CodeCache, limits, ticker::Ticker};

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
    pub(super) cache: Option<CodeCache>,
}

impl Runtime {
    /// `cache_dir` is made private (0700) and holds compiled code; none: nothing is cached.
    pub fn new(cache_dir: Option<&Path>) -> Result<Arc<Self>, RuntimeError> {
        let refused = |error: wasmtime::Error| RuntimeError::Engine(format!("{error:#}"));
        let engine = Engine::new(&config()).map_err(refused)?;
        let cache = match cache_dir {
            Some(dir) => Some(
                CodeCache::open(dir, &engine).map_err(|source| RuntimeError::Cache { path: dir.to_owned(), source })?,
            ),
            None => None,
        };
        let ticker = Ticker::start(engine.clone()).map_err(|error| RuntimeError::Engine(error.to_string()))?;
        Ok(Arc::new(Self { engine, ticker: Arc::new(ticker), cache }))
    }

    /// How often compiled code came from the cache, and how often it had to be made.
    pub fn cache_counts(&self) -> CacheCounts {
        self.cache.as_ref().map(CodeCache::counts).unwrap_or_default()
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
