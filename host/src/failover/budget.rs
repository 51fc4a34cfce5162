//! The retry budget: repetitions are a share of the requests, so that a failing service is not buried under them.

use std::sync::Mutex;

use crate::{
    model::{InstantUs, RetryLimits},
    telemetry::Counter,
};

/// Requests and repetitions are compared over so many slots of [`SLOT_US`], as in Finagle's `RetryBudget` (10 s).
const SLOTS: u64 = 10;
const SLOT_US: u64 = 1_000_000;

/// One service's budget, shared by all workers.
///
/// A request is counted by its own worker alone, without a lock and without a cache line that another writes; only
/// who wants to send again looks at them all. Over any 10 s no more is spent than the larger of the two: the share of
/// the requests within them, and the minimum a second.
#[derive(Debug)]
pub struct RetryBudget {
    requests: Box<[WorkerRequests]>,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct WorkerRequests(Counter);

#[derive(Debug, Default)]
struct Window {
    /// Number of the slot that time is in.
    now: u64,
    slots: [Slot; SLOTS as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// All requests ever counted when the slot began.
    requests_before: u64,
    spent: u64,
}

impl RetryBudget {
    pub fn new(workers: usize, now_us: InstantUs) -> Self {
        let requests = (0..workers).map(|_| WorkerRequests::default()).collect();
        let window = Window { now: now_us / SLOT_US, ..Window::default() };
        Self { requests, window: Mutex::new(window) }
    }

    /// Counts a request of this worker. Only the worker's own thread may.
    #[inline]
    pub fn request(&self, worker: usize) {
        if let Some(requests) = self.requests.get(worker) {
            requests.0.add(1);
        }
    }

    /// Must be called at least once a second: requests are attributed to the second in which they are looked at.
    pub fn roll(&self, now_us: InstantUs) {
        let mut window = self.window();
        window.roll(now_us / SLOT_US, self.total());
    }

    /// Whether one more may be sent; if so, it is accounted for.
    pub fn spend(&self, limits: &RetryLimits, now_us: InstantUs) -> bool {
        let mut window = self.window();
        let total = self.total();
        window.roll(now_us / SLOT_US, total);
        let allowed = window.has_left(limits, total);
        if allowed {
            window.current().spent += 1;
        }
        allowed
    }

    /// Whether one more might be sent, as far as is known now.
    pub fn has_left(&self, limits: &RetryLimits, now_us: InstantUs) -> bool {
        let mut window = self.window();
        let total = self.total();
        window.roll(now_us / SLOT_US, total);
        window.has_left(limits, total)
    }

    fn total(&self) -> u64 {
        self.requests.iter().map(|requests| requests.0.get()).sum()
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Window> {
        self.window.lock().expect("no holder of the lock panics")
    }
}

impl Window {
    /// Slots that nobody looked at begin with what is known now: what was counted in them does not count.
    fn roll(&mut self, slot: u64, total: u64) {
        for skipped in (self.now + 1..=slot).rev().take(SLOTS as usize) {
            self.slots[(skipped % SLOTS) as usize] = Slot { requests_before: total, spent: 0 };
        }
        self.now = self.now.max(slot);
    }

    fn has_left(&self, limits: &RetryLimits, total: u64) -> bool {
        let requests = total.saturating_sub(self.oldest().requests_before);
        let spent: u64 = self.slots.iter().map(|slot| slot.spent).sum();
        let share = requests.saturating_mul(u64::from(limits.budget.get())) / 100;
        let minimum = u64::from(limits.budget_min_per_second) * SLOTS;
        spent < share.max(minimum)
    }

    fn current(&mut self) -> &mut Slot {
        &mut self.slots[(self.now % SLOTS) as usize]
    }

    fn oldest(&self) -> Slot {
        self.slots[((self.now + 1) % SLOTS) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Percent;

    fn limits(percent: i64, min: u32) -> RetryLimits {
        let budget = Percent::new(percent).expect("a share");
        RetryLimits { budget, budget_min_per_second: min, ..RetryLimits::default() }
    }

    fn spend_all(budget: &RetryBudget, limits: &RetryLimits, now_us: u64) -> u64 {
        (0..100_000).take_while(|_| budget.spend(limits, now_us)).count() as u64
    }

    #[test]
    fn no_more_than_the_share_of_the_requests_is_spent() {
        let (budget, limits) = (RetryBudget::new(2, 0), limits(20, 10));
        let mut spent = 0;
        for second in 0..30 {
            let now_us = second * SLOT_US;
            budget.roll(now_us);
            (0..1_000).for_each(|n| budget.request(n % 2));
            spent += spend_all(&budget, &limits, now_us);
        }
        // 30,000 requests; the window's first second counts those of the seconds before it too.
        assert!((5_000..=6_000).contains(&spent), "{spent}");
    }

    #[test]
    fn a_service_with_few_requests_has_its_minimum() {
        let (budget, limits) = (RetryBudget::new(1, 0), limits(20, 10));
        budget.request(0);
        assert_eq!(spend_all(&budget, &limits, 0), 100, "10 s of 10 a second at once");
        assert_eq!(spend_all(&budget, &limits, 9 * SLOT_US), 0);
        assert_eq!(spend_all(&budget, &limits, 10 * SLOT_US), 100, "they have left the window");
    }

    #[test]
    fn requests_of_long_ago_do_not_count() {
        let (budget, limits) = (RetryBudget::new(1, 0), limits(20, 0));
        (0..1_000_000).for_each(|_| budget.request(0));
        budget.roll(SLOT_US);
        assert_eq!(spend_all(&budget, &limits, 20 * SLOT_US), 0);
    }

    #[test]
    fn nothing_is_spent_without_a_budget() {
        let (budget, limits) = (RetryBudget::new(1, 0), limits(0, 0));
        (0..1_000).for_each(|_| budget.request(0));
        assert!(!budget.spend(&limits, 0));
    }
}
