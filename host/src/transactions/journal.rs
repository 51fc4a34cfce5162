//! The transactions' part of the store: each change one durable commit, under the claim of this coordinator.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use super::{
    Gid,
    error::TransactionError,
    record::{
        CLAIM_KEY, RequestRecord, Restored, SPACE, Standing, Submitted, done_key, expired_range, expiry_key, json,
        open_gid, open_key, open_range, order_key, order_range, parse, request_key, requests_range, timed_gid,
    },
};
use crate::{
    events::{Append, AppendError, EventStore, StreamAppend},
    storage::{Batch, Claim, CommitError, Condition, Entries, KeyRange, Storage, StorageError, crash_point},
};

/// Records read from the store at a time.
const PAGE: usize = 512;

/// Removed in one commit.
const REMOVED_AT_ONCE: usize = 256;

/// After so many keys the rest goes with the next commit; one transaction has some thousand at most.
const REMOVED_KEYS_MAX: usize = 4096;

/// Why a change did not become durable.
#[derive(Debug)]
pub enum NotKept {
    /// Another one of the same id is there: a condition does not hold.
    Conflict,
    Error(TransactionError),
}

/// Of a transaction that this coordinator has begun: nobody else may have touched its record.
impl From<NotKept> for TransactionError {
    fn from(not_kept: NotKept) -> Self {
        match not_kept {
            NotKept::Conflict => Self::TakenOver,
            NotKept::Error(error) => error,
        }
    }
}

pub struct Journal {
    storage: Arc<dyn Storage>,
    /// Where outcomes append events.
    events: Option<EventStore>,
    claim: Claim,
    pub commits: AtomicU64,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("commits", &self.commits).finish_non_exhaustive()
    }
}

impl Journal {
    /// Claims the transactions of this store: whoever had claimed them before can change nothing any more.
    pub async fn claim(
        storage: Arc<dyn Storage>,
        events: Option<EventStore>,
        owner: String,
    ) -> Result<Self, TransactionError> {
        let claim = Claim::take(&*storage, SPACE, CLAIM_KEY, owner).await?;
        Ok(Self { storage, events, claim, commits: AtomicU64::new(1) })
    }

    /// Whether an outcome's events could be appended.
    pub fn tells_events(&self) -> bool {
        self.events.is_some()
    }

    /// A transaction that was not there.
    pub async fn begin(
        &self,
        gid: &Gid,
        submitted: &Submitted,
        standing: &Standing,
        told: Vec<StreamAppend>,
    ) -> Result<(), NotKept> {
        let batch = Batch::new()
            .require(Condition::Absent { space: SPACE, key: open_key(gid) })
            .require(Condition::Absent { space: SPACE, key: done_key(gid) })
            .put(SPACE, request_key(gid, 0), json(submitted))
            .put(SPACE, open_key(gid), json(standing))
            .put(SPACE, order_key(standing.created_ms, gid), Bytes::new());
        self.commit("begin", batch, told).await
    }

    /// How it stands now.
    pub async fn keep(&self, gid: &Gid, standing: &Standing, told: Vec<StreamAppend>) -> Result<(), NotKept> {
        let point = if standing.facts.decision.is_some() { "decide" } else { "progress" };
        self.commit(point, Batch::new().put(SPACE, open_key(gid), json(standing)), told).await
    }

    /// The same, with one request more; it is the last of `standing.requests`.
    pub async fn enlist(&self, gid: &Gid, request: &RequestRecord, standing: &Standing) -> Result<(), NotKept> {
        let key = request_key(gid, standing.requests - 1);
        let batch = Batch::new()
            .require(Condition::Absent { space: SPACE, key: key.clone() })
            .put(SPACE, key, json(request))
            .put(SPACE, open_key(gid), json(standing));
        self.commit("enlist", batch, Vec::new()).await
    }

    /// It has ended, and is removed at `remove_ms`. `has_time`: how it ends is durable already, so that nobody waits for
    /// this.
    pub async fn end(
        &self,
        gid: &Gid,
        standing: &Standing,
        remove_ms: u64,
        told: Vec<StreamAppend>,
        has_time: bool,
    ) -> Result<(), NotKept> {
        let batch = Batch::new().delete(SPACE, open_key(gid)).put(SPACE, done_key(gid), json(standing)).put(
            SPACE,
            expiry_key(remove_ms, gid),
            Bytes::new(),
        );
        self.write("end", batch, told, has_time).await
    }

    async fn commit(&self, point: &'static str, batch: Batch, told: Vec<StreamAppend>) -> Result<(), NotKept> {
        self.write(point, batch, told, false).await
    }

    /// With the events that are told by it, if any are.
    async fn write(
        &self,
        point: &'static str,
        mut batch: Batch,
        told: Vec<StreamAppend>,
        has_time: bool,
    ) -> Result<(), NotKept> {
        let (before, after) = points(point);
        crash_point::here(before);
        self.claim.guard(&mut batch);
        self.commits.fetch_add(1, Ordering::Relaxed);
        let kept = match &self.events {
            Some(events) if !told.is_empty() => {
                let append = Append { streams: told, with: batch };
                events.append(append).await.map(drop).map_err(not_appended)
            }
            _ if has_time => self.storage.commit_later(batch).await.map_err(not_committed),
            _ => self.storage.commit(batch).await.map_err(not_committed),
        };
        crash_point::here(after);
        kept
    }

