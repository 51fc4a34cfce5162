//! Which of the calls that wait are tried: the first of each stream, and of one target not more than its share.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::keys::{self, CallId};
use crate::model::{HandlerName, Position, StreamName};

/// Calls whose ids are in memory, some 100 bytes each; the others wait on the disk. As many as may wait of a handler
/// (`CALLS_MAX` of `room`), so that a stream of which many wait hides no other.
const SEEN_MAX: usize = 100_000;

/// Calls to one host or service at once: a fourth of all, so that three silent ones leave the others a part.
const TARGET_CALLS_MAX: usize = 8;

/// Streams whose first call to a target is tried, or waits for the next attempt, as a task each.
const TARGET_LANES_MAX: usize = 1_000;

/// What is known to wait.
#[derive(Default)]
pub(super) struct Waiting {
    /// By stream; the first of each is tried, or waits in its target's line.
    streams: HashMap<StreamName, VecDeque<Known>>,
    known: HashSet<CallId>,
    /// Of the known, those that were found once more: one that was through then, which nobody had heard yet, may have been
    /// put back.
    found_again: HashSet<CallId>,
    targets: HashMap<Arc<str>, Target>,
    /// Looked for up to this key.
    seen: Option<Bytes>,
}

struct Known {
    id: CallId,
    target: Arc<str>,
}

/// A host or a service.
struct Target {
    permits: Arc<Semaphore>,
    lanes: usize,
    line: VecDeque<CallId>,
}

/// One that may be tried, with a permit of its target for each attempt.
#[derive(Clone)]
pub(super) struct Ready {
    pub id: CallId,
    pub permits: Arc<Semaphore>,
}

impl Waiting {
    pub fn has_room(&self) -> bool {
        self.known.len() < SEEN_MAX
    }

    pub fn seen(&self) -> Option<&Bytes> {
        self.seen.as_ref()
    }

    /// There may be some that were not looked for, of events from there on.
    pub fn look_from(&mut self, name: &HandlerName, first: Position) {
        let first = keys::calls_from(name, first);
        if self.seen.as_ref().is_some_and(|seen| *seen > first) {
            self.seen = Some(first);
        }
    }

    /// What was found, with their targets; answers those that may be tried now.
    pub fn take(&mut self, name: &HandlerName, found: Vec<(CallId, String)>) -> Vec<Ready> {
        self.seen = found.last().map(|(id, _)| id.outbox(name)).or(self.seen.take());
        let mut ready = Vec::new();
        for (id, target) in found {
            if !self.known.insert(id.clone()) {
                self.found_again.insert(id);
                continue;
            }
            let target = self.target(authority(&target));
            let stream = self.streams.entry(id.stream.clone()).or_default();
            stream.push_back(Known { id: id.clone(), target: Arc::clone(&target) });
            if stream.len() == 1 {
                ready.extend(self.line_up(&target, id));
            }
        }
        ready
    }

    /// Whether one that is through may wait once more.
    pub fn may_wait_again(&mut self, id: &CallId) -> bool {
        self.found_again.remove(id)
    }

    /// One is through; answers those that may be tried now.
    pub fn done(&mut self, id: &CallId) -> Vec<Ready> {
        let mut ready = Vec::new();
        self.known.remove(id);
        let Some(stream) = self.streams.get_mut(&id.stream) else { return ready };
        let through = stream.pop_front();
        let next = stream.front().map(|next| (Arc::clone(&next.target), next.id.clone()));
        if let Some((target, id)) = next {
            ready.extend(self.line_up(&target, id));
        } else {
            self.streams.remove(&id.stream);
        }
        if let Some(Known { target, .. }) = through {
            if let Some(of) = self.targets.get_mut(&target) {
                of.lanes -= 1;
            }
            ready.extend(self.next_of(&target));
            if self.targets.get(&target).is_some_and(|of| of.lanes == 0 && of.line.is_empty())
                && !self.is_named(&target)
            {
                self.targets.remove(&target);
            }
        }
        ready
    }

    fn line_up(&mut self, target: &Arc<str>, id: CallId) -> Option<Ready> {
        self.targets.get_mut(target)?.line.push_back(id);
        self.next_of(target)
    }

    fn next_of(&mut self, target: &Arc<str>) -> Option<Ready> {
        let of = self.targets.get_mut(target)?;
        if of.lanes >= TARGET_LANES_MAX {
            return None;
        }
        let id = of.line.pop_front()?;
        of.lanes += 1;
        Some(Ready { id, permits: Arc::clone(&of.permits) })
    }

