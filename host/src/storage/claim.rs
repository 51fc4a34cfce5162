//! Who may write a part of the store. Each commit of that part has the claim as its first condition, so that a gateway
//! which was declared dead and goes on is fenced off: nothing of it becomes durable any more.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Batch, CommitError, Condition, Space, Storage, StorageError};

/// A part of the store that is this gateway's until the next one claims it.
#[derive(Clone, Debug)]
pub struct Claim {
    space: Space,
    key: Bytes,
    value: Bytes,
    /// Grows with each claim, from 1.
    pub epoch: u64,
}

/// As it is stored: JSON.
#[derive(Serialize, Deserialize)]
struct Record {
    /// Who claims; for people.
    owner: String,
    epoch: u64,
}

/// Why it is not claimed.
#[derive(Clone, Debug)]
pub enum ClaimError {
    Unreadable(StorageError),
    /// What stands at the claim's key is none.
    Damaged {
        key: Bytes,
        reason: String,
    },
    /// By another gateway that claims at the same time.
    TakenOver,
    NotDurable(StorageError),
}

impl Claim {
    /// Whoever had claimed the part before can change nothing of it once this has resolved: what is there then is all.
    pub async fn take(
        storage: &dyn Storage,
        space: Space,
        key: &'static [u8],
        owner: String,
    ) -> Result<Self, ClaimError> {
        let key = Bytes::from_static(key);
        let before = storage.get(space, key.clone()).await.map_err(ClaimError::Unreadable)?;
        let (unchanged, epoch) = match before {
            Some(value) => {
                let damaged =
                    |error: serde_json::Error| ClaimError::Damaged { key: key.clone(), reason: error.to_string() };
                let Record { epoch, .. } = serde_json::from_slice(&value).map_err(damaged)?;
                (Condition::Equals { space, key: key.clone(), value }, epoch + 1)
            }
            None => (Condition::Absent { space, key: key.clone() }, 1),
        };
        let value = serde_json::to_vec(&Record { owner, epoch }).expect("a record of texts and numbers");
        let claim = Self { space, key, value: value.into(), epoch };
        let batch = Batch::new().require(unchanged).put(space, claim.key.clone(), claim.value.clone());
        match storage.commit(batch).await {
            Ok(()) => Ok(claim),
            Err(CommitError::Conflict { .. }) => Err(ClaimError::TakenOver),
            Err(CommitError::Storage(error)) => Err(ClaimError::NotDurable(error)),
        }
    }

    /// Lets the batch be committed only while nobody else has claimed the part. It becomes the first condition, so that its
    /// conflict can be told from any other.
    pub fn guard(&self, batch: &mut Batch) {
        let claimed = Condition::Equals { space: self.space, key: self.key.clone(), value: self.value.clone() };
        batch.conditions.insert(0, claimed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStorage;

    const KEY: &[u8] = b"c";

    async fn take(storage: &MemoryStorage) -> Result<Claim, ClaimError> {
        Claim::take(storage, Space::Groups, KEY, "a test".to_owned()).await
    }

    #[tokio::test]
    async fn who_claims_last_may_write_and_nobody_before() {
        let storage = MemoryStorage::new();
        let claims = [take(&storage).await.expect("it is free"), take(&storage).await.expect("it is taken over")];
        assert_eq!(claims.each_ref().map(|claim| claim.epoch), [1, 2]);
        for (claim, expected) in claims.iter().zip([Err(CommitError::Conflict { condition: 0 }), Ok(())]) {
            let mut batch = Batch::new().put(Space::Groups, Bytes::from_static(b"k"), "v");
            claim.guard(&mut batch);
            assert_eq!(storage.commit(batch).await, expected, "{claim:?}");
        }
    }

    #[tokio::test]
    async fn a_claim_that_nobody_can_read_is_not_taken_over() {
        let storage = MemoryStorage::new();
        let damaged = Batch::new().put(Space::Groups, Bytes::from_static(KEY), "no claim");
        storage.commit(damaged).await.expect("it is written");
        assert!(matches!(take(&storage).await, Err(ClaimError::Damaged { .. })));
    }
}