    /// How a transaction stands, ended or not.
    pub async fn standing(&self, gid: &Gid) -> Result<Option<Standing>, TransactionError> {
        for key in [open_key(gid), done_key(gid)] {
            let value = self.storage.get(SPACE, key.clone()).await.map_err(TransactionError::Unreadable)?;
            if let Some(value) = value {
                return parse(&key, &value).map(Some);
            }
        }
        Ok(None)
    }

    /// Everything of a transaction, ended or not.
    pub async fn whole(&self, gid: &Gid) -> Result<Option<Restored>, TransactionError> {
        match self.standing(gid).await? {
            Some(standing) => {
                let requests = self.all(requests_range(gid)).await?;
                Restored::put_together(gid.clone(), standing, &requests).map(Some)
            }
            None => Ok(None),
        }
    }

    /// All that have not ended.
    pub async fn unfinished(&self) -> Result<Vec<Gid>, TransactionError> {
        let entries = self.all(open_range()).await?;
        Ok(entries.iter().filter_map(|(key, _)| open_gid(key)).collect())
    }

    /// Ids in the order of the list, from the newest on, behind `after`; with their keys.
    pub async fn listed(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Gid)>, TransactionError> {
        let range = match after {
            Some(after) => order_range().after(after),
            None => order_range(),
        };
        let entries = self.storage.scan(SPACE, range, limit).await.map_err(TransactionError::Unreadable)?;
        Ok(entries.into_iter().filter_map(|(key, _)| timed_gid(&key).map(|gid| (key, gid))).collect())
    }

    /// Removes some of the ended ones that are due. Answers how many: until it is none there may be more.
    pub async fn remove_due(&self, now_ms: u64) -> Result<usize, TransactionError> {
        let due = self.storage.scan(SPACE, expired_range(now_ms), REMOVED_AT_ONCE).await;
        let due = due.map_err(TransactionError::Unreadable)?;
        let mut batch = Batch::new();
        let mut removed = 0;
        for (key, _) in &due {
            if batch.writes.len() >= REMOVED_KEYS_MAX {
                break;
            }
            removed += 1;
            batch = batch.delete(SPACE, key.clone());
            let Some(gid) = timed_gid(key) else { continue };
            if let Some(standing) = self.standing(&gid).await? {
                batch = batch.delete(SPACE, order_key(standing.created_ms, &gid)).delete(SPACE, done_key(&gid));
                for number in 0..standing.requests {
                    batch = batch.delete(SPACE, request_key(&gid, number));
                }
            }
        }
        if due.is_empty() {
            return Ok(0);
        }
        match self.commit("remove", batch, Vec::new()).await {
            Ok(()) | Err(NotKept::Conflict) => Ok(removed),
            Err(NotKept::Error(error)) => Err(error),
        }
    }

    async fn all(&self, mut range: KeyRange) -> Result<Entries, TransactionError> {
        let mut entries = Vec::new();
        loop {
            let page = self.storage.scan(SPACE, range.clone(), PAGE).await.map_err(TransactionError::Unreadable)?;
            let Some((last, _)) = page.last() else { return Ok(entries) };
            range = range.after(last);
            entries.extend(page);
        }
    }
}

fn not_committed(error: CommitError) -> NotKept {
    match error {
        CommitError::Conflict { condition } => conflict(condition),
        CommitError::Storage(error) => NotKept::Error(TransactionError::NotDurable(error)),
    }
}

/// The claim is the first condition.
fn conflict(condition: usize) -> NotKept {
    if condition == 0 { NotKept::Error(TransactionError::TakenOver) } else { NotKept::Conflict }
}

fn not_appended(error: AppendError) -> NotKept {
    match error {
        AppendError::Overtaken { condition } => conflict(condition),
        // Nothing was written, and what is damaged there would refuse it each time.
        AppendError::NotDurable(StorageError::ReadFailed { .. }) => {
            NotKept::Error(TransactionError::EventsRefused(error))
        }
        AppendError::NotDurable(error) => NotKept::Error(TransactionError::NotDurable(error)),
        AppendError::TakenOver => NotKept::Error(TransactionError::TakenOver),
        other => NotKept::Error(TransactionError::EventsRefused(other)),
    }
}

/// The names of the moments around a commit.
fn points(commit: &'static str) -> (&'static str, &'static str) {
    match commit {
        "begin" => ("before-begin", "after-begin"),
        "progress" => ("before-progress", "after-progress"),
        "decide" => ("before-decide", "after-decide"),
        "enlist" => ("before-enlist", "after-enlist"),
        "end" => ("before-end", "after-end"),
        _ => ("before-remove", "after-remove"),
    }
}
