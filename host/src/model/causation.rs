//! How events came about: what bounds events that cause each other, in a chain and in all.

use serde::{Deserialize, Serialize};

/// Longest chain of events that caused each other: an emitted event of more is not taken, so that handlers which cause
/// each other's events end.
pub const CAUSATION_DEPTH_MAX: u8 = 16;

/// Events that may come of one from outside in all, about so many, through whatever it causes: a depth alone bounds no circle
/// in which each event causes ten (10¹⁶ of them at depth 16). At 1 KiB each they are some 10 MB.
pub const DESCENDANTS_MAX: u32 = 10_000;

/// How an event came about: what bounds events that cause each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Causation {
    /// How many events caused each other before it: 0 for one that came from outside.
    pub depth: u8,
    /// How many events may come of it, its own and theirs together.
    pub descendants: u32,
}

impl Default for Causation {
    /// Of an event from outside.
    fn default() -> Self {
        Self { depth: 0, descendants: DESCENDANTS_MAX }
    }
}

/// Why an event may not cause what a handler would have it cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CausationProblem {
    #[error("{CAUSATION_DEPTH_MAX} events have caused each other, and that many may: it causes no more")]
    TooDeep,
    #[error(
        "{given} events would come of it, and {left} may: of one event from outside come about {DESCENDANTS_MAX} at most, \
         however they cause each other"
    )]
    TooMany { given: u32, left: u32 },
}

impl Causation {
    /// Of each of the `count` events that one handler makes of this one, where so many handlers are known to make some of such
    /// events. Each has an equal share of what may still come: whoever adds them up comes to more than that only by those
    /// that were not known yet.
    pub fn of_each_effect(self, count: u32, handlers: u32) -> Result<Self, CausationProblem> {
        if self.depth >= CAUSATION_DEPTH_MAX {
            return Err(CausationProblem::TooDeep);
        }
        let left = self.descendants / handlers.max(1);
        let behind = left.checked_sub(count).ok_or(CausationProblem::TooMany { given: count, left })?;
        Ok(Self { depth: self.depth + 1, descendants: behind / count.max(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that may come of it where each of so many handlers makes so many of each, counted by the levels: those of one are
    /// alike.
    fn descendants(count: u32, handlers: u32) -> u64 {
        let (mut each, mut alike, mut all) = (Causation::default(), 1, 0);
        while let Ok(next) = each.of_each_effect(count, handlers) {
            alike *= u64::from(count) * u64::from(handlers);
            all += alike;
            each = next;
        }
        all
    }

    #[test]
    fn a_chain_ends_at_its_depth_and_a_flood_at_its_number() {
        assert_eq!(descendants(1, 1), u64::from(CAUSATION_DEPTH_MAX));
        for (count, handlers) in [(10, 1), (1, 10), (2, 3), (1_000, 1), (1, 2), (10_000, 1), (7, 7)] {
            let all = descendants(count, handlers);
            assert!(all <= u64::from(DESCENDANTS_MAX) && all > 0, "{count} {handlers}: {all}");
        }
    }

    #[test]
    fn what_would_be_more_than_is_left_is_refused_with_both_numbers() {
        let refused = Causation { depth: 1, descendants: 9 }.of_each_effect(5, 2);
        assert_eq!(refused, Err(CausationProblem::TooMany { given: 5, left: 4 }));
    }
}
