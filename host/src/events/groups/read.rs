//! What a group reads: the log from where it is, what it has not settled after a restart, and what was put aside and comes
//! back. Only where a consumer asks.

use std::sync::Arc;

use tokio::time::Instant;

use super::{error::GroupsError, group::Group, scribe::Ask};
use crate::{
    events::{Read, ReadError, Subscription},
    model::{Event, Filter, Position},
    storage::Order,
};

/// A place in the log, until the group is elsewhere.
#[derive(Default)]
pub(super) struct Reader {
    following: Option<Subscription>,
    revision: u64,
    /// Something on the way is damaged: what stands before it can be read one by one.
    one_by_one: bool,
}

impl Group {
    /// Reads on in what is there. Nothing is lost where the future is dropped.
    pub async fn fill(self: &Arc<Self>) -> Result<(), GroupsError> {
        let mut reader = self.reader.lock().await;
        let (revision, room, read, filter) = {
            let state = self.lock();
            (state.revision, state.room(), state.read, state.definition.settings.filter.clone())
        };
        if room == 0 {
            return Ok(());
        }
        if reader.revision != revision {
            *reader = Reader { revision, ..Reader::default() };
        }
        let limit = if reader.one_by_one { 1 } else { room };
        let following = reader.following.get_or_insert_with(|| self.core.events.subscribe(read, filter));
        let followed = following.next_there(limit).await;
        match followed {
            Ok(followed) => {
                self.lock().add(revision, followed.events, followed.position, Instant::now());
                self.changed.notify_waiters();
                Ok(())
            }
            Err(ReadError::Damaged { position, reason }) => {
                let was_alone = reader.one_by_one;
                *reader = Reader { revision, one_by_one: !was_alone, following: None };
                if was_alone {
                    let at_ms = self.core.wall.now_ms();
                    self.lock().add_damaged(revision, Position(position), &reason, at_ms, Instant::now());
                    self.ask(Ask::Settled).await?;
                }
                Ok(())
            }
            Err(error) => {
                reader.following = None;
                Err(self.failed(GroupsError::Events(error)))
            }
        }
    }

    /// What was read before, and is not in memory: the first, and as many more as there is room for.
    pub async fn load(self: &Arc<Self>, positions: Vec<Position>) -> Result<(), GroupsError> {
        let _turn = self.reader.lock().await;
        let mut is_any_gone = false;
        for (nth, position) in positions.into_iter().enumerate() {
            let (may_load, is_needed) = {
                let state = self.lock();
                (state.may_load(), state.pending.get(&position).is_some_and(|pending| pending.event.is_none()))
            };
            if nth > 0 && !may_load {
                break;
            }
            if !is_needed {
                continue;
            }
            match self.event(position).await {
                Ok(Some(event)) => self.lock().loaded(position, event),
                Ok(None) => {
                    self.lock().is_missing(position, self.core.wall.now_ms());
                    is_any_gone = true;
                }
                Err(ReadError::Damaged { reason, .. }) => {
                    self.lock().is_damaged(position, &reason, self.core.wall.now_ms());
                    is_any_gone = true;
                }
                Err(error) => return Err(self.failed(GroupsError::Events(error))),
            }
        }
        if is_any_gone { self.ask(Ask::Settled).await } else { Ok(()) }
    }

    pub async fn event(&self, position: Position) -> Result<Option<Arc<Event>>, ReadError> {
        let read =
            Read { stream: None, order: Order::Forward, from: Some(position.0), filter: Filter::default(), limit: 1 };
        let page = match self.core.events.read(read).await {
            // It was removed, and the one that follows it is damaged.
            Err(ReadError::Damaged { position: other, .. }) if other != position.0 => return Ok(None),
            read => read?,
        };
        Ok(page.events.into_iter().find(|event| event.position == position))
    }

    /// Some of what stands aside and is to be delivered again.
    pub async fn bring_back(self: &Arc<Self>) -> Result<(), GroupsError> {
        let _turn = self.reader.lock().await;
        // Only now: whoever had the turn before may have filled it.
        let (room, replay) = {
            let state = self.lock();
            (state.room(), state.replay)
        };
        let Some((after, to)) = replay.filter(|_| room > 0) else { return Ok(()) };
        let found = self.core.journal.parked(&self.name, after, room).await?;
        let is_more = found.len() == room && found.last().is_some_and(|(last, _)| *last < to);
        let positions: Vec<_> = found.into_iter().map(|(at, _)| at).filter(|at| *at <= to).collect();
        let left = positions.last().filter(|_| is_more).map(|last| (*last, to));
        self.ask(Ask::BringBack { positions, left }).await
    }

    fn failed(&self, error: GroupsError) -> GroupsError {
        self.lock().fail(self.core.wall.now_ms(), error.to_string());
        error
    }
}
