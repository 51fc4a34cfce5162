//! Removes what is left of groups that are deleted: apart from the scribe, so that one which parked a million events holds no
//! other group up.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    core::{Core, stopped},
    error::GroupsError,
    group::Group,
};
use crate::model::backoff;

/// A group whose end is durable.
pub(super) struct Leaving {
    pub group: Arc<Group>,
    /// Who waits until its name is free.
    pub replies: Vec<oneshot::Sender<Result<(), GroupsError>>>,
}

/// Until it is time to stop. What is left then is removed when the gateway starts.
pub(super) async fn run(core: Arc<Core>, mut leaving: mpsc::Receiver<Leaving>) {
    let mut shutdown = core.shutdown.subscribe();
    loop {
        let next = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => return,
            next = leaving.recv() => next,
        };
        let Some(Leaving { group, replies }) = next else { return };
        let removed = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => return,
            removed = remove(&core, &group) => removed,
        };
        // Whoever asked may have gone.
        replies.into_iter().for_each(|reply| drop(reply.send(removed.clone())));
    }
}

/// Its name is free only when all is gone. Fails only where it is another gateway's.
async fn remove(core: &Core, group: &Arc<Group>) -> Result<(), GroupsError> {
    for failed in 1.. {
        match core.journal.remove(&group.name).await {
            Ok(()) => break,
            Err(GroupsError::TakenOver) => return Err(GroupsError::TakenOver),
            Err(error) => {
                tracing::warn!(group = %group.name, %error, "not all of a deleted consumer group could be removed yet");
                sleep(core.pause(failed, backoff::BASE)).await;
            }
        }
    }
    let mut groups = core.groups();
    if groups.get(&group.name).is_some_and(|there| Arc::ptr_eq(there, group)) {
        groups.remove(&group.name);
    }
    Ok(())
}
