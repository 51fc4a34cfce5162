//! The groups' part of the store: each change a durable commit, under the claim of this gateway.

use std::{ops::ControlFlow, sync::Arc};

use tokio::task::spawn_blocking;

use super::{
    error::GroupsError,
    keys::{self, SPACE},
    record::{Definition, ParkedEvent, Progress, from_compact, from_json},
};
use crate::{
    model::{GroupName, Position},
    storage::{Batch, Claim, CommitError, Order, Storage, StorageError, crash_point},
};

/// Keys read or removed at once.
const AT_ONCE: usize = 512;

pub(super) struct Journal {
    storage: Arc<dyn Storage>,
    pub claim: Claim,
}

impl Journal {
    /// Claims the groups of this store: whoever had claimed them before can change nothing any more.
    pub async fn claim(storage: Arc<dyn Storage>, owner: String) -> Result<Self, GroupsError> {
        let claim = Claim::take(&*storage, SPACE, keys::CLAIM, owner).await?;
        Ok(Self { storage, claim })
    }

    pub async fn commit(&self, mut batch: Batch) -> Result<(), GroupsError> {
        self.claim.guard(&mut batch);
        crash_point::here("before-settle-commit");
        let committed = self.storage.commit(batch).await.map_err(not_committed);
        crash_point::here("after-settle-commit");
        committed
    }

    /// Every group, and how far it has come.
    pub async fn groups(&self) -> Result<Vec<(GroupName, Definition, Progress)>, GroupsError> {
        let (mut range, mut groups) = (keys::all_definitions(), Vec::new());
        loop {
            let page = self.storage.scan(SPACE, range.clone(), AT_ONCE).await?;
            let Some((last, _)) = page.last() else { return Ok(groups) };
            range = range.after(last);
            for (key, value) in &page {
                let name = keys::defined(key).ok_or_else(|| GroupsError::damaged(key, &"it names no group"))?;
                let definition = from_json(key, value)?;
                let key = keys::progress(&name);
                let progress = self.storage.get(SPACE, key.clone()).await?;
                let progress = progress.ok_or_else(|| GroupsError::damaged(&key, &"it is missing"))?;
                groups.push((name, definition, from_compact(&key, &progress)?));
            }
        }
    }

    pub async fn is_parked(&self, name: &GroupName, position: Position) -> Result<bool, GroupsError> {
        Ok(self.storage.get(SPACE, keys::parked(name, position)).await?.is_some())
    }

    /// The first so many behind `after`.
    pub async fn parked(
        &self,
        name: &GroupName,
        after: Position,
        limit: usize,
    ) -> Result<Vec<(Position, ParkedEvent)>, GroupsError> {
        let entries = self.storage.scan(SPACE, keys::parked_after(name, after), limit).await?;
        let parked = entries.iter().map(|(key, value)| {
            let position = keys::parked_position(key).ok_or_else(|| GroupsError::damaged(key, &"it names no event"))?;
            Ok((position, from_compact(key, value)?))
        });
        parked.collect()
    }

    /// The last that is parked.
    pub async fn last_parked(&self, name: &GroupName) -> Result<Option<Position>, GroupsError> {
        let (storage, range) = (Arc::clone(&self.storage), keys::all_parked(name));
        let looked = spawn_blocking(move || {
            let mut last = None;
            storage.snapshot()?.walk(SPACE, range, Order::Backward, &mut |key, _| {
                last = keys::parked_position(key);
                ControlFlow::Break(())
            })?;
            Ok::<_, StorageError>(last)
        });
        Ok(looked.await.unwrap_or(Err(StorageError::Closed))?)
    }

    /// All that is left of a group that is deleted.
    pub async fn remove(&self, name: &GroupName) -> Result<(), GroupsError> {
        loop {
            let page = self.storage.scan(SPACE, keys::all_parked(name), AT_ONCE).await?;
            let is_last = page.is_empty();
            let mut batch = page.into_iter().fold(Batch::new(), |batch, (key, _)| batch.delete(SPACE, key));
            if is_last {
                batch = batch.delete(SPACE, keys::progress(name)).delete(SPACE, keys::definition(name));
            }
            self.commit(batch).await?;
            if is_last {
                return Ok(());
            }
        }
    }
}

/// The claim is the only condition.
fn not_committed(error: CommitError) -> GroupsError {
    match error {
        CommitError::Conflict { .. } => GroupsError::TakenOver,
        CommitError::Storage(error) => GroupsError::NotDurable(error),
    }
}
