//! What the control plane adds to [`crate::events::groups`]: the calls of webhooks.

mod caller;

use std::sync::Arc;

use super::calls::{Directory, GatewayCaller};
use crate::{
    events::{
        EventStore,
        groups::{EventGroups, GroupParts, GroupsError},
    },
    gateway::Gateway,
    model::Wall,
    plugin::Outside,
    storage::Storage,
};

/// Claims the consumer groups. Webhooks go where `directory` has it, as the calls of event handlers do.
pub async fn open(
    storage: Arc<dyn Storage>,
    events: EventStore,
    gateway: Arc<Gateway>,
    outside: Arc<Outside>,
    directory: Arc<Directory>,
) -> Result<EventGroups, GroupsError> {
    EventGroups::open(GroupParts {
        storage,
        events,
        caller: Arc::new(GatewayCaller::new(gateway, outside, directory)),
        wall: Wall::start(),
        owner: format!("process {}", std::process::id()),
        seed: fastrand::u64(..),
    })
    .await
}
