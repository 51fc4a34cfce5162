//! How a group stands, for whoever looks.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{record::Definition, settings::Settings, state::State};
use crate::model::{GroupName, Position};

/// Since the gateway started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub delivered: u64,
    /// Those that were not the first of their event.
    pub redelivered: u64,
    pub acknowledged: u64,
    pub retried: u64,
    pub parked: u64,
    pub timed_out: u64,
    /// Events that were not there any more when they came to be delivered.
    pub removed: u64,
}

/// Something that went wrong, the last one; what passes is shown until something goes well again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TroubleShown {
    pub at_ms: u64,
    pub message: String,
}

/// What a webhook is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushing {
    /// Asks the receiver whether it may.
    ShakingHands,
    /// It may not: it asks again later.
    Refused,
    Sending,
    /// The receiver wants nothing for a while.
    Paused,
    /// The receiver is gone, and nothing goes on until somebody sets the group again.
    Stopped,
}

impl Pushing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ShakingHands => "shaking-hands",
            Self::Refused => "refused",
            Self::Sending => "pushing",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerShown {
    pub name: String,
    /// Deliveries that it has not settled.
    pub in_flight: usize,
    /// It waits for events now.
    pub is_waiting: bool,
    pub seen_ms_ago: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupShown {
    pub name: GroupName,
    pub settings: Settings,
    pub created_ms: u64,
    /// All at or below is settled.
    pub checkpoint: Position,
    /// All at or below was looked at.
    pub read: Position,
    pub head: Position,
    /// Read, and not settled.
    pub pending: usize,
    pub in_flight: usize,
    /// Events that wait after a failed attempt.
    pub retrying: usize,
    pub parked: u64,
    pub is_replaying: bool,
    /// Over all its time.
    pub acknowledged: u64,
    pub counts: Counts,
    /// By name.
    pub consumers: Vec<ConsumerShown>,
    pub pushing: Option<Pushing>,
    pub trouble: Option<TroubleShown>,
}

impl GroupShown {
    /// Events that are not settled, or not looked at: at most so many are to come.
    pub fn lag(&self) -> u64 {
        self.head.0.saturating_sub(self.read.0) + self.pending as u64
    }

    pub(super) fn of(name: &GroupName, state: &State, head: Position, now: Instant) -> Self {
        let Definition { settings, created_ms, stopped, .. } = &state.definition;
        let mut in_flight = HashMap::<&str, usize>::new();
        state.leases(now).for_each(|lease| *in_flight.entry(&lease.consumer).or_default() += 1);
        let mut consumers: Vec<_> = state
            .consumers
            .iter()
            .map(|(name, consumer)| ConsumerShown {
                name: name.to_string(),
                in_flight: in_flight.get(&**name).copied().unwrap_or_default(),
                is_waiting: consumer.waiting > 0,
                seen_ms_ago: u64::try_from(now.duration_since(consumer.seen).as_millis()).unwrap_or(u64::MAX),
            })
            .collect();
        consumers.sort_by(|one, other| one.name.cmp(&other.name));
        let stopped = stopped.as_ref().filter(|_| settings.webhook.is_some());
        let trouble = stopped.map(|of| TroubleShown { at_ms: of.at_ms, message: of.reason.clone() });
        Self {
            name: name.clone(),
            settings: settings.clone(),
            created_ms: *created_ms,
            checkpoint: state.checkpoint(),
            read: state.read,
            head,
            pending: state.pending.len(),
            in_flight: state.leases(now).count(),
            retrying: state.retrying(now).len(),
            parked: state.parked,
            is_replaying: state.replay.is_some(),
            acknowledged: state.acknowledged,
            counts: state.counts,
            consumers,
            pushing: if stopped.is_some() { Some(Pushing::Stopped) } else { state.pushing },
            trouble: trouble.or_else(|| state.trouble.clone()),
        }
    }
}
