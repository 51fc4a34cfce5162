//! Levels: which members each has, how much of the traffic is its, and a pick from them.

use super::{Candidate, Choice, OnPanic, Rules};
use crate::{InstantUs, Slot, random::mix, sort::sort_by};

/// A level of which this share is available takes all of its traffic: 1 / 1.4 is 72 % (Envoy's default
/// overprovisioning factor), in thousandths.
const OVERPROVISIONING_PERMILLE: u64 = 1_400;

/// How often a retry asks its policy for an endpoint that was not tried, before it takes the next such one.
const RETRY_DRAWS: u32 = 8;

/// Keeps the choice of a level independent of the choice within it, which sees the same 64 bits.
const LEVEL_SALT: u64 = 0x6c65_7665_6c00;

/// All traffic, on the scale by which it is shared out among levels.
const WHOLE: u64 = 1 << 32;

/// A share that slow start does not lower, for a weight of 1.
pub const FULL_SHARE: u32 = 256;

/// One endpoint in the running.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    pub slot: Slot,
    pub key: u64,
    /// As configured.
    pub weight: u32,
    /// What slow start leaves of `weight` now, times [`FULL_SHARE`]. At least 1.
    pub share: u32,
    /// The same as a factor: above 0, at most 1.
    pub ramp: f64,
    since: InstantUs,
}

/// A service's endpoints as a balancer uses them, with one `C` a level.
#[derive(Clone, Debug)]
pub struct Levels<C> {
    rules: Rules,
    fresh: C,
    levels: Vec<Level<C>>,
    /// When a slow start will have moved some share; the end of time where none is under way.
    reweigh_at: InstantUs,
}

#[derive(Clone, Debug)]
struct Level<C> {
    priority: u32,
    /// This level's traffic ends here on a scale from 0 to [`WHOLE`], and begins where the one before ends.
    ends_at: u64,
    members: Vec<Member>,
    choice: C,
}

impl<C: Choice> Levels<C> {
    /// Without endpoints. Each level's choice begins as a clone of `fresh`.
    pub fn new(rules: Rules, fresh: C) -> Self {
        Self { rules, fresh, levels: Vec::new(), reweigh_at: InstantUs::MAX }
    }

    /// Takes the whole membership. The choice of a level that was there before is rebuilt, not replaced.
    pub fn update(&mut self, candidates: impl IntoIterator<Item = Candidate>, now: InstantUs) {
        let mut candidates: Vec<Candidate> = candidates.into_iter().collect();
        sort_by(&mut candidates, |a, b| (a.priority, a.slot) < (b.priority, b.slot));
        let mut before = std::mem::take(&mut self.levels);
        let groups: Vec<&[Candidate]> = candidates.chunk_by(|a, b| a.priority == b.priority).collect();
        let plan = plan(&groups, &self.rules);
        let mut ends_at = 0_u64;
        for (group, part) in groups.iter().zip(plan) {
            ends_at += part.traffic;
            let members: Vec<Member> = group.iter().filter(|c| c.available || part.all).map(Member::new).collect();
            if part.closed || members.is_empty() {
                continue;
            }
            let priority = group[0].priority;
            let choice = match before.iter().position(|level| level.priority == priority) {
                Some(index) => before.swap_remove(index).choice,
                None => self.fresh.clone(),
            };
            self.levels.push(Level { priority, ends_at, members, choice });
        }
        self.share_out(now);
        for level in &mut self.levels {
            level.choice.rebuild(&level.members);
        }
    }

    /// `random` chooses the level, `draw` the index of a member in it; it is called again, with the next number
    /// from 0, where a retry got an endpoint that `tried` knows.
    #[inline]
    pub fn pick(
        &mut self,
        now: InstantUs,
        random: u64,
        attempt: u32,
        tried: impl Fn(Slot) -> bool,
        mut draw: impl FnMut(&mut C, &[Member], u32) -> usize,
    ) -> Option<Slot> {
        if now >= self.reweigh_at {
            self.reweigh(now);
        }
        let level = match self.levels.len() {
            0 => return None,
            1 => 0,
            _ => self.level_of(random),
        };
        let Level { members, choice, .. } = &mut self.levels[level];
        let first = members[draw(choice, members, 0)].slot;
        if attempt == 0 || !tried(first) {
            return Some(first);
        }
        for turn in 1..RETRY_DRAWS {
            let slot = members[draw(choice, members, turn)].slot;
            if !tried(slot) {
                return Some(slot);
            }
        }
        Some(self.untried(level, random, tried).unwrap_or(first))
    }

