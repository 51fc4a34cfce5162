//! Who is in the running: priorities, panic and slow start, the same for every balancer.
//!
//! A service's endpoints are sorted into *levels* by priority. The first level takes all traffic while enough of
//! it is available; what it can't take spills to the next (`OVERPROVISIONING`). Where all levels together are
//! not enough and fewer than `panic_threshold` percent of the endpoints are available, the service is *in panic*:
//! the verdicts that say so are no longer believed, and all endpoints are used (or none, if `panic` is set
//! to `fail`). An endpoint that has just become available starts with a tenth of its weight and grows into the
//! whole (`slow_start`).
//!
//! What is chosen within a level is a [`Choice`], of which each level has one.

mod level;
mod rules;

pub use level::{FULL_SHARE, Levels, Member};
pub use rules::{OnPanic, Ramp, Rules, SlowStart};

use crate::{InstantUs, Slot};

/// An endpoint, as far as choosing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub slot: Slot,
    pub key: u64,
    /// 1 to 65535.
    pub weight: u32,
    pub priority: u32,
    pub available: bool,
    /// When it last became available.
    pub since: InstantUs,
}

/// A way to choose among the members of one level.
pub trait Choice: Clone {
    /// The members are others now, or their configured weights are.
    fn rebuild(&mut self, members: &[Member]);

    /// The members are the same, but slow start has moved their shares: some hundred times while it lasts, in
    /// the middle of a pick.
    fn reweigh(&mut self, members: &[Member]) {
        self.rebuild(members);
    }
}
