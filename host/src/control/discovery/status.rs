//! What a source did, for operators.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use utoipa::ToSchema;

use super::driver::First;

/// What a source is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceState {
    /// It has not answered yet.
    Asked,
    /// It has answered, and waits for changes.
    Watching,
    /// It failed, and is asked again soon.
    BackingOff,
    /// It cannot succeed until its settings or grants change.
    Refused,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub state: SourceState,
    pub answered_at: Option<SystemTime>,
    pub answers: u64,
    /// In the last answer, or what was remembered of the last run.
    pub instances: usize,
    /// Since the source came into use.
    pub errors: u64,
    pub last_error: Option<(SystemTime, String)>,
    pub faults: u64,
    /// Things that it asked for and that are not granted.
    pub refusals: u64,
    pub held_back: Option<HeldBack>,
}

/// A membership that loses too much to be believed at once.
#[derive(Clone, Debug)]
pub struct HeldBack {
    pub instances: usize,
    pub lost: usize,
    pub since: SystemTime,
    pub began: Instant,
}

impl HeldBack {
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Status {
    pub fn begin(first: &First, instances: usize) -> Self {
        Self {
            state: if first.answered { SourceState::Watching } else { SourceState::Asked },
            answered_at: first.answered.then(SystemTime::now),
            answers: u64::from(first.answered),
            instances,
            errors: 0,
            last_error: None,
            faults: 0,
            refusals: first.refusals,
            held_back: None,
        }
    }

    pub fn answered(&mut self, instances: Option<usize>) {
        self.state = SourceState::Watching;
        self.answered_at = Some(SystemTime::now());
        self.answers += 1;
        self.instances = instances.unwrap_or(self.instances);
    }

    pub fn failed(&mut self, state: SourceState, error: String) {
        self.state = state;
        self.errors += 1;
        self.last_error = Some((SystemTime::now(), error));
    }
}