    fn target(&mut self, authority: &str) -> Arc<str> {
        if let Some((target, _)) = self.targets.get_key_value(authority) {
            return Arc::clone(target);
        }
        let target: Arc<str> = authority.into();
        let permits = Arc::new(Semaphore::new(TARGET_CALLS_MAX));
        self.targets.insert(Arc::clone(&target), Target { permits, lanes: 0, line: VecDeque::new() });
        target
    }

    /// Whether some call that waits behind others is to it: beside its own key.
    fn is_named(&self, target: &Arc<str>) -> bool {
        Arc::strong_count(target) > 2
    }
}

/// What stands before the path: `service://NAME`, `https://HOST:PORT`.
fn authority(target: &str) -> &str {
    let behind_scheme = target.find("://").map_or(0, |at| at + 3);
    let len = target[behind_scheme..].find(['/', '?', '#']).unwrap_or(target.len() - behind_scheme);
    &target[..behind_scheme + len]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> HandlerName {
        "h".parse().expect("a name")
    }

    fn id(cause: u64, stream: &str) -> CallId {
        CallId { cause: Position(cause), nth: 0, stream: stream.parse().expect("a stream") }
    }

    fn found(ids: &[CallId]) -> Vec<(CallId, String)> {
        ids.iter().map(|id| (id.clone(), "service://orders/done".to_owned())).collect()
    }

    fn ids(ready: Vec<Ready>) -> Vec<CallId> {
        ready.into_iter().map(|ready| ready.id).collect()
    }

    #[test]
    fn one_call_of_a_stream_is_under_way_and_the_next_follows_it() {
        let mut waiting = Waiting::default();
        let mut take = |of: &[CallId]| ids(waiting.take(&name(), found(of)));
        assert_eq!(take(&[id(1, "a"), id(2, "b"), id(3, "a")]), [id(1, "a"), id(2, "b")]);
        assert_eq!(take(&[id(3, "a"), id(4, "a"), id(5, "c")]), [id(5, "c")]);
        let mut done = |of: CallId| ids(waiting.done(&of));
        assert_eq!(done(id(1, "a")), [id(3, "a")]);
        assert_eq!(done(id(2, "b")), []);
        assert_eq!(done(id(3, "a")), [id(4, "a")]);
        assert_eq!(done(id(4, "a")), []);
        assert_eq!(done(id(5, "c")), []);
        assert!(waiting.streams.is_empty() && waiting.known.is_empty() && waiting.targets.is_empty());
    }

    #[test]
    fn one_that_was_found_again_before_it_was_through_may_wait_once_more() {
        let mut waiting = Waiting::default();
        waiting.take(&name(), found(&[id(1, "a"), id(2, "b")]));
        waiting.look_from(&name(), Position(1));
        assert_eq!(ids(waiting.take(&name(), found(&[id(1, "a")]))), []);
        assert!(waiting.may_wait_again(&id(1, "a")) && !waiting.may_wait_again(&id(2, "b")));
        waiting.done(&id(1, "a"));
        assert_eq!(ids(waiting.take(&name(), found(&[id(1, "a")]))), [id(1, "a")]);
        assert!(!waiting.may_wait_again(&id(1, "a")));
    }

    #[test]
    fn a_target_that_thousands_of_streams_call_leaves_the_others_theirs() {
        let mut waiting = Waiting::default();
        let silent = (1..=5_000).map(|n| (id(n, &format!("s-{n}")), "http://silent:1/a".to_owned()));
        assert_eq!(waiting.take(&name(), silent.collect()).len(), TARGET_LANES_MAX);
        let other = waiting.take(&name(), vec![(id(6_000, "other"), "http://other:1/a".to_owned())]);
        assert_eq!(ids(other), [id(6_000, "other")]);
        // One that is through makes room for one of the same target.
        assert_eq!(ids(waiting.done(&id(1, "s-1"))), [id(1_001, "s-1001")]);
    }

    #[test]
    fn what_is_added_before_what_was_seen_is_looked_for_from_there() {
        let mut waiting = Waiting::default();
        waiting.take(&name(), found(&[id(5, "a"), id(9, "a")]));
        waiting.look_from(&name(), Position(12));
        assert_eq!(waiting.seen(), Some(&id(9, "a").outbox(&name())));
        waiting.look_from(&name(), Position(7));
        assert!(waiting.seen().is_some_and(|seen| *seen < id(7, "a").outbox(&name())));
        assert!(waiting.seen().is_some_and(|seen| *seen > id(5, "a").outbox(&name())));
    }

    #[test]
    fn an_authority_is_what_stands_before_the_path() {
        for (target, expected) in [
            ("service://orders/a/b", "service://orders"),
            ("https://host:8443?x=http://y/", "https://host:8443"),
            ("http://host", "http://host"),
            ("", ""),
        ] {
            assert_eq!(authority(target), expected);
        }
    }
}
