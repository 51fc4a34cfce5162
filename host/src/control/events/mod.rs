//! What the control plane has of [`crate::events`]: the one store, and who follows it over HTTP.

use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};

use crate::{
    events::{EventStore, EventStoreError},
    model::Wall,
    storage::Storage,
};

/// Who follows the events over HTTP at once; others are told to come back. Each holds a connection of the control
/// listener's, and no more than some 256 KiB of events, or one.
pub const SUBSCRIBERS_MAX: usize = 256;

#[derive(Clone)]
pub struct EventSide {
    pub store: EventStore,
    pub wall: Wall,
    /// Places for those who follow.
    pub subscribers: Arc<Semaphore>,
    /// Held from reading what is kept of a stream to changing it, so that no change undoes another.
    pub retaining: Arc<Mutex<()>>,
}

impl EventSide {
    /// Claims the events.
    pub async fn open(storage: Arc<dyn Storage>) -> Result<Self, EventStoreError> {
        let owner = format!("process {}", std::process::id());
        let wall = Wall::start();
        Ok(Self {
            store: EventStore::open(storage, wall, owner).await?,
            wall,
            subscribers: Arc::new(Semaphore::new(SUBSCRIBERS_MAX)),
            retaining: Arc::default(),
        })
    }

    /// After everything that appends.
    pub async fn close(&self) {
        self.store.close().await;
    }
}
