//! What there is to know of a stream.

use std::ops::ControlFlow;

use super::{EventStore, heads::Head, read::Kept};
use crate::{
    events::{error::ReadError, keys},
    model::{Position, Retention, StreamName},
    storage::{Order, Snapshot, Space},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    pub stream: StreamName,
    /// Of the first event that is still there; None: none is. One that is older than is kept counts until it is removed.
    pub first_revision: Option<u64>,
    /// Of the last event that it ever had; None: it never had any.
    pub last_revision: Option<u64>,
    pub retention: Retention,
}

impl EventStore {
    /// None: nothing was ever appended to it, and nothing set for it.
    pub async fn stream(&self, stream: &StreamName) -> Result<Option<StreamInfo>, ReadError> {
        let stream = stream.clone();
        let (head, now_ms) = (self.head(), self.shared.wall.now_ms());
        self.on_disk(move |snapshot| info(snapshot, stream, head, now_ms)).await
    }

    /// Streams whose names begin so, in their order, behind `after`, at most `limit`.
    pub async fn streams(
        &self,
        prefix: &str,
        after: Option<StreamName>,
        limit: usize,
    ) -> Result<Vec<StreamInfo>, ReadError> {
        let prefix = prefix.to_owned();
        let (head, now_ms) = (self.head(), self.shared.wall.now_ms());
        self.on_disk(move |snapshot| {
            let mut streams = Vec::new();
            let mut after = after;
            while streams.len() < limit
                && let Some(next) = next_name(snapshot, &prefix, after.as_ref())?
            {
                after = Some(next.clone());
                streams.extend(info(snapshot, next, head, now_ms)?);
            }
            Ok(streams)
        })
        .await
    }
}

/// Of those that have events, and those for which something is set.
fn next_name(
    snapshot: &dyn Snapshot,
    prefix: &str,
    after: Option<&StreamName>,
) -> Result<Option<StreamName>, ReadError> {
    let with_events = keys::streams(prefix);
    let with_settings = keys::all_settings(prefix);
    let (with_events, with_settings) = match after {
        None => (with_events, with_settings),
        Some(after) => {
            (with_events.after(&keys::behind(after.as_str())), with_settings.after(&keys::settings(after.as_str())))
        }
    };
    let first = |range, name: fn(&[u8]) -> Option<StreamName>| {
        let mut found = None;
        snapshot
            .walk(Space::EventIndex, range, Order::Forward, &mut |key, _| {
                found = name(key);
                ControlFlow::Break(())
            })
            .map(|()| found)
    };
    let one = first(with_events, |key| keys::stream_and_revision(key).map(|(stream, _)| stream))?;
    let other = first(with_settings, keys::settings_stream)?;
    Ok(match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    })
}

fn info(
    snapshot: &dyn Snapshot,
    stream: StreamName,
    visible: Position,
    now_ms: u64,
) -> Result<Option<StreamInfo>, ReadError> {
    let head = Head::read(snapshot, &stream, visible)?;
    let kept = Kept::of(&head, now_ms);
    let mut first_revision = None;
    let range = keys::revisions(stream.as_str(), kept.first, u64::MAX);
    snapshot.walk(Space::EventIndex, range, Order::Forward, &mut |key, value| {
        let is_visible = keys::position(value).is_some_and(|position| position <= visible);
        first_revision = keys::stream_and_revision(key).map(|(_, revision)| revision).filter(|_| is_visible);
        ControlFlow::Break(())
    })?;
    let retention = head.record.unwrap_or_default().retention;
    let is_known = head.next > 0 || head.record.is_some();
    Ok(is_known.then(|| StreamInfo { stream, first_revision, last_revision: head.last(), retention }))
}
