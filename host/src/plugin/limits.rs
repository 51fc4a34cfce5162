//! What a guest may use: CPU time a call, memory an instance, bytes an answer.

use std::{sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use super::{ticker::TICK, version::Usage};

/// CPU time that a call may take (DESIGN.md §3.4). What is enforced is somewhat more, see [`Deadline`].
pub(super) mod budget {
    use std::time::Duration;

    pub const PICK: Duration = Duration::from_millis(1);
    pub const COMPLETE: Duration = Duration::from_millis(5);
    pub const DECIDE: Duration = Duration::from_millis(1);
    /// A health policy's `update`, on the one thread that judges for all services: 10,000 endpoints take some 10 ms.
    pub const UPDATE_HEALTH: Duration = Duration::from_millis(100);
    /// A protocol's `plan`, once a request: reading 1 MiB of JSON takes some 10 ms.
    pub const PLAN: Duration = Duration::from_millis(50);
    /// A protocol's `next`, after everything that happens to a transaction, and not on the data path: handing 1,000
    /// branches over takes 7 ms where the host is not optimised (measured), three a hundredth of that. Whoever is over it
    /// leaves its transaction in hazard, so there is room.
    pub const NEXT: Duration = Duration::from_millis(20);
    pub const SAVE: Duration = Duration::from_millis(5);
    /// `configure`, `update`, `restore`, and the instantiation before them: none is on the data path.
    pub const PREPARE: Duration = Duration::from_secs(1);
    /// One `watch`, whatever it waits: reading 10,000 instances takes some 100 ms.
    pub const WATCH: Duration = Duration::from_secs(2);
    /// One `handle`: a batch of some hundred events at some 10 µs each, what the host reads for it included, and a
    /// hundred times that for whoever parses large documents.
    pub const HANDLE: Duration = Duration::from_secs(1);
    /// One `read`, for which a client waits: a thousand keys are read and written out in some 5 ms.
    pub const READ: Duration = Duration::from_millis(100);
}

/// Most bytes that one call or import may hand to the host, and so the longest saved state (WIT `policy.save`).
pub(super) const GUEST_BYTES_MAX: usize = 1 << 20;

/// Of the guest's stack; wasmtime's default, said here because a worker's thread must have more than this.
pub(super) const GUEST_STACK_BYTES_MAX: usize = 512 << 10;

/// Core instances in one component: toolchains make two to five (the module, adapters, shims).
const CORE_INSTANCES_MAX: usize = 64;
/// Linear memories in one component: one, and one more where there is an adapter.
const MEMORIES_MAX: usize = 8;
/// Tables in one component: function table, and those of shims.
const TABLES_MAX: usize = 32;
/// Elements of all tables together, 8 bytes each: a large guest has some thousand functions.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// The CPU time of one call, measured only where the call turns out to be long.
///
/// Reading the thread's CPU clock is a system call of about 300 ns, twice a pick. So a call begins without reading it,
/// with the epoch deadline at the next tick; when that comes, and only then, the clock is read and the budget granted
/// from there. A guest that spins is therefore stopped after at most its budget, one round of the ticker until the
/// first look ([`ROUND`](super::ticker::ROUND)) and two ticks for the last grain: a pick after 4.5 ms of CPU time as a
/// rule and 8 ms at worst, or later by what the ticker wakes late on a busy machine. A thread that is descheduled
/// consumes no CPU time, and so overruns nothing however long it waits.
#[derive(Debug)]
pub(super) struct Deadline {
    budget: Duration,
    /// By how many times a call may take longer.
    patience: u32,
    /// The thread's CPU clock at the call's first tick.
    since: Option<Duration>,
    overrun: bool,
}

impl Deadline {
    pub fn new(patience: u32) -> Self {
        Self { budget: Duration::ZERO, patience, since: None, overrun: false }
    }

    /// A call begins.
    pub fn begin(&mut self, budget: Duration) {
        *self = Self { budget: budget * self.patience, since: None, overrun: false, ..*self };
    }

    /// What becomes of the call, at a tick, when the thread has had `cpu` of CPU time in its life.
    pub fn look(&mut self, cpu: Duration) -> UpdateDeadline {
        let since = *self.since.get_or_insert(cpu);
        let left = self.budget.saturating_sub(cpu.saturating_sub(since));
        if left.is_zero() {
            self.overrun = true;
            return UpdateDeadline::Interrupt;
        }
        // CPU time is never ahead of wall time, so nothing can be overrun before this many ticks.
        let ticks = left.as_nanos().div_ceil(TICK.as_nanos());
        UpdateDeadline::Continue(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// Whether a call that has had `spent` must end: for calls whose CPU time somebody else measures.
    pub fn charge(&mut self, spent: Duration) -> bool {
        self.overrun = spent >= self.budget;
        self.overrun
    }

    pub fn budget(&self) -> Duration {
        self.budget
    }

    /// Whether the call was interrupted.
    pub fn overrun(&self) -> bool {
        self.overrun
    }
}

/// CPU time of the calling thread since it began.
pub(super) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Counts what one instance has, and refuses what is beyond.
#[derive(Debug)]
pub(super) struct MemoryLimit {
    bytes: usize,
    /// What the last growth that was allowed added: taken back where it fails after all.
    last_growth: usize,
    bytes_max: usize,
    table_elements: usize,
    /// Whether growth was refused since the call began: what traps after that, traps for want of memory.
    refused: bool,
    usage: Arc<Usage>,
}

impl MemoryLimit {
    pub fn new(bytes_max: usize, usage: Arc<Usage>) -> Self {
        usage.instance_made();
        Self { bytes: 0, last_growth: 0, bytes_max, table_elements: 0, refused: false, usage }
    }

    /// Linear memory now, all memories together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub fn refused(&self) -> bool {
        self.refused
    }

    pub fn forget_refusal(&mut self) {
        self.refused = false;
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.usage.instance_dropped(self.bytes);
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let fits = self.bytes.checked_add(growth).is_some_and(|bytes| bytes <= self.bytes_max);
        if fits {
            self.bytes += growth;
            self.last_growth = growth;
            self.usage.memory_grown(growth);
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let growth = std::mem::take(&mut self.last_growth);
        self.bytes -= growth;
        self.usage.memory_shrunk(growth);
        self.refused = true;
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let fits = self.table_elements.saturating_add(growth) <= TABLE_ELEMENTS_MAX;
        if fits {
            self.table_elements += growth;
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn look(deadline: &mut Deadline, cpu: Duration) -> Option<u64> {
        match deadline.look(cpu) {
            UpdateDeadline::Continue(ticks) => Some(ticks),
            _ => None,
        }
    }

    #[test]
    fn a_call_has_its_budget_from_the_first_look_on() {
        let mut deadline = Deadline::new(1);
        deadline.begin(5 * MS);
        assert_eq!(look(&mut deadline, 100 * MS), Some(5));
        assert_eq!(look(&mut deadline, 103 * MS + MS / 2), Some(2));
        assert_eq!(look(&mut deadline, 105 * MS), None);
        assert!(deadline.overrun());
    }

    #[test]
    fn waiting_for_the_cpu_uses_nothing_up() {
        let mut deadline = Deadline::new(1);
        deadline.begin(MS);
        for _ in 0..1000 {
            assert_eq!(look(&mut deadline, 100 * MS), Some(1));
        }
        assert!(!deadline.overrun());
    }

    #[test]
    fn the_next_call_begins_anew() {
        let mut deadline = Deadline::new(1);
        deadline.begin(MS);
        look(&mut deadline, MS);
        assert_eq!(look(&mut deadline, 3 * MS), None);
        deadline.begin(MS);
        assert!(!deadline.overrun());
        assert_eq!(look(&mut deadline, 3 * MS), Some(1));
    }

    #[test]
    fn all_memories_of_an_instance_count_together_and_are_given_back() {
        let usage = Arc::new(Usage::default());
        let mut limit = MemoryLimit::new(100, Arc::clone(&usage));
        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(!limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.refused());
        assert!(limit.memory_growing(60, 100, None).unwrap());
        assert_eq!((usage.instances(), usage.memory_bytes()), (1, 100));
        drop(limit);
        assert_eq!((usage.instances(), usage.memory_bytes()), (0, 0));
    }
}