    /// All members of all levels.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.levels.iter().flat_map(|level| &level.members)
    }

    /// Each level's members and choice.
    pub fn choices(&self) -> impl Iterator<Item = (&[Member], &C)> {
        self.levels.iter().map(|level| (&level.members[..], &level.choice))
    }

    pub fn choices_mut(&mut self) -> impl Iterator<Item = (&[Member], &mut C)> {
        self.levels.iter_mut().map(|level| (&level.members[..], &mut level.choice))
    }

    fn level_of(&self, random: u64) -> usize {
        let point = mix(random, LEVEL_SALT) >> 32;
        self.levels.iter().position(|level| point < level.ends_at).unwrap_or(self.levels.len() - 1)
    }

    /// Any endpoint that was not tried: of this level first, then of the others.
    #[cold]
    fn untried(&self, level: usize, random: u64, tried: impl Fn(Slot) -> bool) -> Option<Slot> {
        let own = &self.levels[level].members;
        let from = crate::random::below(random, own.len() as u32) as usize;
        let others = self.levels.iter().enumerate().filter(|(index, _)| *index != level);
        own[from..]
            .iter()
            .chain(&own[..from])
            .chain(others.flat_map(|(_, level)| &level.members))
            .map(|member| member.slot)
            .find(|&slot| !tried(slot))
    }

    #[cold]
    fn reweigh(&mut self, now: InstantUs) {
        self.share_out(now);
        for level in &mut self.levels {
            level.choice.reweigh(&level.members);
        }
    }

    fn share_out(&mut self, now: InstantUs) {
        self.reweigh_at = InstantUs::MAX;
        for member in self.levels.iter_mut().flat_map(|level| &mut level.members) {
            let ramp = self.rules.slow_start.ramp(member.since, now);
            member.ramp = ramp.factor;
            member.share = ((f64::from(member.weight * FULL_SHARE) * ramp.factor) as u32).max(1);
            self.reweigh_at = self.reweigh_at.min(ramp.changes_at.unwrap_or(InstantUs::MAX));
        }
    }
}

impl Member {
    fn new(candidate: &Candidate) -> Self {
        let weight = candidate.weight.clamp(1, 65_535);
        Self {
            slot: candidate.slot,
            key: candidate.key,
            weight,
            share: weight * FULL_SHARE,
            ramp: 1.0,
            since: candidate.since,
        }
    }
}

/// What one level is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Of [`WHOLE`].
    traffic: u64,
    /// Unavailable endpoints too.
    all: bool,
    /// Nothing of it is used.
    closed: bool,
}

/// How traffic falls to the levels, which come in order of priority and are not empty.
fn plan(groups: &[&[Candidate]], rules: &Rules) -> Vec<Part> {
    let count = |group: &[Candidate]| (group.iter().filter(|c| c.available).count() as u64, group.len() as u64);
    let (available, total) = groups.iter().map(|g| count(g)).fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1));
    let capacity = |group: &[Candidate]| {
        let (available, total) = count(group);
        (OVERPROVISIONING_PERMILLE * available / total).min(1_000)
    };
    let enough = groups.iter().map(|g| capacity(g)).sum::<u64>() >= 1_000;
    let below = |(available, total): (u64, u64)| available * 100 < total * u64::from(rules.panic_threshold_percent);
    let panic = !enough && below((available, total));
    let closed = panic && rules.on_panic == OnPanic::Fail;
    // Where nothing at all is available, traffic falls to the levels by their size.
    let takes = |group: &[Candidate]| if available == 0 { group.len() as u64 } else { capacity(group) };
    let mut left = groups.iter().map(|g| takes(g)).sum::<u64>().min(if available == 0 { u64::MAX } else { 1_000 });
    let whole = left.max(1);
    groups
        .iter()
        .map(|group| {
            let mine = takes(group).min(left);
            left -= mine;
            let traffic = WHOLE * mine / whole;
            Part { traffic, all: panic && below(count(group)), closed }
        })
        .collect()
}

#[cfg(test)]
mod tests;
