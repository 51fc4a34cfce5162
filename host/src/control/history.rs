//! What happened to the gateway lately, for people: a bounded ring that `GET /history` shows.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{PluginName, ServiceName, VersionId};

/// Enough for a bad hour; anything longer belongs to the log.
const ENTRIES_MAX: usize = 256;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HistoryKind {
    Started,
    /// The configuration was read again.
    Reloaded,
    /// A change was refused; nothing changed.
    Refused,
    /// A version of a plugin was uploaded, and is not in use.
    Uploaded,
    /// Another version of a plugin came into use.
    Activated,
    RolledBack,
    /// A service has another policy.
    PolicyChanged,
    OverlayRemoved,
    CanaryStarted,
    CanaryEnded,
    /// A candidate was taken back by the gateway itself.
    CanaryWithdrawn,
    /// Endpoints came or went.
    MembershipChanged,
    /// A plugin asked for something outside that it may not reach.
    NotGranted,
    /// A plugin instance trapped or overran a limit.
    Fault,
    /// Another instance took its place.
    Restarted,
    /// An event handler builds its state anew, or the new one came into use.
    Rebuilt,
    /// A transaction that an operator has to look at.
    Hazard,
    /// Something could not be done, and what holds instead.
    Warning,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HistoryEntry {
    /// Grows by one with each entry.
    pub number: u64,
    /// RFC 3339, UTC.
    pub at: String,
    pub kind: HistoryKind,
    pub message: String,
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginName>,
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
}

/// What an entry is about; all of it optional.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub plugin: Option<PluginName>,
    pub version: Option<VersionId>,
    pub service: Option<ServiceName>,
}

/// Shared by everything that has something to tell. Each entry is a log line too.
#[derive(Clone, Debug, Default)]
pub struct History {
    ring: Arc<Mutex<Ring>>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<HistoryEntry>,
    written: u64,
}

impl History {
    pub fn note(&self, kind: HistoryKind, about: About, message: impl Into<String>) {
        let message = message.into();
        let bad = matches!(
            kind,
            HistoryKind::Refused
                | HistoryKind::NotGranted
                | HistoryKind::CanaryWithdrawn
                | HistoryKind::Fault
                | HistoryKind::Warning
        );
        if bad {
            tracing::warn!(kind = ?kind, "{message}");
        } else {
            tracing::info!(kind = ?kind, "{message}");
        }
        let mut ring = self.ring.lock().expect("no holder of the lock panics");
        ring.written += 1;
        if ring.entries.len() == ENTRIES_MAX {
            ring.entries.pop_front();
        }
        let number = ring.written;
        let About { plugin, version, service } = about;
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        ring.entries.push_back(HistoryEntry { number, at, kind, message, plugin, version, service });
    }

    /// The latest first.
    pub fn entries(&self) -> Vec<HistoryEntry> {
        self.ring.lock().expect("no holder of the lock panics").entries.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_latest_entries_and_their_numbers() {
        let history = History::default();
        for n in 0..ENTRIES_MAX + 10 {
            history.note(HistoryKind::Reloaded, About::default(), n.to_string());
        }
        let entries = history.entries();
        assert_eq!(entries.len(), ENTRIES_MAX);
        assert_eq!(entries[0].number, ENTRIES_MAX as u64 + 10);
        assert_eq!(entries[ENTRIES_MAX - 1].message, "10");
    }
}
